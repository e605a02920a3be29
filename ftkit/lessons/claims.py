"""State what a run must show: `expect`.

    ft.expect(after, "<", before, "training lowers the loss")

It does not stop Restart & Run All: an unmet claim is printed.
"""

from __future__ import annotations

import math
import operator
import os

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean, mean_sd, number
from ftkit.lessons.checks import Verdict, check, exercise, near
from ftkit.lessons.predictions import calibration, predict

__all__ = ["Verdict", "calibration", "check", "exercise", "expect", "near", "predict"]

LINE_LENGTH = 90  # characters of a line in a notebook
OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
             "==": operator.eq, "!=": operator.ne}


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
