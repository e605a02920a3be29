"""The bug zoo: each bug shows, can be told from each other, and is gone when it is repaired."""

import copy
import math

import pytest
import torch

from ftkit.base.formatting import mean_sd
from ftkit.data import encoding
from ftkit.engine import packed_batch, packed_loss
from ftkit.evaluate import scoring
from ftkit.lessons import progress_log
from ftkit.lessons.bugs import pipeline
from ftkit.lessons.bugs import zoo as bugzoo
from ftkit.lessons.bugs.bugs import BUGS, INSTRUMENTS

SEEDS = (0, 1, 2)  # those of the cases


@pytest.fixture(scope="module", params=[(0,), pytest.param(SEEDS, marks=pytest.mark.seeds)],
                ids=["seed 0", "all seeds"])
def seeds(request):
    return request.param


@pytest.fixture(scope="module")
def zoo(seeds):
    """Symptoms of every bug, and of the correct pipeline (None), for every seed."""
    return {(bug, seed): bugzoo.run(bug, seed).symptoms for seed in seeds for bug in [None, *BUGS]}


@pytest.fixture(scope="module")
def base():
    return pipeline.base_model()


# ------------------------------------------------------------------- the pipeline is correct


def test_the_losses_of_the_pipeline_are_those_of_the_fast_path(base):
    model, tokenizer = base
    stages, records = pipeline.STAGES, pipeline.records()[0][::6]
    examples = [pipeline.encode(stages, record, tokenizer) for record in records]
    assert examples == [encoding.encode(record, tokenizer) for record in records]
    batches = pipeline.micro_batches(stages, examples * 2, tokenizer)
    made = copy.deepcopy(model).requires_grad_(True).eval()
    loss = pipeline.accumulate(stages, made, batches)
    wanted = copy.deepcopy(model).requires_grad_(True).eval()
    batch = packed_batch.pack(examples * 2)
    theirs = packed_loss.loss_sum(wanted, batch) / batch.supervised_tokens
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-5)
    for p, q in zip(made.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-5)
    reported = pipeline.mean(pipeline.validate(stages, model, examples, tokenizer, size=3))
    assert reported == pytest.approx(scoring.loss_on(model, examples), rel=1e-5)


def test_the_baseline_pipeline_learns_and_its_instruments_agree(zoo, seeds):
    for seed in seeds:
        read = zoo[None, seed]
        assert read["first_loss"] < math.log(3072) + 2 and read["last_loss"] < 1.5
        assert read["exact_match"] > 0.25 and read["stops"] > 0.85
        assert max(read[k] for k in ("repeat", "batch_size", "accumulation")) < 1e-5
        assert read["merge"] == pytest.approx(1, abs=1e-3)
        assert read["ends_learned"] == read["bos_tokens"] == read["prompt_agrees"] == 1


def test_training_twice_gives_the_same_curve_and_leaves_the_callers_random_state_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = pipeline.train(pipeline.STAGES, 0)
    assert torch.equal(state, torch.get_rng_state())
    wanted = bugzoo.run(None, 0).trained
    assert [r["loss"] for r in again.rows] == [r["loss"] for r in wanted.rows]


# ------------------------------------------------------------------------------ the bugs


def test_there_are_a_dozen_bugs_and_each_is_a_changed_stage():
    assert len(BUGS) >= 12
    for bug in BUGS.values():
        assert bug.title and bug.what and bug.remedy and bug.lesson
        assert pipeline.STAGES[bug.stage] is not bug.function
    assert len({bug.title for bug in BUGS.values()}) == len(BUGS)


@pytest.mark.parametrize("bug", BUGS)
def test_each_bug_moves_its_symptom_by_more_than_the_spread_over_seeds(zoo, seeds, bug):
    instrument, way = BUGS[bug].shown_by
    faulty, baseline = ([zoo[name, seed][instrument] for seed in seeds] for name in (bug, None))
    (a, sd_a), (b, sd_b) = mean_sd(faulty), mean_sd(baseline)
    assert abs(a - b) > 2 * math.hypot(sd_a, sd_b)
    assert (min(faulty) > max(baseline)) if way == "higher" else (max(faulty) < min(baseline))
    assert all(abs(x - y) > INSTRUMENTS[instrument][1] for x in faulty for y in baseline)


def test_the_margins_are_wider_than_what_baseline_runs_differ_by(zoo, seeds):
    for a in seeds:
        for b in seeds:
            assert bugzoo.deviations(zoo[None, a], zoo[None, b]) == {}


