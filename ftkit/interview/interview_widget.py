"""The mock interview in a notebook (`ft.drill(interview=True)`), by keyboard or mouse."""

from __future__ import annotations

import html
from pathlib import Path

import ipywidgets as W

from ftkit.interview.flashcards import set_visible
from ftkit.interview.mock import Talk
from ftkit.notebook.widgets import Paragraphs, TextLines, button, guarded


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
        self.prompt = TextLines("Answer each question aloud; then score yourself.",
                               bold=True, css="ftkit-talk-question")
        self.comment = TextLines(css="ftkit-talk-said")
        self.key = W.Text(placeholder="Enter starts", layout=W.Layout(width="26em"))
        self.key.add_class("ftkit-talk-key")
        self.key.observe(guarded(self._typed, self.comment.show), "value")
        self.ticks = W.VBox()
        self.go = button("Start", "play", self._go, "continue (type any letter and Enter)",
                         self.comment.show, "ftkit-talk-go")
        self.yes, self.no = (
            button(label, "", lambda well=well: self._score_follow_up(well), "", self.comment.show,
                   f"ftkit-talk-{'yes' if well else 'no'}")
            for label, well in (("y went well", True), ("n did not", False)))
        self.opens = button("Open the report", "file-text-o", self._open, "shown below (o)",
                           self.comment.show, "ftkit-talk-open")
        self.report = W.VBox()
        super().__init__([self.head, self.prompt, self.key, self.ticks,
                          W.HBox([self.go, self.yes, self.no, self.opens]), self.comment,
                          self.report])
        self.add_class("ftkit-talk")
        self._visible("Start", "g and Enter starts")

    def _visible(self, go: str, hint: str):
        self.go.description = go
        over = self.phase == "over"
        set_visible(not over, self.go)
        set_visible(self.phase == "follow", self.yes, self.no)
        set_visible(over, self.opens)
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
            self.comment.show(self._follow_up()["answer"])

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
        self.prompt.show(self.question.question)
        self.comment.show()
        self._visible("I have answered", "answer aloud, then g and Enter")

    def _next_follow_up(self):
        self.head.show(self._clock())
        self.comment.show()
        if len(self.went_well) < len(self.question.follow_ups):
            self.prompt.show(f"Follow-up: {self._follow_up()['question']}")
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
        self.prompt.show("Your report")
        self.comment.show(f"Kept as {self.path}")
        self.report.children = (TextLines(*self.talk.lines(), css="ftkit-talk-report"),)
        self._visible("", "o opens the report")

    def _open(self):
        """The page as it was written, in a frame that can run no script."""
        page = W.HTML(f"<iframe sandbox srcdoc='{html.escape(self.path.read_text('utf-8'))}' "
                      "style='width:100%;height:32em;border:1px solid #888;background:#fff' "
                      "title='report'></iframe>", layout=W.Layout(width="100%"))
        page.add_class("ftkit-talk-page")
        self.report.children = (self.report.children[0], page)
