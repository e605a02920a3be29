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


class _Screen:
    """What was printed since the last prompt, so that nothing scrolls away unread.

    typed: a line typed where a screen was full; it answers the next prompt.
    """

    lines, typed, ended = 0, "", False

    def show(self, lines: list[str]):
        """Print the lines of a paragraph; wait for Enter first where the screen is too full."""
        rows = shutil.get_terminal_size().lines - 1
        waits = sys.stdout.isatty() and sys.stdin.isatty() and rows > 3
        while lines:
            fits = rows - self.lines if waits and not (self.typed or self.ended) else len(lines)
            if len(lines) > fits and (self.lines > rows // 2 or fits < 2):
                self.wait()
                continue
            for line in lines[:fits]:
                print(line, flush=True)
            self.lines, lines = self.lines + min(fits, len(lines)), lines[fits:]

    def wait(self):
        """Wait for Enter; what else is typed is kept."""
        print("-- Enter shows more --", end=" ", flush=True)
        try:
            self.typed = input().strip()
        except (EOFError, KeyboardInterrupt):
            self.ended = True
            print()
        self.lines = 0


_screen = _Screen()


def say(*lines: str, hang: int = 0):
    """Print lines without control characters. In a terminal they wrap at words, continuation lines
    are indented by `hang` more, and a full screen waits for Enter."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10**6
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        _screen.show(textwrap.wrap(clean(line), max(20, width - 1), initial_indent=indent,
                                   subsequent_indent=indent + " " * hang,
                                   break_on_hyphens=False) or [""])


def read_line(prompt: str) -> str | None:
    """A line from the terminal; None at the end of the input."""
    print(prompt, end="", flush=True)  # input(prompt) may write it to stderr
    typed, ended, _screen.lines = _screen.typed, _screen.ended, 0
    _screen.typed, _screen.ended = "", False
    if typed or ended:
        print(typed)
        return None if ended else typed
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
    be defended; without such words it counts on the candidate's word alone. partner: another
    person has the rubric and names the points; none is shown.
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
        words = None
        while words is None or (words and index not in heard.said):
            words = typed("your words (y: count it on my word, Enter: do not)> ")
            if words.lower() in ("y", "yes"):
                heard.insist(index)
            else:
                say(heard.defend(index, words))


def say_as_is(text: str):
    """Print code or a table unwrapped, without control characters."""
    for line in text.split("\n"):
        _screen.show([" " * (len(line) - len(line.lstrip())) + clean(line)])
