"""Mixtures: T5's formulas computed by hand, exact counts, what the loss sees."""

import math
from collections import Counter

import pytest

from ftkit.data import mixing, schema
from ftkit.model import loading

pytestmark = pytest.mark.quick

SIZES = {"a": 1_000_000, "b": 100_000, "c": 5_000}


def rounded(shares, digits=4):
    return [round(share, digits) for share in shares.values()]


def test_proportional_is_size_over_sum():
    assert rounded(mixing.rates(SIZES)) == [0.9050, 0.0905, 0.0045]  # 1,000,000 / 1,105,000 ...


def test_examples_proportional_caps_at_k():
    # min(e, 131,072): 131,072 + 100,000 + 5,000 = 236,072
    by_hand = [131_072 / 236_072, 100_000 / 236_072, 5_000 / 236_072]
    assert list(mixing.rates(SIZES, cap=131_072).values()) == pytest.approx(by_hand)


def test_temperature_takes_the_root_of_the_sizes():
    # square roots 1000, 316.228, 70.711; sum 1386.939
    assert rounded(mixing.rates(SIZES, temperature=2), 3) == [0.721, 0.228, 0.051]
    # as T5 words it: raise the proportional rate to 1/T and renormalize
    plain = mixing.rates(SIZES, cap=50_000)
    raised = [rate ** (1 / 3) for rate in plain.values()]
    by_hand = [rate / sum(raised) for rate in raised]
    assert list(mixing.rates(SIZES, temperature=3, cap=50_000).values()) == pytest.approx(by_hand)


def test_the_two_ends_of_the_temperature_are_equal_mixing_and_the_largest_task():
    assert list(mixing.rates(SIZES, temperature=math.inf).values()) == pytest.approx([1 / 3] * 3)
    assert list(mixing.rates(SIZES, cap=1).values()) == pytest.approx([1 / 3] * 3)
    assert mixing.rates(SIZES, temperature=1e-3)["a"] == pytest.approx(1.0)


@pytest.mark.parametrize("n", [0, 1, 7, 640, 1001])
def test_draws_add_up_and_are_within_one_of_the_share(n):
    shares = mixing.rates(SIZES, temperature=2)
    got = mixing.counts(shares, n)
    assert sum(got.values()) == n
    assert all(abs(got[task] - n * share) < 1 for task, share in shares.items())


def test_a_small_task_is_repeated_evenly_and_a_large_one_not_at_all():
    sets = {"big": [{"instruction": f"b{i}", "output": "x"} for i in range(100)],
            "small": [{"instruction": f"s{i}", "output": "y"} for i in range(4)]}
    mixed = mixing.draw(sets, 20, {"big": 0.5, "small": 0.5}, seed=0)
    times = Counter(record["instruction"] for record in mixed)
    assert max(n for name, n in times.items() if name[0] == "b") == 1
    assert sorted(n for name, n in times.items() if name[0] == "s") == [2, 2, 3, 3]
    assert list(mixed) == list(mixing.draw(sets, 20, {"big": 0.5, "small": 0.5}, seed=0))
    assert list(mixed) != list(mixing.draw(sets, 20, {"big": 0.5, "small": 0.5}, seed=1))


@pytest.mark.heavy
def test_effective_share_counts_the_tokens_with_loss():
    tokenizer = loading.load_tokenizer("tiny")
    records = [{"instruction": "Say it.", "output": "a", "task": "short"},
               {"instruction": "Say it.", "output": "a a a a a a a", "task": "long"}]
    n = {r["task"]: len(tokenizer(" " + r["output"], add_special_tokens=False)["input_ids"]) + 1
         for r in records}  # and the end-of-sequence token
    got = mixing.effective(records, tokenizer)
    assert got["long"] == pytest.approx(n["long"] / sum(n.values()))
    assert got["short"] < 0.5 and sum(got.values()) == pytest.approx(1)


@pytest.mark.parametrize("call, words", [
    (lambda: mixing.rates({}), "a positive number for each task"),
    (lambda: mixing.rates({"a": 0}), "a positive number for each task"),
    (lambda: mixing.rates({"a": 1}, temperature=0), "temperature is 0"),
    (lambda: mixing.rates({"a": 1}, cap=0), "cap is 0"),
    (lambda: mixing.counts({"a": -1.0}, 3), "no negative number"),
    (lambda: mixing.counts({"a": 0.0}, 3), "one share above 0"),
    (lambda: mixing.draw({"a": []}, 3, {"a": 1.0}, 0), "expected at least one, since 3"),
    (lambda: mixing.draw({"a": []}, 3, {"b": 1.0}, 0), "the same keys"),
])
def test_mistakes_say_what_is_accepted(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_mixture_is_trained_on_like_any_records():
    mixed = mixing.draw({n: schema.records(n)[:5] for n in ("capital", "plural")}, 6,
                        {"capital": 2, "plural": 1}, seed=0)
    assert Counter(r["task"] for r in mixed) == {"capital": 4, "plural": 2}
    assert mixed.kind == "instruction" and mixed.sha256
