"""Guesses before a run, and how well their confidence matches the results.

    p = ft.predict("What does val_loss do?", "falls", "rises")     # a notebook draws buttons
    p = ft.predict("What does val_loss do?", "falls", "rises", guess="falls", confidence=0.7)
    p.score("rises")                                               # in a later cell
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TypedDict

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean, with_code
from ftkit.evaluate import metrics
from ftkit.lessons import progress_log

FEW_GUESSES = 10  # with fewer, the interval is so wide that nearly every confidence fits
WITHIN = 0.1  # a guessed number is right within this fraction of the result


class Prediction:
    """A question, the learner's guess and, after `score`, the result; displays itself.

    With a kernel it draws buttons or a field for a number, and a slider for the confidence. Each
    click is recorded at once and can be changed until `score`. `right` is None without a guess or
    a result.
    """

    def __init__(self, question: str, options: tuple[str, ...], guess, confidence: float | None,
                 topic: str = ""):
        self.question, self.options, self.guess = question, options, guess
        self.confidence, self.topic = confidence, topic
        self.actual, self.right = None, None
        self._controls = None

    def record(self, guess, confidence: float | None):
        """Store the learner's guess."""
        self.guess, self.confidence = guess, confidence
        progress_log.add("predict", question=self.question, options=list(self.options),
                         guess=guess, confidence=confidence, topic=self.topic)

    def score(self, actual, within: float = WITHIN) -> Prediction:
        """Compare the guess with the result, an option or a number; returns the prediction.

        within: tolerance for a guessed number, as a fraction of the result. `calibration` counts
        the first result only. Raises UserError for a result that is not an option.
        """
        self.actual = _option(actual, self.options, "the result") if self.options else actual
        if self.guess is not None:
            self.right = _agrees(self.guess, self.actual, within)
            progress_log.add("score", question=self.question, guess=self.guess, actual=self.actual,
                             right=self.right, confidence=self.confidence, topic=self.topic)
        if self._controls is not None:
            self._controls.finish(self._bundle([self._said()]))
            self._controls = None
        return self

    def picture(self):
        """A guessed number and the result on one axis; None for options and before `score`."""
        from ftkit.report import style as fig

        if self.options or not (_is_number(self.guess) and _is_number(self.actual)):
            return None
        with fig.style():
            figure = fig.new_figure(6.4, 1.3)
            ax = figure.add_axes((0.18, 0.32, 0.78, 0.63))
            fig.draw_seeds(ax, [[_float(self.actual)], [_float(self.guess)]], [0, 1])
            ax.set_yticks([0, 1], ["result", "your guess"])
        return fig.Picture(figure, " · ".join(self._lines()))

    def _said(self) -> str:
        """The line on the learner's guess."""
        if self.guess is not None:
            confidence = "" if self.confidence is None else f" ({self.confidence:.0%} sure)"
            return f"your guess: {cell(self.guess)}{confidence}"
        if self.actual is not None:
            return "no guess was made, so none is counted"
        return ("no guess yet: " + (f"choose one of {', '.join(map(repr, self.options))}"
                                    if self.options else "give a number"))

    def _lines(self) -> list[str]:
        lines = [self.question, self._said()]
        if self.actual is not None:
            mark = {True: " ✓ right", False: " ✗ not this time", None: ""}[self.right]
            lines.append(f"result: {cell(self.actual)}{mark}")
        return [clean(line) for line in lines]

    def __repr__(self):
        return " | ".join(self._lines())

    def _repr_html_(self):
        return self._bundle(self._lines())["text/html"]

    def _question_page(self) -> str:
        """Question and options as HTML that needs no kernel."""
        options = "".join(f"<li>{with_code(clean(option))}</li>" for option in self.options)
        return (f"<div class='ftkit-question'><b>{with_code(clean(self.question))}</b>"
                f"<ul class='ftkit-options'>{options}</ul></div>")

    def _ipython_display_(self):
        from IPython.display import display

        if self.actual is not None or not machine.in_notebook():
            display(self._repr_mimebundle_(), raw=True)
            return
        from ftkit.lessons.guess_widget import Controls

        self._controls = Controls(self.question, self.options, self.guess, self.confidence,
                                  self.record)
        self._controls.display(self._question_page(), repr(self))

    def _repr_mimebundle_(self, include=None, exclude=None):
        return self._bundle(self._lines())

    def _bundle(self, lines: list[str]) -> dict:
        """The lines as text and as HTML, the question in bold; several lines with the picture."""
        page = "<br>".join(f"<b>{with_code(line)}</b>" if line == clean(self.question) else
                           with_code(line) for line in lines)
        bundle = {"text/plain": " | ".join(lines), "text/html": f"<div>{page}</div>"}
        picture = self.picture() if len(lines) > 1 else None
        if picture:
            picture.text = ""
            bundle["text/html"] += picture.as_html(picture.png())
            bundle["image/png"] = picture._repr_mimebundle_()["image/png"]
        return bundle


