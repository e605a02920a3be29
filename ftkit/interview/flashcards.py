"""`ft.drill`: flash cards and a mock interview in a notebook, played with the keyboard or mouse.

One line takes what is typed: a number of a choice or of a rating acts at once, an amount or a word
with Enter; p proves. Each of these is a button too. Proofs run in a thread of their own.
"""

from __future__ import annotations

import threading

import ipywidgets as W

from ftkit.base.formatting import clean
from ftkit.interview import cards, session
from ftkit.lessons import predictions
from ftkit.notebook.widgets import Paragraphs, TextLines, button, guarded

SURE = (("how sure?", 0), ("guess: 50 %", 0.5), ("70 %", 0.7), ("90 %", 0.9), ("certain", 0.99))
RATE = ("1 again", "2 hard", "3 good", "4 easy")


class Drill(W.VBox):
    """The cards that are due, one after the other; `.session` has no widgets in it.

    level, topic: names, several separated by commas, or None for all ("your misses" is a topic).
    new: new cards at most. store, now: for tests.
    """

    def __init__(self, level=None, topic=None, new: int = 10, store=None, now=None):
        self.session = session.Session(level, topic, new, store, now)
        self.phase, self.proving = "ask", None
        self.head = TextLines(css="ftkit-card-head")
        self.front = TextLines(css="ftkit-card-front", bold=True)
        self.said = TextLines(css="ftkit-card-said")
        self.wanted = TextLines(css="ftkit-card-wanted")
        self.back = Paragraphs(css="ftkit-card-back")
        self.key = W.Text(placeholder="", layout=W.Layout(width="26em"))
        self.key.add_class("ftkit-card-key")
        self.key.observe(guarded(self._typed, self.said.show), "value")
        self.sure = W.Dropdown(options=SURE, layout=W.Layout(width="9em"),
                               tooltip="how sure you are, before you answer")
        tell = self.said.show
        self.choices = [W.Button(layout=W.Layout(width="auto", max_width="100%"))
                        for _ in range(session.CHOICES)]
        for i, choice in enumerate(self.choices):
            choice.add_class(f"ftkit-card-choice-{i + 1}")
            choice.on_click(guarded(lambda _, i=i: self._answer(str(i + 1)), tell))
        self.show = button("Show the answer", "eye", self._show, "without answering (Enter)", tell,
                           "ftkit-card-show")
        self.rates = [button(name, "", lambda i=i: self._rate(i), tip, tell, f"ftkit-rate-{i}")
                      for i, (name, tip) in enumerate(zip(RATE, (
                          "did not know it", "knew a part", "knew it", "could teach it"),
                          strict=True), 1)]
        self.prove = button("Prove it", "flask", self.start_proof,
                            "compute or run what the answer claims (p)", tell, "ftkit-prove")
        self.proof = W.VBox()
        self.chart = button("Progress", "bar-chart", self._progress, "cards, reviews and how sure "
                            "you were, by topic", tell, "ftkit-card-progress")
        self.charts = W.VBox()
        super().__init__([
            self.head, self.front, self.wanted, W.HBox([self.key, self.sure]),
            W.VBox(self.choices), self.show,
            self.said, self.back, W.HBox([*self.rates, self.prove]), self.proof, self.chart,
            self.charts])
        for control in (self.show, self.chart):
            control.layout.width = "fit-content"
        self.add_class("ftkit-drill")
        self._ask()

    # ------------------------------------------------------------------ what is to be seen

    def _ask(self):
        now = self.session
        self.phase = "ask" if now.card else "over"
        self.head.show(now.progress())
        self.front.show(now.card.front if now.card else "")
        self.wanted.show(now.wanted())
        self.back.show()
        self.proof.children = ()
        self.proving = None
        unit = now.card.question.typed["unit"] if now.kind == "number" and now.card else ""
        hints = {"number": f"your number{' in ' + unit if unit else ''}, then Enter",
                 "choice": "1 to 4, or Enter to see the answer",
                 "recall": "say it aloud, then Enter"}
        self.key.continuous_update = now.kind != "number"
        self.key.placeholder = hints[now.kind] if now.card else "nothing is due"
        for i, choice in enumerate(self.choices):
            shown = now.kind == "choice" and i < len(now.options)
            choice.description = f"{i + 1}  {clean(now.options[i])}" if shown else ""
            choice.layout.display = "" if shown else "none"
        self.sure.value = 0
        self._visible()

    def _visible(self):
        asking, rating = self.phase == "ask", self.phase == "rate"
        self.show.layout.display = "" if asking else "none"
        self.sure.layout.display = "" if asking and self.session.kind != "recall" else "none"
        for control in self.rates:
            control.layout.display = "" if rating else "none"
        question = self.session.card.question if self.session.card else None
        self.prove.layout.display = "" if rating and question and question.proofs else "none"

    def _show(self):
        if self.phase != "ask":
            return
        self.phase = "rate"
        self.back.show(*session.solution(self.session.card))
        self.key.continuous_update = True
        self.key.placeholder = "rate yourself 1 to 4, p proves it"
        for i, choice in enumerate(self.choices):
            if choice.layout.display != "none":
                mark = "✓" if i == self.session.correct else "✗"
                choice.description = f"{mark}  {choice.description[3:]}"
        suggested = self.session.suggested()
        for i, control in enumerate(self.rates, 1):
            control.button_style = "primary" if i == suggested else ""
        self._visible()

    # -------------------------------------------------------------------- what can be done

    def _typed(self, change):
        text = change["new"].strip()
        if not text:
            return
        self.key.value = ""
        if self.phase == "rate" and text[-1] in "1234":
            self._rate(int(text[-1]))
        elif self.phase == "rate" and text[-1].lower() == "p":
            self.start_proof()
        elif self.phase == "ask" and self.session.kind == "recall":
            self._show()
        elif self.phase == "ask":
            self._answer(text)

    def _answer(self, text: str):
        if self.phase != "ask":
            return
        right, said = self.session.answer(text, self.sure.value or None)
        self.said.show(f"{'✓' if right else '✗'} {said}")
        self._show()

    def _rate(self, rating: int):
        if self.phase != "rate":
            return
        self.said.show(self.session.rate(rating))
        self._ask()

    def start_proof(self):
        """Run the proofs of the card's question, one after the other, and draw each."""
        card = self.session.card
        if self.phase != "rate" or not card.question or not card.question.proofs:
            return
        if self.proving is not None and self.proving.is_alive():
            return
        box = W.VBox([TextLines("proving it ...", css="ftkit-proof-state")])
        self.proof.children = (box,)
        work = guarded(self._prove, box.children[0].show)
        self.proving = threading.Thread(target=work, args=(card.question, box), daemon=True,
                                        name="ftkit-proof")
        self.proving.start()

    def _prove(self, question, box):
        from ftkit.interview.proofs import core

        for stated in question.proofs:
            picture = core.draw(core.prove(stated))
            box.children = (*box.children, W.Image(value=picture.png(100), format="png",
                                                   layout=W.Layout(width="fit-content")),
                            TextLines(picture.text, css="ftkit-proof-text"))
        box.children[0].show("proved")

    def _progress(self):
        rows = cards.by_topic(list(self.session.deck.values()), self.session.store)
        lines = [f"{r['topic']}: {r['seen']} of {r['cards']} seen, {r['due']} due"
                 + (f", known {r['known']}" if "known" in r else "") for r in rows]
        self.charts.children = (
            W.Image(value=picture_of(rows).png(100), format="png",
                    layout=W.Layout(width="fit-content")),
            W.Image(value=predictions.calibration().png(100), format="png",
                    layout=W.Layout(width="fit-content")),
            TextLines(*lines, css="ftkit-card-topics"))


def picture_of(rows: list[dict]):
    """Cards seen and not seen per topic, and how many are due."""
    from ftkit.report import style as fig

    with fig.style():
        high = 0.6 + 0.26 * max(2, len(rows))
        figure = fig.new_figure(6.4, high)
        ax = figure.add_axes((0.24, 0.5 / high, 0.6, 1 - 0.6 / high))
        places = range(len(rows))
        ax.barh(places, [r["cards"] for r in rows], color="#dddddd", height=0.7)
        ax.barh(places, [r["seen"] for r in rows], color=fig.COLORS[0], height=0.7)
        for place, r in zip(places, rows, strict=True):
            ax.text(r["cards"], place, f"  {r['seen']} of {r['cards']}"
                    + (f", {r['due']} due" if r["due"] else ""), va="center")
        ax.set_yticks(places, [clean(r["topic"]) for r in rows], parse_math=False)
        ax.invert_yaxis()
        ax.set_xlabel("cards: seen (dark), all (light)")
    seen, every = sum(r["seen"] for r in rows), sum(r["cards"] for r in rows)
    return fig.Picture(figure, f"{seen} of {every} cards seen.")

