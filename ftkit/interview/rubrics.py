"""Rubrics: the weighted points by which an answer is scored.

    points(bank.find("states-7b"))      # [Point(weight=3, text="16 bytes per parameter"), ...]

3 is the core of the answer, 1 a refinement. A rubric in the bank lists its points by importance;
`rubrics.jsonl` has the rubrics of all other questions.
"""

import functools
from typing import NamedTuple

from ftkit.base import json_lines, machine
from ftkit.interview.bank import Question

CORE, USUAL, REFINEMENT = 3, 2, 1


class Point(NamedTuple):
    """One thing that a good answer says, and its weight."""

    weight: int
    text: str


@functools.cache
def written() -> dict[str, tuple[Point, ...]]:
    """Map each question's id to its points in `rubrics.jsonl`."""
    lines = json_lines.read(machine.package() / "interview" / "rubrics.jsonl", damaged="raise")
    return {line["id"]: tuple(Point(*point) for point in line["points"]) for line in lines}


def points(question: Question) -> tuple[Point, ...]:
    """The points of a question, the most important first. Without a rubric: its key sentence."""
    if question.rubric:
        last = len(question.rubric) - 1
        return tuple(Point(CORE if i == 0 else REFINEMENT if i == last > 1 else USUAL, text)
                     for i, text in enumerate(question.rubric))
    return written().get(question.id) or (Point(CORE, question.short),)


def score(all_points, said: set[int]) -> float:
    """Weight of the points with indices `said`, as a fraction of the total weight."""
    return sum(all_points[i].weight for i in said) / sum(point.weight for point in all_points)