def predict(question: str, *options: str, guess=None, confidence: float | None = None,
            topic: str | None = None) -> Prediction:
    """Ask for a guess before a run: one of the options or, without options, a number.

    A notebook draws buttons below the cell. Scripts pass `guess`: an option, its first letters, or
    a number (None or `...`: no guess yet). confidence: 0 to 1. topic: group in `calibration`, by
    default the lesson. The guess is kept in the learner's progress file, and asking the same
    question again shows the guess and result of before. Raises UserError for a bad `guess`.
    """
    if confidence is not None and not (_is_number(confidence) and 0 <= confidence <= 1):
        raise UserError(f"confidence is {confidence!r}; expected a number from 0 to 1 (0.7 means "
                        "70%)")
    topic = _lesson() if topic is None else clean(topic)
    key = (topic, question, options)
    if guess is None or guess is Ellipsis:
        if key not in _asked:
            guess, confidence = _earlier_guess(*key)
            _asked[key] = Prediction(question, options, guess, confidence, topic)
        return _asked[key]
    if options:
        guess = _option(guess, options, "guess")
    elif not isinstance(guess, str | bool) and not _is_number(guess):
        raise UserError(f"guess is {guess!r:.80}; expected a number")
    prediction = _asked[key] = Prediction(question, options, None, None, topic)
    prediction.record(guess, confidence)
    return prediction


_asked: dict[tuple, Prediction] = {}  # what this process has asked, by topic, question and options


def _earlier_guess(topic: str, question: str, options: tuple[str, ...]) -> tuple:
    """Guess and confidence in the progress file, for a restarted kernel; else (None, None)."""
    for entry in reversed(progress_log.entries()):
        if (entry.get("kind"), entry.get("topic"), entry.get("question")) == (
                "predict", topic, question) and entry.get("options") == list(options):
            confidence = entry.get("confidence")
            return entry.get("guess"), confidence if _is_number(confidence) else None
    return None, None


def _float(value) -> float:
    """The value as a float; nan if it is not a number."""
    try:
        return math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _is_number(value) -> bool:
    return math.isfinite(_float(value))


def _option(given, options, what: str) -> str:
    text = str(given).strip().lower()
    equal = [o for o in options if str(o).lower() == text]
    matching = equal or [o for o in options if text and str(o).lower().startswith(text)]
    if equal or len(matching) == 1:
        return matching[0]
    raise UserError(f"{what} is {given!r}; expected one of {', '.join(map(repr, options))}")


def _agrees(guess, actual, within) -> bool:
    try:
        return abs(float(guess) - float(actual)) <= within * abs(float(actual))
    except (TypeError, ValueError):
        return str(guess).strip().lower() == str(actual).strip().lower()


def _lesson() -> str:
    """Name of the running notebook in JupyterLab and VS Code, else ""."""
    path = os.environ.get("JPY_SESSION_NAME", "")
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None:
        path = path or str(shell.user_ns.get("__vsc_ipynb_file__") or "")
    return clean(Path(path).stem) if path else ""


