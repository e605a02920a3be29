"""A drill without a screen: which card comes next, is the answer right, what is written down.

    session = Session(level="mid"); session.card.front; session.answer("107.8 GB"); session.rate(3)

The widget and the terminal stand on it.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from datetime import UTC, datetime

from ftkit.base.errors import UserError
from ftkit.interview import bank, cards, number_answer
from ftkit.lessons import progress_log

CHOICES = 4


class Session:
    """Cards that are due, longest overdue first, then up to `new` that were never seen.

    level, topic: see `bank.questions`. now: a function that gives the time, for tests. A card
    rated "again" comes back within the session once it is due.
    """

    def __init__(self, level=None, topic=None, new: int = 10, store: cards.Store | None = None,
                 now: Callable[[], datetime] | None = None):
        if isinstance(new, bool) or not isinstance(new, int) or new < 0:
            raise UserError(f"new is {new!r}; expected a whole number of new cards, 0 or more")
        self.store = store or cards.Store()
        self.now = now or (lambda: datetime.now(UTC))
        self.deck = {f.key: f for f in cards.deck(level, topic)}
        self.left, self.done, self.right = new, 0, 0
        self.next()

    def next(self):
        """Choose the next card; `.card` is None when nothing is due."""
        due, now = self.store.due(), self.now()
        known = sorted((due[k].due, k) for k in self.deck if k in due and due[k].due <= now)
        fresh = [k for k in self.deck if k not in due][: self.left]
        self.queue = [k for _, k in known] + fresh
        self.card = self.deck[self.queue[0]] if self.queue else None
        self.new_card = bool(self.queue) and self.queue[0] not in due
        self.verdict: bool | None = None
        self.options, self.correct = self._choices()

    @property
    def kind(self) -> str:
        """How the card asks: number, choice, or recall (say it, then look)."""
        if self.card is None or self.card.question is None:
            return "recall"
        return "number" if self.card.question.typed else "choice"

    def wanted(self) -> str:
        """Which number a card of kind number asks for, in words; else empty."""
        if self.kind != "number":
            return ""
        asked = self.card.question.typed
        return f"Begin with a number: {asked['says']}" + f", in {asked['unit']}" * bool(
            asked["unit"])

    def _choices(self) -> tuple[list[str], int]:
        """The right answer in short among wrong ones, its own first, then others of its topic."""
        if self.kind != "choice":
            return [], -1
        question = self.card.question
        others = [w["answer"] for q in bank.questions(topic=question.topic) if q is not question
                  for w in q.wrong]
        shuffle = random.Random(zlib.crc32(f"{question.id}/{self.done}".encode()))
        shuffle.shuffle(others)
        wrong = [w["answer"] for w in question.wrong] + others
        made = [question.short] + list(dict.fromkeys(wrong))[: CHOICES - 1]
        shuffle.shuffle(made)
        return made, made.index(question.short)

    def answer(self, text, confidence: float | None = None) -> tuple[bool, str]:
        """Judge a typed number or the number of a choice (from 1): (right, what to say).

        confidence (0 to 1) is kept for `calibration`. Raises ValueError for what cannot be judged.
        """
        if self.card is None:
            raise UserError("no card is due; come back later")
        question = self.card.question
        if self.kind == "number":
            asked = question.typed
            right, said = number_answer.judge(
                str(text), asked["number"], asked["unit"], asked["within"]
            )
            actual = f"{number_answer.exact(asked['number'])} {asked['unit']}".strip()
        elif self.kind == "choice":
            if str(text).strip() not in {str(i + 1) for i in range(len(self.options))}:
                raise UserError(f"{text!r} is no choice; expected 1 to {len(self.options)}")
            chosen = int(text) - 1
            right, actual = chosen == self.correct, self.options[self.correct]
            said = "right" if right else self._why(self.options[chosen])
            text = self.options[chosen]
        else:
            raise UserError("say it, look, and rate yourself")
        if self.verdict is None:
            self.verdict = right
            progress_log.add("score", question=question.question, guess=str(text), actual=actual,
                         right=right, confidence=confidence, topic=question.topic, source="drill")
        return right, said

    def _why(self, chosen: str) -> str:
        for question in [self.card.question, *bank.everything()]:
            for wrong in question.wrong:
                if wrong["answer"] == chosen:
                    return f"no: {wrong['why']}"
        return "no"

    def suggested(self) -> int:
        """The rating that the answer suggests; the learner may take another."""
        return {None: 3, True: 3, False: 1}[self.verdict]

    def rate(self, rating: int) -> str:
        """Write the review and go on; returns when the card comes back, in words.

        Raises OSError if it could not be written: then the card stays.
        """
        if self.card is None:
            raise UserError("no card is due; come back later")
        at = self.now()
        self.store.add(self.card.key, rating, at, right=self.verdict, topic=self.card.topic)
        key = self.card.key
        self.left -= self.new_card
        self.done += 1
        self.right += rating > 1
        back = self.store.due()[key].due - at
        self.next()
        return f"{cards.RATINGS[rating]}: back in {words_of(back)}"

    def progress(self) -> str:
        """Where the session is, in words."""
        if self.card is None:
            return f"{self.done} cards done. Nothing more is due: come back later."
        return (f"card {self.done + 1} of {self.done + len(self.queue)} · {self.card.topic}"
                + (f" · {self.card.level}" if self.card.level else "")
                + (" · new" if self.new_card else ""))


def words_of(span) -> str:
    """A span of time as a learner says it."""
    minutes = span.total_seconds() / 60
    if minutes < 60:
        return f"{max(1, round(minutes))} min"
    if minutes < 60 * 24:
        return f"{round(minutes / 60)} h"
    days = round(minutes / 60 / 24)
    return f"{days} day{'s' * (days != 1)}"


def solution(card: cards.Flash) -> list[str]:
    """What the back of a card says, as lines: answer, wrong answers, follow-ups, sources."""
    lines = [card.back]
    question = card.question
    if question is not None:
        lines += [f"✗ {w['answer']} — {w['why']}" for w in question.wrong]
        lines += [f"? {f['question']} — {f['answer']}" for f in question.follow_ups]
        lines.append(f"Lesson {question.lesson} · " + "; ".join(question.sources))
    return lines
