"""Flash cards in a notebook (`ft.drill`), answered with the keyboard or the mouse.

One text field takes everything: the number of a choice or rating (acts at once), an answer and
Enter, or a key: p proves, u undoes the last rating, s suspends the card. Each has a button too. Tab
moves to a second field for the confidence, which is no drop-down because JupyterLab takes the arrow
keys, and the focus, away from one. Proofs run in their own thread.
"""

import base64
import threading

import ipywidgets as W

from ftkit.base.formatting import clean, to_attribute
from ftkit.interview import cards, session
from ftkit.interview.listening import Heard
from ftkit.lessons import predictions
from ftkit.notebook.widgets import Paragraphs, TextLines, button, guarded, row, spoken

TICKS = "abcdefghi"  # keys of the points of a rubric; digits rate
SURE = ("50 %", "70 %", "90 %", "99 %")  # suggestions; any percentage is taken
HELP = ("Say the answer aloud or type it, then press Enter. Enter alone shows the answer.",
        "After a typed answer come the questions that may follow, then the rubric: a, b, c tick "
        "the points that you said.",
        "Number cards take a unit (GB is not GiB); on choice cards type the number of a choice.",
        "How sure? Tab moves there: type a percentage, and Enter takes your answer with it. On a "
        "choice card say how sure first. Progress compares it with how often you were right.",
        f"Rate {cards.ALL_MEANINGS}; p proves the answer.",
        "u takes the last rating back, s suspends the card, and Progress has a button that brings "
        "it back.")
STYLE = """<style>
.ftkit-drill .ftkit-card-choice {text-align: left; white-space: normal; height: auto;
  line-height: 1.4; padding: 4px 10px}
</style>"""


class Ticks(W.VBox):
    """Checkboxes for the points of a rubric. Those found in the typed answer start ticked."""

    def show(self, heard: Heard, keys: str = "123456789", changed=None):
        """Show a box for each point. changed: called when one is ticked."""
        self.heard, self.asked = heard, set()
        self.boxes = [W.Checkbox(value=i in heard.said, indent=False, description=keys[i],
                                 layout=W.Layout(width="3em"), tooltip=point.text)
                      for i, point in enumerate(heard.points)]
        for box in self.boxes:
            box.observe(lambda _: (self._tick(), changed and changed()), "value")
        self.children = (TextLines("Which of these did you say? [weight]"), *(
            W.HBox([box, Paragraphs(f"[{point.weight}] {point.text}")])
            for box, point in zip(self.boxes, heard.points, strict=True))) if self.boxes else ()

    def _tick(self):
        self.heard.tick(i for i, box in enumerate(self.boxes) if box.value)

    def toggle(self, index: int) -> str:
        """Tick or untick a point; returns what is wrong with the index."""
        if not 0 <= index < len(self.boxes):
            return f"There is no point {index + 1}; there are {len(self.boxes)}."
        self.boxes[index].value = not self.boxes[index].value
        return ""

    def take(self) -> list[str]:
        """Untick points that a typed answer does not name, and ask for them; one that is ticked
        again counts."""
        doubtful = [i for i in self.heard.challenged() if i not in self.asked]
        self.asked |= set(doubtful)
        for i in doubtful:
            self.boxes[i].value = False
        return [self.heard.challenge(i) + " Tick it again if you said it in other words."
                for i in doubtful]


