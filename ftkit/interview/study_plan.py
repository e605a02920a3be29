"""A study plan: what to do on each day until an interview.

    ft.progress("interview", days=14, minutes=45)
    ftkit drill --plan 14 --minutes 45

A third of each day is for cards: first those that will be due on it by FSRS if all are known, then
new ones, of the topics first in which the last answers, in drill and mock interview, were worst.
The rest is for the open lessons of the path, in order. Every week has a clinic, a design and a
story round; every seventh day and the last one have a mock interview instead of a lesson.
"""

import collections
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from ftkit.base.errors import UserError
from ftkit.base.formatting import to_html
from ftkit.interview import bank, cards, paths
from ftkit.lessons import progress_log

CARD_MINUTES = 1.5  # for one card: to answer it, and to read its key
INTERVIEW_MINUTES = 30
MOCK_EVERY = 7  # days
PRACTICE = {2: ("clinic", 15), 4: ("design round", 35), 5: ("story round", 10)}  # day of a week
COMMANDS = {"clinic": "--clinic", "design round": "--interview --rounds design",
            "story round": "--interview --rounds story"}
LIMITS = {"days": (1, 365), "minutes": (10, 600)}


class Plan:
    """The days of a plan; displays itself as text. days: a list of {"date", "cards", "due",
    "lessons": [(number, minutes)], "practice": (round, minutes) or None, "interview": minutes};
    left: lessons that do not fit."""

    def __init__(self, view: paths.View, store: cards.Store, days: int, minutes: int,
                 now: datetime | None = None):
        for name, given in (("days", days), ("minutes", minutes)):
            low, high = LIMITS[name]
            if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
                raise UserError(f"{name} is {given!r}; expected a whole number from {low} to "
                                f"{high}")
        now = now or datetime.now(UTC)
        self.minutes, self.weak = minutes, weak_topics(store.reviews(),
                                                       progress_log.entries())
        boxes = list(store.due().values())
        queue = collections.deque((step.lesson, step.minutes) for step in view.open)
        self.days = []
        for i in range(days):
            date = now + timedelta(days=i)
            day = _day(i, days, minutes, queue)
            self.days.append(day | {"date": date.date(), "due": _review(
                boxes, int(day["cards"] / CARD_MINUTES), date)})
        self.left = [lesson for lesson, _ in queue]

    def lines(self) -> list[str]:
        total = f"{len(self.days)} days of {self.minutes} minutes"
        said = [f"{total}, until {self.days[-1]['date']}."]
        if self.weak:
            said.append(f"Weak so far: {', '.join(self.weak)} (ftkit drill --topic NAME).")
        if any(day["practice"] for day in self.days):
            said.append("Rounds: " + ", ".join(f"{name} `ftkit drill {options}`" for name, options
                                               in COMMANDS.items()) + ".")
        if self.left:
            said.append(f"No time to finish lessons {', '.join(self.left)}: add days or minutes, "
                        "or see what you know already with ft.placement().")
        return said + [f"{day['date']:%a %Y-%m-%d}: {_words(day)}" for day in self.days]

    def __repr__(self):
        return "\n".join(self.lines())

    def _repr_html_(self):
        return "".join(f"<div>{to_html(line)}</div>" for line in self.lines())


def _review(boxes: list, count: int, date: datetime) -> int:
    """Review up to `count` cards that are due within a day, and fill up with new ones, all known;
    returns how many were due. boxes: fsrs cards, changed in place."""
    from fsrs import Card, Rating, Scheduler

    scheduler, known = Scheduler(enable_fuzzing=False), len(bank.everything())
    due = sorted((i for i, card in enumerate(boxes) if card.due < date + timedelta(days=1)),
                 key=lambda i: boxes[i].due)
    new = max(0, min(count - len(due), known - len(boxes)))
    boxes += [Card(card_id=len(boxes) + i, due=date) for i in range(new)]
    for i in [*due[:count], *range(len(boxes) - new, len(boxes))]:
        for _ in range(2 if boxes[i].last_review is None else 1):  # a new card comes twice a day
            boxes[i], _ = scheduler.review_card(boxes[i], Rating.Good, review_datetime=date)
    return len(due)


def _day(i: int, days: int, minutes: int, queue: collections.deque) -> dict:
    """What day `i` has; takes its lessons from the queue of (lesson, minutes that it needs)."""
    mock = i == days - 1 or i % MOCK_EVERY == MOCK_EVERY - 1
    interview = min(INTERVIEW_MINUTES, minutes * 2 // 3) if mock else 0
    rest = minutes - interview - (for_cards := minutes - interview if mock else minutes // 3)
    name, needed = PRACTICE.get(i % MOCK_EVERY, ("", 0))
    practice = (name, min(needed, rest)) if name and rest else None
    rest -= practice[1] if practice else 0
    lessons = []
    while rest and queue:
        lesson, needed = queue.popleft()
        lessons.append((lesson, spent := min(rest, needed)))
        rest -= spent
        if needed > spent:
            queue.appendleft((lesson, needed - spent))
    return {"cards": for_cards + rest, "lessons": lessons, "practice": practice,
            "interview": interview}


def _words(day: dict) -> str:
    count = int(day["cards"] / CARD_MINUTES)
    new = max(0, count - day["due"])
    parts = [f"cards {day['cards']} min ({min(day['due'], count)} due, {new} new)"]
    parts += [f"{lesson if lesson == 'tour' else f'lesson {lesson}'} {minutes} min"
              for lesson, minutes in day["lessons"]]
    parts += [f"{day['practice'][0]} {day['practice'][1]} min"] if day["practice"] else []
    if day["interview"]:
        parts.append(f"mock interview {day['interview']} min")
    return ", ".join(parts)


def weak_topics(reviews: list[dict], entries: Iterable[dict] = (), most: int = 3) -> list[str]:
    """Topics of the bank in which most cards were not known when last asked, worst first; at least
    two cards of a topic, and half of those asked. A question of a mock interview, in the entries of
    the progress log, counts as two cards."""
    topics = {question.id: question.topic for question in bank.questions()}
    last = {review["card"]: review["rating"] for review in reviews  # sorted by time
            if review.get("source") != "interview"}
    asked = collections.Counter(topics[card] for card in last if card in topics)
    missed = collections.Counter(topics[card] for card, rating in last.items()
                                 if card in topics and rating <= 2)
    talked = {entry.get("question"): entry for entry in entries if entry.get("kind") == "interview"}
    for entry in talked.values():
        if (topic := str(entry.get("topic"))) in bank.topics():
            asked[topic] += 2
            missed[topic] += 2 * (float(entry.get("score") or 0) < 0.5)
    weak = [topic for topic, count in missed.items() if count >= 2 and count * 2 >= asked[topic]]
    return sorted(weak, key=lambda topic: (-missed[topic] / asked[topic], -missed[topic]))[:most]
