"""`ft.drill`: flash cards, or a mock interview, in a notebook."""

from __future__ import annotations

from ftkit.interview import flashcards, mock


def drill(level=None, topic=None, new: int = 10, interview: bool = False, minutes: float = 20,
          questions: int = 6):
    """Practise for an interview: flash cards that come back when FSRS says so.

    level: junior, mid, senior or staff; topic: as `bank.topics()` lists them, or "your misses";
    several separated by commas, None for all. new: cards never seen before, at most. interview:
    a timed mock interview of so many `questions` in so many `minutes` instead, with a report.
    In the terminal: `ftkit drill`. Raises ValueError for a level or topic that does not exist.
    """
    if interview:
        return mock.Interview(level, topic, minutes, questions)
    return flashcards.Drill(level, topic, new)
