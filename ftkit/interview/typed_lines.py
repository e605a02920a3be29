"""Reading and printing lines in a plain terminal: drill, mock interview and clinic."""

import select
import shutil
import sys
import textwrap
from collections.abc import Callable

from ftkit.base.errors import UserError
from ftkit.base.formatting import clean
from ftkit.interview.listening import Heard, parse_points

Ask = Callable[[str], str | None]  # prompt → the line that is typed; None at the end of the input


def say(*lines: str, hang: int = 0):
    """Print lines without control characters. In a terminal they wrap at words, and continuation
    lines are indented by `hang` more."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10**6
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        print(textwrap.fill(clean(line), max(20, width - 1), initial_indent=indent,
                            subsequent_indent=indent + " " * hang, break_on_hyphens=False),
              flush=True)


def read_line(prompt: str) -> str | None:
    """A line from the terminal; None at the end of the input."""
    print(prompt, end="", flush=True)  # input(prompt) may write it to stderr
    try:
        return input().strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None


def more_is_waiting() -> bool:
    """Whether the terminal has further input, as after pasting several paragraphs."""
    try:
        return sys.stdin.isatty() and bool(select.select([sys.stdin], [], [], 0.05)[0])
    except (OSError, ValueError):  # Windows waits for sockets only
        return False


def tick(heard: Heard, typed: Callable[[str], str], partner: bool = False):
    """Show a rubric and ask which points were said; Enter takes those that were heard.

    typed: prompt → the line that is typed. A ticked point that a typed answer does not name has to
    be defended; without such words it counts on the candidate's word alone. partner: another person has the rubric and names the points; none is shown.
    """
    if partner:
        say(f"Your interviewer names the points that you said, of {len(heard.points)}.")
        heard.tick(())
    else:
        lines = (f"  {i}  [{p.weight}] {p.text}" for i, p in enumerate(heard.points, 1))
        say("Rubric:", *lines, hang=7)
        say(*heard.verdicts, hang=2)
    suggested = " ".join(str(i + 1) for i in sorted(heard.said))
    while True:
        text = typed(f"which of these did you say, e.g. 1 3, 0 for none [{suggested or 0}]> ")
        try:
            heard.tick(heard.said if not text else parse_points("" if text == "0" else text,
                                                                len(heard.points)))
            break
        except UserError as error:
            say(f"{error}")
    for index in () if partner else heard.challenged():
        say(heard.challenge(index))
        say(heard.defend(index, typed("your words (Enter takes the tick back)> ")))
        if index not in heard.said and typed("y keeps it on your word alone, Enter leaves it> "
                                             ).lower() in ("y", "yes"):
            heard.insist(index)


def say_as_is(text: str):
    """Print code or a table unwrapped, without control characters."""
    for line in text.split("\n"):
        print(" " * (len(line) - len(line.lstrip())) + clean(line), flush=True)
