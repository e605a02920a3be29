"""Judge a typed number with its unit against the right one: GB is not GiB.

    judge("100.4 GiB", 107.8, "GB")      (True, "right: 107.8 GB")
    judge("about 6.74*16", 107.8, "GB")  (True, "right: 107.8 GB")
"""

import ast
import math
import operator
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
         "params": "parameters", "elo": "point", "pp": "point", "percentage point": "point",
         "gigabyte": "gb", "gibibyte": "gib", "megabyte": "mb", "terabyte": "tb"}

NUMBER = r"(?:\d[\d,' _]*\.?\d*|\.\d+)(?:\s*[eE]\s*[+-]?\d+)?"
FUNCTIONS = {"log10": math.log10, "log2": math.log2, "ln": math.log, "log": math.log,
             "exp": math.exp, "sqrt": math.sqrt}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
             ast.Div: operator.truediv, ast.Pow: operator.pow}
NAMES = "|".join(FUNCTIONS)
OPENING = re.compile(r"^(?:(?:about|around|roughly|approximately|approx\.?|ca\.?|circa|p ?=|[=~≈±]|"
                     r"\+/?-)\s*)+", re.IGNORECASE)
TOKEN = re.compile(rf"\s*((?:{NAMES})\b|e(?=\s*\^)|{NUMBER}|[x×·](?=\s*[\d.(])|\*\*|[-+*/^()])")


def parse(text: str, unit: str = "") -> tuple[float, str, bool]:
    """Split a text such as "100.4 GiB", "about 6.74*16" or "ln 32000" into (number, unit in lower
    case, whether something was computed).

    Raises UserError if it does not start with a number. unit: for the example in the message.
    """
    typed = clean(text).strip()[:200]
    rest, code = OPENING.sub("", typed, count=1), ""
    if part := re.search(r"\d+,(?!\d{3}(?!\d))\d*", rest):
        raise UserError(f"{part[0]!r} can be read in two ways: write {part[0].replace(',', '.')} "
                        "with a point, or three digits after a comma, as in 1,400")
    while token := TOKEN.match(rest):
        word, rest = token[1], rest[token.end():]
        code += " " + {"^": "**", "x": "*", "×": "*", "·": "*"}.get(word, re.sub(
            r"[,' _]", "", word))
    code = re.sub(rf"\b({NAMES}) ([\d.]\S*)", r"\1(\2)", code).strip()
    try:
        value = _value(ast.parse(code, mode="eval").body)
    except ZeroDivisionError:
        raise UserError(f"{typed[:40]!r} divides by 0; expected a fraction such as 3/11") from None
    except (SyntaxError, TypeError, ValueError, OverflowError, LookupError):
        raise UserError(f"{typed[:40]!r} is not a number; expected one like 4,194,304, 6.74*16 or "
                        + f"12.5 {unit}".strip()) from None
    return value, rest.strip().rstrip(".").lower(), bool(re.search(r"[*/(]", code))


def _value(node: ast.expr) -> float:
    """The value of an expression of numbers, the four operations, powers and FUNCTIONS."""
    match node:
        case ast.Constant():
            return float(node.value)  # type: ignore[arg-type]
        case ast.Name(id="e"):
            return math.e
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand)
        case ast.BinOp():
            return float(OPERATORS[type(node.op)](_value(node.left), _value(node.right)))
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return FUNCTIONS[name](_value(argument))
    raise ValueError("this is no arithmetic")


def judge(text: str, right: float, unit: str = "", within: float = 0.01) -> tuple[bool, str]:
    """Judge a typed number; returns (right, comment). A missing unit means the expected one.

    Bytes are converted (GB is 1e9, GiB 2**30 bytes); counts may end in k, million, billion. Raises
    UserError if the text is not a number or its unit cannot be converted.
    """
    value, given, computed = parse(text, unit)
    expected, given = unit.lower(), SHORT.get(given.removesuffix("s"), given)
    if expected == "%" and not given and computed and abs(value) <= 1:  # 3/11 of the time
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
    known = _named(asked.get("known", {}))
    return f"{text} = {exact(asked['answer'])} {asked['unit']}".strip() + (
        f", with {known}" if known else "")


def givens(asked: AskedNumber) -> str:
    """The givens as text: `heads = 32, parameters = 6.74 billion`."""
    return _named(asked["givens"])


def _named(values: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} = {_given(value)}"
                     for name, value in values.items())


def _given(value: float) -> str:
    """A number, in words from a million on: `6.74 billion`."""
    for size, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if value >= size and (size > 10**6 or value % size == 0):
            return f"{value / size:,.10g} {word}"
    return exact(value)


HINTED = 0.02  # relative error within which a ratio is recognized as a likely mistake


def _near(value: float, right: float, within: float) -> bool:
    return math.isclose(value, right, rel_tol=within, abs_tol=1e-12)


def _same(given: str, expected: str) -> bool:
    """Whether two units are the same, ignoring plurals, short forms and words after the unit."""
    given, expected = (SHORT.get(w.removesuffix("s"), w).removesuffix("s")
                       for w in (given, expected))
    return given == expected or (expected, given) == ("point", "%") or (bool(expected) and bool(
        re.match(rf"{re.escape(expected)}s? |.*[ -]{re.escape(expected)}$", given)))


def _hint(value: float, right: float, unit: str) -> str:
    """A likely mistake, judged by the ratio of the two numbers; empty if unknown."""
    if unit in BYTES and unit.endswith("b") and len(unit) == 2:
        ratio = BYTES[unit[0] + "ib"] / BYTES[unit]
        if _near(value * ratio, right, HINTED) or _near(value / ratio, right, HINTED):
            return f": you mixed {unit.upper()} and {unit[0].upper()}iB, {number(ratio)} apart"
    for factor, words in ((2, "twice"), (0.5, "half"), (1000, "a thousand times"),
                          (0.001, "a thousandth of"), (100, "a hundred times"), (8, "eight times"),
                          (0.01, "a hundredth of"), (0.125, "an eighth of")):
        if right and _near(value, right * factor, HINTED):
            return f": yours is {words} that"
    return ""