class Drill(W.VBox):
    """A drill in a notebook. `.session` is its core without widgets.

    level, topic, new, minutes, own, grader: see `session.Session`. store, now: for tests.
    """

    def __init__(self, level=None, topic=None, new: int = 10, store=None, now=None, minutes=None,
                 own=None, grader=None):
        self.session = session.Session(level, topic, new, store, now, minutes, own, grader)
        self.phase, self.proving, self.waiting = "ask", None, None
        self.head = TextLines(css="ftkit-card-head")
        self.front = TextLines(css="ftkit-card-front", bold=True)
        self.comment = Paragraphs(css="ftkit-card-said")
        self.number_prompt = TextLines(css="ftkit-card-number")
        self.back = Paragraphs(css="ftkit-card-back")
        self.key = W.Text(placeholder="", layout=W.Layout(width="30em"))
        self.key.add_class("ftkit-card-key")
        self.key.observe(guarded(self._typed, self.comment.show), "value")
        self.key.on_msg(self._entered)
        self.sure = W.Combobox(options=SURE, description="How sure?", placeholder="in %",
                               layout=W.Layout(width="15em"),
                               tooltip="how sure you are, in percent, before you answer")
        self.sure.add_class("ftkit-card-sure")
        self.sure.on_msg(self._entered)
        show_error = self.comment.show
        self.choices = [W.Button(layout=W.Layout(width="auto", max_width="100%"))
                        for _ in range(session.CHOICES)]
        for i, choice in enumerate(self.choices):
            choice.add_class("ftkit-card-choice")
            choice.add_class(f"ftkit-card-choice-{i + 1}")
            choice.on_click(guarded(lambda _, i=i: self._answer(str(i + 1)), show_error))
        self.show = button("Show the answer", "eye", self._show, "without answering (Enter)",
                           show_error, "ftkit-card-show")
        self.rates = [button(f"{i} {name}", "", lambda i=i: self._rate(i), cards.MEANINGS[i],
                             show_error, f"ftkit-rate-{i}") for i, name in cards.RATINGS.items()]
        self.prove = button("Prove it", "flask", self.start_proof,
                            "compute or run what the answer claims (p)", show_error, "ftkit-prove")
        self.proof, self.ticks = W.VBox(), Ticks()
        self.undo = button("Undo", "undo", self._undo, "take the last rating back (u)", show_error,
                           "ftkit-card-undo")
        self.suspend = button("Suspend", "pause", self._suspend, "ask this card no more (s)",
                              show_error, "ftkit-card-suspend")
        self.chart = button("Progress", "bar-chart", self._progress, "cards, reviews and how sure "
                            "you were, by topic", show_error, "ftkit-card-progress")
        self.help = button("Help", "question", lambda: self.comment.show(*HELP),
                           "all keys and ratings (?)", show_error, "ftkit-card-help")
        self.charts = W.VBox()
        super().__init__([
            self.head, self.front, self.number_prompt, row(self.key, self.sure),
            W.VBox(self.choices), self.show,
            self.comment, self.ticks, row(*self.rates, self.prove), self.proof, self.back,
            row(self.undo, self.suspend, self.chart, self.help),
            self.charts, spoken(".ftkit-drill", "interview cards",
                                {".ftkit-card-key": "answer, rating or key"},
                                [f".ftkit-card-{name}" for name in
                                 ("front", "number", "said", "back")], STYLE)])
        for control in (self.show, self.chart):
            control.layout.width = "fit-content"
        self.add_class("ftkit-drill")
        self._ask()

    # ---------------------------------------------------------------------------- display

    def _ask(self):
        current = self.session
        self.phase = "over" if current.over else "ask"
        self.head.show(current.progress())
        self.front.show("" if current.over else current.card.front)
        self.number_prompt.show(current.number_prompt())
        self.back.show()
        self.proof.children = self.ticks.children = ()
        self.proving = None
        unit = f" in {current.unit}" if current.unit else ""
        hints = {"number": f"your number{unit}, then Enter (u undo, s suspend, ? help)",
                 "choice": "1 to 4 (u undo, s suspend, ? help)",
                 "recall": "say it or type it, then Enter (u undo, s suspend, ? help)"}
        self.key.value = ""  # a half-typed answer belongs to the card before
        self.key.continuous_update = current.kind == "choice"
        over = "Enter looks for due cards" + (" (u undo, then Enter)" if current.rated else "")
        self.key.placeholder = over if current.over else hints[current.kind]
        for i, choice in enumerate(self.choices):
            has_option = i < len(current.options)
            choice.description = f"{i + 1}  {clean(current.options[i])}" if has_option else ""
            set_visible(has_option, choice)
        self.sure.value = ""
        self._visible()

    def _visible(self):
        asking, rating = self.phase == "ask", self.phase == "rate"
        set_visible(asking, self.show)
        set_visible(asking, self.sure)
        set_visible(self.phase != "over", self.suspend)
        set_visible(bool(self.session.rated), self.undo)
        set_visible(rating, *self.rates)
        set_visible(rating and bool(self.session.proofs), self.prove)

    def _show(self):
        if self.phase not in ("ask", "follow"):
            return
        if self.phase == "follow":
            self.front.show(self.session.card.front)
        self.phase = "rate"
        if self.session.verdict is None:
            self.session.show_rubric()
            # Not what was said about the card before.
            self.comment.show(*self.session.doubts(), *self.session.heard.verdicts)
            self.ticks.show(self.session.heard, TICKS, self._suggest)
        self.back.show(*(f"**{line}**" if line.startswith("In short: ") else line
                         for line in self.session.card.solution(self.session.own)))
        self.key.continuous_update = True
        self.key.placeholder = (
            "rate 1 to 4" + (", a b c tick" if self.ticks.children else "")
            + (", p proves it" if self.session.proofs else "") + " (u undo, s suspend, ? help)")
        for i, choice in enumerate(self.choices):
            if choice.layout.display != "none":
                mark = "✓" if i == self.session.correct else "✗"
                choice.description = f"{mark}  {choice.description[3:]}"
        self._suggest()
        self._visible()
        self.key.focus()  # the control that had the focus may be hidden now

    def _suggest(self):
        suggested = self.session.suggested()
        for i, control in enumerate(self.rates, 1):
            control.button_style = "primary" if i == suggested else ""

    def _follow_up(self):
        """Ask the next follow-up of a typed answer; after the last one show the back."""
        if self.phase == "follow":
            self.comment.show(f"One answer: {self.following['answer']}")
        if follow := next(self.follow_ups, None):
            self.phase, self.following = "follow", follow
            self.front.show(f"Follow-up: {follow['question']}")
            self._visible()
            self.key.focus()
        else:
            self._show()

    # ---------------------------------------------------------------------------- actions

    def _entered(self, field, content, buffers):
        """Enter takes the text of the field; an empty field shows the answer. The page sends Enter
        before the text, so this waits half a second for it."""
        if content.get("event") == "submit" and self.phase in ("ask", "follow", "over"):
            self.waiting = threading.Timer(0.5, guarded(self._take_field, self.comment.show),
                                           (field,))
            self.waiting.start()

    def _take_field(self, field):
        """Act on Enter after the wait; a text that arrived meanwhile was taken by `_typed`."""
        if self.waiting is not threading.current_thread():
            return
        if self.key.value.strip():
            self._typed({"new": self.key.value})
            return
        self.waiting = None
        if self.phase == "over":
            self.session.next()
            self._ask()
        elif self.phase == "follow":
            self._follow_up()
        elif field is self.key:
            self._show()
        else:  # how sure is said, the answer is still to come
            self.key.focus()

    def _typed(self, change):
        text = change["new"].strip()
        if not text:
            return
        asking = self.phase in ("ask", "follow")
        if asking and self.session.kind != "choice" and self.waiting is None:
            return  # the focus has left the field, to say how sure one is; Enter is still to come
        word, self.waiting = text.lower(), None
        if self.phase == "ask" and word not in ("u", "undo", "s", "suspend", "?"):
            session.parse_confidence(self.sure.value)  # raises before the answer is gone
        self.key.value = ""
        if word == "?":
            self.comment.show(*HELP)
        elif word in ("u", "undo"):
            self._undo()
        elif word in ("s", "suspend") and self.phase != "over":
            self._suspend()
        elif self.phase == "rate" and text[-1] in "1234":
            self._rate(int(text[-1]))
        elif self.phase == "rate" and text[-1].lower() == "p" and self.session.proofs:
            self.start_proof()
        elif self.phase == "rate" and self.ticks.children and text[-1].lower() in TICKS:
            if told := self.ticks.toggle(TICKS.index(text[-1].lower())):
                self.comment.show(told)
        elif self.phase == "rate":
            self.comment.show(f"{text[:40]!r} is not a rating: type 1 again, 2 hard, 3 good or 4 "
                              "easy")
        elif asking and self.session.kind == "recall":
            if self.phase == "ask":
                self.follow_ups = iter(self.session.question.follow_ups if self.session.question
                                       else ())
            self.session.recall(text, session.parse_confidence(self.sure.value))
            self._follow_up()
        elif self.phase == "ask":
            self._answer(text)

    def _answer(self, text: str):
        if self.phase != "ask":
            return
        right, comment = self.session.answer(text,
                                              session.parse_confidence(self.sure.value))
        self.comment.show(f"{'✓' if right else '✗'} {comment}")
        self._show()

    def _rate(self, rating: int):
        if self.phase != "rate":
            return
        if self.ticks.children and (doubts := self.ticks.take()):
            self.comment.show(*doubts)
            return
        self._continue(self.session.rate(rating))

    def _undo(self):
        self._continue(self.session.undo())

    def _suspend(self):
        self._continue(f"{self.session.suspend()}, by a button below Progress")

    def _continue(self, said: str):
        self.comment.show(said)
        self._ask()
        self.key.focus()

    def _resume(self, key: str):
        self.comment.show(self.session.resume(key))
        self._progress()
        if self.phase == "over":
            self._ask()

    def start_proof(self):
        """Run the proofs of the card's question, one after the other, and draw each."""
        if self.phase != "rate" or not self.session.proofs:
            return
        if self.proving is not None and self.proving.is_alive():
            return
        state = TextLines("The proof runs; it may take half a minute ...", css="ftkit-proof-state")
        box = W.VBox([state])
        self.proof.children = (box,)
        self.proving = threading.Thread(
            target=guarded(self._prove, state.show), args=(self.session.proofs, box, state),
            daemon=True, name="ftkit-proof")
        self.proving.start()

    def _prove(self, stated_claims, box, state):
        from ftkit.interview.proofs import core

        for i, stated in enumerate(stated_claims, 1):
            state.show(f"Proof {i} of {len(stated_claims)} runs; it may take half a minute ...")
            picture = core.draw(core.prove(stated))
            box.children = (*box.children, _image(picture),
                            TextLines(picture.text, css="ftkit-proof-text"))
        state.show("proved")

    def _progress(self):
        self.charts.children = (
            TextLines("The charts are drawn; the first time takes some seconds ..."),)
        rows = cards.by_topic(list(self.session.deck.values()), self.session.store)
        lines = [f"{r['topic']}: {r['seen']} of {r['cards']} seen, {r['due']} due"
                 + (f", known {r['known']}" if "known" in r else "") for r in rows]
        self.charts.children = (
            _image(draw_topics(rows)), _image(predictions.calibration()),
            TextLines(*lines, css="ftkit-card-topics"), *map(self._suspended_row,
                                                             self.session.suspended()))

    def _suspended_row(self, card: cards.FlashCard) -> W.HBox:
        back = button("Bring back", "play", lambda: self._resume(card.key), "ask this card again",
                      self.comment.show, "ftkit-card-resume")
        return row(back, TextLines(f"suspended: {card.front}"))


