"""Flash cards: the log of reviews, when each card is due by FSRS, and the deck.

    store = Store(); store.add("states-7b", rating=3); store.due()["states-7b"]

The log, `home()/drill.jsonl`, has one line for each review. A line is on disk before `add` returns,
so a crash loses nothing that was acknowledged, and no line is ever changed. When a card is due
follows by replaying its reviews through the `fsrs` package, without its random fuzz.
"""

from __future__ import annotations

import csv
import dataclasses
import html
import json
import os
import sys
import zlib
from datetime import UTC, datetime
from pathlib import Path

from ftkit.base import append_log, json_lines, machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean
from ftkit.interview import bank, number_answer
from ftkit.lessons import progress_log

RATINGS = {1: "again", 2: "hard", 3: "good", 4: "easy"}


class Store:
    """The reviews in `path` (default: `home()/drill.jsonl`); several processes may use it."""

    def __init__(self, path: str | Path | None = None):
        self.path = Path(path) if path else machine.home() / "drill.jsonl"
        self.warned = False

    def add(self, card: str, rating: int, at: datetime | None = None, **facts) -> dict:
        """Append one review and wait until it is on disk; returns what was written.

        rating: 1 again, 2 hard, 3 good, 4 easy. at: aware time, default now. facts: logged with it.
        Raises UserError for another rating, OSError where nothing can be written.
        """
        if isinstance(rating, bool) or rating not in RATINGS:
            raise UserError(f"rating is {rating!r}; expected 1 again, 2 hard, 3 good or 4 easy")
        at = (at or datetime.now(UTC)).astimezone(UTC)
        entry = {"id": os.urandom(8).hex(), "at": at.isoformat(), "card": str(card),
                 "rating": int(rating), **facts}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_log.append(self.path, json.dumps(entry, default=str) + "\n")
        return entry

    def reviews(self) -> list[dict]:
        """Every review, by time; damaged lines are left out and reported once."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            append_log.lock(file.fileno())  # not in the middle of another process's line
            entries = json_lines.parse(file.read())
        reviews = [entry for entry in entries if entry is not None and _is_review(entry)]
        if len(reviews) < len(entries) and not self.warned:
            self.warned = True
            print(f"ftkit: {len(entries) - len(reviews)} of {len(entries)} lines in {self.path} "
                  "could not be read; the other reviews count", file=sys.stderr)
        unique = {review["id"]: review for review in reviews}
        return sorted(unique.values(), key=lambda review: review["at"])

    def due(self) -> dict:
        """Key of a card → fsrs.Card after all its reviews."""
        return replay(self.reviews())


def _is_review(entry: dict) -> bool:
    try:
        at = datetime.fromisoformat(entry["at"])
        return (at.tzinfo is not None and isinstance(entry["card"], str)
                and isinstance(entry["id"], str) and entry["rating"] in RATINGS
                and not isinstance(entry["rating"], bool))
    except (ValueError, KeyError, TypeError):
        return False


def replay(reviews: list[dict]) -> dict:
    """Key of a card → fsrs.Card, by giving each review to the scheduler of the fsrs package."""
    from fsrs import Card, Rating, Scheduler

    scheduler, schedule = Scheduler(enable_fuzzing=False), {}
    for review in reviews:
        key, at = review["card"], datetime.fromisoformat(review["at"]).astimezone(UTC)
        card = schedule.get(key) or Card(card_id=zlib.crc32(key.encode()), due=at)
        schedule[key], _ = scheduler.review_card(card, Rating(review["rating"]),
                                                 review_datetime=at)
    return schedule


# ------------------------------------------------------------------------------- the deck


@dataclasses.dataclass(frozen=True)
class FlashCard:
    """One card. `question` is its entry in the bank; None for a card of the learner's misses."""

    key: str
    topic: str
    level: str
    front: str
    back: str
    question: bank.Question | None = None

    def solution(self, own: str = "") -> list[str]:
        """The back as lines: the learner's own answer, the key sentence, the answer, the formula
        of a number, wrong answers, follow-ups, sources."""
        lines, question = [f"Your answer: {own}"] if own else [], self.question
        if question is None:
            return [*lines, self.back]
        lines += [f"In short: {question.short}", self.back]
        if asked := question.number:
            lines.append(number_answer.formula(asked))
        if question.measured_here:
            lines.append(f"Measured here (2M parameters): {question.measured_here}")
        wrong = question.choice["wrong"] if question.choice else question.wrong
        lines += [f"✗ {w['answer']} — {w['why']}" for w in wrong]
        lines += [f"? {f['question']} — {f['answer']}" for f in question.follow_ups]
        return [*lines, f"Lesson {question.lesson} · " + "; ".join(question.sources)]


