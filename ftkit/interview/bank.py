"""The questions of the interview clinic: `bank.jsonl`, one question a line, read and checked.

    questions(level="mid", topic=["LoRA", "memory"]); topics(); problems(entry)

A question has an id, a level, a topic, the number of its lesson, the question itself, an answer of
two to five sentences with its conditions, the same in `short`, follow-ups with their answers,
common wrong answers with the reason why each is wrong, sources, and either proofs (see `proofs`:
what is claimed, and the function that computes it) or a rubric for what only a person can judge. A
proof marked `typed` is asked as a number.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re

from ftkit.base import json_lines, machine
from ftkit.base.errors import UserError

LEVELS = ("junior", "mid", "senior", "staff")
SENTENCE = re.compile(r"[.!?][\"')]*(?:\s|$)")


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
    follow_ups: tuple[dict, ...]
    wrong: tuple[dict, ...]
    sources: tuple[str, ...]
    proofs: tuple[dict, ...]
    rubric: tuple[str, ...]

    @property
    def typed(self) -> dict | None:
        """The claim whose number is asked for, if any."""
        return next((p for p in self.proofs if p.get("typed")), None)

    def points(self) -> list[str]:
        """What an answer is scored by: the rubric, else the answer's own sentences."""
        if self.rubric:
            return list(self.rubric)
        return [s.strip() for s in re.split(r"(?<=[.!?])\s+", self.answer) if s.strip()]


@functools.cache
def everything() -> tuple[Question, ...]:
    """All questions, in the order of the file: the design's seven first."""
    entries = json_lines.read(machine.package() / "interview" / "bank.jsonl", damaged="raise")
    return tuple(Question(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()})
                 for entry in entries)


def topics() -> list[str]:
    return list(dict.fromkeys(q.topic for q in everything()))


def questions(level=None, topic=None) -> list[Question]:
    """The questions of these levels and topics (a name, several, or None for all).

    Raises ValueError for a level or topic that does not exist.
    """
    levels, chosen = _some("level", level, LEVELS), _some("topic", topic, topics())
    return [q for q in everything() if q.level in levels and q.topic in chosen]


def find(id: str) -> Question:
    """The question called `id`; ValueError with the nearest ids where there is none."""
    for question in everything():
        if question.id == id:
            return question
    near = difflib.get_close_matches(str(id), [q.id for q in everything()], n=3, cutoff=0.4)
    raise UserError(f"no question is called {id!r}; "
                    + (f"did you mean {' or '.join(near)}?" if near else "see bank.topics()"))


def _some(what, given, known) -> list[str]:
    if given is None or given == "":
        return list(known)
    given = re.split(r"\s*,\s*", given) if isinstance(given, str) else list(given)
    lower = {name.lower(): name for name in known}
    for name in given:
        if str(name).lower() not in lower:
            raise UserError(f"{what} is {name!r}; expected one of {', '.join(known)}")
    return [lower[str(name).lower()] for name in given]


def problems(entry: dict) -> list[str]:
    """What is wrong with one line of the bank, in words; empty for a good one."""
    found, fields = [], [f.name for f in dataclasses.fields(Question)]
    if set(entry) != set(fields):
        return [f"fields are {sorted(entry)}, expected {sorted(fields)}"]
    for name in ("id", "topic", "question", "answer", "short"):
        if not (isinstance(entry[name], str) and entry[name].strip()):
            found.append(f"{name} is empty")
    if entry["level"] not in LEVELS:
        found.append(f"level is {entry['level']!r}")
    if not re.fullmatch(r"\d\d", entry["lesson"]):
        found.append(f"lesson is {entry['lesson']!r}")
    sentences = len(SENTENCE.findall(entry["answer"]))
    if not 2 <= sentences <= 5:
        found.append(f"the answer has {sentences} sentences, expected 2 to 5")
    for name in ("follow_ups", "wrong", "sources"):
        if not entry[name]:
            found.append(f"{name} is empty")
    if any(set(w) != {"answer", "why"} for w in entry["wrong"]):
        found.append("a wrong answer needs its reason")
    if any(set(f) != {"question", "answer"} for f in entry["follow_ups"]):
        found.append("a follow-up needs its answer")
    if not entry["proofs"] and len(entry["rubric"]) < 3:
        found.append("neither a proof nor a rubric of three points")
    for claim in entry["proofs"]:
        found += _problems_of_claim(claim)
    return found


def _problems_of_claim(claim) -> list[str]:
    if claim["op"] in "<>":
        return ["a comparison has no number of its own"] if "number" in claim else []
    if claim["op"] != "==":
        return [f"op is {claim['op']!r}"]
    # Wider, and a number changed by a tenth could still pass.
    ok = claim["number"] != 0 and 0 < claim["within"] <= 0.045
    return [] if ok else [f"{claim['proof']}: number {claim['number']}, within {claim['within']}"]
