"""Format numbers and untrusted text for output.

    number(0.52341)   "0.52"      cell([0.5, 0.7])   "0.60 ± 0.14"
    clean(text)   one safe line   printable(text)   safe lines   to_html(text)   safe HTML
    show(value)   a short quotation for a message

Text from outside the package (data, answers, file names) is printed only through these functions.
"""

import html
import json
import math
import re
import unicodedata

IGNORED = "mathjax_ignore tex2jax_ignore"  # CSS classes that MathJax skips


def number(value) -> str:
    """Format a number with about three significant digits; anything else with str()."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    decimals = _decimals(value)
    return f"{value:.3g}" if decimals is None else f"{value:,.{decimals}f}"


def _decimals(value: float) -> int | None:
    """Number of decimals to show, or None to show three significant digits."""
    size = abs(value)
    if value == 0 or not math.isfinite(value) or size >= 1e5 or size < 0.1:
        return None
    return 0 if size >= 1000 else 1 if size >= 100 else 2


def cell(value) -> str:
    """Format one value, or a list of numbers as mean ± sample standard deviation."""
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
    """Mean and sample standard deviation (n - 1); exactly 0 for equal values."""
    values = [float(value) for value in values]
    if len(set(values)) == 1:
        return values[0], 0.0
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def to_float(value) -> float:
    """float(value), or nan if that fails: JSON stores nan as null."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def gb(count: float) -> str:
    """Format a number of bytes in TB, GB or MB (decimal: 1 GB is 10**9 bytes)."""
    if count >= 1e12:
        return f"{count / 1e12:.2f} TB"
    return f"{count / 1e9:.1f} GB" if count >= 9.95e9 else (
        f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB")


def duration(seconds: float) -> str:
    """Format seconds, for instance 8 s, 2 min 05 s or 3 h 10 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"


def clean(text) -> str:
    """Join text to one line and replace control and invisible formatting characters."""
    return printable(" ".join(str(text).split()))


def printable(text) -> str:
    """Replace control and invisible formatting characters; line breaks are kept.

    Such characters could hide or reverse text, or send commands to a terminal.
    """
    return "".join("\ufffd" if unicodedata.category(c)[0] == "C" and c not in "\n\t" else c
                   for c in str(text))


def printable_name(path) -> str:
    """A file name on one line; unprintable characters are shown as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


def show(value, length: int = 60) -> str:
    """Quote `value` in a message: printable, and cut to about `length` characters."""
    if isinstance(value, str):
        return repr(value) if len(value) <= length else repr(value[:length]) + "…"
    try:
        text = json.dumps(value)
    except (ValueError, TypeError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= length else text[:length] + "…"


def to_html(text) -> str:
    """Convert text to HTML that shows it literally; MathJax does not read "$5 or $6" as a formula.
    """
    safe = html.escape(printable(text))
    if "$" in safe or "\\" in safe:
        return f"<span class='{IGNORED}'>{safe}</span>"
    return safe


def to_markdown(text) -> str:
    """Escape untrusted text for Markdown, and join it to one line."""
    return "".join("\\" + c if c in "\\`*_{}[]<>#|!$~&" else c for c in clean(text))


def with_code(text) -> str:
    """Convert one of ftkit's own texts to HTML, with `names` in backticks set as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", to_html(text))


def to_attribute(text) -> str:
    """Escape text for an HTML attribute in double quotes."""
    return html.escape(clean(text))
