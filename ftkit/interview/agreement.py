"""How far a grader agrees with 200 labeled answers, measured before it is trusted.

    measure(grader).lines(); listen(grader, question, points, answer).said

`graded.jsonl` has four answers to each of 50 questions: right, partly right, wrong, and one that
tries to instruct the grader; `says` has the first letter of the verdict on each point of the
rubric.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ftkit.base import json_lines, machine
from ftkit.base.errors import UserError
from ftkit.evaluate import metrics
from ftkit.interview import bank, rubrics
from ftkit.interview.grader import (
    PARTLY,
    SAID,
    VERDICTS,
    Grader,
    Judgment,
    without_instructions,
)
from ftkit.interview.listening import Heard
from ftkit.interview.rubrics import Point
from ftkit.lessons import progress_log

KINDS = ("right", "partly", "wrong", "injection")
ENOUGH = 0.6  # kappa: "substantial" from 0.61 on (Landis and Koch 1977)
WORTH: dict[str, float] = dict(zip(VERDICTS, (1.0, 0.5, 0.0), strict=True))


class Labeled(NamedTuple):
    """An answer to the question with this id, and a verdict for each point of its rubric."""

    card: str
    kind: str
    answer: str
    verdicts: tuple[str, ...]


@functools.cache
def labeled() -> tuple[Labeled, ...]:
    """The labeled answers, in the order of the file."""
    letter = {verdict[0]: verdict for verdict in VERDICTS}
    lines = json_lines.read(machine.package() / "interview" / "graded.jsonl", damaged="raise")
    return tuple(Labeled(line["card"], line["kind"], line["answer"],
                         tuple(letter[each] for each in line["says"])) for line in lines)


class Agreement(NamedTuple):
    """The labeled answers, and what a grader said of each."""

    answers: list[tuple[Labeled, list[Judgment]]]

    def pairs(self, *kinds: str) -> list[tuple[str, str]]:
        """(label, verdict) of each point of the answers of these kinds; default: of all."""
        return [pair for one, given in self.answers if one.kind in (kinds or KINDS)
                for pair in zip(one.verdicts, (each.verdict for each in given), strict=True)]

    @property
    def kappa(self) -> float:
        """Cohen's kappa over all points."""
        return metrics.kappa(*zip(*self.pairs(), strict=True))

    @property
    def own_kappa(self) -> float:
        """The same with the grader's own verdicts, before the unsupported ones are dropped."""
        own = [each.own or each.verdict for _, given in self.answers for each in given]
        return metrics.kappa([label for label, _ in self.pairs()], own)

    def raised(self) -> list[Labeled]:
        """The attempts to instruct the grader that got a better score than their label."""
        def score(verdicts: Iterable[str], card: str) -> float:
            points = rubrics.points(bank.find(card))
            return sum(p.weight * WORTH[v] for p, v in zip(points, verdicts, strict=True))

        return [one for one, given in self.answers if one.kind == "injection"
                and score((j.verdict for j in given), one.card) > score(one.verdicts, one.card)]

    @property
    def trusted(self) -> bool:
        """Whether its verdicts tick the points of an interview."""
        return min(self.kappa, self.own_kappa) >= ENOUGH and not self.raised()

    def lines(self) -> list[str]:
        """The report: kappa, verdicts against labels, agreement by kind, and dropped quotes."""
        table, every = Counter(self.pairs()), self.pairs()
        attempts = sum(one.kind == "injection" for one, _ in self.answers)
        dropped = sum(bool(each.dropped) for _, given in self.answers for each in given)
        return [
            f"Kappa {self.kappa:.2f} over {len(every)} points of {len(self.answers)} answers; "
            f"{self.own_kappa:.2f} before verdicts without a quote that shows them are dropped.",
            f"{'label':8}" + "".join(f"{verdict:>8}" for verdict in VERDICTS) + "  ← the grader",
            *(f"{label:8}" + "".join(f"{table[label, verdict]:8}" for verdict in VERDICTS)
              for label in VERDICTS),
            "Agreement: " + ", ".join(f"{kind} {_equal(self.pairs(kind)):.0%}" for kind in KINDS)
            + ".",
            f"Attempts to instruct the grader that raised a grade: {len(self.raised())} of "
            f"{attempts}.",
            f"Verdicts dropped for their quote: {dropped}.",
            "Its verdicts tick the points of your answers." if self.trusted else
            f"Not trusted: a kappa below {ENOUGH}, or a raised grade. Its verdicts are shown, and "
            "you tick the points."]


def _equal(pairs: list[tuple[str, str]]) -> float:
    return sum(a == b for a, b in pairs) / max(1, len(pairs))


def measure(grader: Grader, done: Callable[[float], object] = lambda _: None) -> Agreement:
    """Let a grader judge all labeled answers, and log the result. done: called after each answer
    with the fraction of them that is judged."""
    found = []
    for one in labeled():
        question = bank.find(one.card)
        found.append((one, grader.grade(question.question, rubrics.points(question), one.answer)))
        done(len(found) / len(labeled()))
    agreement = Agreement(found)
    progress_log.add("grader", name=grader.name, kappa=agreement.kappa, trusted=agreement.trusted)
    return agreement


def last(grader: Grader) -> dict | None:
    """The latest measurement of this endpoint and model in the progress log: kappa, trusted."""
    return next((entry for entry in reversed(progress_log.entries())
                 if entry.get("kind") == "grader" and entry.get("name") == grader.name), None)


def known(grader: Grader) -> str:
    """Name of a grader and its measured agreement, for reports."""
    entry = last(grader)
    return grader.name + (f", kappa {entry['kappa']:.2f} on labeled answers" if entry else
                          ", whose agreement is not measured (`ftkit drill --agreement`)")


def listen(grader: Grader | None, question: str, points: Sequence[Point], answer: str,
           model: str = "") -> Heard:
    """What an answer says. A grader's verdicts are shown; they tick points if it is trusted."""
    heard = Heard(points, answer, question, model)
    if grader is None or not answer:
        return heard
    try:
        given = grader.grade(question, points, answer)
    except UserError as error:  # the interview continues with the key terms
        heard.verdicts = [str(error)]
        return heard
    heard.verdicts = [f"Read by {known(grader)}:", *(j.line(i) for i, j in enumerate(given, 1)),
                      *(f"Not sent, as it speaks to the grader: “{cut}”"
                        for cut in without_instructions(answer)[1])]
    if (last(grader) or {}).get("trusted"):
        heard.said = {i for i, each in enumerate(given) if each.verdict == SAID}
        heard.partly = {i for i, each in enumerate(given) if each.verdict == PARTLY}
    return heard
