"""A round of the clinic without a screen: cases in random order, to be named from what was sent.

    visit = Round().visit(); visit.lines(); visit.ask("labels"); visit.name("mask_lost")
    visit.give_up()

At first one sees only what a colleague would send. Further readings have to be asked for. A finding
that is true and not the cause is accepted as true.
"""

from __future__ import annotations

import difflib
import secrets
from typing import NamedTuple

from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, number
from ftkit.interview import clinic_cases
from ftkit.lessons import progress_log

CAUSE, TRUE, WRONG = "cause", "true", "wrong"


class Verdict(NamedTuple):
    """kind: CAUSE, TRUE (a true finding that is not the cause) or WRONG; text: why."""

    kind: str
    text: str


class Round:
    """All causes in random order; a new seed draws another order and other parameters."""

    def __init__(self, seed: int | None = None):
        self.seed = secrets.randbelow(10**6) if seed is None else seed
        self.order = clinic_cases.order(self.seed)
        self.next = 0

    def visit(self) -> Visit:
        """The next case; after the last one the order begins again with other parameters."""
        turn, at = divmod(self.next, len(self.order))
        self.next += 1
        return Visit(self.order[at], self.seed + turn)


class Visit:
    """One case: what was sent, what was asked for, what was named."""

    def __init__(self, cause: str, seed: int):
        self._cause, self.seed = cause, seed
        self.sent = clinic_cases.make(cause, seed)
        self.asked: list[str] = []
        self.tries, self.over, self.solved = 0, False, False

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
        """What a reading says: its number in `sent.readings`, from 1, or its name.

        Raises UserError for one that this case does not have.
        """
        names = list(self.sent.readings)
        if reading.strip().isdecimal() and 1 <= int(reading) <= len(names):
            name = names[int(reading) - 1]
        elif reading.strip() in names:
            name = reading.strip()
        else:
            raise UserError(f"no reading is called {reading!r}; there are "
                            + ", ".join(f"{i} {name}" for i, name in enumerate(names, 1)))
        if name not in self.asked:
            self.asked.append(name)
        return f"{name}: {self.sent.readings[name]}"

    def name(self, cause: str) -> Verdict:
        """Judge a named cause: its name in `clinic_cases.CAUSES`. Kept as progress.

        Raises UserError, with the nearest names, for another one.
        """
        given = find(cause)
        self.tries += 1
        here, other = clinic_cases.CAUSES[self._cause], clinic_cases.CAUSES[given]
        if given == self._cause:
            self.over = self.solved = True
            verdict = Verdict(CAUSE, f"Yes: {here.title}. {self.why()}")
        elif given in here.also:
            verdict = Verdict(TRUE, f"True: {here.also[given]}. Is there a cause behind it, or one "
                                    "that decides more?")
        else:
            verdict = Verdict(WRONG, f"Not {other.title!r}. It would show in this reading: "
                                     f"{other.decides}.")
        progress_log.add("bug", case=f"clinic round {self.seed} {self._cause}", guess=given,
                         right=verdict.kind == CAUSE, tries=self.tries,
                         told="" if self.over else verdict.text)
        return verdict

    def give_up(self) -> str:
        """The cause and what would have shown it."""
        self.over = True
        return f"It was: {clinic_cases.CAUSES[self._cause].title}. {self.why()}"

    def why(self) -> str:
        """What decides the case, what to do, and the lesson."""
        cause = clinic_cases.CAUSES[self._cause]
        return (f"What decides: {cause.decides}. What to do: {cause.remedy}. "
                f"Lesson {cause.lesson}.")


def find(text: str) -> str:
    """The name of a cause from its name, or from words of its title.

    Raises UserError where none or several fit.
    """
    wanted = clean(str(text)).strip().lower()
    causes = clinic_cases.CAUSES
    if wanted in causes:
        return wanted
    words = wanted.replace("_", " ").split()
    fitting = [name for name, cause in causes.items()
               if words and all(word in f"{name} {cause.title}".lower() for word in words)]
    if len(fitting) == 1:
        return fitting[0]
    near = fitting or difflib.get_close_matches(wanted, causes, 5, 0.4)
    raise UserError(f"{'several causes fit' if fitting else 'no cause fits'} {wanted!r}; "
                    + (f"one of {', '.join(near)}?" if near else "c lists them all"))
