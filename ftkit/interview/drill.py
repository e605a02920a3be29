"""`ft.drill`: flash cards, a mock interview or the clinic in a notebook."""

from ftkit.interview import flashcards, interview_widget
from ftkit.interview.grader import connect


def drill(level=None, topic=None, new: int = 10, interview: bool = False,
          minutes: float | None = None, questions: int = 6, own: str | None = None,
          rounds=None, clinic: bool = False, grader: str | None = None,
          grader_model: str | None = None, partner: bool = False):
    """Practice for an interview: flash cards, scheduled by FSRS.

    level: junior, mid, senior or staff. topic: one of `bank.topics()`, "your misses" or "your
    cards". Both take several names, separated by commas; None means all. new: the most unseen
    cards. minutes: time limit. own: a file of your own cards (default: `home()/cards.jsonl`).
    interview: a timed mock interview with a report instead; `rounds` chooses from concept, coding,
    design and story (None: all), and `questions` is the number of concept questions. clinic: runs
    that went wrong instead, to be diagnosed from what a colleague would send. grader: address of an
    OpenAI-compatible endpoint whose `grader_model` reads what you type (default: none, and no
    network). partner: in the interview another person has the rubric. In a terminal:
    `ftkit drill`. Raises UserError for an unknown level or topic, and if no card fits.
    """
    if clinic:
        from ftkit.interview import clinic_widget  # torch

        return clinic_widget.Clinic()
    reader = connect(grader, grader_model) if grader else None
    if interview:
        return interview_widget.Interview(level, topic, minutes, questions, rounds=rounds,
                                          grader=reader, partner=partner)
    return flashcards.Drill(level, topic, new, minutes=minutes, own=own, grader=reader)
