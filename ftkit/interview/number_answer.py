"""Judge a typed number with its unit against the right one: GB is not GiB.

    judge("100.4 GiB", 107.8, "GB")      (True, "right: 107.8 GB")
"""

from __future__ import annotations

import math
import re

from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, number
from ftkit.interview import formulas
from ftkit.interview.bank import AskedNumber

BYTES = {"b": 1, "byte": 1, "bytes": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15,
         "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "pib": 2**50}
COUNTS = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "mio": 1e6, "bn": 1e9,
          "billion": 1e9}
SHORT = {"percent": "%", "per cent": "%", "h": "hours", "min": "minutes", "times": "x", "fold": "x",
         "params": "parameters"}
WITHIN = 0.05  # smallest accepted relative error

NUMBER = r"[+-]?(?:\d[\d,' _]*\.?\d*|\.\d+)(?:\s*[eE]\s*[+-]?\d+)?"
FORM = re.compile(rf"\s*({NUMBER})\s*(?:/\s*({NUMBER}))?\s*(.*)$")


def parse(text: str, unit: str = "") -> tuple[float, str]:
    """Split a text such as "100.4 GiB" or "3/11" into (number, unit in lower case).

    Raises UserError if it does not start with a number. unit: for the example in the message.
    """
    match = FORM.match(clean(text).strip("~≈ "))
    if not match:
        raise UserError(f"{clean(text)[:40]!r} is not a number; write it like 4,194,304 or "
                        + f"12.5 {unit}".strip())
    value, divisor = (float(re.sub(r"[,' _\s]", "", digits or "1"))
                       for digits in match.groups()[:2])
    if not divisor:
        raise UserError(f"{clean(text)[:40]!r} divides by 0; write it like 3/11")
    return value / divisor, match[3].strip().rstrip(".").lower()


def judge(text: str, right: float, unit: str = "", within: float = 0.01) -> tuple[bool, str]:
    """Judge a typed number; returns (right, comment). A missing unit means the expected one.

    Bytes are converted (GB is 1e9, GiB 2**30 bytes); counts may end in k, million, billion. Raises
    UserError if the text is not a number or its unit cannot be converted.
    """
    value, given = parse(text, unit)
    expected = unit.lower()
    if expected == "%" and not given and "/" in text:  # 3/11 of the time
        value *= 100
    if given and given != expected:
        if expected in BYTES and given in BYTES:
            value *= BYTES[given] / BYTES[expected]
        elif given in COUNTS and expected in COUNTS:
            value *= COUNTS[given] / COUNTS[expected]
        elif given == "%" and not expected:
            value /= 100
        elif given.split(" ")[0] in COUNTS and expected not in BYTES and expected != "%":
            value *= COUNTS[given.split(" ")[0]]
        elif not _same(given, expected):
            raise UserError(f"the unit is {given!r}; expected {unit or 'a plain number'}")
    solution = f"{exact(right)} {unit}".strip()
    if _near(value, right, within):
        return True, f"right: {solution}"
    typed = clean(text).strip()
    return False, f"you typed {typed}; the answer is {solution}" + _hint(value, right, expected)


def exact(right: float) -> str:
    """A stated number with all its digits."""
    return f"{right:,}" if isinstance(right, int) or abs(right) >= 1000 else f"{right:g}"


def formula(asked: AskedNumber) -> str:
    """The formula of a number that a card asks for, with its value: `heads · tokens^2 = 4.29`."""
    text = formulas.plain(asked["formula"]).replace("_", " ")
    return f"{text} = {exact(asked['answer'])} {asked['unit']}".strip()


def givens(asked: AskedNumber) -> str:
    """The givens as text: `heads = 32, parameters = 6.74 billion`."""
    return ", ".join(f"{name.replace('_', ' ')} = {_given(value)}"
                     for name, value in asked["givens"].items())


def _given(value: float) -> str:
    """A number, in words from a million on: `6.74 billion`."""
    for size, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if value >= size and (size > 10**6 or value % size == 0):
            return f"{value / size:,.10g} {word}"
    return exact(value)


def _near(value: float, right: float, within: float) -> bool:
    return math.isclose(value, right, rel_tol=max(within, WITHIN), abs_tol=1e-12)


def _same(given: str, expected: str) -> bool:
    """Whether two units are the same, ignoring plurals, short forms and words after the unit."""
    given, expected = (SHORT.get(w, w).removesuffix("s") for w in (given, expected))
    return given == expected or (bool(expected) and given.startswith(f"{expected} "))


def _hint(value: float, right: float, unit: str) -> str:
    """A likely mistake, judged by the ratio of the two numbers; empty if unknown."""
    if unit in BYTES and unit.endswith("b") and len(unit) == 2:
        ratio = BYTES[unit[0] + "ib"] / BYTES[unit]
        if _near(value * ratio, right, 0.005) or _near(value / ratio, right, 0.005):
            return f": you mixed {unit.upper()} and {unit[0].upper()}iB, {number(ratio)} apart"
    for factor, words in ((2, "twice"), (0.5, "half"), (1000, "a thousand times"),
                          (0.001, "a thousandth of"), (100, "a hundred times"), (8, "eight times"),
                          (0.01, "a hundredth of"), (0.125, "an eighth of")):
        if right and _near(value, right * factor, 0.005):
            return f": yours is {words} that"
    return ""
