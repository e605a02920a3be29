"""`ft.drill`: flash cards, or a mock interview, in a notebook."""

from __future__ import annotations

from ftkit.interview import flashcards, interview_widget


def drill(level=None, topic=None, new: int = 10, interview: bool = False,
          minutes: float | None = None, questions: int = 6, own: str | None = None,
          rounds=None):
    """Practice for an interview: flash cards, scheduled by FSRS.

    level: junior, mid, senior or staff; topic: as `bank.topics()` lists them, "your misses" or
    "your cards"; several separated by commas, None for all. new: at most this many cards that were
    never seen. minutes: after them no further card is asked. own: a file of your own cards
    (default: `home()/cards.jsonl`). interview: a timed mock interview instead: `rounds`
    of concept (`questions` of them), coding, design and story (None: all four), each question with
    its own clock, and a report. In the terminal: `ftkit drill`.
    Raises UserError for a level or topic that does not exist or that no card has.
    """
    if interview:
        return interview_widget.Interview(level, topic, minutes, questions, rounds=rounds)
    return flashcards.Drill(level, topic, new, minutes=minutes, own=own)
