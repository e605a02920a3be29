"""Causes of bad runs, and cases: runs with one cause each, to be diagnosed and repaired.

    cause = find("double bos", BUGS); cause.title, cause.sign, cause.remedy

Each cause is defined once: bugs of code in `bugs`, wrong settings and the other causes of the
interview clinic in `ftkit.interview`.
"""

import dataclasses
import functools
import math
import random
import re
from collections import Counter
from typing import TypeVar

from ftkit.base import json_lines, machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean
from ftkit.lessons import progress_log
from ftkit.lessons.checks import Verdict
from ftkit.lessons.words import plain_terms

C = TypeVar("C", bound="Cause")
RIGHT, TRUE, WRONG = "✓", "○", "✗"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cause:
    """A cause of a bad run.

    title: a phrase that names it. sign: the reading that separates it from other causes. in_log:
    what a log alone shows, if that differs. remedy: what to do. complaint: what a colleague says
    about such a run. also: another cause → why it is true here as well.
    """

    name: str
    title: str
    sign: str
    remedy: str
    lesson: str
    complaint: str = ""
    in_log: str = ""
    also: dict[str, str] = dataclasses.field(default_factory=dict)


def find(text: str, causes: dict[str, C]) -> C:
    """The cause with this name, or that these words mean, by the phrases in `phrases.jsonl`.

    Of causes that are one diagnosis (`FAMILIES`) it is the first. Raises UserError if several fit,
    which asks for one of them, or none, which names the nearest.
    """
    wanted = clean(str(text)).strip().lower()
    if wanted in causes:
        return causes[wanted]
    named = "; ".join(part for part in PART.split(wanted) if not RULED_OUT.search(part))
    if wanted and not named:
        raise UserError(f"{wanted!r} rules a cause out. Expected the one that explains everything; "
                        "say what is wrong, not what is right.")
    scores = {name: _likeness(named, cause) for name, cause in causes.items()}
    order = sorted(causes, key=lambda name: -scores[name])
    best = scores[order[0]]
    fitting = [name for name in order if scores[name] >= max(ASKED, NEARLY * best)]
    if best >= FITS and (len(fitting) == 1 or any(set(fitting) <= family for family in FAMILIES)):
        return causes[fitting[0]]
    names = "; or ".join(f"{causes[name].title} ({name})" for name in (fitting or order)[:4])
    raise UserError(f"Which do you mean by {wanted!r}? Expected one of {names}." if fitting else
                    f"no cause fits {wanted!r}; expected one of {names}; or another")


# Lowest likeness of a cause that is meant, of one that is asked for, and the fraction of the best
# likeness from which on another cause fits as well.
FITS, ASKED, NEARLY = 0.4, 0.3, 0.85
BY_ONE = 0.39  # at most by one term of several: such a cause is asked for
PART = re.compile(r"[;,]|\b(?:but|and)\b")
# "the learning rate is not too high", "labels are correct", "no overfitting", "it is not the data".
RULED_OUT = re.compile(
    r"\bnot (?:too|so)\b|"
    r"\b(?:is|are|was|were|looks?|seems?) (?:all )?(?:fine|ok(?:ay)?|right|correct|good|normal)\b|"
    r"\w(?:ed|en) (?:correctly|properly|right)$|"
    r"(?:\bno (?:\w+ ){0,2}|^(?:it|this|that)(?:'s| is| was) not )"
    r"(?:overfit|leak|contaminat|forget|hack|noise)|"
    r"^(?:it|this|that)(?:'s| is| was| has) (?:not|nothing) (?:the|an?|because|due|to)\b")
UNKNOWN = 2.5  # weight of a term that is in no phrase
FAMILIES = ({"rate_too_high", "rate_too_high_135m", "lora_rate_too_high"},
            {"rate_too_low", "lora_rate_too_low"})


def one_diagnosis(a: str, b: str) -> bool:
    """Whether two names of causes are the same finding, seen in different runs."""
    return a == b or any({a, b} <= family for family in FAMILIES)


@functools.cache
def phrases() -> dict[str, list[frozenset[str]]]:
    """Cause → the key terms of each phrase by which practitioners name it."""
    lines = json_lines.read(machine.package() / "lessons" / "bugs" / "phrases.jsonl",
                            damaged="raise")
    return {line["cause"]: [plain_terms(phrase) for phrase in line["phrases"]] for line in lines}


@functools.cache
def _weights() -> dict[str, float]:
    """Key term → its weight: the fewer causes it names, the more."""
    named = Counter(term for of_cause in phrases().values() for term in set().union(*of_cause))
    return {term: math.log(1 + len(phrases()) / count) for term, count in named.items()}


