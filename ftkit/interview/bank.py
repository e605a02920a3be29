"""The questions of the interview clinic: `bank.jsonl`, one question a line.

    questions(level="mid", topic=["LoRA", "memory"]); topics(); find("states-7b")

A question has an id, a level, a topic, the number of its lesson, the question itself, an answer
with its conditions, the same in `short`, follow-ups with their answers, common wrong answers with
the reason why each is wrong, sources, and either proofs (a claim and the name of the function that
computes it, see `proofs`) or a rubric for what only a person can judge. `measured_here` says what
the proofs show on the embedded model of 2M parameters, which an answer in an interview would not.

Its card asks for recall (say it, then look), unless it has a `number` or a `choice`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import re
from collections.abc import Iterable
from typing import Any, NotRequired, TypedDict

from ftkit.base import json_lines, machine
from ftkit.base.errors import UserError

LEVELS = ("junior", "mid", "senior", "staff")
Names = str | Iterable[str] | None  # several may be separated by commas; None means all


class StatedClaim(TypedDict):
    """An entry of "proofs". A claim with op "==" has a number, which the proof named by `proof`
    must meet within that fraction."""

    proof: str
    says: str
    op: str
    unit: str
    number: NotRequired[float]
    within: NotRequired[float]


class AskedNumber(TypedDict):
    """The number that a card asks for: `formula`, an expression in the names of `givens` (which
    the card shows), has the value `answer`; an answer within that fraction of it is right."""

    ask: str
    givens: dict[str, float]
    formula: str
    answer: float
    unit: str
    within: float


class Choice(TypedDict):
    """The options of a card: the right one, and three wrong ones with the reasons."""

    right: str
    wrong: list[dict[str, str]]  # answer, why


@dataclasses.dataclass(frozen=True)
class Question:
    """One line of the bank; see the module."""

    id: str
    level: str
    topic: str
    lesson: str
    question: str
    answer: str
    short: str
    follow_ups: tuple[dict[str, str], ...]  # question, answer
    wrong: tuple[dict[str, str], ...]  # answer, why
    sources: tuple[str, ...]
    proofs: tuple[StatedClaim, ...]
    rubric: tuple[str, ...]
    measured_here: str = ""
    number: AskedNumber | None = None
    choice: Choice | None = None

    @property
    def kind(self) -> str:
        """How its card asks: number, choice, or recall (say it, then look)."""
        return "number" if self.number else "choice" if self.choice else "recall"


@functools.cache
def everything() -> tuple[Question, ...]:
    """All questions, in the order of the file: the seven classic ones first."""
    entries = json_lines.read(machine.package() / "interview" / "bank.jsonl", damaged="raise")
    return tuple(_question(entry) for entry in entries)


def _question(entry: dict[str, Any]) -> Question:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                              for name, value in entry.items()}
    return Question(**fields)


def topics() -> list[str]:
    """The topics, in the order of the file."""
    return list(dict.fromkeys(q.topic for q in everything()))


def questions(level: Names = None, topic: Names = None) -> list[Question]:
    """The questions of these levels and topics.

    Raises UserError for a level or topic that does not exist.
    """
    levels, chosen = names("level", level, LEVELS), names("topic", topic, topics())
    return [q for q in everything() if q.level in levels and q.topic in chosen]


def take_turns(chosen: Iterable[Question]) -> list[Question]:
    """The questions reordered so that their topics take turns, each in its own order."""
    by_topic: dict[str, list[Question]] = {}
    for question in chosen:
        by_topic.setdefault(question.topic, []).append(question)
    rounds = itertools.zip_longest(*by_topic.values())
    return [question for turn in rounds for question in turn if question]


def find(id: str) -> Question:
    """The question with this id; UserError with the nearest ids if none exists."""
    for question in everything():
        if question.id == id:
            return question
    near = difflib.get_close_matches(str(id), [q.id for q in everything()], n=3, cutoff=0.4)
    raise UserError(f"no question is called {id!r}; "
                    + (f"did you mean {' or '.join(near)}?" if near else "see bank.topics()"))


def names(what: str, given: Names, known) -> list[str]:
    """The given names as they are spelled in `known`, all of them where none is given.

    what: "level" or "topic", for the UserError that another name raises.
    """
    if not given:
        return list(known)
    wanted = re.split(r"\s*,\s*", given) if isinstance(given, str) else [str(n) for n in given]
    spelled = {name.lower(): name for name in known}
    for name in wanted:
        if name.lower() not in spelled:
            raise UserError(f"{what} is {name!r}; expected one of {', '.join(known)}")
    return [spelled[name.lower()] for name in wanted]
