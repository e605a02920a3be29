"""The clinic in a notebook (`ft.drill(clinic=True)`), by keyboard or mouse.

One text field takes a number (a reading), the name of a cause or words of it, or a key, then Enter.
"""

import ipywidgets as W

from ftkit.interview.clinic_round import COST, Round
from ftkit.interview.flashcards import set_visible
from ftkit.notebook.widgets import Code, Paragraphs, TextLines, button, guarded, row, spoken

HINT = "reading by number, or cause by name, then Enter"


class Clinic(W.VBox):
    """Cases in random order. `.visit` is the current one, without widgets. seed: for tests."""

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
        self.list, self.give_up, self.help = (
            button(text, icon, lambda key=key: self._reply(key), key, show_error,
                   f"ftkit-clinic-{css}")
            for text, icon, key, css in (("Causes", "list", "c", "causes"),
                                         ("Give up", "eye", "g", "give-up"),
                                         ("Help", "question", "?", "help")))
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
        if text.lower() == "n":
            self._next()
        else:
            self._reply(text)

    def _reply(self, text: str):
        self.comment.show(*self.round.reply(text))
        if self.visit is not None and self.visit.over:
            self.key.placeholder = "n and Enter takes the next case"
            set_visible(False, self.give_up)

    def _next(self):
        self.head.show("The next case is being made: a few seconds ...")
        self.key.placeholder = HINT  # now: a page that gets a new hint empties the field
        visit = self.visit = self.round.visit()
        self.head.show(f"Case {self.round.next}")
        lines = [f"– {line.strip()}" if line.startswith(" ") else line
                 for line in visit.lines()]
        self.sent.show(*lines[: lines.index("Log:")], visit.sent.made)
        self.log_text.show("\n".join(visit.log_lines()))
        self.comment.show(*([COST] if self.round.next == 1 else []))
        names = list(visit.sent.readings)
        self.readings.children = tuple(
            button(f"{i} {name}", "", lambda i=i: self._reply(str(i)), "ask for this reading",
                   self.comment.show, f"ftkit-clinic-reading-{i}")
            for i, name in enumerate(names, 1))
        set_visible(True, self.give_up)
