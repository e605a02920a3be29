"""Hints and solutions of the exercises.

    ft.hint("merge_weight")        # the next of three
    ft.hint("merge_weight", 2)     # the second
    ft.solution("merge_weight")

Their texts are in `exercises/lesson_NN.md`, one section for each exercise:

    # merge_weight
    1. The first hint names the idea.
    2. The second names the next step.
    3. The third names the last decision, and not the line.
    ```python
    def merge_weight(...): ...
    ```
"""

import dataclasses
import difflib
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.lessons import progress_log

HINTS = 3  # of each exercise
LINE_LENGTH = 90  # characters of a line in a notebook


@dataclasses.dataclass(frozen=True)
class Help:
    """One section: three hints, from the idea to the last decision, and the solution."""

    name: str
    hints: tuple[str, ...]
    code: str


class Solution:
    """The code of a solution, highlighted in a notebook."""

    def __init__(self, code: str):
        self.code = code

    def __repr__(self):
        return self.code

    def _repr_markdown_(self):
        return f"```python\n{self.code}\n```"


def hint(name: str, number: int | None = None) -> None:
    """Print the next hint of an exercise, or hint `number` (1 to 3).

    The learner's progress file remembers which hints were shown. Raises UserError for an unknown
    exercise or number.
    """
    exercise = _find(name)
    accepted = isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= HINTS
    if number is not None and not accepted:
        raise UserError(f"hint {number!r} of {name} does not exist; expected a number from 1 to "
                        f"{HINTS}")
    if number is None:
        number = shown(name) + 1
    if number > HINTS:
        print(f'You have seen all {HINTS} hints of {name}. ft.hint("{name}", 1) shows the first '
              f'one again; ft.solution("{name}") shows the solution.')
        return
    progress_log.add("hint", name=name, number=number)
    left = HINTS - number
    after = (f"{left} more: ft.hint(\"{name}\")" if left else
             f'This was the last one; ft.solution("{name}") shows the solution.')
    text = f"Hint {number} of {HINTS}: {exercise.hints[number - 1]}"
    print("\n".join([*textwrap.wrap(text, LINE_LENGTH, break_long_words=False), f"({after})"]))


def solution(name: str) -> Solution:
    """The code that solves an exercise, to compare with your own.

    The learner's progress file remembers that it was shown. Raises UserError for an unknown name.
    """
    exercise = _find(name)
    progress_log.add("solution", name=name)
    return Solution(exercise.code)


def shown(name: str) -> int:
    """Number of the last hint that this learner has seen; 0 for none."""
    return max((entry["number"] for entry in progress_log.entries()
                if entry.get("kind") == "hint" and entry.get("name") == name
                and isinstance(entry.get("number"), int)), default=0)


def read_all(folder: Path | None = None) -> dict[str, Help]:
    """Hints and solutions by exercise, from every `lesson_NN.md` in `folder`, and `interview.md`.

    Raises ValueError, naming file and section, for a file in another form.
    """
    folder = folder or machine.package() / "lessons" / "exercises"
    sections: dict[str, Help] = {}
    for path in sorted([*folder.glob("lesson_*.md"), *folder.glob("interview.md")]):
        for section in parse(path.read_text("utf-8"), path.name):
            if section.name in sections:
                raise ValueError(f"{path.name}: two sections are called {section.name!r}")
            sections[section.name] = section
    return sections


def parse(text: str, where: str = "hints") -> list[Help]:
    """The sections of one file, in order. where: its name in errors. Raises ValueError."""
    blocks = re.split(r"^(# .*)$", _hide_code(text), flags=re.MULTILINE)
    if blocks[0].strip():
        raise ValueError(f"{where}: {blocks[0].strip()[:60]!r} is before the first '# name'")
    return [_section(heading, body, where)
            for heading, body in zip(blocks[1::2], blocks[2::2], strict=True)]


def _hide_code(text: str) -> str:
    """Indent fenced code by a tab, so that its comments do not look like headings."""
    lines, inside = [], False
    for line in text.splitlines():
        fence = line.startswith("```")
        lines.append(f"\t{line}" if inside and not fence else line)
        inside ^= fence
    return "\n".join(lines)


def _section(heading: str, body: str, where: str) -> Help:
    name = heading[2:].strip()
    where = f"{where}, {name}"
    if not name.isidentifier():
        raise ValueError(f"{where}: the heading must be the name of an exercise")
    match = re.fullmatch(r"\s*(.*?)\s*^```python\n(.*?)\n```\s*", body, re.DOTALL | re.MULTILINE)
    if match is None:
        raise ValueError(f"{where}: expected hints 1. 2. 3. and then one ```python block")
    hints = re.split(r"^(\d+)\. ", match[1], flags=re.MULTILINE)
    if hints[0].strip() or hints[1::2] != [str(i + 1) for i in range(HINTS)]:
        raise ValueError(f"{where}: expected {HINTS} hints that begin with 1. 2. 3.")
    texts = tuple(" ".join(hint.split()) for hint in hints[2::2])
    if not all(texts):
        raise ValueError(f"{where}: a hint is empty")
    return Help(name, texts, textwrap.dedent(match[2]).strip("\n"))


def _find(name: str) -> Help:
    sections = read_all()
    if name in sections:
        return sections[name]
    raise UserError(f"there are no hints for {name!r}; expected one of "
                    f"{suggestions(name, sections)}")


def suggestions(name: str, known: Iterable[str]) -> str:
    """The known names most similar to `name`, else the first 30."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    return ", ".join(close or sorted(known)[:30]) or "none"