def set_visible(visible: bool, *controls: W.DOMWidget):
    """Show these controls, or hide them so that they take up no space."""
    for control in controls:
        control.layout.display = "" if visible else "none"


def _image(picture) -> W.HTML:
    """A picture with its alternative text, which an Image widget cannot have."""
    return W.HTML(f"<img alt='{to_attribute(picture.text)}' style='max-width:100%' "
                  f"src='data:image/png;base64,{base64.b64encode(picture.png(100)).decode()}'>")


def draw_topics(rows: list[dict]):
    """A chart of the cards seen, unseen and due per topic."""
    from ftkit.report import style

    with style.style():
        height = 0.6 + 0.26 * max(2, len(rows))
        figure = style.new_figure(6.4, height)
        ax = figure.add_axes((0.24, 0.5 / height, 0.6, 1 - 0.6 / height))
        positions = range(len(rows))
        ax.barh(positions, [r["cards"] for r in rows], color="#dddddd", height=0.7)
        ax.barh(positions, [r["seen"] for r in rows], color=style.COLORS[0], height=0.7)
        for y, r in zip(positions, rows, strict=True):
            ax.text(r["cards"], y, f"  {r['seen']} of {r['cards']}"
                    + (f", {r['due']} due" if r["due"] else ""), va="center")
        ax.set_yticks(positions, [clean(r["topic"]) for r in rows], parse_math=False)
        ax.invert_yaxis()
        ax.set_xlabel("cards: seen (dark), all (light)")
    seen, total = sum(r["seen"] for r in rows), sum(r["cards"] for r in rows)
    return style.Picture(figure, f"{seen} of {total} cards seen.")

