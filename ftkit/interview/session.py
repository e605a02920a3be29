"""A drill without a screen: which card comes next, whether the answer is right, what is logged.

    session = Session(level="mid"); session.card.front; session.answer("107.8 GB"); session.rate(3)

The widget (`flashcards`) and the terminal (`terminal`) both show a Session.
"""

import random
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ftkit.base.errors import UserError
from ftkit.interview import agreement, bank, cards, number_answer, rubrics
from ftkit.interview.grader import Grader
from ftkit.interview.listening import Heard, misconceptions
from ftkit.lessons import progress_log

CHOICES = 4


class Session:
    """A drill: cards that are due, longest overdue first, then up to `new` unseen ones.

    level, topic, own: see `cards.deck`. minutes: time limit; the current card may still be
    answered. now: the clock, replaced in tests. A card rated "again" returns in the same session
    when it is due. Raises UserError for an unusable number, and if no card fits.
    """

    def __init__(self, level=None, topic=None, new: int = 10, store: cards.Store | None = None,
                 now: Callable[[], datetime] | None = None, minutes: float | None = None,
                 own: str | Path | None = None, grader: Grader | None = None):
        if isinstance(new, bool) or not isinstance(new, int) or new < 0:
            raise UserError(f"new is {new!r}; expected a whole number of new cards, 0 or more")
        if minutes is not None and (isinstance(minutes, bool) or not 0 < minutes <= 24 * 60):
            raise UserError(f"minutes is {minutes!r}; expected a number above 0, at most 1440")
        self.store, self.grader = store or cards.Store(), grader
        self.now = now or (lambda: datetime.now(UTC))
        self.deck = {card.key: card for card in cards.deck(level, topic, own)}
        self.new_left, self.done, self.right = new, 0, 0
        self.minutes, self.started = minutes, self.now()
        self.rated: list[tuple[dict, bool, bool]] = []  # what undo needs: review, new, counted
        self.next()

    def next(self, first: str | None = None):
        """Choose the next card (`first` if given). The session is over when no card is due or the
        time is up."""
        scheduled, now = self.store.due(), self.now()
        deck = self.deck.keys() - set(self.store.suspended())
        overdue = sorted((scheduled[key].due, key) for key in deck
                         if key in scheduled and scheduled[key].due <= now)
        unseen = [key for key in self.deck if key in deck and key not in scheduled]
        self.queue = [key for _, key in overdue] + unseen[: self.new_left]
        if first is not None:
            self.queue = [first, *(key for key in self.queue if key != first)]
        elif self.seconds_left() == 0:
            self.queue = []
        self.counted = False  # whether the answer to this card went into `calibration`
        self.is_new = not self.over and self.queue[0] not in scheduled
        self.verdict: bool | None = None  # None until the card is answered, and for recall
        self.own = ""  # what the learner answered
        self.heard = Heard(())
        self.confidence: float | None = None  # 0 to 1
        self.options = self._shuffled_options()

    def seconds_left(self) -> float | None:
        """Seconds left; None without a time limit."""
        if self.minutes is None:
            return None
        return max(0.0, 60 * self.minutes - (self.now() - self.started).total_seconds())

    # ------------------------------------------------------------------ the card being asked

    @property
    def over(self) -> bool:
        """Whether no card is left."""
        return not self.queue

    @property
    def card(self) -> cards.FlashCard:
        """The card being asked. Raises UserError when the session is over."""
        if self.over:
            raise UserError("no card is due. Try again later.")
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
        """The number that the card asks for, if any."""
        return self.question.number if self.question else None

    @property
    def kind(self) -> str:
        """How the card asks: number, choice, or recall (say it, then look)."""
        return self.question.kind if self.question else "recall"

    @property
    def unit(self) -> str:
        """The unit of the number asked for; empty if it has none."""
        return self.number["unit"] if self.number else ""

    def number_prompt(self) -> str:
        """The sentence that asks for the number and shows its givens; empty without a number."""
        if self.number is None:
            return ""
        given = number_answer.givens(self.number)
        return " ".join(filter(None, [self.number["ask"], f"Given: {given}." if given else "",
                                      f"Answer in {self.unit}." if self.unit else ""]))

    def _shuffled_options(self) -> list[str]:
        """The options of a choice in random order."""
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
        """Judge a typed number, or the number of an option (from 1). Returns (right, comment).

        The first answer to a card is logged with its confidence (0 to 1). Raises UserError if the
        text is not such a number.
        """
        right, comment, text, actual = self.judge(text)
        if self.verdict is None:
            self.own, self.verdict, self.confidence = text, right, confidence
            self._score(actual, right)
        return right, comment

    def judge(self, text) -> tuple[bool, str, str, str]:
        """Judge an answer without logging it. Returns (right, comment, answer, right answer)."""
        question = self.card.question
        if question is None or question.kind == "recall":
            raise UserError("this card asks for recall and cannot be judged. Say the answer, look, "
                            "and rate yourself.")
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
        return right, comment, str(text), actual

    def recall(self, text: str, confidence: float | None = None):
        """Store what was typed on a recall card, further words of it too, and the confidence (0 to
        1). `heard` has the points to tick; an own card has none."""
        self.own = "; ".join(filter(None, [self.own, text]))
        self.confidence = self.confidence if confidence is None else confidence
        self._hear(None)

    def show_rubric(self):
        """Make `heard`, with the grader's verdicts, also where nothing was typed; an own card has
        no points."""
        self._hear(self.grader)

    def _hear(self, grader: Grader | None):
        if self.question and self.kind == "recall":
            question = self.question
            self.heard = agreement.listen(grader, question.question, rubrics.points(question),
                                          self.own, f"{question.short} {question.answer}")

    def doubts(self) -> list[str]:
        """Misconceptions that the card lists and the typed answer seems to have."""
        return misconceptions(self.question, self.own) if self.question else []

    def _score(self, actual: str, right: bool):
        """Log an answer for the calibration, once per card even if `undo` asks it again."""
        if not self.counted:
            self.counted = True
            progress_log.add("score", question=self.card.front, guess=self.own, actual=actual,
                             right=right, confidence=self.confidence, topic=self.card.topic,
                             source="drill")

    def suggested(self) -> int:
        """The rating to propose. Judged cards: "good" if right, else "again". Recall: "good" from
        three quarters of the rubric's weight on, "hard" from 0.4 on; without a rubric by whether
        something was typed."""
        if self.verdict is not None or not self.heard.points:
            own_card = self.question is None and bool(self.own)
            return 3 if self.verdict or own_card else 1
        score = self.heard.score()
        return 3 if score >= 0.75 else 2 if score >= 0.4 else 1

    def rate(self, rating: int) -> str:
        """Log the review and choose the next card; returns a sentence with the next due date.

        Raises OSError if the review cannot be written; the card then stays.
        """
        card, now = self.card, self.now()
        review = self.store.add(card.key, rating, now, right=self.verdict, topic=card.topic)
        if self.verdict is None and self.confidence is not None:
            self._score("", self.heard.score() >= 0.5 if self.heard.points else rating > 1)
        self.rated.append((review, self.is_new, self.counted))
        self.new_left -= self.is_new
        self.done += 1
        self.right += rating > 1
        wait = self.store.due()[card.key].due - now
        self.next()
        return f"{cards.RATINGS[rating]}: back in {format_wait(wait)}"

    def undo(self) -> str:
        """Take back the last rating of this session, with what it told the calibration, and ask the
        same card again. What a judged card said of the first answer stays.

        Raises UserError if nothing was rated.
        """
        if not self.rated:
            raise UserError("no card was rated in this session, so there is nothing to undo")
        review, was_new, counted = self.rated[-1]
        self.store.undo(review)
        self.rated.pop()
        self.new_left += was_new
        self.done -= 1
        self.right -= review["rating"] > 1
        self.next(review["card"])
        self.counted = counted and review["right"] is not None
        if counted and not self.counted:  # the learner's ticks decided what was right
            progress_log.add("unscore", question=self.card.front, topic=self.card.topic)
        return f"undone: {cards.RATINGS[review['rating']]}. The same card again"

    def suspend(self) -> str:
        """Suspend the current card until `resume`."""
        key = self.card.key
        self.store.suspend(key)
        self.next()
        return f"suspended: {key}; it is not asked until you bring it back"

    def suspended(self) -> list[cards.FlashCard]:
        """The cards of this deck that are suspended."""
        return [self.deck[key] for key in self.store.suspended() if key in self.deck]

    def resume(self, key: str) -> str:
        """Bring a suspended card back. Raises UserError for a card that is not suspended."""
        resume(key, self.store)
        current = None if self.over else self.queue[0]
        if current is None:
            self.next()
        return f"{key} is asked again when it is due"

    def _nothing_due(self) -> str:
        """A sentence that says when the next card of this deck is due."""
        scheduled = self.store.due()
        waiting = self.deck.keys() & scheduled.keys() - set(self.store.suspended())
        if not waiting:
            return "Nothing more is due: try again later."
        wait = min(scheduled[key].due for key in waiting) - self.now()
        return f"Nothing more is due; the next card returns in {format_wait(wait)}."

    def progress(self) -> str:
        """One line: how many cards are done, and the topic and level of the current one."""
        left = self.seconds_left()
        if self.over:
            why = "The time is over." if left == 0 else self._nothing_due()
            return f"{count_cards(self.done)} done. {why}"
        clock = "" if left is None else f"{format_wait(timedelta(seconds=left))} left"
        parts = [f"card {self.done + 1} of {self.done + len(self.queue)}", clock, self.card.topic,
                 self.card.level, "new" if self.is_new else ""]
        return " · ".join(part for part in parts if part)


def count_cards(count: int) -> str:
    """`1 card`, `2 cards`."""
    return "1 card" if count == 1 else f"{count} cards"


def resume(key: str, store: cards.Store):
    """Bring a suspended card back. Raises UserError for a card that is not suspended."""
    suspended = store.suspended()
    if key not in suspended:
        raise UserError(f"no suspended card is called {key!r}; suspended: "
                        + (", ".join(suspended) or "none"))
    store.suspend(key, False)


def parse_confidence(text: str) -> float | None:
    """A typed confidence as a fraction: `70`, `70 %` and `0.7` are 0.7; an empty text is None.

    Raises UserError for anything else.
    """
    text = text.strip()
    if not text:
        return None
    try:
        value = float(text.removesuffix("%").strip())
    except ValueError:
        value = -1.0
    if text.endswith("%") or value >= 1:
        value /= 100
    if not 0 <= value <= 1:
        raise UserError(f"{text[:40]!r} is not a confidence; expected a number from 0 to 100, such "
                        "as 70, or nothing")
    return value


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