def _likeness(text: str, cause: Cause) -> float:
    """Weight of the terms that a text shares with the nearest phrase of a cause (Dice), 0 to 1."""
    said = plain_terms(text)
    size = functools.partial(_size, _weights())
    own = [*phrases().get(cause.name, ()), plain_terms(cause.title), plain_terms(cause.name)]

    def alike(phrase: frozenset[str]) -> float:
        shared = said & phrase
        dice = 2 * size(shared) / ((size(said) + size(phrase)) or 1)
        if len(shared) != 1 or said == phrase:
            return dice
        return min(dice, BY_ONE) if size(shared) > size(said) / 2 else min(dice, ASKED - 0.01)

    return max(map(alike, own))


def _size(weights: dict[str, float], terms: frozenset[str]) -> float:
    return sum(weights.get(term, UNKNOWN) for term in terms)


def pick(causes, pack: str, **number: int) -> str:
    """The name of the cause in case `number`. Each run of len(causes) cases has every cause once.

    Raises UserError, with the name of the parameter, unless it is a whole number from 0.
    """
    (parameter, value), = number.items()
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{parameter} is {value!r}; expected a whole number of at least 0")
    turn, index = divmod(value, len(causes))
    order = list(causes)
    random.Random(f"{pack}/{turn}").shuffle(order)
    return order[index]


class Case:
    """A run with one cause. `judge` takes a diagnosis; `guess` and `repair` print their verdicts.

    causes: those that may be named. label: of the case in the progress log. number: printed with
    each verdict.
    """

    def __init__(self, cause: Cause, causes: dict, label, number: int | None = None):
        self._cause, self._causes, self._label, self._number = cause, causes, label, number
        self.tries, self.solved = 0, False

    def judge(self, text: str) -> Verdict:
        """Judge a diagnosis (a cause's name, or plain words for it) and log it as progress.

        Raises UserError if no cause or several causes match.
        """
        named = find(text, self._causes)
        self.tries += 1
        right = one_diagnosis(named.name, self._cause.name)
        if right:
            self.solved, mark, why = True, RIGHT, self.explain()
        elif named.name in self._cause.also:
            mark, why = TRUE, (f"True: {self._cause.also[named.name]}. Is there a cause behind it, "
                               "or one that decides more?")
        else:
            mark, why = WRONG, self.against(named)
        progress_log.add("bug", case=self._label, guess=named.name, right=right, tries=self.tries,
                         told="" if right else why)
        return self._verdict(mark, why)

    def explain(self) -> str:
        """The cause, what the log shows of it, and the lesson."""
        cause = self._cause
        return f"{cause.title}: {cause.in_log or cause.sign}. Lesson {cause.lesson}"

    def against(self, named: Cause) -> str:
        """Describe the evidence against a wrong diagnosis."""
        return f"not {named.title!r}: then {named.in_log or named.sign}"

    def guess(self, text: str) -> Verdict:
        """Name the cause, and log it. The verdict on a wrong one gives the evidence against it."""
        if text in (None, ..., "..."):
            return self._say(TRUE, "no cause named yet")
        verdict = self.judge(text)
        print(verdict.text)
        return verdict

    def repair(self, what: str | None = None, **changes) -> Verdict:
        """Rerun the case with changes; the run must meet the target. what: see the subclass.

        Raises UserError if nothing is changed.
        """
        if what in (..., "..."):
            return self._say(TRUE, "not repaired yet")
        changes = self._changes(what, changes)
        missed = self.misses(self._rerun(changes))
        progress_log.add("repair", case=self._label, right=not missed,
                         name=what or str(changes)[:200])
        text = f"misses the target: {', '.join(missed)}" if missed else "meets the target"
        return self._say(WRONG if missed else RIGHT, f"the repaired run {text}")

    def _changes(self, what: str | None, changes: dict) -> dict:
        raise NotImplementedError

    def _rerun(self, changes: dict):
        raise NotImplementedError

    def misses(self, run) -> list[str]:
        """The measures of a run that do not meet the target, with their values."""
        raise NotImplementedError

    def _say(self, mark: str, text: str) -> Verdict:
        verdict = self._verdict(mark, text)
        print(verdict.text)
        return verdict

    def _verdict(self, mark: str, text: str) -> Verdict:
        case = "" if self._number is None else f"case {self._number}: "
        return Verdict(mark == RIGHT, clean(f"{mark} {case}{text}"))
