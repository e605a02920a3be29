"""The questions of the interview clinic: `bank.jsonl`, one question a line.

    questions(level="mid", topic=["LoRA", "memory"]); topics(); find("states-7b")

A question has an id, a level, a topic, a lesson number, the question itself, a full answer and a
short one, follow-ups with answers, common wrong answers with reasons, and sources. It also has
proofs (each a claim and the name of the function that computes it, see `proofs`), or a rubric if
only a person can judge the answer. `measured_here` is what the proofs show on the embedded model
(2M parameters); an answer in an interview leaves that out.

A card with a `number` or a `choice` is judged. All others ask for recall: say it, then look.
"""

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
    """An entry of a question's "proofs". If op is "==", `proof` must return `number` up to the
    relative error `within`. If op is "<" or ">", the smaller side divided by the larger one is in
    `ratio`, [lowest, highest]."""

    proof: str
    says: str
    op: str
    unit: str
    number: NotRequired[float]
    within: NotRequired[float]
    ratio: NotRequired[list[float]]


class AskedNumber(TypedDict):
    """The number that a card asks for. The card shows `givens`; `formula`, an expression in the
    names of `givens` and `known`, has the value `answer`. known: what the card tests, shown with
    the answer only. within: the accepted relative error, tighter than the card's misconceptions."""

    ask: str
    givens: dict[str, float]
    known: NotRequired[dict[str, float]]
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
    """A question of the bank. The docstring of this module explains the fields."""

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
        """The kind of the question's card: number, choice, or recall (say it, then look)."""
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


@functools.cache
def prepared(round: str) -> dict[str, dict[str, Any]]:
    """Map ids to lines of `rounds.jsonl`: the prompt of a coding exercise, or a whole design or
    story task with the commands and the arithmetic that verify its numbers."""
    lines = json_lines.read(machine.package() / "interview" / "rounds.jsonl", damaged="raise")
    return {line["id"]: line for line in lines if line["round"] == round}


def take_turns(chosen: Iterable[Question], field: str = "topic") -> list[Question]:
    """The questions reordered so that their topics, or lessons, take turns, each in its order."""
    groups: dict[str, list[Question]] = {}
    for question in chosen:
        groups.setdefault(getattr(question, field), []).append(question)
    rounds = itertools.zip_longest(*groups.values())
    return [question for turn in rounds for question in turn if question]


def find(id: str) -> Question:
    """The question with this id. Raises UserError, naming similar ids, if none exists."""
    for question in everything():
        if question.id == id:
            return question
    near = difflib.get_close_matches(str(id), [q.id for q in everything()], n=3, cutoff=0.4)
    raise UserError(f"no question is called {id!r}; "
                    + (f"did you mean {' or '.join(near)}?" if near else "see bank.topics()"))


def names(what: str, given: Names, known) -> list[str]:
    """The given names in the spelling of `known`; all of `known` if none is given.

    Raises UserError for an unknown name. what: "level" or "topic", for its message.
    """
    if not given:
        return list(known)
    wanted = re.split(r"\s*,\s*", given) if isinstance(given, str) else [str(n) for n in given]
    spelled = {name.lower(): name for name in known}
    for name in wanted:
        if name.lower() not in spelled:
            raise UserError(f"{what} is {name!r}; expected one of {', '.join(known)}")
    return [spelled[name.lower()] for name in wanted]