def deck(level=None, topic=None) -> list[FlashCard]:
    """Cards of the learner's own misses, then the bank's, of these levels and topics; the topics
    take turns."""
    if isinstance(topic, str) and topic.lower() in ("misses", "your misses"):
        return misses()
    chosen = [FlashCard(q.id, q.topic, q.level, q.question, q.answer, q)
              for q in bank.take_turns(bank.questions(level, topic))]
    return misses() + chosen if level is None and topic is None else chosen


def misses() -> list[FlashCard]:
    """A card for each exercise, prediction and bug of the lessons that was answered wrong and not
    solved since."""
    missed: dict[str, FlashCard] = {}
    for entry in progress_log.entries():
        if card := _attempt(entry):
            missed.pop(card.key, None)
            if entry.get("right") is False or entry.get("state") == "wrong":
                missed[card.key] = card
    return list(missed.values())


def _attempt(entry: dict) -> FlashCard | None:
    """The card of an attempt in the progress log; None for an entry of another kind."""
    text = {name: clean(cell(entry.get(name)))[:600] for name in (
        "name", "message", "question", "guess", "actual", "case", "told")}
    kind = entry.get("kind")
    if kind == "check" and entry.get("state") in ("wrong", "solved"):
        key = f"exercise:{text['name']}"
        front = f"Exercise {text['name']}: what was wrong with your solution?"
        back = text["message"]
    elif kind == "score" and entry.get("source") != "drill":
        key = f"prediction:{zlib.crc32(text['question'].encode()):08x}"
        front = text["question"]
        back = f"The result was {text['actual']}; your guess was {text['guess']}."
    elif kind == "bug":
        key = f"bug:{text['case']}"
        front = (f"Bug hunt, case {text['case']}: you named {text['guess']}, which was wrong. "
                 "What would distinguish it from the right cause?")
        back = text["told"] or "Open the case again and name the measure that decides."
    else:
        return None
    return FlashCard(key, "your misses", "", front, back)


# --------------------------------------------------------------------------------- export


def export(path: str | Path, level=None, topic=None, store: Store | None = None) -> int:
    """Write the deck to a .json file, or to a .csv file that Anki imports; returns how many cards.

    CSV: front, whole back, tags, text escaped as HTML; its first lines give Anki the format. JSON:
    the cards with their schedule and reviews. Raises UserError for another file type.
    """
    path, flashes = Path(path), deck(level, topic)
    store = store or Store()
    if path.suffix.lower() == ".json":
        due, reviews = store.due(), store.reviews()
        cards = [{"key": f.key, "topic": f.topic, "level": f.level, "front": f.front,
                  "back": f.back, "due": due[f.key].due.isoformat() if f.key in due else None}
                 for f in flashes]
        path.write_text(json.dumps({"cards": cards, "reviews": reviews}, ensure_ascii=False,
                                   indent=1), encoding="utf-8")
    elif path.suffix.lower() == ".csv":
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write("#separator:Comma\n#html:true\n#tags column:3\n")
            writer = csv.writer(file)
            for f in flashes:
                tags = " ".join(t.replace(" ", "-") for t in ("ftkit", f.topic, f.level) if t)
                back = "<br>".join(html.escape(clean(line)) for line in f.solution())
                writer.writerow([html.escape(clean(f.front)), back, tags])
    else:
        raise UserError(f"export to {path.name!r}; expected a name that ends in .csv or .json")
    return len(flashes)


def by_topic(flashes: list[FlashCard], store: Store) -> list[dict]:
    """Per topic: cards, seen, due now, and the percentage of reviews that were not "again"."""
    schedule, reviews, now = store.due(), store.reviews(), datetime.now(UTC)
    rows = []
    for topic in dict.fromkeys(card.topic for card in flashes):
        keys = {card.key for card in flashes if card.topic == topic}
        seen = keys & schedule.keys()
        row = {"topic": topic, "cards": len(keys), "seen": len(seen),
               "due": sum(schedule[key].due <= now for key in seen)}
        known = [review["rating"] > 1 for review in reviews if review["card"] in keys]
        if known:
            row["known"] = f"{sum(known) / len(known):.0%} of {len(known)}"
        rows.append(row)
    return rows
