"""A drill without a screen: which card comes next, whether the answer is right, what is logged.

    session = Session(level="mid"); session.card.front; session.answer("107.8 GB"); session.rate(3)

The widget (`flashcards`) and the terminal (`terminal`) both show a Session.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

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
        self.deck = {card.key: card for card in cards.deck(level, topic)}
        self.new_left, self.done, self.right = new, 0, 0
        self.next()

    def next(self):
        """Choose the next card; the session is over when nothing is due."""
        scheduled, now = self.store.due(), self.now()
        overdue = sorted((scheduled[key].due, key) for key in self.deck
                         if key in scheduled and scheduled[key].due <= now)
        unseen = [key for key in self.deck if key not in scheduled][: self.new_left]
        self.queue = [key for _, key in overdue] + unseen
        self.is_new = not overdue
        self.verdict: bool | None = None  # None until the card is answered, and for recall
        self.own = ""  # what the learner answered
        self.options = self._shuffled_options()

    # ------------------------------------------------------------------ the card being asked

    @property
    def over(self) -> bool:
        """Whether no card is due any more."""
        return not self.queue

    @property
    def card(self) -> cards.FlashCard:
        """The card being asked. Raises UserError when the session is over."""
        if self.over:
            raise UserError("no card is due; try again later")
        return self.deck[self.queue[0]]

    @property
    def question(self) -> bank.Question | None:
        """The card's question in the bank; None for a card of the learner's misses."""
        return None if self.over else self.card.question

    @property
    def proofs(self) -> tuple[bank.StatedClaim, ...]:
        """The claims that prove the card's answer; empty if a person must judge it."""
        return self.question.proofs if self.question else ()

    @property
    def number(self) -> bank.AskedNumber | None:
        """The number that the card asks for, if it asks for one."""
        return self.question.number if self.question else None

    @property
    def kind(self) -> str:
        """How the card asks: number, choice, or recall (say it, then look)."""
        return self.question.kind if self.question else "recall"

    @property
    def unit(self) -> str:
        """The unit of the number that the card asks for; empty if none exists."""
        return self.number["unit"] if self.number else ""

    def number_prompt(self) -> str:
        """The sentence that asks for the number, with everything that is given; empty if the card
        asks for none."""
        if self.number is None:
            return ""
        return f"{self.number['ask']} Given: {number_answer.givens(self.number)}." + (
            f" Answer in {self.unit}." if self.unit else "")

    def _shuffled_options(self) -> list[str]:
        """The right option of a choice among the card's own wrong ones."""
        question = self.question
        if question is None or question.choice is None:
            return []
        options = [question.choice["right"], *(w["answer"] for w in question.choice["wrong"])]
        random.Random(zlib.crc32(f"{self.done} {question.id}".encode())).shuffle(options)
        return options

    @property
    def correct(self) -> int:
        """Index of the right option; -1 if the card has no options."""
        choice = self.question.choice if self.question else None
        return self.options.index(choice["right"]) if choice else -1

    # ------------------------------------------------------------------------------- answers

    def answer(self, text, confidence: float | None = None) -> tuple[bool, str]:
        """Judge a typed number or the number of a choice (from 1): (right, comment).

        confidence (0 to 1) is kept for `calibration`. Raises UserError for what cannot be judged.
        """
        question = self.card.question
        if question is None or question.kind == "recall":
            raise UserError("say it, look, and rate yourself")
        if asked := question.number:
            right, comment = number_answer.judge(str(text), asked["answer"], asked["unit"],
                                                 asked["within"])
            actual = f"{number_answer.exact(asked['answer'])} {asked['unit']}".strip()
        else:
            if str(text).strip() not in {str(i + 1) for i in range(len(self.options))}:
                raise UserError(f"{text!r} is not a choice; expected 1 to {len(self.options)}")
            text, actual = self.options[int(text) - 1], self.options[self.correct]
            right = text == actual
            comment = "right" if right else _why_wrong(question, text)
        if self.verdict is None:
            self.own, self.verdict = str(text), right
            progress_log.add("score", question=question.question, guess=str(text), actual=actual,
                             right=right, confidence=confidence, topic=question.topic,
                             source="drill")
        return right, comment

    def suggested(self) -> int:
        """The rating that the answer suggests; the learner may choose another. A card that was not
        answered (a recall card: not in at least two words) suggests "again"."""
        known = len(self.own.split()) > 1 if self.verdict is None else self.verdict
        return 3 if known else 1

    def rate(self, rating: int) -> str:
        """Log the review and choose the next card; returns the sentence that says when this one
        comes back.

        Raises OSError if the review could not be written: then the card stays.
        """
        card, now = self.card, self.now()
        self.store.add(card.key, rating, now, right=self.verdict, topic=card.topic)
        if self.is_new:
            self.new_left -= 1
        self.done += 1
        self.right += rating > 1
        wait = self.store.due()[card.key].due - now
        self.next()
        return f"{cards.RATINGS[rating]}: back in {format_wait(wait)}"

    def progress(self) -> str:
        """One line: how many cards are done, and the topic and level of the current one."""
        if self.over:
            return f"{self.done} cards done. Nothing more is due: try again later."
        parts = [f"card {self.done + 1} of {self.done + len(self.queue)}", self.card.topic,
                 self.card.level, "new" if self.is_new else ""]
        return " · ".join(part for part in parts if part)


def _why_wrong(question: bank.Question, answer: str) -> str:
    """Why a wrong option of the question is wrong."""
    wrong = question.choice["wrong"] if question.choice else []
    return next((f"no: {w['why']}" for w in wrong if w["answer"] == answer), "no")


def format_wait(span: timedelta) -> str:
    """A time span, rounded: 10 min, 3 h, 2 days."""
    minutes = span.total_seconds() / 60
    if minutes < 60:
        return f"{max(1, round(minutes))} min"
    if minutes < 60 * 24:
        return f"{round(minutes / 60)} h"
    days = round(minutes / 60 / 24)
    return "1 day" if days == 1 else f"{days} days"
