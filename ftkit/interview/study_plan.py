"""A study plan: what to do on each day until an interview.

    ft.progress("interview", days=14, minutes=45)
    ftkit drill --plan 14 --minutes 45

A third of each day is for cards: first those that are due on it by FSRS, then new ones, of the
topics first in which the last answers were worst. The rest is for the open lessons of the path, in
order. Every seventh day and the last one have a mock interview instead of a lesson.
"""

import collections
from datetime import UTC, datetime, timedelta

from ftkit.base.errors import UserError
from ftkit.base.formatting import to_html
from ftkit.interview import bank, cards, paths

CARD_MINUTES = 1.5  # for one card: to answer it, and to read its key
INTERVIEW_MINUTES = 30
MOCK_EVERY = 7  # days
LIMITS = {"days": (1, 365), "minutes": (10, 600)}


class Plan:
    """The days of a plan; displays itself as text. days: a list of {"date", "cards", "due",
    "lessons": [(number, minutes)], "interview": minutes}; left: lessons that do not fit."""

    def __init__(self, view: paths.View, store: cards.Store, days: int, minutes: int,
                 now: datetime | None = None):
        for name, given in (("days", days), ("minutes", minutes)):
            low, high = LIMITS[name]
            if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
                raise UserError(f"{name} is {given!r}; expected a whole number from {low} to "
                                f"{high}")
        now = now or datetime.now(UTC)
        self.minutes, self.weak = minutes, weak_topics(store.reviews())
        dates = [card.due for card in store.due().values()]
        queue = collections.deque((step.lesson, step.minutes) for step in view.open)
        self.days = []
        for i in range(days):
            date = now + timedelta(days=i)
            due = sum((d - date).days < 1 if i == 0 else (d - date).days == 0 for d in dates)
            self.days.append(_day(i, days, minutes, due, queue) | {"date": date.date()})
        self.left = [lesson for lesson, _ in queue]

    def lines(self) -> list[str]:
        total = f"{len(self.days)} days of {self.minutes} minutes"
        said = [f"{total}, until {self.days[-1]['date']}."]
        if self.weak:
            said.append(f"Weak so far: {', '.join(self.weak)} (ftkit drill --topic NAME).")
        if self.left:
            said.append(f"No time to finish lessons {', '.join(self.left)}: add days or minutes, "
                        "or see what you know already with ft.placement().")
        return said + [f"{day['date']:%a %Y-%m-%d}: {_words(day)}" for day in self.days]

    def __repr__(self):
        return "\n".join(self.lines())

    def _repr_html_(self):
        return "".join(f"<div>{to_html(line)}</div>" for line in self.lines())


def _day(i: int, days: int, minutes: int, due: int, queue: collections.deque) -> dict:
    """What day `i` has; takes its lessons from the queue of (lesson, minutes that it needs)."""
    mock = i == days - 1 or i % MOCK_EVERY == MOCK_EVERY - 1
    interview = min(INTERVIEW_MINUTES, minutes * 2 // 3) if mock else 0
    rest = minutes - interview - (for_cards := minutes - interview if mock else minutes // 3)
    lessons = []
    while rest and queue:
        lesson, needed = queue.popleft()
        lessons.append((lesson, spent := min(rest, needed)))
        rest -= spent
        if needed > spent:
            queue.appendleft((lesson, needed - spent))
    return {"cards": for_cards + rest, "due": due, "lessons": lessons, "interview": interview}


def _words(day: dict) -> str:
    count = int(day["cards"] / CARD_MINUTES)
    new = max(0, count - day["due"])
    parts = [f"cards {day['cards']} min ({min(day['due'], count)} due, {new} new)"]
    parts += [f"{lesson if lesson == 'tour' else f'lesson {lesson}'} {minutes} min"
              for lesson, minutes in day["lessons"]]
    if day["interview"]:
        parts.append(f"mock interview {day['interview']} min")
    return ", ".join(parts)


def weak_topics(reviews: list[dict], most: int = 3) -> list[str]:
    """Topics of the bank in which most cards were not known when last asked, worst first; at least
    two cards of a topic, and half of those asked."""
    topics = {question.id: question.topic for question in bank.questions()}
    last = {review["card"]: review["rating"] for review in reviews}  # sorted by time
    asked = collections.Counter(topics[card] for card in last if card in topics)
    missed = collections.Counter(topics[card] for card, rating in last.items()
                                 if card in topics and rating <= 2)
    weak = [topic for topic, count in missed.items() if count >= 2 and count * 2 >= asked[topic]]
    return sorted(weak, key=lambda topic: (-missed[topic] / asked[topic], -missed[topic]))[:most]
