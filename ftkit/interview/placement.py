"""Fifteen questions that find which lessons a learner may skip (`ft.placement()`).

    placement()                       asks, in a notebook or a terminal
    result = place(answer_of)         answer_of(question) returns the typed text

Each asks for a number, tokens, or a word, so that guessing does not help. A lesson is known if its
question is answered right and all that the lesson needs is known. So a wrong answer ends the
questions on lessons that need its lesson, and most learners see fewer than 15.
"""

import functools
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from ftkit.base import json_lines, machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean
from ftkit.interview import number_answer, paths
from ftkit.lessons import progress_log

MINUTES = 12


class Question(NamedTuple):
    """kind: number, curves (a number read from a run), mask (numbers of tokens), or sentence (a
    word; `answer` lists the accepted ones). within: accepted relative error of a number."""

    lesson: str
    kind: str
    question: str
    answer: float | str
    within: float
    why: str
    unit: str = ""


class Placement(NamedTuple):
    """known: lessons to skip. asked: question → whether it was answered right."""

    known: list[str]
    asked: dict[Question, bool]

    def __repr__(self):
        right = sum(self.asked.values())
        skip = ", ".join(self.known) or "none yet: begin with 00"
        return "\n".join([
            f"{right} of {len(self.asked)} right. Lessons that you may skip: {skip}.",
            *(f"Lesson {one.lesson}: {one.why}." for one, hit in self.asked.items() if not hit),
            'ft.progress("everything") shows your path without what you know.'])


@functools.cache
def questions() -> tuple[Question, ...]:
    lines = json_lines.read(machine.package() / "interview" / "placement.jsonl", damaged="raise")
    return tuple(Question(**line) for line in lines)


def is_right(question: Question, typed: str) -> bool:
    """Whether a typed answer is right; text that cannot be read is wrong."""
    if question.kind == "mask":
        return re.findall(r"\d+", typed) == str(question.answer).split()
    if question.kind == "sentence":
        return not set(re.findall(r"[a-z]+", typed.lower())).isdisjoint(
            str(question.answer).split())
    try:
        return number_answer.judge(typed, float(question.answer), question.unit,
                                   question.within or 1e-6)[0]
    except UserError:
        return False


def place(answer_of: Callable[[Question], str], minutes: float = MINUTES) -> Placement:
    """Ask what is still open, for at most `minutes`. answer_of: the typed answer to a question."""
    known: list[str] = []
    asked: dict[Question, bool] = {}
    end = time.monotonic() + 60 * minutes
    for question in questions():
        needs = paths.steps()[question.lesson].needs
        if time.monotonic() < end and all(set(need.split("|")) & set(known) for need in needs):
            asked[question] = is_right(question, answer_of(question))
            if asked[question]:
                known.append(question.lesson)
    return Placement(known, asked)


def placement() -> Placement:
    """Ask up to 15 questions and remember which lessons `ft.progress` may leave out.

    Enter alone means "I do not know"."""
    result = place(lambda one: clean(input(f"{one.question}\n> ")))
    progress_log.add("placement", known=result.known)
    return result


def known() -> set[str]:
    """The lessons that the last placement showed to be known."""
    found = [entry["known"] for entry in progress_log.entries()
             if entry.get("kind") == "placement" and isinstance(entry.get("known"), list)]
    return set(map(str, found[-1])) & paths.steps().keys() if found else set()
