"""`ftkit drill --clinic`: cases of the clinic in a plain terminal."""

from ftkit.base.errors import UserError
from ftkit.interview.clinic_round import COST, POINTS, Round, Visit
from ftkit.interview.typed_lines import Ask, read_line, say

KEYS = ("Keys: a number asks for a reading, c lists the causes, a cause's name (or words of it) "
        "names it, r shows the case again, g gives up, n takes another case, ? help, q ends.")


def clinic(count: int = 5, seed: int | None = None, ask: Ask = read_line) -> list[Visit]:
    """Play `count` cases, or fewer if q is typed or the input ends."""
    cases, visits = Round(seed), []
    say(f"The clinic: {count} runs that went wrong, in random order.", COST, KEYS)
    try:
        while len(visits) < count:
            say("", f"== Case {len(visits) + 1} of {count}: it is being made, a few seconds ==")
            visits.append(cases.visit())
            if not _treat(cases, visits[-1], ask):
                break
    except KeyboardInterrupt:  # Ctrl-C while a case is made
        pass
    closed = [visit for visit in visits if visit.over]
    say("", f"{len(closed)} of {count} cases closed, {sum(v.solved for v in closed)} of them "
        f"named; {sum(v.points for v in visits)} of {POINTS * count} points.")
    return visits


def _show(visit: Visit):
    say(*visit.lines(), hang=4)
    readings = ", ".join(f"{i} {name}" for i, name in enumerate(visit.sent.readings, 1))
    say(f"You can ask for: {readings}")


def _treat(cases: Round, visit: Visit, ask: Ask) -> bool:
    """Play one case; False if the learner ends the round."""
    _show(visit)
    while not visit.over:
        text = ask("cause, reading or key> ")
        text = "q" if text is None else text
        word = text.lower()
        try:
            if word in ("q", "quit", "exit"):
                return False
            if word == "n":
                return True
            if word == "r":
                _show(visit)
            else:
                say(*cases.reply(text) if word else (KEYS,), hang=2)
        except UserError as error:
            say(f"{error}")
    return True
