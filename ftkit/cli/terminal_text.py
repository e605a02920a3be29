"""Text for a terminal: wrapped to its width, and colored.

A pipe or a file gets unwrapped lines, so that `grep` finds whole ones, unless COLUMNS sets a width.
NO_COLOR (https://no-color.org) turns color off.
"""

import os
import shutil
import sys
import textwrap

LEAST = 40  # columns
BOLD, RED, END = "\033[1m", "\033[31m", "\033[0m"


def width(stream=None) -> int | None:
    """Columns of the stream (default: stdout); None for a pipe or a file."""
    stream = stream or sys.stdout
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return max(LEAST, int(asked))
    if not is_terminal(stream):
        return None
    return max(LEAST, shutil.get_terminal_size().columns)


def colored(text: str, color: str, stream=None) -> str:
    """The text in this color if the stream is a terminal and NO_COLOR is unset."""
    if not is_terminal(stream or sys.stdout) or os.environ.get("NO_COLOR"):
        return text
    return f"{color}{text}{END}"


def wrapped(text: str, columns: int | None) -> str:
    """The text with lines of at most this length. Lines of a table, recognized by two or more
    spaces between cells, are not wrapped."""
    if columns is None:
        return text
    return "\n".join(line if len(line) <= columns or "  " in line.strip() else textwrap.fill(
        line, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n"))


def is_terminal(stream) -> bool:
    return bool(getattr(stream, "isatty", None)) and stream.isatty()
