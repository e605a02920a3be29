"""Flash cards: the reviews so far in one file, and when each card is due by FSRS.

    store = Store(); store.add("states-7b", rating=3); store.due()["states-7b"]

The file, `home()/drill.jsonl`, is a log: one line a review, appended under a lock and on the disk
before `add` returns, so a crash loses nothing that was acknowledged. When a card is due follows by
replaying its reviews through the `fsrs` package, without its random fuzz. Lines that cannot be read
are put aside in a file of their own and told; the others go on to count.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import html
import json
import os
import sys
import zlib
from datetime import UTC, datetime
from pathlib import Path

from ftkit.base import append_log, files, json_lines, machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean
from ftkit.interview import bank
from ftkit.lessons import progress_log

RATINGS = {1: "again", 2: "hard", 3: "good", 4: "easy"}


class Store:
    """The reviews in `path` (default: `home()/drill.jsonl`); several processes may use it."""

    def __init__(self, path: str | Path | None = None):
        self.path = Path(path) if path else machine.home() / "drill.jsonl"

    def add(self, card: str, rating: int, at: datetime | None = None, **facts) -> dict:
        """Append one review and wait until it is on the disk; returns what was written.

        rating: 1 again, 2 hard, 3 good, 4 easy. at: aware time, default now. facts: kept beside.
        Raises ValueError for a rating that is none, OSError where nothing can be written.
        """
        if isinstance(rating, bool) or rating not in RATINGS:
            raise UserError(f"rating is {rating!r}; expected 1 again, 2 hard, 3 good or 4 easy")
        at = (at or datetime.now(UTC)).astimezone(UTC)
        entry = {"id": os.urandom(8).hex(), "at": at.isoformat(), "card": str(card),
                 "rating": int(rating), **facts}
        with self._locked():
            append_log.append(self.path, json.dumps(entry, default=str) + "\n")
        return entry

    def reviews(self) -> list[dict]:
        """Every review that can be read, by time; damaged lines are put aside and told."""
        if not self.path.exists():
            return []
        with self._locked():
            raw = self.path.read_bytes()
            entries = json_lines.parse(raw)
            good = [entry for entry in entries if entry is not None and _is_review(entry)]
            if len(good) < len(entries):
                self._put_aside(raw, good, len(entries) - len(good))
        return sorted({entry["id"]: entry for entry in good}.values(), key=lambda e: e["at"])

    def due(self) -> dict:
        """card → fsrs.Card after all its reviews."""
        return replay(self.reviews())

    @contextlib.contextmanager
    def _locked(self):
        """Alone with the file. The lock is a file of its own, since repairing replaces the log."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_suffix(".lock"), "ab") as lock:
            append_log.lock(lock.fileno())
            yield

    def _put_aside(self, raw: bytes, good: list[dict], bad: int):
        name = f"{self.path.stem}-damaged-{hashlib.sha256(raw).hexdigest()[:8]}.jsonl"
        aside = self.path.with_name(name)
        files.write_whole(aside, raw)
        files.write_whole(self.path, b"".join(json.dumps(e).encode() + b"\n" for e in good))
        lines = f"{bad} line{'s' * (bad > 1)} of {self.path.name}"
        print(f"ftkit: {lines} could not be read; the file as it was is kept as {aside}, the "
              f"{len(good)} other reviews are in place", file=sys.stderr)


def _is_review(entry: dict) -> bool:
    try:
        at = datetime.fromisoformat(entry["at"])
        return (at.tzinfo is not None and isinstance(entry["card"], str)
                and isinstance(entry["id"], str) and entry["rating"] in RATINGS
                and not isinstance(entry["rating"], bool))
    except (ValueError, KeyError, TypeError):
        return False


