"""Numbers and text as they are printed everywhere.

    number(0.52341)   "0.52"      cell([0.5, 0.7])   "0.60 ± 0.14"
    clean(text)   one safe line   printable(text)   safe lines   to_html(text)   safe HTML

Text of others, such as data, answers and names, leaves the package through the last three only.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata

IGNORED = "mathjax_ignore tex2jax_ignore"  # classes of what MathJax is not to read


def number(value) -> str:
    """A number in about three digits; anything else as its str."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    decimals = _decimals(value)
    return f"{value:.3g}" if decimals is None else f"{value:,.{decimals}f}"


def _decimals(value: float) -> int | None:
    """Digits after the point; None where three significant digits read better."""
    size = abs(value)
    if value == 0 or not math.isfinite(value) or size >= 1e5 or size < 0.1:
        return None
    return 0 if size >= 1000 else 1 if size >= 100 else 2


def cell(value) -> str:
    """One value as text, or several numbers as mean ± sample standard deviation."""
    if not isinstance(value, list | tuple):
        return "" if value is None else number(value)
    if not value or not all(isinstance(item, int | float) for item in value):
        return ", ".join(map(str, value))
    if len(value) == 1:
        return number(value[0])
    mean, sd = mean_sd(value)
    decimals = _decimals(mean)
    return f"{number(mean)} ± {f'{sd:.2g}' if decimals is None else f'{sd:.{decimals}f}'}"


def mean_sd(values) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); the deviation of equal values is 0."""
    values = [float(value) for value in values]
    if len(set(values)) == 1:
        return values[0], 0.0
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def to_float(value) -> float:
    """A number, or nan for what is not a number: JSON stores nan as null."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def gb(count: float) -> str:
    """Bytes as GB (10**9) or, where that is small, MB: the one unit of memory in messages."""
    if count >= 1e12:
        return f"{count / 1e12:.2f} TB"
    return f"{count / 1e9:.1f} GB" if count >= 9.95e9 else (
        f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB")


def duration(seconds: float) -> str:
    """Seconds as text: 8 s, 2 min 05 s, 3 h 10 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"


def clean(text) -> str:
    """Text on one line, without characters that hide, reverse or break what is read."""
    return printable(" ".join(str(text).split()))


def printable(text) -> str:
    """Text in its lines, without characters that hide, reverse or break what is read, or that
    command a terminal."""
    return "".join("\ufffd" if unicodedata.category(c)[0] == "C" and c not in "\n\t" else c
                   for c in str(text))


def to_html(text) -> str:
    """Text as HTML that shows it literally: no markup, no control characters, and no mathematics,
    which JupyterLab would make of what is between two prices."""
    safe = html.escape(printable(text))
    if "$" in safe or "\\" in safe:
        return f"<span class='{IGNORED}'>{safe}</span>"
    return safe


def with_code(text) -> str:
    """`to_html` of a text of our own, in which `names` between backticks are set as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", to_html(text))


def to_attribute(text) -> str:
    """Text as the value of an attribute in HTML, between double quotes."""
    return html.escape(clean(text))