# What to look at, in this order; the first line that is true names the bug.
DECISIONS = [
    ("all_masked", lambda s: s["label_share"] == 0),
    ("mask_lost", lambda s: s["label_share"] > 0.95),
    ("double_bos", lambda s: s["bos_tokens"] > 1),
    ("no_role_marker", lambda s: s["prompt_agrees"] == 0),
    ("pad_is_eos", lambda s: s["ends_learned"] == 0),
    ("truncated", lambda s: s["ends_learned"] < 1),
    ("double_shift", lambda s: s["first_loss"] > math.log(3072) + 3),
    ("gradients_kept", lambda s: s["grad_norm"] > 10),
    ("mean_of_means", lambda s: s["accumulation"] > 0.05),
    ("train_mode", lambda s: s["repeat"] > 1e-3),
    ("padding_counted", lambda s: s["batch_size"] > 1e-3),
    ("overlap", lambda s: s["leak"] > 0.2),
    ("fresh_adapter", lambda s: s["merge"] == 0),
    ("alpha_forgotten", lambda s: s["merge"] < 0.9),
    (None, lambda s: True),
]


@pytest.mark.parametrize("bug", [None, *BUGS])
def test_a_decision_table_over_the_instruments_names_each_bug(zoo, seeds, bug):
    for seed in seeds:
        named = next(name for name, true in DECISIONS if true(zoo[bug, seed]))
        assert named == bug


def test_no_two_bugs_look_the_same(zoo, seeds):
    """Some instrument reads apart for every pair: the ranges over seeds do not even touch."""
    names = [None, *BUGS]
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            ranges = [[(min(v), max(v)) for v in ([zoo[n, s][k] for s in seeds] for n in (a, b))]
                      for k in INSTRUMENTS]
            assert any(x[1] + 1e-4 < y[0] or y[1] + 1e-4 < x[0] for x, y in ranges), (a, b)


# ------------------------------------------------------------------------------ the cases


def test_as_many_cases_as_bugs_are_all_different():
    assert sorted(map(bugzoo.bug_of, range(len(BUGS)))) == sorted(BUGS)


def case_of(bug):
    """A case with this bug and seed 0, whose runs other tests have made."""
    return bugzoo.case(next(i for i in range(0, 1000, bugzoo.SEEDS) if bugzoo.bug_of(i) == bug))


@pytest.fixture(scope="module")
def case():
    found = case_of("mask_lost")
    assert found._cause.name == bugzoo.bug_of(found.seed) == "mask_lost"
    return found


def test_a_case_shows_symptoms_and_does_not_name_its_bug(case):
    shown = repr(case) + case._repr_html_() + repr(case.curve()) + repr(case.answers())
    shown += repr(case.batch())
    for bug in ("mask_lost", BUGS["mask_lost"].title, BUGS["mask_lost"].what):
        assert bug not in shown
    assert "label_share" in shown and len(case.answers(5).rows) == 5
    assert case.symptoms["label_share"] == 1


def test_the_table_of_a_case_marks_what_is_off_by_more_than_its_margin(case):
    rows = {row["instrument"]: row for row in case.table().rows}
    assert rows["label_share"]["off"] == "higher" and rows["bos_tokens"]["off"] == ""
    for row in rows.values():
        apart = abs(row["this run"] - row["a baseline run"])
        assert bool(row["off"]) == (apart > row["margin"])


def test_the_names_say_what_each_bug_does():
    assert [row["what it does"] for row in bugzoo.names().rows] == [b.what for b in BUGS.values()]


def test_a_guess_is_scored_and_kept(case, home, capsys):
    assert not case.guess("double_shift")
    assert "first_loss would be higher" in capsys.readouterr().out
    assert case.guess("mask_lost")
    assert BUGS["mask_lost"].title in capsys.readouterr().out
    kept = [(e["guess"], e["right"]) for e in progress_log.entries() if e["kind"] == "bug"]
    assert kept == [("double_shift", False), ("mask_lost", True)]


def test_a_wrong_guess_that_shows_in_the_same_instrument_is_told_so(capsys):
    assert not case_of("truncated").guess("pad_is_eos")
    assert "ends_learned too" in capsys.readouterr().out


def test_the_right_repair_meets_the_baseline_curve_and_a_wrong_one_does_not(case, capsys):
    assert case.repair("mask_lost")
    assert not case.repair("pad_is_eos")
    assert "label_share is higher" in capsys.readouterr().out


def test_a_stage_written_by_the_learner_repairs_too(case, capsys):
    assert case.repair(label=lambda asked, answer, tokenizer: [-100] * len(asked) + answer)
    assert not case.repair(label=lambda asked, answer, tokenizer: [-100] * len(asked) + answer[:-1]
                           + [-100])
    assert "ends_learned is lower" in capsys.readouterr().out


@pytest.mark.parametrize("call, words", [
    (lambda: bugzoo.run("pad_is_eso"), "pad_is_eos"),
    (lambda: bugzoo.case(-1), "whole number"),
    (lambda: bugzoo.case(True), "whole number"),
    (lambda: bugzoo.stages(lable=print), "label"),
])
def test_a_wrong_name_is_answered_with_those_there_are(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_repair_needs_a_name_or_a_stage(case):
    with pytest.raises(ValueError, match="label=my_function"):
        case.repair()
