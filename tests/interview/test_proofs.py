"""Every proof holds, and breaks when what it claims is changed."""

import threading

import pytest
from helpers import others_later

from ftkit.interview import bank
from ftkit.interview.proofs import core, runs

CLAIMS = {claim["proof"]: claim for q in bank.everything() for claim in q.proofs}
# Each needs a run of its own by a recipe that another proof takes as well.
LATER = ("rate_too_low", "lora_needs_more", "targets_all", "decay_in_run", "capacity_noise",
         "rank_capacity", "duplicates_no_data", "noise_hurts",
         "narrow_lower_rate", "lora_narrow", "domain_replay")
NAMES = others_later(CLAIMS, now=CLAIMS.keys() - LATER)
STATED = [(q.id, claim) for q in bank.everything() for claim in q.proofs]


@pytest.fixture(scope="module")
def kept():
    """Proofs made so far: several tests look at each."""
    return {}


def made(kept, name):
    if name not in kept:
        kept[name] = core.prove(CLAIMS[name])
    return kept[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_claim_holds(kept, name):
    claim = made(kept, name)
    assert claim.holds(), f"{claim!r} (computed {claim.left})"


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_number_or_a_reversed_comparison_fails(kept, name):
    claim = made(kept, name)
    changed = claim.mutations()
    assert changed and claim not in changed
    for mutation in changed:
        assert not mutation.holds(), repr(mutation)


@pytest.mark.parametrize(("question", "stated"), others_later(STATED, now=[
    pair for pair in STATED if pair[1]["proof"] not in LATER]),
    ids=lambda value: value if isinstance(value, str) else value["proof"])
def test_every_claim_of_a_question_holds_and_not_just_the_one_first_met(kept, question, stated):
    """Two questions may state different numbers of one proof."""
    evidence = made(kept, stated["proof"]).evidence
    right = stated.get("number", evidence.right)
    claim = core.Claim(stated["says"], evidence.left, stated["op"], right, stated["unit"],
                         stated.get("within", 0.01))
    assert claim.holds(), repr(claim)
    assert not any(mutation.holds() for mutation in claim.mutations())


@pytest.mark.seeds
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", [name for name in CLAIMS if core.load()[name].trains])
def test_the_claim_holds_for_other_seeds_too(name, seed):
    claim = core.prove(CLAIMS[name], seed)
    assert claim.holds(), f"{claim!r} (found {claim.left})"


def test_two_seeds_in_two_threads_at_once_give_the_numbers_of_each_alone(monkeypatch):
    train, together, alone = runs.train, {}, {}
    monkeypatch.setattr(runs, "train", lambda *args, **options: train(
        *args, **options, max_steps=4))

    def prove(seed, sides):
        claim = core.prove(CLAIMS["tuning_helps"], seed)
        sides[seed] = claim.left, claim.right

    runs.tasks.__wrapped__.cache_clear()
    threads = [threading.Thread(target=prove, args=(seed, together)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs.tasks.__wrapped__.cache_clear()
    for seed in (2, 1):
        prove(seed, alone)
    runs.tasks.__wrapped__.cache_clear()
    assert together == alone and alone[1] != alone[2]


def test_a_claim_about_nan_never_holds():
    for op in ("==", "!=", "<", ">"):
        assert not core.Claim("", float("nan"), op, 1.0).holds()


def test_a_comparison_holds_between_its_two_factors_only():
    for left, holds in ((1.0, False), (0.8, True), (0.05, False), (-1.0, False)):
        assert core.Claim("", left, "<", 1.0, ratio=(0.1, 0.9)).holds() is holds
        assert core.Claim("", 1.0, ">", left, ratio=(0.1, 0.9)).holds() is holds
    assert not core.Claim("", 0.0, "<", 0.0).holds()


def test_a_claim_draws_its_parts_its_two_sides_or_its_runs(kept):
    for name, word in (("states_7b", "107.8"), ("count_qv", "4,194,304 == 4,194,304"),
                       ("rate_too_high", "1e-3")):
        picture = core.draw(made(kept, name))
        assert picture.png()[:4] == b"\x89PNG"
        assert "✓" in repr(picture)
        assert word in picture.text


def test_a_wrong_claim_says_so():
    claim = core.prove(CLAIMS["states_7b"] | {"number": 54.0})
    assert not claim.holds() and repr(claim).startswith("✗")


def test_an_unknown_proof_is_told():
    with pytest.raises(ValueError, match="no proof is called 'magic'"):
        core.prove({"proof": "magic", "op": "==", "number": 1, "says": ""})
