"""predict, expect, check, and the progress file they leave."""

import json
import subprocess
import sys

import pytest

from ftkit import claims, progress


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FTKIT_TIER", "cpu")
    monkeypatch.delenv("FTKIT_STRICT", raising=False)
    monkeypatch.setattr(progress, "_told", False)
    return tmp_path / "home"


@pytest.fixture
def double(monkeypatch):
    monkeypatch.setattr(claims, "EXERCISES", {})

    @claims.exercise("double")
    def _(function):
        for given in (2, -3):
            if function(given) != 2 * given:
                return f"double({given}) gave {function(given)!r}, expected {2 * given}"


def kept(home):
    return [json.loads(line) for line in (home / "progress.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------ predict


def test_without_a_guess_the_cell_says_so_and_nothing_is_kept(own_home):
    p = claims.predict("What happens?", "falls", "rises")
    assert "no guess yet" in repr(p) and "'falls', 'rises'" in repr(p)
    assert "no guess was made" in repr(p.score("falls")) and p.right is None
    assert claims.predict("What happens?", "falls", guess=...).guess is None
    assert not own_home.exists()


def test_a_guess_is_kept_and_scored_beside_the_result(own_home):
    p = claims.predict("What happens?", "falls", "rises", guess="Ris", confidence=0.7)
    p.score("falls")
    assert p.right is False
    assert "your guess: rises (70% sure) | what came out: falls ✗" in repr(p)
    assert claims.predict("Again?", "falls", "rises", guess="falls").score("falls").right is True
    first, scored, *_ = kept(own_home)
    assert (first["kind"], first["guess"], first["confidence"]) == ("predict", "rises", 0.7)
    assert (scored["kind"], scored["right"], scored["actual"]) == ("score", False, "falls")


def test_a_number_is_right_within_a_tenth():
    assert claims.predict("How many?", guess=109).score(100).right is True
    assert claims.predict("How many?", guess=111).score(100).right is False
    assert claims.predict("How many?", guess=3).score(2, within=0.5).right is True
    assert claims.predict("Which loss?", guess=3).score(float("nan")).right is False


def test_a_guess_that_is_no_option_names_the_options():
    with pytest.raises(ValueError, match="guess is 'up'; expected one of 'falls', 'rises'"):
        claims.predict("What?", "falls", "rises", guess="up")
    with pytest.raises(ValueError, match="0.7 means 70%"):
        claims.predict("What?", "falls", guess="falls", confidence=70)


def test_text_is_escaped_where_a_prediction_draws_itself():
    page = claims.predict("<img src=x onerror=y>", guess="<b>").score("<script>")._repr_html_()
    for evil in ("<img", "<script", ": <b>"):
        assert evil not in page
    assert "&lt;img src=x onerror=y&gt;" in page


# ------------------------------------------------------------------------------- expect


def test_a_claim_is_printed_with_both_values(capsys):
    assert claims.expect(0.5, "<", 4.1, "training lowers the loss")
    assert not claims.expect(5.0, "<", 4.1, "training lowers the loss")
    met, unmet = capsys.readouterr().out.splitlines()
    assert met == "✓ training lowers the loss: 0.50 < 4.10"
    assert unmet == "✗ training lowers the loss: 5.00 < 4.10"


def test_seeds_must_differ_by_more_than_their_spread(capsys):
    near, far = [1.0, 1.2, 1.1], [1.17, 1.32, 1.17]
    assert not claims.expect(near, "<", far, "lower")  # 0.12 apart, spread 0.13
    assert claims.expect(near, "==", far, "the same")
    assert claims.expect(near, "<", [2.0, 2.1, 2.2], "lower")
    assert not claims.expect(near, ">", [2.0, 2.1, 2.2], "higher")
    assert not claims.expect(near, "==", [2.0, 2.1, 2.2], "the same")
    out = capsys.readouterr().out
    assert "✗ lower: 1.10 ± 0.10 < 1.22 ± 0.09 (difference 0.12, spread 0.13)" in out


def test_nan_supports_no_claim_and_inf_is_large():
    nan, inf = float("nan"), float("inf")
    for op in claims.OPERATORS:
        assert not claims.expect(nan, op, 1.0, "?")
        assert not claims.expect([1.0, nan], op, [1.0, 1.0], "?")
    assert claims.expect(inf, ">", 10, "diverged")
    assert claims.expect([inf, inf], ">", 10, "diverged")


def test_tensors_and_arrays_are_numbers():
    torch = pytest.importorskip("torch")
    assert claims.expect(torch.tensor(1.0), "<", torch.tensor([2.0, 2.1, 2.2]), "less")
    assert claims.expect(torch.tensor([0.5]), "==", 0.5, "equal")
    with pytest.raises(ValueError, match="not a number"):
        claims.expect("low", "<", 2, "less")
    with pytest.raises(ValueError, match="expected one of < <= > >= == !="):
        claims.expect(1, "=<", 2, "less")


def test_only_strict_mode_raises_and_never_in_the_smoke_tier(monkeypatch, capsys):
    monkeypatch.setenv("FTKIT_STRICT", "1")
    with pytest.raises(AssertionError, match="lower: 5.00 < 4.10"):
        claims.expect(5.0, "<", 4.1, "lower")
    monkeypatch.setenv("FTKIT_TIER", "smoke")
    assert not claims.expect(5.0, "<", 4.1, "lower")
    assert "too short to show it" in capsys.readouterr().out


# -------------------------------------------------------------------------------- check


@pytest.mark.parametrize("stub", [None, ..., lambda x: None, lambda x: ...],
                         ids=["None", "dots", "returns-None", "returns-dots"])
def test_a_stub_is_not_solved_yet(double, stub, capsys):
    assert claims.check("double", stub).state == "unsolved"
    assert capsys.readouterr().out == "○ double: not solved yet\n"


def test_not_implemented_is_not_solved_yet(double):
    def stub(x):
        raise NotImplementedError

    assert claims.check("double", stub).state == "unsolved"


def test_a_wrong_answer_names_the_failing_case(double, capsys, own_home):
    assert claims.check("double", abs).state == "wrong"
    assert not claims.check("double", lambda x: x * x)
    assert capsys.readouterr().out.splitlines() == [
        "✗ double: double(2) gave 2, expected 4", "✗ double: double(-3) gave 9, expected -6"]
    assert [e["state"] for e in kept(own_home)] == ["wrong", "wrong"]


def test_an_error_in_the_candidate_is_told_with_its_line(double):
    def broken(x):
        return x + json.loads("?")

    line = broken.__code__.co_firstlineno + 1
    text = claims.check("double", broken).text
    assert "it raised JSONDecodeError" in text and f"(line {line} of your code)" in text


def test_a_right_answer_gets_its_tick(double, capsys, own_home):
    assert claims.check("double", lambda x: x + x)
    assert capsys.readouterr().out == "✓ double: solved\n"
    assert kept(own_home)[0]["state"] == "solved"


def test_an_unknown_exercise_names_the_near_ones(double):
    with pytest.raises(ValueError, match="'doubel'; there is double"):
        claims.check("doubel", None)


# ----------------------------------------------------------------------------- progress


def test_a_line_that_a_crash_cut_off_costs_only_itself(own_home):
    progress.add("check", name="a")
    with open(own_home / "progress.jsonl", "a") as file:
        file.write('{"kind": "che')
    progress.add("check", name="b")
    assert [e["name"] for e in progress.entries()] == ["a", "b"]


def test_processes_that_write_at_once_keep_every_line(own_home):
    code = "from ftkit import progress\nfor i in range(50): progress.add('check', name='x' * 500)"
    for process in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]:
        assert process.wait(60) == 0
    assert len(kept(own_home)) == 100


def test_a_home_that_cannot_be_written_is_told_once(tmp_path, monkeypatch, capsys, double):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "file" / "home"))
    claims.predict("What?", guess=1).score(1)
    assert claims.check("double", lambda x: 2 * x)
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "set FTKIT_HOME" in errors[0]
    assert progress.entries() == []


def test_numbers_without_a_json_word_are_kept_as_null(own_home):
    progress.add("score", actual=float("nan"))
    assert kept(own_home)[0]["actual"] is None
