"""Claims about results, tested against the noise of the seeds.

    ft.expect(after, "<", before, "training lowers the loss")

An unmet claim is printed and does not stop Restart & Run All.
"""

import math
import operator
import os

from ftkit.base import machine, significance
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean, number
from ftkit.lessons.checks import Verdict

LINE_LENGTH = 90  # characters of a line in a notebook
OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
             "==": operator.eq, "!=": operator.ne}


def expect(a, op: str, b, claim: str, *, by: float = 0.0, times: float = 1.0,
           within: float | None = None, paired: bool = False, may_fail: bool = False) -> Verdict:
    """Print whether `a op b` holds, with both values and ✓, ✗ or – in front of `claim`.

    a, b: numbers, compared directly (equal within one millionth), or lists with one value per
    seed, compared by a test. A list against a number tests the list against that exact value.
    op: < > == != and, for numbers, <= >=. paired: a and b have the same seeds, in order.

    by, times: margins of "<" and ">". `times=2` claims a > 2 × b, `by=0.1` claims a < b - 0.1, and
    `by=-0.1` claims "no worse than", up to 0.1 higher. The printed values stay as measured.

    "<" and ">" are one-sided t tests at 5 % (`ftkit.base.significance`): with normal noise and at
    least 2 seeds a side, a false claim passes in at most 5 % of experiments. "!=" is two-sided.
    "==" needs the margin `within` and uses two one-sided tests. Without it, lists are never called
    equal: "no difference seen" reports the smallest difference that the test would have detected.
    Power for a true difference of 2 standard deviations (of one run; paired: of the differences):
    52 % with 3 seeds a side, 87 % with 5, 11 % with 2; paired 71 % with 3 and 97 % with 5.

    nan supports no claim. With FTKIT_STRICT=1 an unmet claim raises AssertionError, except in the
    smoke tier, where runs are too short to show an effect. may_fail: an open question, which never
    raises. "No difference seen" is not an unmet claim.
    """
    if op not in OPERATORS:
        raise UserError(f"op is {op!r}; expected one of {' '.join(OPERATORS)}")
    if (by or times != 1) and op not in ("<", ">"):
        raise UserError(f"by and times are given with {op}; expected within for == and nothing for "
                        "!=")
    if within is not None and (op != "==" or not within > 0):
        raise UserError(f"within is {within!r} with {op}; expected a number above 0, with ==")
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
    """The right-hand side as text: the measured value and the claimed margin."""
    text = cell(right)
    if isinstance(right, list) and (by or times != 1):
        text = f"({text})"
    text = text if times == 1 else f"{number(times)} × {text}"
    if by:
        text += f" {'+' if (by > 0) == (op == '>') else '-'} {number(abs(by))}"
    return text if within is None else f"{text}, within {number(within)}"


def verdict_of(low: float, high: float, margin: float) -> str:
    """Verdict on a difference whose interval is low to high: lower, higher, no relevant difference
    or undecided."""
    if high < -margin:
        return "lower"
    if low > margin:
        return "higher"
    return "no relevant difference" if -margin < low and high < margin else "undecided"


def direction(a, b, paired: bool = False) -> str:
    """"<", ">" or "" (no difference seen), by the test of `expect`; for scoring a guess.

    If there is no difference, each direction is returned in at most 5 % of experiments.
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
    """State of a claim about seeds, and its evidence: the number of seeds and p."""
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
