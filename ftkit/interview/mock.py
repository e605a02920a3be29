"""A mock interview: timed, with follow-ups, scored by yourself against a rubric, with a report.

    talk = Talk(level="mid", minutes=20, questions=6); talk.question; talk.score({0, 2}, [True])
    talk.report("report.html")
"""

from __future__ import annotations

import html
import itertools
import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import ipywidgets as W

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean
from ftkit.interview import bank
from ftkit.lessons import progress_log
from ftkit.notebook.widgets import Paragraphs, TextLines, button, guarded

STRONG, WEAK = 0.75, 0.5


class Talk:
    """The interview without a screen: the questions drawn, the clock, the scores."""

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
        """Points of the rubric that were said (from 0), and which follow-ups went well."""
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
        """Shares by topic, strengths, gaps, and the lessons to do again."""
        by: dict[str, list[float]] = {}
        for score in self.scores:
            by.setdefault(score["topic"], []).append(score["share"])
        mean = {topic: sum(shares) / len(shares) for topic, shares in by.items()}
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
    by_topic: dict[str, list[bank.Question]] = {}
    for question in pool:
        by_topic.setdefault(question.topic, []).append(question)
    topics = list(by_topic.values())
    rng.shuffle(topics)
    for questions in topics:
        rng.shuffle(questions)
    rounds = itertools.zip_longest(*(reversed(questions) for questions in topics))
    return [question for turn in rounds for question in turn if question][:count]


class Interview(W.VBox):
    """The mock interview in a notebook: answer aloud, Enter; tick by number; y or n; the report.

    The clock starts with the first press of Start.
    """

    def __init__(self, level=None, topic=None, minutes: float = 20, questions: int = 6,
                 seed: int | None = None):
        self.talk, self.phase = Talk(level, topic, minutes, questions, seed), "start"
        self.question, self.path = self.talk.questions[0], Path()
        self.boxes: list[W.Checkbox] = []
        self.went_well: list[bool] = []
        self.head = TextLines(f"{questions} questions in {minutes:g} minutes",
                              css="ftkit-talk-head")
        self.asked = TextLines("Answer each question aloud; then score yourself.",
                               bold=True, css="ftkit-talk-question")
        self.said = TextLines(css="ftkit-talk-said")
        self.key = W.Text(placeholder="Enter starts", layout=W.Layout(width="26em"))
        self.key.add_class("ftkit-talk-key")
        self.key.observe(guarded(self._typed, self.said.show), "value")
        self.ticks = W.VBox()
        self.go = button("Start", "play", self._go, "continue (type any letter and Enter)",
                         self.said.show, "ftkit-talk-go")
        self.yes = button("y went well", "", lambda: self._score_follow_up(True), "",
                          self.said.show, "ftkit-talk-yes")
        self.no = button("n did not", "", lambda: self._score_follow_up(False), "", self.said.show,
                         "ftkit-talk-no")
        self.opens = button("Open the report", "file-text-o", self._open, "shown below (o)",
                           self.said.show, "ftkit-talk-open")
        self.report = W.VBox()
        super().__init__([self.head, self.asked, self.key, self.ticks,
                          W.HBox([self.go, self.yes, self.no, self.opens]), self.said, self.report])
        self.add_class("ftkit-talk")
        self._visible("Start", "g and Enter starts")

    def _visible(self, go: str, hint: str):
        follow = self.phase == "follow"
        self.go.description = go
        self.go.layout.display = "none" if self.phase == "over" else ""
        for control in (self.yes, self.no):
            control.layout.display = "" if follow else "none"
        self.opens.layout.display = "" if self.phase == "over" else "none"
        self.key.continuous_update = self.phase in ("follow", "tick", "over")
        self.key.placeholder = hint

    def _typed(self, change):
        text = change["new"].strip().lower()
        if not text:
            return
        self.key.value = ""
        if self.phase == "follow":
            if text[-1] in "yn":
                self._score_follow_up(text[-1] == "y")
            else:
                self._go()
        elif self.phase == "tick" and text[-1].isdigit():
            index = int(text[-1]) - 1
            if 0 <= index < len(self.boxes):
                self.boxes[index].value = not self.boxes[index].value
        elif self.phase == "over":
            self._open()
        else:
            self._go()

    def _go(self):
        if self.phase == "start":
            self.talk.start()
            self._ask()
        elif self.phase == "ask":
            self.phase = "tick"
            points = self.question.points()
            self.boxes = [W.Checkbox(indent=False, layout=W.Layout(width="1.6em"))
                          for _ in points]
            self.ticks.children = (TextLines("Which of these did you say?"), *(
                W.HBox([box, Paragraphs(f"{i}  {point}")])
                for i, (box, point) in enumerate(zip(self.boxes, points, strict=True), 1)))
            self._visible("Continue", "1, 2, ... tick; g continues")
        elif self.phase == "tick":
            self.phase, self.went_well = "follow", []
            self._next_follow_up()
        elif self.phase == "follow":
            self.said.show(self._follow_up()["answer"])

    def _clock(self) -> str:
        left = int(self.talk.seconds_left())
        return (f"question {len(self.talk.scores) + 1} of {len(self.talk.questions)} · "
                f"{left // 60} min {left % 60} s left")

    def _ask(self):
        question = self.talk.question
        self.ticks.children = ()
        if question is None:
            self._finish()
            return
        self.phase, self.question = "ask", question
        self.head.show(self._clock())
        self.asked.show(self.question.question)
        self.said.show()
        self._visible("I have answered", "answer aloud, then g and Enter")

    def _next_follow_up(self):
        self.head.show(self._clock())
        self.said.show()
        if len(self.went_well) < len(self.question.follow_ups):
            self.asked.show(f"Follow-up: {self._follow_up()['question']}")
            self._visible("Show the answer", "answer aloud; g shows the answer; y or n")
        else:
            ticked = {i for i, box in enumerate(self.boxes) if box.value}
            self.talk.score(ticked, self.went_well)
            self._ask()

    def _follow_up(self) -> dict[str, str]:
        return self.question.follow_ups[len(self.went_well)]

    def _score_follow_up(self, well: bool):
        if self.phase != "follow":
            return
        self.went_well.append(well)
        self._next_follow_up()

    def _finish(self):
        self.phase = "over"
        self.path = self.talk.report()
        self.head.show("The interview is over.")
        self.asked.show("Your report")
        self.said.show(f"Kept as {self.path}")
        self.report.children = (TextLines(*self.talk.lines(), css="ftkit-talk-report"),)
        self._visible("", "o opens the report")

    def _open(self):
        """The page as it was written, in a frame that can run no script."""
        page = W.HTML(f"<iframe sandbox srcdoc='{html.escape(self.path.read_text('utf-8'))}' "
                      "style='width:100%;height:32em;border:1px solid #888;background:#fff' "
                      "title='report'></iframe>", layout=W.Layout(width="100%"))
        page.add_class("ftkit-talk-page")
        self.report.children = (self.report.children[0], page)
