"""`ft.drill`: flash cards, or a mock interview, in a notebook."""

from __future__ import annotations

from ftkit.interview import flashcards, interview_widget


def drill(level=None, topic=None, new: int = 10, interview: bool = False, minutes: float = 20,
          questions: int = 6):
    """Practice for an interview: flash cards, scheduled by FSRS.

    level: junior, mid, senior or staff; topic: as `bank.topics()` lists them, or "your misses";
    several separated by commas, None for all. new: at most this many
    cards that were never seen. interview: a timed mock interview instead, of `questions` questions
    in `minutes` minutes, with a report. In the terminal: `ftkit drill`. Raises UserError for a
    level or topic that does not exist.
    """
    if interview:
        return interview_widget.Interview(level, topic, minutes, questions)
    return flashcards.Drill(level, topic, new)
