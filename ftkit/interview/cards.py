"""Flash cards: the log of reviews, when each card is due by FSRS, and the deck.

    store = Store(); store.add("states-7b", rating=3); store.due()["states-7b"]

The log, `home()/drill.jsonl`, has one line for each review. A line is on disk before `add` returns,
so a crash loses no acknowledged review. Lines are never changed: undoing a review or suspending a
card appends a line. Due dates are computed by replaying the reviews with the `fsrs` package (its
default parameters, without random fuzz).

A learner's own cards are lines of `home()/cards.jsonl`:

    {"front": "Our learning rate for LoRA?", "back": "2e-4", "topic": "work"}
    {"id": "states-7b", "back": "The answer to this card of the bank, in my own words."}
"""

import csv
import dataclasses
import io
import json
import os
import zlib
from datetime import UTC, datetime
from pathlib import Path

from ftkit.base import append_log, files, json_lines, machine, messages
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean, to_html
from ftkit.interview import bank, number_answer
from ftkit.lessons import progress_log

RATINGS = {1: "again", 2: "hard", 3: "good", 4: "easy"}
MEANINGS = {1: "did not know it", 2: "knew a part", 3: "knew it", 4: "could teach it"}
ALL_MEANINGS = ", ".join(f"{rating} {meaning}" for rating, meaning in MEANINGS.items())
MISSES, OWN = "your misses", "your cards"  # topics next to those of the bank


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
        return self._append(card, at, rating=int(rating), **facts)

    def undo(self, review: dict, at: datetime | None = None):
        """Take back a review that `add` returned; the log keeps both lines."""
        self._append(review["card"], at, undo=review["id"])

    def suspend(self, card: str, suspended: bool = True, at: datetime | None = None):
        """Suspend a card, or bring it back (suspended=False)."""
        self._append(card, at, suspended=suspended)

    def _append(self, card: str, at: datetime | None, **facts) -> dict:
        at = (at or datetime.now(UTC)).astimezone(UTC)
        entry = {"id": os.urandom(8).hex(), "at": at.isoformat(), "card": str(card), **facts}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_log.append(self.path, json.dumps(entry, default=str) + "\n")
        return entry

    def _entries(self) -> list[dict]:
        """All lines, sorted by time. Damaged lines are left out and reported once."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            append_log.lock(file.fileno())  # not in the middle of another process's line
            lines = json_lines.parse(file.read())
        entries = [entry for entry in lines if entry is not None and _is_entry(entry)]
        if len(entries) < len(lines) and not self.warned:
            self.warned = True
            messages.say(f"{len(lines) - len(entries)} of {len(lines)} lines in {self.path} could "
                         "not be read; the other reviews count")
        unique = {entry["id"]: entry for entry in entries}
        return sorted(unique.values(), key=lambda entry: entry["at"])

    def reviews(self) -> list[dict]:
        """All reviews that were not undone, sorted by time."""
        entries = self._entries()
        undone = {entry.get("undo") for entry in entries}
        return [entry for entry in entries if "rating" in entry and entry["id"] not in undone]

    def suspended(self) -> list[str]:
        """Keys of the suspended cards."""
        state = {entry["card"]: entry["suspended"] for entry in self._entries()
                 if "suspended" in entry}
        return [key for key, suspended in state.items() if suspended]

    def due(self) -> dict:
        """Map each card's key to its fsrs.Card after all its reviews."""
        return replay(self.reviews())


def _is_entry(entry: dict) -> bool:
    """Whether a line is a review, an undone review or a suspension, as `Store` writes them."""
    try:
        at = datetime.fromisoformat(entry["at"])
        if not 1970 < at.year < 2500:  # fsrs counts days from it
            return False
        kind = (isinstance(entry["undo"], str) if "undo" in entry else
                isinstance(entry["suspended"], bool) if "suspended" in entry else
                entry["rating"] in RATINGS and not isinstance(entry["rating"], bool))
        return (at.tzinfo is not None and isinstance(entry["card"], str)
                and isinstance(entry["id"], str) and kind)
    except (ValueError, KeyError, TypeError):
        return False


def replay(reviews: list[dict]) -> dict:
    """Map each card's key to its fsrs.Card after these reviews (sorted by time)."""
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
    """One card. `question` is its entry in the bank; None for a card of the learner's misses,
    and for an own card."""

    key: str
    topic: str
    level: str
    front: str
    back: str
    question: bank.Question | None = None

    def steps(self, own: str = "") -> list[list[str]]:
        """The back in steps of lines, each for one screen: the learner's own answer and the key
        sentence; the answer and the formula of a number; wrong answers; follow-ups; sources."""
        first, question = [f"Your answer: {own}"] if own else [], self.question
        if question is None:
            return [[*first, self.back]]
        answer = [self.back]
        if asked := question.number:
            answer.append(number_answer.formula(asked))
        if question.measured_here:
            answer.append(f"Measured here (2M parameters): {question.measured_here}")
        wrong = question.choice["wrong"] if question.choice else question.wrong
        return [
            [*first, f"In short: {question.short}"], answer,
            ["The other choices:" if question.choice else "Often said, but wrong:",
             *(f"✗ {w['answer']} — {w['why']}" for w in wrong)],
            ["Questions that may follow:",
             *(f"? {f['question']} — {f['answer']}" for f in question.follow_ups),
             f"Lesson {question.lesson} · " + "; ".join(question.sources)]]

    def solution(self, own: str = "") -> list[str]:
        """The whole back as lines, see `steps`."""
        return [line for step in self.steps(own) for line in step]


