"""`ftkit drill --clinic`: cases of the clinic in a plain terminal."""

from __future__ import annotations

from ftkit.base.errors import UserError
from ftkit.interview import clinic_cases
from ftkit.interview.clinic_round import CAUSE, TRUE, WRONG, Round, Visit
from ftkit.interview.console import Ask, read_line, say

KEYS = ("Keys: a number asks for a reading, c lists the causes, a cause's name (or words of it) "
        "names it, r shows the case again, g gives up, n takes another case, ? help, q ends.")
MARKS = {CAUSE: "✓", TRUE: "○", WRONG: "✗"}
HELP = ("Read what was sent. What would you look at next, and why? Ask for it by its number.",
        "Then name one cause that explains everything, such as warmup_too_long. For a wrong name "
        "the clinic says what that cause would show. A true finding that is not the cause is "
        "accepted as true.",
        "g reveals the cause, what decides the case, what to do, and the lesson.")


def clinic(count: int = 5, seed: int | None = None, ask: Ask = read_line) -> list[Visit]:
    """`count` cases, or fewer where q is typed or the input ends."""
    cases, visits = Round(seed), []
    say(f"The clinic: {count} runs that went wrong, in random order.", KEYS)
    try:
        while len(visits) < count:
            say("", f"== Case {len(visits) + 1} of {count}: it is being made, a few seconds ==")
            visits.append(cases.visit())
            if not _treat(visits[-1], ask):
                break
    except KeyboardInterrupt:  # Ctrl-C while a case is made
        pass
    named = [visit for visit in visits if visit.over]
    say("", f"{len(named)} of {count} cases closed, {sum(v.solved for v in named)} of them named.")
    return visits


def _show(visit: Visit):
    say(*visit.lines(), hang=4)
    readings = ", ".join(f"{i} {name}" for i, name in enumerate(visit.sent.readings, 1))
    say(f"You can ask for: {readings}")


def _treat(visit: Visit, ask: Ask) -> bool:
    """One case; False where the learner ends the round."""
    _show(visit)
    while not visit.over:
        text = ask("cause, reading or key> ")
        word = "q" if text is None else text.lower()
        try:
            if word in ("q", "quit", "exit"):
                return False
            if word in ("", "?", "h", "help"):
                say(*((KEYS,) if not word else HELP), hang=2)
            elif word == "n":
                return True
            elif word == "r":
                _show(visit)
            elif word == "c":
                say(*(f"  {name}: {cause.title}" for name, cause in clinic_cases.CAUSES.items()),
                    hang=4)
            elif word == "g":
                say(visit.give_up())
            elif word.isdecimal():
                say(visit.ask(word), hang=2)
            else:
                verdict = visit.name(word)
                say(f"{MARKS[verdict.kind]} {verdict.text}", hang=2)
        except UserError as error:
            say(f"{error}")
    return True
