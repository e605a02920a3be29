"""State what a run must show (`expect`) and check the learner's solution of an exercise (`check`).

    ft.expect(after, "<", before, "training lowers the loss")
    ft.check("lora_params", lora_params)

Neither stops Restart & Run All: an unmet claim or a missing solution is printed. `predict`, the
guess before a run, is imported from `predictions`.
"""

from __future__ import annotations

import difflib
import math
import operator
import os
import traceback
import types
from collections.abc import Callable
from pathlib import Path

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean, mean_sd, number
from ftkit.lessons import progress_log
from ftkit.lessons.predictions import calibration, predict

__all__ = ["calibration", "check", "exercise", "expect", "near", "predict"]

# ------------------------------------------------------------------------------- expect

LINE_LENGTH = 90  # characters of a line in a notebook
OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
             "==": operator.eq, "!=": operator.ne}


class Verdict:
    """True or false, with the text that was printed already, so a notebook displays nothing."""

    def __init__(self, right: bool, text: str, state: str = ""):
        self.right, self.text, self.state = right, text, state

    def __bool__(self):
        return self.right

    def __repr__(self):
        return self.text

    def _ipython_display_(self):
        pass


def expect(a, op: str, b, claim: str) -> Verdict:
    """Print ✓ or ✗ with both values: does `a op b` hold, as `claim` says?

    a, b: numbers, or lists with one value per seed. For lists the claim must hold for the means
    with a margin wider than the spread: |mean a - mean b| > sqrt(sd_a² + sd_b²), which is the
    standard deviation of the difference of one run of each ("==" needs a difference within it).
    Two numbers are equal within one millionth. nan supports no claim. An unmet claim raises
    AssertionError only where FTKIT_STRICT=1, and never in the smoke tier, whose runs are too
    short to show an effect.
    """
    if op not in OPERATORS:
        raise UserError(f"op is {op!r}; expected one of {' '.join(OPERATORS)}")
    left, right = _values(a), _values(b)
    holds, margin = _holds(left, op, right)
    smoke = not holds and machine.tier() == "smoke"
    mark = "✓" if holds else "– (smoke tier: too short to show it)" if smoke else "✗"
    text = clean(f"{mark} {claim}: {cell(left)} {op} {cell(right)}{margin}")
    if margin and len(text) > LINE_LENGTH:
        print(text[:-len(margin)] + "\n " + margin)
    else:
        print(text)
    if not holds and not smoke and os.environ.get("FTKIT_STRICT") == "1":
        raise AssertionError(text)
    return Verdict(holds, text)


def _values(given) -> list[float]:
    if hasattr(given, "tolist"):  # numpy and torch, numbers and arrays
        given = given.tolist()
    try:
        values = [float(x) for x in (given if isinstance(given, list | tuple) else [given])]
    except (TypeError, ValueError):
        raise UserError(f"{given!r:.80} is not a number or a list of numbers") from None
    if not values:
        raise UserError("an empty list was given; expected a number for each seed")
    return values


def _holds(left: list[float], op: str, right: list[float]) -> tuple[bool, str]:
    """Whether the claim holds, and the difference with its spread as text, "" for two numbers."""
    (a, sd_a), (b, sd_b) = mean_sd(left), mean_sd(right)
    if math.isnan(a) or math.isnan(b):
        return False, ""
    spread = math.hypot(sd_a, sd_b)
    if len(left) == len(right) == 1 or spread == 0:
        if op in ("==", "!="):
            return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) == (op == "=="), ""
        return bool(OPERATORS[op](a, b)), ""
    margin = f" (difference {number(abs(a - b))}, spread {number(spread)})"
    if math.isnan(spread):
        return False, margin
    apart = abs(a - b) > spread
    return not apart if op == "==" else apart and bool(OPERATORS[op](a, b)), margin


# -------------------------------------------------------------------------------- check

EXERCISES: dict[str, Callable] = {}


def exercise(name: str):
    """Register a function of the learner's solution as the check of exercise `name`.

    The check returns None for a right solution, else a message that names the failing case and
    the expected value; an AssertionError's message counts as one. Raises UserError for a name that
    another module uses.
    """
    def register(function):
        owner = EXERCISES.get(name, function).__module__
        if owner != function.__module__:
            raise UserError(f"two exercises are named {name!r}, in {owner} and in "
                            f"{function.__module__}; give one another name")
        EXERCISES[name] = function
        return function

    return register


def near(value, expected, tolerance=1e-3) -> bool:
    """Whether two numbers agree within a fraction of themselves; for checks."""
    return math.isclose(value, expected, rel_tol=tolerance, abs_tol=1e-12)


def check(name: str, candidate) -> Verdict:
    """Print whether the candidate solves the exercise: ✓ solved, ✗ and the failing case, or "not
    solved yet" for the stub (None, `...`, or a function that returns one of them).

    The verdict's `state` is solved, wrong or unsolved. Raises UserError for an unknown exercise.
    """
    import ftkit.lessons.exercises  # noqa: F401  registers the checks of the lessons

    if name not in EXERCISES:
        suggestions = difflib.get_close_matches(name, EXERCISES, n=3) or sorted(EXERCISES)
        raise UserError(f"no exercise is called {name!r}; choose from "
                        f"{', '.join(suggestions) or 'none'}")
    state, text = _judge(EXERCISES[name], candidate)
    mark = {"solved": "✓", "wrong": "✗", "unsolved": "○"}[state]
    verdict = Verdict(state == "solved", clean(f"{mark} {name}: {text}"), state)
    print(verdict.text)
    progress_log.add("check", name=name, state=state, message=text)
    return verdict


def _judge(check_solution, candidate) -> tuple[str, str]:
    """State and message of a candidate; a stub is unsolved, whatever its check returns."""
    unsolved = "unsolved", "not solved yet"
    if candidate is None or candidate is Ellipsis:
        return unsolved
    returned_stub = False

    def watched(*args, **options):
        nonlocal returned_stub
        result = candidate(*args, **options)
        returned_stub = returned_stub or result is None or result is Ellipsis
        return result

    try:
        is_function = isinstance(candidate, types.FunctionType)
        message = check_solution(watched if is_function else candidate)
    except NotImplementedError:
        return unsolved
    except AssertionError as error:
        message = str(error) or "a condition of the check does not hold"
    except Exception as error:  # noqa: BLE001  the learner's code may raise anything
        message = f"it raised {type(error).__name__}: {error}{_where(error)}"
    if message and returned_stub:
        return unsolved
    return ("wrong", str(message)) if message else ("solved", "solved")


def _where(error) -> str:
    """The line of the learner's own code that raised, if any."""
    package = machine.package()
    frames = [f for f in traceback.extract_tb(error.__traceback__)
              if package not in Path(f.filename).parents]
    lines = [f.lineno for f in frames if f.filename == frames[0].filename]
    return f" (line {lines[-1]} of your code)" if lines else ""
