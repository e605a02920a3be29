"""What curves mean, in words: each verdict from curves made by hand, with its evidence."""

import math
from types import SimpleNamespace

import pytest

from ftkit.base.run_end import End
from ftkit.report.diagnose import diagnose

pytestmark = pytest.mark.quick


def run(losses, val=None, general=None):
    """A run with these training losses; val and general are evaluated at equal distances."""
    rows = [{"step": n, "loss": loss} for n, loss in enumerate(losses, 1)]
    before, after = {}, {}
    for key, values in (("val_loss", val), ("general_loss", general)):
        if values:
            before[key], after[key] = values[0], values[-1]
            for place, value in enumerate(values[1:], 1):
                rows[place * len(rows) // (len(values) - 1) - 1][key] = value
    return SimpleNamespace(rows=rows, before=before, after=after, stopped=None)


def falling(n=40, start=4.0, end=0.2):
    return [start * (end / start) ** (i / (n - 1)) for i in range(n)]


def kinds(*args, **options):
    return [finding.kind for finding in diagnose(run(*args, **options))]


def test_a_run_that_learns_and_forgets_nothing_is_fine():
    found = diagnose(run(falling(), [4, 2, 1, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5], [1.0, 1.02]))
    assert [f.kind for f in found] == ["fine"]
    assert "4.00 to 0.50" in found[0].text and "no probe rose" in found[0].text


def test_a_val_loss_that_is_no_number_is_named_where_the_training_loss_falls():
    found = diagnose(run([1.9, 1.5, 1.3, 1.1], [2.0, math.nan]))[0]
    assert found.kind == "diverged" and "val_loss is nan" in found.text
    assert found.evidence["first"] == 2.0


def test_a_fine_run_that_ends_far_above_the_baseline_says_so():
    good, slow = (run(falling(), [4, 2, 1, *[end] * 6]) for end in (0.5, 0.9))
    assert "the baseline" not in diagnose(slow, good)[0].text  # not known to be the same records
    good.data = slow.data = {"held_still": {"validation": "abc"}}
    (found,) = diagnose(slow, good)
    assert found.kind == "fine" and "val_loss ends at 0.90 and the baseline's at 0.50" in found.text
    for one, other in ((good, slow), (slow, slow), (slow, None)):
        assert "the baseline" not in diagnose(one, other)[0].text
    slow.data = {"held_still": {"validation": "def"}}
    assert "the baseline" not in diagnose(slow, good)[0].text


def test_nan_is_divergence_and_nothing_else_is_said():
    found = diagnose(run([4.0, 3.0, 9.0, math.nan], [4.0, math.nan], [1.0, math.nan]))
    assert [f.kind for f in found] == ["diverged"]
    assert found[0].evidence == {"step": 4} and "step 4" in found[0].text


def test_a_loss_that_ends_far_above_its_start_has_diverged_without_a_nan():
    found = diagnose(run([4, 3, 2, 5, 8, 9, 9, 9, 9, 9, 9, 9], [4.0, 9.5]))
    assert found[0].kind == "diverged" and "9.00 at the end" in found[0].text


def test_of_a_run_that_was_stopped_at_once_nothing_is_advised_but_to_go_on():
    cut = run([4.0], [4.0, 3.9])
    cut.end = End.STOPPED_BY_HAND
    (found,) = diagnose(cut)
    assert found.text.startswith("underfitting so far: val_loss went from 4.00 to 3.90")
    assert found.advice == "let it finish"


def test_overfitting_is_reported_from_its_step_on():
    found = diagnose(run(falling(), [4, 2, 1, 0.8, 0.9, 1.0, 1.2, 1.3, 1.4]))
    assert found[0].kind == "overfitting"
    assert found[0].evidence["step"] == 15 and "since step 15" in found[0].text
    assert found[0].evidence["loss_now"] < found[0].evidence["loss_then"]


def test_a_val_loss_that_rises_together_with_the_training_loss_is_no_overfitting():
    up = [4, 3, 2, 1.0] + [1.0 + 0.1 * i for i in range(16)]
    assert "overfitting" not in kinds(up, [4, 2, 1.0, 1.1, 1.3, 1.5])


def test_noise_of_a_few_per_cent_is_no_overfitting():
    assert "overfitting" not in kinds(falling(), [4, 2, 1, 0.50, 0.51, 0.52, 0.515, 0.51, 0.52])


@pytest.mark.parametrize("val, said", [
    ([4.0, 3.95, 3.9, 3.85, 3.8], "3.80 only"),
    ([4.0, 3.6, 3.2, 2.8, 2.4, 2.0, 1.6, 1.2, 0.8], "last quarter")])
def test_underfitting_is_a_loss_that_hardly_fell_or_is_still_falling(val, said):
    found = diagnose(run(falling(end=2.0), val))
    assert found[0].kind == "underfitting" and said in found[0].text


def test_forgetting_is_reported_with_its_size_and_next_to_the_rest():
    found = diagnose(run(falling(), [4, 2, 1, 0.8, 0.9, 1.0, 1.2, 1.3, 1.4], [1.0, 1.5]))
    assert [f.kind for f in found] == ["overfitting", "forgetting"]
    assert found[1].evidence["by"] == pytest.approx(0.5)
    assert "forgetting by 0.50" in found[1].text and "1.65 times" in found[1].text


def test_one_run_is_not_said_to_overfit_and_to_underfit():
    """A val_loss that rises while the training loss vanishes is one thing, overfitting."""
    for val in ([7.29, 6.62, 8.0, 9.0, 10.34], [7.29, 8.4, 9.0, 10.34], [7.29, 10.34]):
        found = diagnose(run(falling(34, 6.08, 0.0007), val))
        assert [finding.kind for finding in found] == ["overfitting"], val
        assert "more steps" not in found[0].advice


@pytest.mark.parametrize("rows, limit, said", [
    (1, 64, "1 validation record: too few to tell"), (3, 64, "3 validation records: too few"),
    (100, 2, "2 validation records: too few"), (4, 64, None), (None, None, None)])
def test_too_few_validation_records_are_no_evidence(rows, limit, said):
    made = run(falling(), [4, 2, 1, 0.8, 0.9, 1.0, 1.2, 1.3, 1.4], [1.0, 1.5])
    made.data = {"validation_rows": rows, "held_still": {"eval_records": limit}}
    first, forgot = diagnose(made)
    assert first.kind == ("overfitting" if said is None else "too few")
    assert said is None or first.text.startswith(said)
    assert forgot.kind == "forgetting", "the probe has records of its own"


def test_a_finding_with_its_advice_is_at_most_25_words():
    up, good, slow = [4, 2, 1, 0.8, 0.9, 1.0, 1.2, 1.3, 1.4], *(
        run(falling(), [4, 2, 1, *[end] * 6]) for end in (0.5, 0.9))
    good.data = slow.data = {"held_still": {"validation": "abc"}}
    few = run(falling(), up)
    few.data = {"validation_rows": 1}
    runs = [good, few, run(falling(), up, [1.0, 1.5]), run([9.0, 8.9], [9.0, 9.1]),
            run(falling(), [4, 4.1]), run([4, 3, 2, *[9] * 9], [4.0, 9.5]), run([math.nan]),
            run([1.9, 1.1], [2.0, math.nan]),
            run(falling(end=2.0), [4, 3.6, 3.2, 2.8, 2.4, 2.0, 1.6, 1.2, 0.8])]
    for finding in [*diagnose(slow, good), *(one for each in runs for one in diagnose(each))]:
        assert len(f"{finding.text} → {finding.advice}".split()) <= 25, finding


def test_two_verdicts_do_not_advise_against_each_other():
    still, forgot = diagnose(run(falling(end=2.0), [4, 3.6, 3.2, 2.8, 2.4, 2.0, 1.6, 1.2, 0.8],
                                 [1.0, 1.5]))
    assert "more steps" in still.advice and "rate" not in still.advice
    assert "lower the learning rate" in forgot.advice and "fewer steps" not in forgot.advice
    found = diagnose(run([8.0, 7.9, 7.8], [8.8, 8.0], [1.0, 8.0]))
    assert [finding.kind for finding in found] == ["underfitting", "forgetting"]
    assert all("lower the learning rate" in finding.advice for finding in found)


def test_a_rise_of_less_than_a_tenth_of_a_nat_is_not_called_forgetting():
    assert "forgetting" not in kinds(falling(), [4, 1, 0.5, 0.5], [1.0, 1.09])


def test_without_a_step_nothing_was_learned():
    assert kinds([]) == ["underfitting"]


def test_a_run_that_was_not_evaluated_is_judged_by_its_training_loss():
    assert kinds(falling(end=3.9)) == ["underfitting"]
    assert "no probe was watched" in diagnose(run(
        [4, 1, 0.5] + [0.3] * 40))[0].text
