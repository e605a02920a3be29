"""The clinic in a notebook (`ft.drill(clinic=True)`), by keyboard or mouse.

One text field takes a number (a reading), the name of a cause or words of it, or a key, then Enter.
"""

from __future__ import annotations

import ipywidgets as W

from ftkit.interview import clinic_cases
from ftkit.interview.clinic_round import CAUSE, TRUE, WRONG, Round
from ftkit.interview.flashcards import set_visible
from ftkit.notebook.widgets import Code, Paragraphs, TextLines, button, guarded, row, spoken

MARKS = {CAUSE: "✓", TRUE: "○", WRONG: "✗"}
HINT = "reading by number, or cause by name, then Enter"
HELP = ("Read what was sent, and ask for what you would look at next by its number. Then name one "
        "cause that explains everything: its name, or words of it. For a wrong name the clinic "
        "says what that cause would show; a true finding that is not the cause is accepted as "
        "true.",
        "c lists the causes, g gives up and shows the answer, n takes the next case, ? shows this.")


class Clinic(W.VBox):
    """Cases in random order; `.visit` is the current one, without widgets. seed: for tests."""

    def __init__(self, seed: int | None = None):
        self.round, self.visit = Round(seed), None
        self.head = TextLines("Runs that went wrong, as a colleague would send them",
                              css="ftkit-clinic-head", bold=True)
        self.sent = Paragraphs(css="ftkit-clinic-sent")
        self.log_text = Code("ftkit-clinic-log")
        self.key = W.Text(placeholder="n and Enter takes the first case", continuous_update=False,
                          layout=W.Layout(width="30em", max_width="100%"))
        self.key.add_class("ftkit-clinic-key")
        self.comment = Paragraphs(css="ftkit-clinic-said")
        show_error = self.comment.show
        self.key.observe(guarded(self._typed, show_error), "value")
        self.readings = W.HBox(layout=W.Layout(flex_flow="row wrap"))
        self.next = button("Next case", "play", self._next, "n", show_error, "ftkit-clinic-next")
        self.list = button("Causes", "list", self._causes, "c", show_error, "ftkit-clinic-causes")
        self.give_up = button("Give up", "eye", self._give_up, "g", show_error,
                              "ftkit-clinic-give-up")
        self.help = button("Help", "question", lambda: self.comment.show(*HELP), "?", show_error,
                           "ftkit-clinic-help")
        super().__init__([
            self.head, self.sent, self.log_text, self.key, self.readings, self.comment,
            row(self.next, self.list, self.give_up, self.help),
            spoken(".ftkit-clinic", "clinic", {".ftkit-clinic-key": "reading, cause or key"},
                   [f".ftkit-clinic-{name}" for name in ("head", "sent", "said")])])
        self.add_class("ftkit-clinic")
        set_visible(False, self.give_up)

    def _typed(self, change):
        text = change["new"].strip()
        if not text:
            return
        self.key.value = ""
        keys = {"n": self._next, "c": self._causes, "g": self._give_up,
                "?": lambda: self.comment.show(*HELP)}
        if text.lower() in keys:
            keys[text.lower()]()
        elif self.visit is None:
            self.comment.show("n takes the first case")
        elif text.isdecimal():
            self.comment.show(self.visit.ask(text))
        else:
            verdict = self.visit.name(text)
            self.comment.show(f"{MARKS[verdict.kind]} {verdict.text}")
            self._closed()

    def _next(self):
        self.head.show("The next case is being made: a few seconds ...")
        self.key.placeholder = HINT  # now: a page that gets a new hint empties the field
        visit = self.visit = self.round.visit()
        self.head.show(f"Case {self.round.next}")
        lines = [f"– {line.strip()}" if line.startswith(" ") else line
                 for line in self.visit.lines()]
        self.sent.show(*lines[: lines.index("Log:")], self.visit.sent.made)
        self.log_text.show("\n".join(self.visit.log_lines()))
        self.comment.show()
        names = list(self.visit.sent.readings)
        self.readings.children = tuple(
            button(f"{i} {name}", "", lambda i=i: self.comment.show(visit.ask(str(i))),
                   "ask for this reading", self.comment.show, f"ftkit-clinic-reading-{i}")
            for i, name in enumerate(names, 1))
        set_visible(True, self.give_up)

    def _causes(self):
        self.comment.show(*(f"{name}: {cause.title}" for name, cause in
                            clinic_cases.CAUSES.items()))

    def _give_up(self):
        if self.visit is not None:
            self.comment.show(self.visit.give_up())
            self._closed()

    def _closed(self):
        if self.visit is not None and self.visit.over:
            self.key.placeholder = "n and Enter takes the next case"
            set_visible(False, self.give_up)
