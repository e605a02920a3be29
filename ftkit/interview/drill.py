"""`ft.drill`: flash cards, a mock interview or the clinic in a notebook."""

from __future__ import annotations

from ftkit.interview import flashcards, interview_widget


def drill(level=None, topic=None, new: int = 10, interview: bool = False,
          minutes: float | None = None, questions: int = 6, own: str | None = None,
          rounds=None, clinic: bool = False):
    """Practice for an interview: flash cards, scheduled by FSRS.

    level: junior, mid, senior or staff; topic: as `bank.topics()` lists them, "your misses" or
    "your cards"; several separated by commas, None for all. new: at most this many cards that were
    never seen. minutes: after them no further card is asked. own: a file of your own cards
    (default: `home()/cards.jsonl`). interview: a timed mock interview instead: `rounds`
    of concept (`questions` of them), coding, design and story (None: all four), each question with
    its own clock, and a report. clinic: cases of runs that went wrong instead, to be named from
    what a colleague would send. In the terminal: `ftkit drill`.
    Raises UserError for a level or topic that does not exist or that no card has.
    """
    if clinic:
        from ftkit.interview import clinic_widget  # torch

        return clinic_widget.Clinic()
    if interview:
        return interview_widget.Interview(level, topic, minutes, questions, rounds=rounds)
    return flashcards.Drill(level, topic, new, minutes=minutes, own=own)