def deck(level=None, topic=None, own: str | Path | None = None) -> list[FlashCard]:
    """The cards of these levels and topics: the learner's misses, own cards, cards of the bank.

    An own card replaces the bank's card with the same id. The bank's lessons take turns.
    topic: one of the bank or an own card, "your misses" or "your cards". own: the file of own cards
    (default: `home()/cards.jsonl`). Raises UserError for an unknown level or topic, and if no card
    fits.
    """
    mine = own_cards(own)
    known = dict.fromkeys([*bank.topics(), MISSES, OWN, *(card.topic for card in mine)])
    topics = bank.names("topic", topic, known)
    levels = bank.names("level", level, bank.LEVELS)
    reworded = {card.key for card in mine}
    of_bank = [q for q in bank.everything()
               if q.topic in topics and q.level in levels and q.id not in reworded]
    chosen = [FlashCard(q.id, q.topic, q.level, q.question, q.answer, q)
              for q in bank.take_turns(of_bank, "lesson")]
    mine = [card for card in mine if OWN in topics or card.topic in topics]
    mine = (misses() if MISSES in topics else []) + mine
    found = [card for card in mine if not level or card.level in levels] + chosen
    if not found:
        raise UserError(_why_empty(levels, topics))
    return found


def _why_empty(levels: list[str], topics: list[str]) -> str:
    """A message that no card fits, with the levels and topics that exist."""
    exist = []
    for topic in topics:
        if topic == MISSES:
            exist.append("your misses are empty: nothing was answered wrong in the lessons")
        elif topic in bank.topics():
            counts = [(level, len(bank.questions(level, topic))) for level in bank.LEVELS]
            exist.append(f"{topic} has " + ", ".join(f"{n} {level}" for level, n in counts if n))
        else:
            exist.append("none of your own cards fits; their file is "
                         f"{machine.home() / 'cards.jsonl'}, "
                         'one {"front": "question", "back": "answer"} a line')
    return f"no card is {' or '.join(levels)} in {', '.join(topics)}; " + "; ".join(exist)


def own_cards(path: str | Path | None = None) -> list[FlashCard]:
    """The learner's own cards: JSON Lines with "front", "back" and optional "topic" and "level".

    A line with the "id" of a bank card replaces that card and needs no "front". path:
    default `home()/cards.jsonl`, which need not exist. Raises UserError if the file cannot be read
    or a line is not a card.
    """
    file = Path(path) if path else machine.home() / "cards.jsonl"
    if path is None and not file.exists():
        return []
    if file.is_fifo():
        raise UserError(f"{file} is a pipe; expected a file of cards")
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"the cards in {file} cannot be read ({error.strerror}); expected lines "
                        'such as {"front": "question", "back": "answer"}') from None
    found: dict[str, FlashCard] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            card = _own_card(line, f"{file}, line {number}")
            if card.key in found:
                raise UserError(f"{file}, line {number}: another card asks {card.front[:60]!r} "
                                "too. Remove one of them.")
            found[card.key] = card
    return list(found.values())


def _own_card(line: bytes, where: str) -> FlashCard:
    entry = json_lines.parse(line)[0]
    if entry is None:
        raise UserError(f"{where} is not a JSON object; expected "
                        '{"front": "question", "back": "answer"}')
    fields = ("front", "back", "topic", "level", "id")
    if unknown := [name for name in entry if name not in fields]:
        raise UserError(f"{where} has the field {unknown[0]!r}; expected {', '.join(fields)}")
    try:
        replaced = bank.find(entry["id"]) if "id" in entry else None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if replaced:
        entry = {"front": replaced.question, "topic": replaced.topic, "level": replaced.level,
                 **entry}
    for name in ("front", "back"):
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise UserError(f"{where}: {name!r} is {entry.get(name)!r}; expected a text")
    level = entry.get("level", "")
    if level and level not in bank.LEVELS:
        raise UserError(f"{where}: 'level' is {level!r}; expected one of {', '.join(bank.LEVELS)}")
    front = clean(entry["front"])
    key = replaced.id if replaced else f"own:{zlib.crc32(front.encode()):08x}"
    return FlashCard(key, clean(entry.get("topic") or OWN), level, front, clean(entry["back"]))


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
    return FlashCard(key, MISSES, "", front, back)


# --------------------------------------------------------------------------------- export


def export(path: str | Path, level=None, topic=None, store: Store | None = None,
           own: str | Path | None = None) -> int:
    """Write the deck (see `deck`) to a .csv file for Anki or to a .json file; returns the number
    of cards.

    CSV: front, whole back and tags, escaped as HTML, after the header lines that Anki reads. JSON:
    the cards with due dates, and all reviews. Raises UserError for another file type.
    """
    path, flashes = Path(path), deck(level, topic, own)
    store = store or Store()
    if path.suffix.lower() == ".json":
        due, reviews = store.due(), store.reviews()
        cards = [{"key": f.key, "topic": f.topic, "level": f.level, "front": f.front,
                  "back": f.back, "due": due[f.key].due.isoformat() if f.key in due else None}
                 for f in flashes]
        files.write_whole(path, json.dumps({"cards": cards, "reviews": reviews},
                                           ensure_ascii=False, indent=1))
    elif path.suffix.lower() == ".csv":
        file = io.StringIO("#separator:Comma\n#html:true\n#tags column:3\n", newline="")
        file.seek(0, io.SEEK_END)
        writer = csv.writer(file)
        for f in flashes:
            tags = " ".join(t.replace(" ", "-") for t in ("ftkit", f.topic, f.level) if t)
            back = "<br>".join(to_html(clean(line)) for line in f.solution())
            writer.writerow([to_html(clean(f.front)), back, tags])
        files.write_whole(path, file.getvalue())
    else:
        raise UserError(f"the export file is {path.name!r}; expected a name that ends in .csv or "
                        ".json")
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
