"""A mock interview without a screen: timed, scored by yourself against a rubric, with a report.

    talk = Talk(level="mid", minutes=20, questions=6); talk.question; talk.score({0, 2}, [True])
    talk.report("report.html")

`interview_widget` shows it in a notebook, `terminal` in a terminal.
"""

from __future__ import annotations

import html
import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean
from ftkit.interview import bank
from ftkit.lessons import progress_log

STRONG, WEAK = 0.75, 0.5


class Talk:
    """The questions of an interview, its clock and the scores so far.

    Raises UserError for a level, topic, time or number of questions that cannot be used.
    """

    def __init__(self, level=None, topic=None, minutes: float = 20, questions: int = 6,
                 seed: int | None = None, clock: Callable[[], float] = time.monotonic):
        if isinstance(minutes, bool) or not 0 < minutes <= 24 * 60:
            raise UserError(f"minutes is {minutes!r}; expected a number above 0, at most 1440")
        if isinstance(questions, bool) or not isinstance(questions, int) or questions < 1:
            raise UserError(f"questions is {questions!r}; expected a whole number of at least 1")
        pool = bank.questions(level, topic)
        if not pool:
            raise UserError("no question has this level and topic; leave one of them out")
        self.seed = secrets.randbelow(10**6) if seed is None else seed
        self.questions = draw_questions(pool, questions, random.Random(self.seed))
        self.minutes, self.clock = minutes, clock
        self.scores: list[dict] = []
        self.start()

    def start(self):
        """Start the clock anew."""
        self.started = self.clock()

    @property
    def question(self) -> bank.Question | None:
        """The question being asked; None when all are answered or the time is over."""
        over = self.seconds_left() <= 0 or len(self.scores) == len(self.questions)
        return None if over else self.questions[len(self.scores)]

    def seconds_left(self) -> float:
        """Seconds until the time is over; 0 afterwards."""
        return max(0.0, 60 * self.minutes - (self.clock() - self.started))

    def score(self, points: set[int], follow_ups: list[bool]):
        """Score the current question: the indices (from 0) of the points that the answer
        contained, and for each follow-up whether it went well. Raises UserError for a
        point that does not exist."""
        question = self.questions[len(self.scores)]
        rubric = question.points()
        bad = [p for p in points if p not in range(len(rubric))]
        if bad:
            raise UserError(f"point {bad[0]!r} does not exist; there are {len(rubric)}")
        share = len(points) / len(rubric)
        if follow_ups:
            share = 0.7 * share + 0.3 * sum(follow_ups) / len(follow_ups)
        self.scores.append({
            "id": question.id, "topic": question.topic, "lesson": question.lesson,
            "question": question.question, "share": share,
            "missed": [p for i, p in enumerate(rubric) if i not in points]})
        progress_log.add("interview", question=question.id, topic=question.topic, share=share)

    def summary(self) -> dict:
        """Mean scores (0 to 1) by topic, strengths, gaps, and the lessons to do again."""
        by_topic: dict[str, list[float]] = {}
        for score in self.scores:
            by_topic.setdefault(score["topic"], []).append(score["share"])
        mean = {topic: sum(shares) / len(shares) for topic, shares in by_topic.items()}
        weak = [s for s in self.scores if s["share"] < STRONG]
        return {
            "topics": mean, "asked": len(self.scores), "planned": len(self.questions),
            "strengths": [t for t, m in mean.items() if m >= STRONG],
            "gaps": [t for t, m in mean.items() if m < WEAK],
            "lessons": sorted({s["lesson"] for s in weak}),
            "score": sum(s["share"] for s in self.scores) / max(1, len(self.scores))}

    def lines(self) -> list[str]:
        """The report in plain lines."""
        facts = self.summary()
        return [f"{facts['score']:.0%} over {facts['asked']} of {facts['planned']} questions",
                *(f"{topic}: {share:.0%}" for topic, share in facts["topics"].items()),
                "Strengths: " + (", ".join(facts["strengths"]) or "none yet"),
                "Gaps: " + (", ".join(facts["gaps"]) or "none"),
                "Lessons to do again: " + (", ".join(facts["lessons"]) or "none")]

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report as one HTML page; default: `home()/interviews/TIME.html`."""
        stamp = time.strftime("%Y-%m-%d-%H%M%S")
        path = Path(path) if path else machine.home() / "interviews" / f"{stamp}-{self.seed}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        first, *rest = self.lines()
        page = PAGE.format(title=f"Mock interview, {stamp[:10]}", first=_escape(first),
                           rest=_list(rest), questions="".join(map(_section, self.scores)))
        path.write_text(page, encoding="utf-8")
        return path


def _escape(text: str) -> str:
    return html.escape(clean(text))


def _list(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{_escape(line)}</li>" for line in lines) + "</ul>"


def _section(score: dict) -> str:
    """One question of the report as HTML."""
    missed = "<p>Not said:</p>" + _list(score["missed"]) if score["missed"] else ""
    return (f"<h3>{_escape(score['question'])}</h3><p>{score['share']:.0%} · "
            f"{_escape(score['topic'])} · lesson {_escape(score['lesson'])}</p>{missed}")


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><style>body{{font:16px/1.5 sans-serif;
max-width:46em;margin:2em auto;padding:0 1em;color:#222;background:#fff}}h3{{margin:1.6em 0 .2em}}
p{{margin:.2em 0}}@media print{{h3{{break-after:avoid}}}}</style>
<h1>{title}</h1><h2>{first}</h2>{rest}<h2>Question by question</h2>{questions}</html>
"""


def draw_questions(pool: list[bank.Question], count: int,
                   rng: random.Random) -> list[bank.Question]:
    """`count` questions at random, or the whole pool if it is smaller; topics take turns."""
    return bank.take_turns(rng.sample(pool, len(pool)))[:count]
