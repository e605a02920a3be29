"""check: a right solution, a wrong one with the error named, and a stub are told apart."""

import json
import math
from types import FunctionType

import pytest

import ftkit.lessons.exercises  # noqa: F401  before `double` sets another list of exercises
from ftkit.base.errors import UserError
from ftkit.lessons import checks, hints, progress_log

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(progress_log, "_warned", False)
    return tmp_path / "home"


@pytest.fixture
def double(monkeypatch):
    monkeypatch.setattr(checks, "EXERCISES", {})

    @checks.exercise("double")
    def _(function):
        for given in (2, -3):
            if function(given) != 2 * given:
                return f"double({given}) gave {function(given)!r}, expected {2 * given}"


def kept(home):
    return [json.loads(line) for line in (home / "progress.jsonl").read_text().splitlines()]


def test_a_wrong_answer_names_the_failing_case(double, capsys, own_home):
    assert checks.check("double", abs).state == "wrong"
    assert not checks.check("double", lambda x: x * x)
    assert capsys.readouterr().out.splitlines() == [
        "✗ double: double(2) gave 2, expected 4", "✗ double: double(-3) gave 9, expected -6"]
    assert [e["state"] for e in kept(own_home)] == ["wrong", "wrong"]


def test_an_error_in_the_candidate_is_reported_with_its_line(double):
    def broken(x):
        return x + json.loads("?")

    line = broken.__code__.co_firstlineno + 1
    text = checks.check("double", broken).text
    assert "it raised JSONDecodeError" in text and f"(line {line} of your code)" in text


def test_a_right_answer_gets_its_tick(double, capsys, own_home):
    assert checks.check("double", lambda x: x + x)
    assert capsys.readouterr().out == "✓ double: solved\n"
    assert kept(own_home)[0]["state"] == "solved"


def test_an_unknown_exercise_names_the_near_ones(double):
    with pytest.raises(ValueError, match="'doubel'; expected one of double"):
        checks.check("doubel", None)


def test_a_name_that_another_lesson_has_taken_is_refused(double):
    checks.exercise("double")(lambda function: None)  # the same module: a cell that is run again
    other = FunctionType(
        (lambda function: None).__code__, {"__name__": "ftkit.lessons.exercises.other"}
    )
    with pytest.raises(RuntimeError, match=f"named 'double', in {__name__} and in .*other"):
        checks.exercise("double")(other)
    assert checks.EXERCISES["double"].__module__ == __name__


# ------------------------------------------------------------------ stubs, None, wrong shapes


def stub_with_docstring(x):
    """Return twice x."""


def stub_with_pass(x):
    pass


def stub_that_raises(x):
    raise NotImplementedError("write me")


def stub_that_returns_dots(x):
    """Return twice x."""
    return ...


@pytest.mark.parametrize("stub", [None, ..., lambda x: None, lambda x: ..., stub_with_docstring,
                                  stub_with_pass, stub_that_raises, stub_that_returns_dots])
def test_every_kind_of_stub_is_not_solved_yet(double, stub, capsys):
    assert checks.check("double", stub).state == "unsolved"
    assert capsys.readouterr().out == "○ double: not solved yet\n"


def test_a_function_that_returns_a_constant_is_no_stub(double):
    for constant in (0, "four", False):
        assert checks.check("double", lambda x, made=constant: made).state == "wrong"


def test_work_without_a_return_is_told_apart_from_a_stub(double):
    def forgot(x):
        total = x + x
        if total > 100:
            total = 100

    verdict = checks.check("double", forgot)
    assert verdict.state == "wrong"
    assert verdict.text == "✗ double: your function returned None; is the `return` missing?"


def test_none_in_one_case_keeps_the_message_of_the_check(double):
    verdict = checks.check("double", lambda x: 2 * x if x > 0 else None)
    assert verdict.text == "✗ double: double(-3) gave None, expected -6"


def test_a_gap_between_given_lines_is_not_solved_yet(double):
    def gap(x):
        factor = ...
        return factor * x

    assert checks.check("double", gap).text == (
        "○ double: not solved yet: a `...` is left in your code")


