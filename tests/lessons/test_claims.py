"""predict, expect, and the progress file they leave."""

import json
import subprocess
import sys

import pytest

from ftkit.lessons import claims, predictions, progress_log
from ftkit.lessons.predictions import predict

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FTKIT_TIER", "cpu")
    monkeypatch.delenv("FTKIT_STRICT", raising=False)
    monkeypatch.setattr(progress_log, "_warned", False)
    return tmp_path / "home"


def kept(home):
    return [json.loads(line) for line in (home / "progress.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------ predict


def test_without_a_guess_the_cell_says_so_and_nothing_is_kept(own_home):
    p = predict("What happens?", "falls", "rises")
    assert "no guess yet" in repr(p) and "'falls', 'rises'" in repr(p)
    assert "no guess was made" in repr(p.score("falls")) and p.right is None
    assert predict("What happens?", "falls", guess=...).guess is None
    assert not own_home.exists()


def test_a_guess_is_kept_and_scored_beside_the_result(own_home):
    p = predict("What happens?", "falls", "rises", guess="Ris", confidence=0.7)
    p.score("falls")
    assert p.right is False
    assert "your guess: rises (70% sure) | result: falls ✗" in repr(p)
    assert predict("Again?", "falls", "rises", guess="falls").score("falls").right is True
    first, scored, *_ = kept(own_home)
    assert (first["kind"], first["guess"], first["confidence"]) == ("predict", "rises", 0.7)
    assert (scored["kind"], scored["right"], scored["actual"]) == ("score", False, "falls")


def test_a_number_is_right_within_a_tenth():
    assert predict("How many?", guess=109).score(100).right is True
    assert predict("How many?", guess=111).score(100).right is False
    assert predict("How many?", guess=3).score(2, within=0.5).right is True
    assert predict("Which loss?", guess=3).score(float("nan")).right is False


def test_a_guess_that_is_no_option_names_the_options():
    with pytest.raises(ValueError, match="guess is 'up'; expected one of 'falls', 'rises'"):
        predict("What?", "falls", "rises", guess="up")
    with pytest.raises(ValueError, match="0.7 means 70%"):
        predict("What?", "falls", guess="falls", confidence=70)
    for guess in ([(0, 4), (30, 1)], {0: 4}, object(), float("nan")):
        with pytest.raises(ValueError, match="expected a number"):
            predict("How many?", guess=guess)


def test_text_is_escaped_where_a_prediction_draws_itself():
    page = predict("<img src=x onerror=y>", guess="<b>").score("<script>")._repr_html_()
    for evil in ("<img", "<script", ": <b>"):
        assert evil not in page
    assert "&lt;img src=x onerror=y&gt;" in page


def test_a_number_and_its_result_stand_on_one_line():
    p = predict("How many?", guess=90).score(100)
    assert [list(line.get_xdata()) for line in p.picture().axes[0].lines] == [[100], [90]]
    assert predict("Which?", "a", "b", guess="a").score("a").picture() is None


# --------------------------------------------------------------------------- calibration


def test_calibration_counts_the_first_answer_to_each_question_by_topic(monkeypatch):
    empty = predictions.calibration()
    assert "No scored guess" in empty.text and empty.png().startswith(b"\x89PNG")
    for question, guess in (("1", "a"), ("2", "a"), ("3", "b"), ("3", "a"), ("4", "b")):
        predict(question, "a", "b", guess=guess, confidence=0.9, topic="rates").score("a")
    predict("5", "a", "b", guess="a", topic="rates").score("a")  # without a confidence
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/07_learning_rate.ipynb")
    predict("6", guess=3, confidence=1).score(3)
    assert predictions.calibration_rows() == [
        {"topic": "07_learning_rate", "guesses": 1, "sure": 1.0, "right": 1.0},
        {"topic": "rates", "guesses": 4, "sure": pytest.approx(0.9), "right": 0.5}]
    text = predictions.calibration().text
    assert "rates: 4 guesses, 90% sure, 50% right, too sure" in text
    assert "1 guess, 100% sure, 100% right, fewer than 10 guesses" in text
    assert [row["topic"] for row in predictions.calibration_rows("rates")] == [
        "rates, about 90% sure"]


# ------------------------------------------------------------------------------- expect


def test_a_claim_is_printed_with_both_values(capsys):
    assert claims.expect(0.5, "<", 4.1, "training lowers the loss")
    assert not claims.expect(5.0, "<", 4.1, "training lowers the loss")
    met, unmet = capsys.readouterr().out.splitlines()
    assert met == "✓ training lowers the loss: 0.50 < 4.10"
    assert unmet == "✗ training lowers the loss: 5.00 < 4.10"


def test_a_claim_that_fills_a_line_has_its_test_on_the_next(capsys):
    claim = "a low rate with as many steps keeps more of what the model knew"
    claims.expect([1.0, 1.1, 1.2], "<", [2.0, 2.1, 2.2], claim)
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("1.10 ± 0.10 < 2.10 ± 0.10")
    assert second == "  (3 seeds: p < 0.001)"


def test_values_of_seeds_are_tested_and_the_sentence_says_how(capsys):
    near, far = [1.0, 1.2, 1.1], [1.17, 1.32, 1.17]
    assert claims.expect(near, "<", far, "lower").state == "not settled"
    assert claims.expect(near, "<", [2.0, 2.1, 2.2], "lower").state == "holds"
    assert claims.expect(near, ">", [2.0, 2.1, 2.2], "higher").state == "opposite"
    assert claims.expect(near, "!=", [2.0, 2.1, 2.2], "other") and not claims.expect(
        near, "!=", far, "other")
    out = capsys.readouterr().out
    assert "✗ lower: 1.10 ± 0.10 < 1.22 ± 0.09 (3 seeds: p = 0.11)" in out
    # by hand: t = 1 / sqrt(0.01 / 3 + 0.01 / 3) = 12.25 with 4 degrees of freedom
    assert "✓ other: 1.10 ± 0.10 != 2.10 ± 0.10 (3 seeds: p < 0.001)" in out


def test_a_difference_can_be_claimed_of_a_size(capsys):
    low, high = [1.0, 1.1, 0.9], [2.0, 2.1, 1.9]
    assert claims.expect(low, "<", high, "lower", by=0.5)
    assert claims.expect(high, ">", low, "higher", times=1.5)
    assert not claims.expect(low, "<", high, "lower", by=1.0)
    assert claims.expect(2.0, ">", 1.0, "twice", by=0.5) and not claims.expect(
        2.0, ">", 1.0, "twice", times=2.0)
    worse = [x + 0.05 for x in low]
    assert claims.expect(worse, "<", low, "no worse", by=-0.5)
    assert claims.expect(worse, "<", low, "no worse", by=-0.01).state == "not settled"
    assert claims.expect(high, "<", low, "no worse", by=-0.5).state == "opposite"
    out = capsys.readouterr().out
    assert "✓ no worse: 1.05 ± 0.10 < (1.00 ± 0.10) + 0.50" in out
    assert "✓ lower: 1.00 ± 0.10 < (2.00 ± 0.10) - 0.50" in out
    assert "✓ higher: 2.00 ± 0.10 > 1.50 × (1.00 ± 0.10)" in out
    with pytest.raises(ValueError, match="expected a number above 0, with =="):
        claims.expect(low, "<", high, "?", within=1)
    with pytest.raises(ValueError, match="expected within"):
        claims.expect(low, "==", high, "?", by=1)


def test_equality_needs_a_margin_and_else_has_no_tick(capsys, monkeypatch):
    monkeypatch.setenv("FTKIT_STRICT", "1")
    a, b = [1.0, 1.1, 0.9], [1.02, 1.08, 0.93]
    verdict = claims.expect(a, "==", b, "as good")
    assert not verdict and verdict.state == "not settled"
    assert claims.expect(a, "==", b, "as good", within=0.3).state == "holds"
    with pytest.raises(AssertionError, match="p = "):
        claims.expect(a, "==", b, "as good", within=0.05)  # not shown, and a margin was claimed
    with pytest.raises(AssertionError, match="a difference was seen"):
        claims.expect(a, "==", [2.0, 2.1, 1.9], "as good")
    assert not claims.expect([3, 3], "==", [3, 3], "as good")
    out = capsys.readouterr().out
    assert "– as good: 1.00 ± 0.10 and 1.01 ± 0.08, no difference seen\n  (3 seeds, smallest " \
           "difference that would have been seen: 0.23)" in out
    assert "2 seeds, the same value in each" in out


def test_pairs_of_the_same_seed_are_compared_with_each_other():
    a, b = [1.0, 2.0, 3.0], [1.11, 2.10, 3.09]
    assert claims.expect(a, "<", b, "lower", paired=True)
    assert not claims.expect(a, "<", b, "lower")
    assert (claims.direction(a, b, paired=True), claims.direction(a, b)) == ("<", "")
    with pytest.raises(ValueError, match="3 and 2"):
        claims.expect(a, "<", b[:2], "lower", paired=True)


def test_a_guess_is_scored_by_the_rule_of_the_claim():
    for a, b in (([1.0, 1.1, 0.9], [2.0, 2.1, 1.9]), ([1.0, 1.1], [1.2, 0.9]), (1, 2), (2, 2.0),
                 ([1.0, 1.1, 0.9], 0.0), ([1.0], [2.0])):
        wanted = [op for op in "<>" if claims.expect(a, op, b, "?")]
        assert claims.direction(a, b) == "".join(wanted)


def test_nan_supports_no_claim_and_inf_is_large():
    nan, inf = float("nan"), float("inf")
    assert claims.direction(nan, 1.0) == ""
    for op in claims.OPERATORS:
        assert not claims.expect(nan, op, 1.0, "?")
        assert not claims.expect([1.0, nan], op, [1.0, 1.0], "?")
    assert claims.expect(inf, ">", 10, "diverged")
    assert claims.expect([inf, inf], ">", 10, "diverged")


@pytest.mark.heavy
def test_tensors_and_arrays_are_numbers():
    torch = pytest.importorskip("torch")
    assert claims.expect(torch.tensor(1.0), "<", torch.tensor([2.0, 2.1, 2.2]), "less")
    assert claims.expect(torch.tensor(0.5), "==", 0.5, "equal")
    with pytest.raises(ValueError, match="not a number"):
        claims.expect("low", "<", 2, "less")
    with pytest.raises(ValueError, match="expected one of < <= > >= == !="):
        claims.expect(1, "=<", 2, "less")


def test_only_strict_mode_raises_and_never_in_smoke_or_where_a_claim_may_fail(monkeypatch, capsys):
    monkeypatch.setenv("FTKIT_STRICT", "1")
    with pytest.raises(AssertionError, match="lower: 5.00 < 4.10"):
        claims.expect(5.0, "<", 4.1, "lower")
    assert claims.expect(5.0, "<", 4.1, "lower?", may_fail=True).state == "opposite"
    monkeypatch.setenv("FTKIT_TIER", "smoke")
    assert not claims.expect(5.0, "<", 4.1, "lower")
    assert "too short to show it" in capsys.readouterr().out


# ----------------------------------------------------------------------------- progress


def test_a_line_that_a_crash_cut_off_costs_only_itself(own_home):
    progress_log.add("check", name="a")
    with open(own_home / "progress.jsonl", "a") as file:
        file.write('{"kind": "che')
    progress_log.add("check", name="b")
    assert [e["name"] for e in progress_log.entries()] == ["a", "b"]


def test_processes_that_write_at_once_keep_every_line(own_home):
    code = ("from ftkit.lessons import progress_log\n"
            "for i in range(50): progress_log.add('check', name='x' * 500)")
    for process in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]:
        assert process.wait(60) == 0
    assert len(kept(own_home)) == 100


def test_a_home_that_cannot_be_written_is_reported_once(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "file" / "home"))
    predict("What?", guess=1).score(1)
    progress_log.add("check", name="a")
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "set FTKIT_HOME" in errors[0]
    assert progress_log.entries() == []


def test_numbers_without_a_json_word_are_kept_as_null(own_home):
    progress_log.add("score", actual=float("nan"))
    assert kept(own_home)[0]["actual"] is None
