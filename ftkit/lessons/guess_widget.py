"""Buttons and slider for a guess in a notebook; see `predictions.Prediction`.

The question and its options are one output, in plain HTML that also shows without a kernel. The
controls are a second output. `finish` replaces them by the guess alone: the result is shown in the
cell that scores it, so that a page that was executed gives nothing away under its question.
"""

import itertools
import math
from collections.abc import Callable

import ipywidgets as W
from IPython.display import DisplayHandle, display

from ftkit.base.formatting import cell, clean, to_float, with_code

SURE = 100  # percent
LOWEST = 10  # of a guess without options
_numbers = itertools.count(1)

# Live buttons hide the list of options, and JupyterLab's message about a missing kernel.
STYLE = """<style>
.jp-OutputArea-child:has(.ftkit-question):has(+ .jp-OutputArea-child .ftkit-guess) .ftkit-options,
.jp-OutputArea-child:has(.ftkit-question) + .jp-OutputArea-child:not(
  :has(.ftkit-guess), :has([data-mime-type])) {display: none}
.ftkit-guess button {white-space: normal; height: auto; min-height: 2.2em; line-height: 1.3;
  padding: 0.3em 0.8em; max-width: 100%; overflow: visible;
  border: 1px solid var(--jp-border-color0, #757575); opacity: 1}
.ftkit-guess button.ftkit-chosen {outline: 2px solid currentColor; font-weight: bold}
.ftkit-guess button.jupyter-button:focus-visible:enabled,
.ftkit-guess .noUi-handle:focus-visible {outline: 3px solid #0072B2; outline-offset: 2px}
</style>"""

# ipywidgets gives a slider no accessible name and has no live regions, so the page adds them.
# Notebook 7 (whose body has this attribute) takes the arrow keys from a slider.
LABELS = """<script>(() => {
const timer = setInterval(() => {
  const guess = document.querySelector(".NAME");
  if (!guess || !guess.querySelector(".noUi-handle")) return;
  clearInterval(timer);
  guess.setAttribute("role", "group");
  guess.setAttribute("aria-label", guess.querySelector(".ftkit-guess-title").textContent);
  const handle = guess.querySelector(".noUi-handle");
  handle.setAttribute("aria-label", "how sure you are, in percent");
  // Tab would stop at the number, too; Escape does not lead out of it, and letters stay in it.
  guess.querySelector(".widget-readout")?.setAttribute("tabindex", "-1");
  if (document.body.dataset.notebook) handle.dataset.lmSuppressShortcuts = "true";
  guess.querySelector(".ftkit-guess-status").setAttribute("aria-live", "polite");
}, 200);
setTimeout(() => clearInterval(timer), 60000);
})()</script>"""


class Controls:
    """A button for each option, or a field for a number, and a slider for the confidence.

    Calls `record(guess, confidence)` for every choice and change.
    """

    def __init__(self, question: str, options: tuple[str, ...], guess, confidence: float | None,
                 record: Callable):
        self.options, self.guess, self.record = options, guess, record
        self.name = f"ftkit-guess-{next(_numbers)}"
        # A guess at random among k options is right in 1 / k of the cases.
        chance = round(SURE / len(options)) if options else LOWEST
        percent = chance if confidence is None else round(100 * confidence)
        self.slider = W.IntSlider(
            value=percent, min=min(chance, percent), max=SURE, continuous_update=False,
            description="how sure, in %", style={"description_width": "initial"},
            layout=W.Layout(width="22em", max_width="98%"))
        self.slider.observe(lambda _: self._keep(self.guess), "value")
        self.status = W.HTML()
        self.status.add_class("ftkit-guess-status")
        self.title = W.HTML(f"<span class='ftkit-guess-title' style='position:absolute;width:1px;"
                            f"height:1px;overflow:hidden'>Your guess: {with_code(question)}</span>")
        self.buttons = [self._button(option) for option in options]
        self.field = W.Text(placeholder="a number, then Enter", continuous_update=False,
                            description="your guess",
                            layout=W.Layout(width="22em", max_width="98%"))
        if guess is not None and not options:
            self.field.value = str(guess)
        self.field.observe(self._typed, "value")
        self.choices = W.Box(self.buttons or [self.field],
                             layout=W.Layout(flex_flow="row wrap", overflow="visible"))
        self.box = W.VBox([self.title, self.choices, self.slider, self.status],
                          layout=W.Layout(overflow="visible"))
        self.box.add_class("ftkit-guess")
        self.box.add_class(self.name)
        self.output: DisplayHandle | None = None
        self._show()

    def _button(self, option: str) -> W.Button:
        button = W.Button(tooltip=f"guess: {clean(option)}",
                          layout=W.Layout(width="auto", height="auto"))
        button.on_click(lambda _: self._keep(option))
        return button

    def _typed(self, change):
        value = to_float(change["new"].replace(",", ""))  # 1,000 is a thousand
        if math.isfinite(value):
            self._keep(value)
        elif change["new"].strip():
            self._say(f"{change['new']!r} is not a number")

    def _keep(self, guess):
        if guess is not None and self.output is not None:
            self.guess = guess
            self.record(guess, self.slider.value / 100)
            self._show()

    def _show(self):
        for option, button in zip(self.options, self.buttons, strict=False):
            chosen = option == self.guess
            plain = clean(option).replace("`", "")  # a button shows no code
            button.description = f"✓ {plain}" if chosen else plain
            (button.add_class if chosen else button.remove_class)("ftkit-chosen")
        if self.guess is None:
            self._say("Choose before you run the next cell." if self.options else
                      "Type a number before you run the next cell.")
        else:
            self._say(f"Recorded: {cell(self.guess)}, {self.slider.value} % sure. "
                      "You can change it until the result is shown.")

    def _say(self, text: str):
        self.status.value = f"<div style='line-height:1.4'>{with_code(clean(text))}</div>"

    def display(self, page: str, text: str):
        """Show the question, as HTML and text, with the controls below it."""
        display({"text/html": STYLE + page + LABELS.replace("NAME", self.name),
                 "text/plain": text}, raw=True)
        view = self.box._repr_mimebundle_() or {}
        self.output = display(dict(view) | {"text/plain": "(run this cell to choose by click)"},
                              raw=True, display_id=True)

    def finish(self, bundle: dict):
        """Replace the controls by `bundle`, the guess as text and HTML; the guess is final."""
        output, self.output = self.output, None
        if output is not None:
            output.update(bundle, raw=True)
        # A box that was left open would refer to closed widgets: after a reload of the page
        # ipywidgets then fails for all widgets of the notebook.
        for widget in (self.box, self.choices, self.title, *self.buttons, self.field, self.slider,
                       self.status):
            widget.close()