def replay(reviews: list[dict]) -> dict:
    """card → fsrs.Card, by giving each review to the scheduler of the fsrs package."""
    from fsrs import Card, Rating, Scheduler

    scheduler, made = Scheduler(enable_fuzzing=False), {}
    for review in reviews:
        key, at = review["card"], datetime.fromisoformat(review["at"]).astimezone(UTC)
        card = made.get(key) or Card(card_id=zlib.crc32(key.encode()), due=at)
        made[key], _ = scheduler.review_card(card, Rating(review["rating"]), review_datetime=at)
    return made


# ------------------------------------------------------------------------------- the deck


@dataclasses.dataclass(frozen=True)
class Flash:
    """One card. `question` is its entry in the bank; None for one made of the learner's misses."""

    key: str
    topic: str
    level: str
    front: str
    back: str
    lesson: str = ""
    question: bank.Question | None = None


def deck(level=None, topic=None) -> list[Flash]:
    """Cards of the learner's own misses, then the bank's, of these levels and topics."""
    known = {"misses": "your misses"}
    if isinstance(topic, str) and topic.lower() in known | {"your misses": ""}:
        return misses()
    chosen = [Flash(q.id, q.topic, q.level, q.question, q.answer, q.lesson, q)
              for q in bank.questions(level, topic)]
    return (misses() if level is None and topic is None else []) + chosen


def misses() -> list[Flash]:
    """A card for each exercise, prediction and bug of the lessons that was got wrong."""
    found: dict[str, Flash] = {}
    for entry in progress_log.entries():
        made = _miss(entry)
        if made:
            found[made.key] = made
    return list(found.values())


def _miss(entry: dict) -> Flash | None:
    kind, wrong = entry.get("kind"), entry.get("right") is False
    say = {name: clean(cell(entry.get(name)))[:600] for name in (
        "name", "message", "question", "guess", "actual", "case", "told")}
    if kind == "check" and entry.get("state") == "wrong":
        return Flash(f"exercise:{say['name']}", "your misses", "", f"Exercise {say['name']}: what "
                     "was wrong with your solution?", say["message"])
    if kind == "score" and wrong and entry.get("source") != "drill":
        key = f"prediction:{zlib.crc32(say['question'].encode()):08x}"
        return Flash(key, "your misses", "", say["question"],
                     f"It came out as {say['actual']}; your guess was {say['guess']}.")
    if kind == "bug" and wrong:
        return Flash(f"bug:{say['case']}", "your misses", "", f"Bug hunt, case {say['case']}: you "
                     f"named {say['guess']}, which it was not. What would tell them apart?",
                     say["told"] or "Open the case again and name the measure that decides.")
    return None


# --------------------------------------------------------------------------------- export


def export(path: str | Path, level=None, topic=None, store: Store | None = None) -> int:
    """Write the deck to a .json file, or to a .csv file that Anki imports; returns the cards.

    CSV: front, back, tags, separated as its first lines tell Anki, text escaped as HTML. JSON: the
    cards with their schedule and reviews.
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
                writer.writerow([html.escape(clean(f.front)), html.escape(clean(f.back)), tags])
    else:
        raise UserError(f"export to {path.name!r}; expected a name that ends in .csv or .json")
    return len(flashes)


def by_topic(flashes: list[Flash], store: Store) -> list[dict]:
    """Per topic: cards, seen, due now, and the share of reviews that were not "again"."""
    due, now, rows = store.due(), datetime.now(UTC), {}
    where = {f.key: f.topic for f in flashes}
    for f in flashes:
        row = rows.setdefault(f.topic, {"topic": f.topic, "cards": 0, "seen": 0, "due": 0})
        row["cards"] += 1
        row["seen"] += f.key in due
        row["due"] += f.key in due and due[f.key].due <= now
    known: dict[str, list] = {}
    for review in store.reviews():
        if review["card"] in where:
            known.setdefault(where[review["card"]], []).append(review["rating"] > 1)
    for topic, right in known.items():
        rows[topic]["known"] = f"{sum(right) / len(right):.0%} of {len(right)}"
    return list(rows.values())