@pytest.fixture
def row_sums(monkeypatch):
    monkeypatch.setattr(checks, "EXERCISES", {})

    @checks.exercise("row_sums")
    def _(function):
        made = function([[1, 2], [3, 4]], start=0)
        if math.isnan(made[0]) or made[1] != 7:
            return f"row_sums gave {made}, expected [3, 7]"


@pytest.mark.parametrize("candidate, words", [
    (lambda rows, start: 10, "your function returned 10; compare its type and shape with"),
    (lambda rows, start: [3], "your function returned [3]; compare"),
    (lambda rows, start: None if start else rows[9], "it raised IndexError: list index out of"),
    (lambda rows, start: ["x"] * 50, "your function returned a list of length 50; compare"),
    (lambda rows: 10, "the check calls it with ([[1, 2], [3, 4]], start=0), but your function "
                      "takes (rows): got an unexpected keyword argument 'start'"),
    ([3, 7], "you gave [3, 7], which is not what the exercise asks for"),
    ("row_sums", "you gave 'row_sums', which"),
])
def test_a_wrong_type_or_shape_has_a_readable_message(row_sums, candidate, words):
    verdict = checks.check("row_sums", candidate)
    assert verdict.state == "wrong" and words in verdict.text


@pytest.fixture
def counter(monkeypatch):
    monkeypatch.setattr(checks, "EXERCISES", {})

    @checks.exercise("Counter")
    def _(Counter):
        counter = Counter(2)
        counter.add(3)
        if counter.double() + 0 != 10:
            return f"2, then add(3): double() gave {counter.double()}, expected 10"


class Right:
    def __init__(self, start):
        self.count = start

    def add(self, n):
        self.count += n

    def double(self):
        return 2 * self.count


class Unfinished(Right):
    def double(self):
        """Twice the count."""


class Silent(Right):
    def double(self):
        self.count *= 2


class Wrong(Right):
    def add(self, n):
        self.count = n


class Failing(Right):
    def double(self):
        return self.counts


class Bodiless:
    """Counts."""


@pytest.mark.parametrize("candidate, state, words", [
    (Right, "solved", "solved"),
    (Unfinished, "unsolved", "still to be written: `double`"),
    (Bodiless, "unsolved", "still to be written: `Bodiless`"),
    (Silent, "wrong", "`double` returned None; is the `return` missing?"),
    (Wrong, "wrong", "double() gave 6, expected 10"),
    (Failing, "wrong", "it raised AttributeError: 'Failing' object has no attribute 'counts'"),
])
def test_a_class_is_a_candidate_too(counter, candidate, state, words):
    verdict = checks.check("Counter", candidate)
    assert verdict.state == state and words in verdict.text


@pytest.mark.heavy
def test_a_tensor_is_described_by_its_shape_and_torch_is_not_the_learners_code(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(checks, "EXERCISES", {})
    checks.exercise("column")(
        lambda function: None if torch.nn.Linear(2, 1)(function()).sum() else "zero")
    text = checks.check("column", lambda: torch.zeros(2, 3)).text
    assert "your function returned a tensor of shape (2, 3) and type torch.float32" in text
    assert "of your code" not in text


def test_the_second_wrong_answer_gets_a_line_about_hints(double, monkeypatch, capsys):
    monkeypatch.setattr(hints, "read_all", lambda: {"double": None})
    for _ in range(2):
        checks.check("double", abs)
    first, second, hint = capsys.readouterr().out.splitlines()
    assert first == second and hint == '  ft.hint("double") shows a hint'
    assert checks.check("double", lambda x: 2 * x)
    assert "ft.hint" not in capsys.readouterr().out


def test_later_cells_get_the_learners_function_only_where_it_is_right(capsys, own_home):
    def mine(parameters, tokens, flops_per_second=312e12, utilization=0.4, dollars_per_hour=2.0):
        return 6 * parameters * tokens / flops_per_second / utilization / 3600 * dollars_per_hour

    assert checks.working("training_cost", mine) is mine
    for other in (lambda *args, **options: ..., lambda *args, **options: 8):
        assert checks.working("training_cost", other)(6.7e9, 1e9) == pytest.approx(mine(6.7e9, 1e9))
    assert not capsys.readouterr().out and not own_home.exists()
    with pytest.raises(UserError, match="is called 'training_costs'.*training_cost"):
        checks.working("training_costs", mine)
