"""Paths through the course, computed from `course.jsonl`.

    lessons_of("ship")                  the lessons that a path needs, in order
    View("ship", lessons, due)          what is next, and how many minutes are left

A line of the file is a lesson (what it needs, minutes, what one can do afterwards) or a path (the
lessons it leads to). A need such as "01|tour" is met by either.
"""

import functools
import math
from typing import Any, NamedTuple

from ftkit.base import json_lines, machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import to_html


class Step(NamedTuple):
    """A lesson as the file describes it. exercises: of the tour, which has none of its own."""

    lesson: str
    needs: tuple[str, ...]
    minutes: int
    can: str
    exercises: tuple[str, ...] = ()


class Path(NamedTuple):
    """A path. day, cards: minutes of a day, and those of them for due cards; 0: no daily plan."""

    path: str
    goals: tuple[str, ...]
    about: str
    day: int = 0
    cards: int = 0


@functools.cache
def _read() -> tuple[dict[str, Step], dict[str, Path]]:
    steps, paths = {}, {}
    for line in json_lines.read(machine.package() / "interview" / "course.jsonl", damaged="raise"):
        fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                                  for name, value in line.items()}
        if "lesson" in fields:
            steps[fields["lesson"]] = Step(**fields)
        else:
            paths[fields["path"]] = Path(**fields)
    return steps, paths


def steps() -> dict[str, Step]:
    """Number of a lesson → the lesson, in the order of the course."""
    return _read()[0]


def paths() -> dict[str, Path]:
    return _read()[1]


def lessons_of(name: str) -> list[Step]:
    """The lessons of a path with everything that they need, each after its needs.

    Raises UserError for a path that does not exist.
    """
    if name not in paths():
        raise UserError(f"path is {name!r}; expected one of {', '.join(paths())}")
    found: dict[str, Step] = {}

    def add(lesson: str):
        for need in steps()[lesson].needs:
            options = need.split("|")
            if not found.keys() & set(options):
                add(options[0])
        found.setdefault(lesson, steps()[lesson])

    for goal in paths()[name].goals:
        add(goal)
    order = list(steps())
    return sorted(found.values(), key=lambda step: order.index(step.lesson))


class View:
    """A path and how far the learner is; displays itself as text.

    done: numbers of the lessons that are done or known; a lesson that was split, such as 20 into
    20a and 20b, is done when its parts are. due: interview cards.
    """

    def __init__(self, name: str, done: set[str], due: int):
        self.steps = lessons_of(name)
        self.path, self.due = paths()[name], due
        self.open = [step for step in self.steps if step.lesson not in done]
        self.minutes = sum(step.minutes for step in self.open)

    def lines(self) -> list[str]:
        path = self.path
        said = [f"Path {path.path}, {path.about}: {len(self.steps) - len(self.open)} of "
                f"{len(self.steps)} done, {self.minutes} minutes left."]
        if path.day and self.open:
            days = math.ceil(self.minutes / (path.day - path.cards))
            said.append(f"{days} days of {path.day} minutes: first {path.cards} minutes of cards "
                        f"(ft.drill(minutes={path.cards}), {self.due} due), then the next lesson.")
        said += [f"{'Next' if i == 0 else 'Then'}: {step.lesson}, {step.minutes} minutes. "
                 f"Afterwards you can {step.can}." for i, step in enumerate(self.open)]
        if not self.open:
            said.append("Next: your own data, in ft.what_if(data=...).")
        return said

    def __repr__(self):
        return "\n".join(self.lines())

    def _repr_html_(self):
        return "".join(f"<div>{to_html(line)}</div>" for line in self.lines())
