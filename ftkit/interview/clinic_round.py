"""A round of the clinic without a screen: cases in random order, to be named from what was sent.

    visits = Round(); visit = visits.visit(); visit.lines(); visits.reply("1")
    visit.ask("labels"); visit.judge("mask_lost"); visit.give_up()

At first one sees only what a colleague would send. Further readings have to be asked for. A finding
that is true but not the cause is accepted as true. Both front ends pass typed text to
`Round.reply`.
"""

from __future__ import annotations

import re
import secrets

from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, number
from ftkit.interview import clinic_cases
from ftkit.interview.clinic_cases import CAUSES
from ftkit.lessons.bugs.causes import Case, Cause
from ftkit.lessons.checks import Verdict

POINTS = 4  # of a case
COST = (f"A case named at once is worth {POINTS} points. Each wrong cause that you name costs 1 of "
        "them. A reading costs nothing, and neither does a true finding.")
HELP = ("Read what was sent, and ask for what you would look at next by its number. Then name one "
        "cause that explains everything: its name, such as warmup_too_long, or words of it. For a "
        "wrong name the clinic says what that cause would show. A true finding that is not the "
        "cause is accepted as true.", COST,
        "c lists the causes. g gives up: it reveals the cause, what decides the case, what to do, "
        "and the lesson. n takes the next case, ? shows this.")


# Findings that practitioners name and that no case has → what the clinic says.
NO_CAUSE = {re.compile(words, re.I): said for words, said in {
    r"\bnothing\b.{0,12}\b(?:broken|wrong|faulty|bad)\b|\bhealthy\b"
    r"|\bno (?:bug|fault|problem|error)s?\b"
    r"|\b(?:all|run|everything) (?:is )?(?:good|fine|ok(?:ay)?|right)\b":
        "Each case here has one fault, also where the log looks healthy. What would you read next?",
    r"\bclip(?:ping|ped)?\b":
        "Missing clipping is no cause here: a usual step hardly changes by it. What makes the "
        "gradients as they are? Ask for a reading of them, if there is one."}.items()}


class Round:
    """All causes in random order. The seed decides the order and the parameters."""

    def __init__(self, seed: int | None = None):
        self.seed = secrets.randbelow(10**6) if seed is None else seed
        self.order = clinic_cases.order(self.seed)
        self.next = 0
        self.current: Visit | None = None

    def visit(self) -> Visit:
        """The next case. After the last one the order begins again with other parameters."""
        turn, at = divmod(self.next, len(self.order))
        self.next += 1
        self.current = Visit(self.order[at], self.seed + turn)
        return self.current

    def reply(self, text: str) -> list[str]:
        """The answer to a typed text: c, g, ?, the number of a reading, or a cause.

        Raises UserError for any other text.
        """
        word = text.strip().lower()
        if word in ("?", "h", "help"):
            return list(HELP)
        if word == "c":
            return [f"{name}: {cause.title}" for name, cause in CAUSES.items()]
        if self.current is None:
            return ["n takes the first case"]
        if word == "g":
            return [self.current.give_up()]
        for words, said in NO_CAUSE.items():
            if words.search(text) and text.strip().lower() not in CAUSES:
                return [said]
        if word.isdecimal():
            return [self.current.ask(word)]
        try:
            return [self.current.judge(text).text]
        except UserError as error:
            raise UserError(f"{error} c lists all causes.") from None


class Visit(Case):
    """One case, with the readings asked for and the causes named so far."""

    def __init__(self, cause: str, seed: int):
        super().__init__(CAUSES[cause], CAUSES, f"clinic round {seed} {cause}")
        self.sent = clinic_cases.make(cause, seed)
        self.asked: list[str] = []
        self.wrong: set[str] = set()  # causes that were named before the case was over
        self.gave_up = False

    @property
    def over(self) -> bool:
        """Whether the cause was named or revealed."""
        return self.solved or self.gave_up

    @property
    def points(self) -> int:
        """Points for the case: 0 until it is named."""
        return max(0, POINTS - len(self.wrong)) if self.solved and not self.gave_up else 0

    def judge(self, text: str) -> Verdict:
        """Judge a diagnosis and say what a wrong one cost, once for each wrong cause."""
        before, verdict = len(self.wrong), super().judge(text)
        if verdict.right:
            return Verdict(True, f"{verdict.text} {self.points} of {POINTS} points.")
        if len(self.wrong) == before:
            return verdict
        left = max(0, POINTS - len(self.wrong))
        cost = (f"That cost 1 point; {left} of {POINTS} are left." if before < POINTS else
                "No points are left to lose.")
        return Verdict(False, f"{verdict.text} {cost}")

    def lines(self) -> list[str]:
        """What the colleague sends."""
        sent = self.sent
        lines = [f'"{sent.complaint}"', f"Config: {sent.config}", "Two training records:",
                 *dict.fromkeys(f"  {record}" for record in sent.records),
                 "Three answers afterwards:",
                 *dict.fromkeys(f"  {asked} → {said or '(nothing)'}"
                                for asked, said in sent.answers), "Log:"]
        return [clean(line) if not line.startswith("  ") else "  " + clean(line)
                for line in (*lines, *(f"  {line}" for line in self.log_lines()), sent.made)]

    def log_lines(self) -> list[str]:
        """The log as text, one line a step."""
        return ["  ".join(f"{key} {value if key == 'step' else number(value)}"
                          for key, value in row.items()).removeprefix("event ")
                for row in self.sent.log]

    def ask(self, reading: str) -> str:
        """The text of a reading, chosen by its number in `sent.readings` (from 1) or its name.

        Raises UserError for a reading that this case does not have.
        """
        names = dict(enumerate(self.sent.readings, 1))
        word = reading.strip()
        name = names.get(int(word)) if word.isdecimal() else word
        if name not in self.sent.readings:
            raise UserError(f"no reading is called {reading!r}; there are "
                            + ", ".join(f"{i} {name}" for i, name in names.items()))
        if name not in self.asked:
            self.asked.append(name)
        return f"{name}: {self.sent.readings[name]}"

    def give_up(self) -> str:
        """Reveal the cause and the reading that shows it."""
        self.gave_up = True
        return f"It was: {self._cause.title}. {self._why()}"

    def explain(self) -> str:
        """The cause, what decides the case, what to do, and the lesson."""
        return f"Yes: {self._cause.title}. {self._why()}"

    def _why(self) -> str:
        cause = self._cause
        return (f"What decides: {cause.sign}. What to do: {cause.remedy}. Lesson {cause.lesson}.")

    def against(self, named: Cause) -> str:
        """A sentence about the reading that would show the named cause."""
        if not self.over:
            self.wrong.add(named.name)
        return f"Not {named.title!r}. It would show in this reading: {named.sign}."
