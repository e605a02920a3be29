"""Guess before you run (`predict`), state what must come out (`expect`), solve and see (`check`).

    p = ft.predict("What does 10x the rate do to val_loss?", "falls", "rises", guess="rises")
    p.score("rises"); ft.expect(after, "<", before, "training lowers the loss")
    ft.check("lora_params", lora_params)

None of them stops Restart & Run All: without a guess or a solution they say so and go on.
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

LINE = 90  # characters of a line in a notebook
OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
             "==": operator.eq, "!=": operator.ne}


class Verdict:
    """True or false with its words; they were printed already, so a notebook adds nothing."""

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
    standard deviation of the difference of one run of each ("==" wants a difference within it).
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
    wide = margin and len(text) > LINE
    print(text[:-len(margin)] + "\n " + margin if wide else text)
    if not holds and not smoke and os.environ.get("FTKIT_STRICT") == "1":
        raise AssertionError(text)
    return Verdict(holds, text)


def _values(v) -> list[float]:
    if hasattr(v, "tolist"):  # numpy and torch, numbers and arrays
        v = v.tolist()
    try:
        values = [float(x) for x in v] if isinstance(v, list | tuple) else [float(v)]
    except (TypeError, ValueError):
        raise UserError(f"{v!r:.80} is not a number or a list of numbers") from None
    if not values:
        raise UserError("an empty list was given; expected a number for each seed")
    return values


def _holds(left, op, right) -> tuple[bool, str]:
    (a, sd_a), (b, sd_b) = mean_sd(left), mean_sd(right)
    if math.isnan(a) or math.isnan(b):
        return False, ""
    spread = math.hypot(sd_a, sd_b)
    if len(left) == len(right) == 1 or spread == 0:
        if op in ("==", "!="):
            return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) == (op == "=="), ""
        return bool(OPERATORS[op](a, b)), ""
    wide = abs(a - b) > spread  # false where the spread is nan
    note = f" (difference {number(abs(a - b))}, spread {number(spread)})"
    return (not wide and not math.isnan(spread) if op == "==" else
            wide and bool(OPERATORS[op](a, b))), note


# -------------------------------------------------------------------------------- check

EXERCISES: dict[str, Callable] = {}


def exercise(name: str):
    """Register a function of the learner's candidate as the check of exercise `name`.

    It returns None if all is right, else a message that names the failing case and what was
    expected; an AssertionError's message counts as one. Raises ValueError for a name that another
    module has taken.
    """
    def register(function):
        taken = EXERCISES.get(name, function).__module__
        if taken != function.__module__:
            raise UserError(f"two exercises are named {name!r}, in {taken} and in "
                            f"{function.__module__}; give one another name")
        EXERCISES[name] = function
        return function

    return register


def near(made, wanted, tolerance=1e-3) -> bool:
    """Whether two numbers agree within a share of themselves; for checks."""
    return math.isclose(made, wanted, rel_tol=tolerance, abs_tol=1e-12)


def check(name: str, candidate) -> Verdict:
    """Print whether the candidate solves the exercise: ✓ solved, ✗ and the failing case, or "not
    solved yet" for the stub (None, `...`, or a function that returns one of them).

    The verdict's `state` is solved, wrong or unsolved. Raises ValueError for an unknown exercise.
    """
    import ftkit.lessons.exercises  # noqa: F401  registers the checks of the lessons

    if name not in EXERCISES:
        near = difflib.get_close_matches(name, EXERCISES, n=3) or sorted(EXERCISES)
        raise UserError(f"no exercise is called {name!r}; there is {', '.join(near) or 'none'}")
    state, text = _judge(EXERCISES[name], candidate)
    mark = {"solved": "✓", "wrong": "✗", "unsolved": "○"}[state]
    verdict = Verdict(state == "solved", clean(f"{mark} {name}: {text}"), state)
    print(verdict.text)
    progress_log.add("check", name=name, state=state, message=text)
    return verdict


def _judge(function, candidate) -> tuple[str, str]:
    stub = [candidate is None or candidate is Ellipsis]

    def watched(*args, **options):
        result = candidate(*args, **options)
        stub[0] = stub[0] or result is None or result is Ellipsis
        return result

    if stub[0]:
        return "unsolved", "not solved yet"
    try:
        plain = isinstance(candidate, types.FunctionType)
        wrong = function(watched if plain else candidate)
    except NotImplementedError:
        return "unsolved", "not solved yet"
    except AssertionError as error:
        wrong = str(error) or "a condition of the check does not hold"
    except Exception as error:
        wrong = f"it raised {type(error).__name__}: {error}{_where(error)}"
    if wrong and stub[0]:
        return "unsolved", "not solved yet"
    return ("wrong", str(wrong)) if wrong else ("solved", "solved")


def _where(error) -> str:
    """The line of the learner's own code that raised, if any."""
    ours = machine.package()
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if ours not in Path(f.filename).parents]
    lines = [f.lineno for f in theirs if f.filename == theirs[0].filename]
    return f" (line {lines[-1]} of your code)" if lines else ""
