"""State what a run must show: `expect`.

    ft.expect(after, "<", before, "training lowers the loss")

It does not stop Restart & Run All: an unmet claim is printed.
"""

from __future__ import annotations

import math
import operator
import os

from ftkit.base import machine, significance
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean, number
from ftkit.lessons.checks import Verdict, check, exercise, near
from ftkit.lessons.predictions import calibration, predict

__all__ = ["Verdict", "calibration", "check", "direction", "exercise", "expect", "near",
           "predict"]

LINE_LENGTH = 90  # characters of a line in a notebook
OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
             "==": operator.eq, "!=": operator.ne}


def expect(a, op: str, b, claim: str, *, by: float = 0.0, times: float = 1.0,
           within: float | None = None, paired: bool = False, may_fail: bool = False) -> Verdict:
    """Print ✓ or ✗ with both values: does `a op b` hold, as `claim` says?

    a, b: numbers, which are compared as they are (equal within one millionth), or lists with one
    value per seed, which are tested. A list against a number tests the list against that exact
    value. op: < > == !=, and for numbers <= >=. paired: a and b have the same seeds, in order.
    by, times: "<" and ">" claim a difference of more than `by`, against `times` b:
    `expect(a, ">", b, claim, times=2)` is a > 2 × b, `expect(a, "<", b, claim, by=0.1)` is
    a < b - 0.1, and by=-0.1 allows a to be up to 0.1 higher ("no worse than"); so the values that
    are printed are those that were measured.

    "<" and ">" are one-sided t tests at 5 % (`ftkit.base.significance`): with normal noise a false
    claim is called true in at most 5 % of experiments, with 2 or more seeds a side. "!=" is
    two-sided. "==" needs a margin, `within`, and is two one-sided tests: if the true difference is
    as large as `within`, equality is claimed in at most 5 %. Without `within` lists are never
    called equal: "no difference seen" gives the smallest difference that the test would have called
    one. Power, the chance to see a true difference of 2 standard deviations (of one run; paired: of
    the differences), is 52 % with 3 seeds a side, 87 % with 5, 11 % with 2; paired
    71 % with 3 and 97 % with 5.

    nan supports no claim. An unmet claim raises AssertionError only where FTKIT_STRICT=1, and
    never in the smoke tier, whose runs are too short to show an effect. "No difference seen" is
    not an unmet claim. may_fail: the claim is an open question, so that an unmet one is an answer
    and raises nothing.
    """
    if op not in OPERATORS:
        raise UserError(f"op is {op!r}; expected one of {' '.join(OPERATORS)}")
    if (by or times != 1) and op not in ("<", ">"):
        raise UserError("by and times belong to < and >; == takes within=")
    if within is not None and (op != "==" or not within > 0):
        raise UserError("within is the margin of ==, a number above 0")
    left, right = _values(a), _values(b)
    if isinstance(left, float) and isinstance(right, float):
        state, detail = _compare_numbers(left, op, right, by, times, within), ""
    else:
        state, detail = _test(left, op, right, by, times, within, paired)
    smoke = state in ("opposite", "not settled") and machine.tier() == "smoke"
    mark = {"holds": "✓", "no difference seen": "–"}.get(
        state, "– (smoke tier: too short to show it)" if smoke else "✗")
    threshold = _threshold(right, op, by, times, within)
    text = clean(f"{mark} {claim}: {cell(left)} {op} {threshold}")
    if state == "no difference seen":
        text = clean(f"{mark} {claim}: {cell(left)} and {cell(right)}, {state}")
    together = f"{text} ({detail})" if detail else text
    print(together if len(together) <= LINE_LENGTH or not detail else f"{text}\n  ({detail})")
    unmet = state in ("opposite", "not settled") and not smoke and not may_fail
    if unmet and os.environ.get("FTKIT_STRICT") == "1":
        raise AssertionError(together)
    return Verdict(state == "holds", together, state.replace("no difference seen", "not settled"))


def _threshold(right, op, by, times, within) -> str:
    """The right-hand side as text: what was measured, and the margin that was claimed."""
    text = cell(right)
    if isinstance(right, list) and (by or times != 1):
        text = f"({text})"
    text = text if times == 1 else f"{number(times)} × {text}"
    if by:
        text += f" {'+' if (by > 0) == (op == '>') else '-'} {number(abs(by))}"
    return text if within is None else f"{text}, within {number(within)}"


def verdict_of(low: float, high: float, margin: float) -> str:
    """What the interval from low to high says of a difference, with this margin."""
    if high < -margin:
        return "lower"
    if low > margin:
        return "higher"
    return "no relevant difference" if -margin < low and high < margin else "undecided"


def direction(a, b, paired: bool = False) -> str:
    """"<", ">" or "" (no difference seen) by the test of `expect`; use it to score a guess.

    Where there is no difference, each of the two is claimed in at most 5 % of experiments.
    """
    left, right = _values(a), _values(b)
    if isinstance(left, float) and isinstance(right, float) and _near(left, right):
        return ""
    return significance.difference(left, right, paired).direction()


def _values(given) -> float | list[float]:
    """A number as float, several as a list of floats."""
    if hasattr(given, "tolist"):  # numpy and torch, numbers and arrays
        given = given.tolist()
    try:
        if not isinstance(given, list | tuple):
            return float(given)
        values = [float(x) for x in given]
    except (TypeError, ValueError):
        raise UserError(f"{given!r:.80} is not a number or a list of numbers") from None
    if not values:
        raise UserError("an empty list was given; expected a number for each seed")
    return values


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _compare_numbers(a, op, b, by, times, within) -> str:
    if math.isnan(a) or math.isnan(b):
        return "not settled"
    if op in ("==", "!="):
        equal = _near(a, b) if within is None else abs(a - b) <= within
        return "holds" if equal == (op == "==") else "opposite"
    right = times * b + (by if op == ">" else -by)
    return "holds" if OPERATORS[op](a, right) else "opposite" if a != b else "not settled"


def _test(left, op, right, by, times, within, paired) -> tuple[str, str]:
    """What the test says of a claim about seeds, and how: the number of seeds and p."""
    scaled = [times * x for x in right] if isinstance(right, list) else times * right
    found = significance.difference(left, scaled, paired)
    counts = sorted({len(side) for side in (left, right) if isinstance(side, list)})
    unit = "seed" if counts == [1] else "seeds" if counts[-1] <= 10 else "values"  # of records
    how = f"{' and '.join(map(str, counts))} {unit}{', paired' if paired else ''}"
    if math.isnan(found.mean) or math.isnan(found.error):
        return "not settled", f"{how}: the spread is not known"
    flipped = found.reversed()
    either = f"{how}: {_p(min(1.0, 2 * min(found.p(), flipped.p())))}"
    if op == "!=":
        return "holds" if found.seen() else "not settled", either
    if op == "==" and within is None:
        if not found.error and _near(found.mean, 0):
            return "no difference seen", f"{how}, the same value in each"
        smallest = number(found.margin(significance.LEVEL / 2))
        return ("opposite", f"a difference was seen; {either}") if found.seen() else (
            "no difference seen",
            f"{how}, smallest difference that would have been seen: {smallest}")
    if op == "==":
        state = "holds" if found.within(within) else "opposite" if (
            found.above(within) or found.below(within)) else "not settled"
        return state, f"{how}: {_p(max(found.p(-within), flipped.p(-within)))}"
    claimed = found if op in (">", ">=") else flipped
    state = "holds" if claimed.above(by) else (
        "opposite" if claimed.below(max(0.0, -by)) else "not settled")
    return state, f"{how}: {_p(claimed.p(by))}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