# -------------------------------------------------------------------------------- calibration


class CalibrationRow(TypedDict):
    """One topic: number of guesses, mean confidence and fraction right (both 0 to 1)."""

    topic: str
    guesses: int
    sure: float
    right: float


def calibration(topic: str | None = None):
    """A Picture of mean confidence against the fraction of right guesses, a point for each topic.

    Counts scored guesses with a confidence; a question that was scored several times counts once,
    by its first score, because later guesses know the result. Bars are Wilson's 95 % intervals
    (1927). topic: only this one, grouped by confidence.
    """
    from ftkit.report import style as fig

    rows = calibration_rows(topic)
    with fig.style():
        figure = fig.new_figure(6.4, 4.0)
        ax = figure.add_axes((0.1, 0.13, 0.52, 0.83))
        ax.plot([0, 1], [0, 1], color=fig.QUIET, linewidth=1)
        ax.text(0.02, 0.97, "on the line: as sure as right", color=fig.QUIET, va="top")
        labels = []
        for i, row in enumerate(rows):
            sure, right, count = row["sure"], row["right"], row["guesses"]
            low, high = metrics.wilson(right * count, count)
            color = fig.look(i, 1)["color"]
            ax.errorbar(sure, right, [[max(0, right - low)], [max(0, high - right)]],
                        fmt=fig.MARKERS[i % 6], color=color, capsize=3, markersize=7)
            label = fig.short(f"{row['topic'] or 'no topic'}: {count}", 30)
            labels.append((sure, right, label, color))
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04))
        ax.set_xlabel("mean confidence")
        ax.set_ylabel("fraction of right guesses")
        fig.label_line_ends(ax, labels)
    text = "; ".join(map(_summary, rows)) + "." if rows else (
        "No scored guess with a confidence yet: ft.predict(..., guess=..., confidence=0.7).")
    return fig.Picture(figure, clean(text))


def calibration_rows(topic: str | None = None) -> list[CalibrationRow]:
    """The numbers that `calibration` draws."""
    scores: dict[tuple[str, str], list[tuple[float, bool]]] = {}
    for entry in progress_log.entries():
        right, confidence = entry.get("right"), _float(entry.get("confidence"))
        question = (str(entry.get("topic") or ""), str(entry.get("question")))
        if entry.get("kind") == "score" and isinstance(right, bool) and math.isfinite(confidence):
            scores.setdefault(question, []).append((confidence, right))
        elif entry.get("kind") == "unscore" and scores.get(question):  # a rating was taken back
            scores[question].pop()
    groups: dict[str, list[tuple[float, bool]]] = {}
    for (name, _), ((confidence, right), *_) in ((q, s) for q, s in scores.items() if s):
        if topic is None:
            groups.setdefault(name, []).append((confidence, right))
        elif name == topic:
            group = f"{name}, about {round(confidence, 1):.0%} sure"
            groups.setdefault(group, []).append((confidence, right))
    return [{"topic": name, "guesses": len(guesses),
             "sure": sum(confidence for confidence, _ in guesses) / len(guesses),
             "right": sum(right for _, right in guesses) / len(guesses)}
            for name, guesses in sorted(groups.items())]


def _summary(row: CalibrationRow) -> str:
    sure, right, count = row["sure"], row["right"], row["guesses"]
    low, high = metrics.wilson(right * count, count)
    if sure > high:
        verdict = "too sure"
    elif sure < low:
        verdict = "too modest"
    else:
        verdict = ("which fits" if count >= FEW_GUESSES else
                   f"fewer than {FEW_GUESSES} guesses, which is too few to judge")
    guesses = "guess" if count == 1 else "guesses"
    return (f"{row['topic'] or 'no topic'}: {count} {guesses}, {sure:.0%} sure, {right:.0%} right, "
            f"{verdict}")
