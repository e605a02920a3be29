"""Guess before you run: `predict` takes an option, a number or a curve; `calibration` says how
sure you may be.

    p = ft.predict("How does val_loss fall?", guess={0: 4, 30: 1}, confidence=0.7)
    p.score(run)
"""

from __future__ import annotations

import html
import math
import os
import sys
from pathlib import Path

from ftkit.base import formatting
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean, number
from ftkit.evaluate import metrics
from ftkit.lessons import progress_log

FEW = 10  # guesses; with fewer nearly any share would fit
WITHIN = {"number": 0.1, "curve": 0.25}  # share of the result that a right guess may be off


class Prediction:
    """A question, the learner's guess, and after `score` what came out; draws itself.

    `.right` is None until there are both a guess and a result; `.gap` is how far off a curve is
    on average, as a share of the result.
    """

    def __init__(self, question, options, guess, confidence, topic="", key=None):
        self.question, self.options, self.guess = question, options, guess
        self.confidence, self.topic, self.key = confidence, topic, key
        self.curve = isinstance(guess, list)
        self.actual = self.right = self.gap = None

    def score(self, actual, within: float | None = None) -> Prediction:
        """Put the result beside the guess: an option, a number, or for a curve a Run, a list of
        Runs (their mean), or points. Returns itself.

        An option must be the right one; a number is right within 0.1 of the result, a curve if it
        is within 0.25 of it on average over the steps it covers; within: another share.
        """
        if hasattr(actual, "rows") or (isinstance(actual, list | tuple) and actual
                                       and hasattr(actual[0], "rows")):
            self.actual = self._points_of(actual)
        elif self.options:
            self.actual = _option(actual, self.options, "the result")
        else:
            self.actual = _points(actual, "the result") if self.curve else actual
        if self.guess is None:
            return self
        within = WITHIN["curve" if self.curve else "number"] if within is None else within
        if self.curve:
            self.gap = _gap(self.guess, self.actual)
            self.right = self.gap <= within
        else:
            self.right = _agrees(self.guess, self.actual, within)
        progress_log.add("score", question=self.question, guess=self.guess, actual=self.actual,
                     right=self.right, confidence=self.confidence, topic=self.topic,
                     gap=self.gap)
        return self

    def picture(self):
        """Guess and result on one figure, for a number or a curve; None before both are there."""
        from ftkit.report import style as fig

        if self.right is None or self.options or not (self.curve or _is_number(self.guess)
                                                      and _is_number(self.actual)):
            return None
        with fig.style():
            if self.curve:
                first, last = self.guess[0][0], self.guess[-1][0]
                # a straight line is a bent one on a log scale, so it is drawn point by point
                xs = {x for x, _ in (*self.guess, *self.actual) if first <= x <= last}
                guess = [(x, _at(self.guess, x)) for x in sorted(xs)]
                figure = fig.new_figure(6.4, 2.9)
                ax = figure.add_axes((0.1, 0.16, 0.62, 0.8))
                fig.draw(ax, [fig.Line(name, [(x, y, 0.0) for x, y in points],
                                       fig.look(place, len(points)))
                              for place, (name, points) in enumerate(
                                  (("what came out", self.actual), ("your guess", guess)))])
                ax.set_xlabel("step")
                ax.set_ylabel(clean(self.key or ""), parse_math=False)
            else:
                figure = fig.new_figure(6.4, 1.3)
                ax = figure.add_axes((0.18, 0.32, 0.78, 0.63))
                fig.draw_seeds(ax, [[float(self.actual)], [float(self.guess)]], [0, 1])
                ax.set_yticks([0, 1], ["what came out", "your guess"])
        return fig.Picture(figure, " · ".join(self._lines()))

    def _points_of(self, runs) -> list:
        """The series of a Run, or the mean of several, at each step where all were measured."""
        runs = formatting._listed(runs)
        known = formatting.loss_keys(runs)
        self.key = self.key or ("val_loss" if "val_loss" in known else "loss")
        made = [dict(formatting.series(run, self.key)) for run in runs]
        if not all(made):
            raise UserError(f"the run has no {self.key!r}; measured were "
                            f"{', '.join(known) or 'none'}; choose with predict(..., key=...)")
        shared = sorted(set.intersection(*map(set, made)))
        points = [[x, sum(line[x] for line in made) / len(made)] for x in shared]
        if self.curve or self.guess is None:
            return points
        return points[-1][1]  # a number was guessed: where the curve ends

    def _lines(self) -> list[str]:
        lines = [self.question]
        if self.guess is None:
            choice = f" one of {', '.join(map(repr, self.options))}" if self.options else " ..."
            lines.append(f"no guess yet: write guess={choice} in this cell and run it before "
                         "you read on" if self.actual is None else "no guess was made")
        else:
            sure = "" if self.confidence is None else f" ({self.confidence:.0%} sure)"
            lines.append(f"your guess: {_told(self.guess)}{sure}")
        if self.actual is not None:
            mark = {True: " ✓ right", False: " ✗ not this time", None: ""}[self.right]
            off = "" if self.gap is None else (
                f"; your curve is {self.gap:.0%} off on average" if math.isfinite(self.gap)
                else "; it diverged")
            lines.append(f"what came out: {_told(self.actual)}{off}{mark}")
        return [clean(line) for line in lines]

    def __repr__(self):
        return " | ".join(self._lines())

    def _repr_html_(self):
        first, *rest = map(html.escape, self._lines())
        return f"<div><b>{first}</b><br>{'<br>'.join(rest)}</div>"

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"text/plain": repr(self), "text/html": self._repr_html_()}
        picture = self.picture()
        if picture:
            from ftkit.report import style as fig

            drawn = picture._repr_mimebundle_()
            page = fig.as_html(picture.png(), picture.figure, "")
            bundle |= {"text/html": bundle["text/html"] + page, "image/png": drawn["image/png"]}
        return bundle


def predict(question: str, *options: str, guess=None, confidence: float | None = None,
            topic: str | None = None, key: str | None = None) -> Prediction:
    """Commit a guess before the run: an option, or where none are given a number or a curve.

    guess: an option or its beginning; a number; a curve as a few points, step → value:
    `{0: 4, 30: 1}` or `[(0, 4), (30, 1)]`, straight lines between them. confidence: 0 to 1.
    topic: what `calibration` counts it under, by default the lesson it is asked in. key: the
    measure that a curve is about, by default val_loss. The guess is kept in the learner's
    progress file. Raises ValueError for a guess that is none of these, saying what is accepted.
    """
    if confidence is not None and not (_is_number(confidence) and 0 <= confidence <= 1):
        raise UserError(f"confidence is {confidence!r}; give a number from 0 to 1 (0.7 means 70%)")
    if guess is Ellipsis:
        guess = None
    topic = _lesson() if topic is None else clean(topic)
    if guess is not None:
        if options:
            guess = _option(guess, options, "guess")
        elif isinstance(guess, dict | list | tuple | set):
            guess = _points(guess, "guess")
        elif not isinstance(guess, str | bool) and not _is_number(guess):
            raise UserError(f"guess is {guess!r:.80}; expected a number, or a curve such as "
                            "[(0, 4), (30, 1)]")
        progress_log.add("predict", question=question, options=list(options), guess=guess,
                     confidence=confidence, topic=topic)
    return Prediction(question, options, guess, confidence, topic, key)


def _points(given, what) -> list:
    """[[step, value], ...] in order of the steps."""
    pairs = list(given.items()) if isinstance(given, dict) else given
    hint = "expected points (step, value), such as [(0, 4), (30, 1)] or {0: 4, 30: 1}"
    if not isinstance(pairs, list | tuple):
        raise UserError(f"{what} is {given!r:.80}; {hint}")
    points = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UserError(f"{what} has the point {pair!r:.60}; {hint}")
        try:
            points.append([float(v) for v in pair])
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"{what} has the point {pair!r:.60}; {hint}") from None
    steps = [x for x, _ in points]
    if what == "guess":
        if len(points) < 2:
            raise UserError(f"{what} has {len(points)} point; a curve needs at least two, such "
                            "as [(0, 4), (30, 1)]")
        bad = [p for p in points if not all(map(math.isfinite, p)) or p[0] < 0]
        if bad:
            raise UserError(f"{what} has the point {tuple(bad[0])}; steps start at 0, and both "
                            "numbers must be finite")
    twice = [x for x in steps if steps.count(x) > 1]
    if twice:
        raise UserError(f"{what} has two values at step {twice[0]:g}; give one for each step")
    return sorted(points)


def _gap(guess, actual) -> float:
    """Mean distance of the polyline through `guess` to the result, as a share of the result's
    mean size, at the result's steps that the guess covers; inf where the result is not finite."""
    covered = [(x, y) for x, y in actual if guess[0][0] <= x <= guess[-1][0]]
    if not covered:
        raise UserError(f"the guess covers steps {guess[0][0]:g} to {guess[-1][0]:g}, and nothing "
                        "was measured there; draw it over the steps of the run")
    off = size = 0.0
    for x, y in covered:
        off += abs(_at(guess, x) - y)
        size += abs(y)
    if not math.isfinite(off):
        return math.inf
    return off / size if size else (0.0 if off == 0 else math.inf)


def _at(guess, x) -> float:
    """The value at x of the polyline through `guess`."""
    right = next(i for i in range(1, len(guess)) if x <= guess[i][0])
    (x0, y0), (x1, y1) = guess[right - 1], guess[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _told(value) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list):
        few = value if len(value) <= 5 else [value[0], value[len(value) // 2], value[-1]]
        return " → ".join(f"{number(y)} at {x:g}" for x, y in few)
    return cell(value)


def _is_number(value) -> bool:
    try:
        return not isinstance(value, bool | str) and math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _option(given, options, what):
    text = str(given).strip().lower()
    same = [o for o in options if str(o).lower() == text]
    begun = [o for o in options if text and str(o).lower().startswith(text)]
    if same or len(begun) == 1:
        return (same or begun)[0]
    raise UserError(f"{what} is {given!r}; expected one of {', '.join(map(repr, options))}")


def _agrees(guess, actual, within) -> bool:
    try:
        return abs(float(guess) - float(actual)) <= within * abs(float(actual))
    except (TypeError, ValueError):
        return str(guess).strip().lower() == str(actual).strip().lower()


def _lesson() -> str:
    """The notebook that is being run, as JupyterLab or VS Code name it; "" elsewhere."""
    path = os.environ.get("JPY_SESSION_NAME", "")
    shell = sys.modules.get("IPython")
    shell = shell.get_ipython() if shell else None
    if shell is not None:
        path = path or str(shell.user_ns.get("__vsc_ipynb_file__") or "")
    return clean(Path(path).stem) if path else ""


# -------------------------------------------------------------------------------- calibration


def calibration(topic: str | None = None):
    """How sure you were against how often you were right, a point for each topic: a Picture.

    Counts every scored guess of the progress file that had a confidence; of a question answered
    several times the first, since the later ones know the result. The bar is the 95 % interval of
    Wilson (1927). topic: only this one, by confidence. `.rows` has the numbers.
    """
    from ftkit.report import style as fig

    rows = _calibration_rows(topic)
    with fig.style():
        figure = fig.new_figure(6.4, 4.0)
        ax = figure.add_axes((0.1, 0.13, 0.52, 0.83))
        ax.plot([0, 1], [0, 1], color=fig.QUIET, linewidth=1)
        ax.text(0.02, 0.97, "on the line: as sure as right", color=fig.QUIET, va="top")
        ends = []
        for i, row in enumerate(rows):
            sure, right, n = row["sure"], row["right"], row["guesses"]
            low, high = metrics.wilson(right * n, n)
            color = fig.look(i, 1)["color"]
            ax.errorbar(sure, right, [[max(0, right - low)], [max(0, high - right)]],
                        fmt=fig.MARKERS[i % 6], color=color, capsize=3, markersize=7)
            ends.append((sure, right, fig.short(f"{row['topic'] or 'no topic'}: {n}", 30), color))
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04))
        ax.set_xlabel("how sure you were")
        ax.set_ylabel("share of right guesses")
        fig.label_line_ends(ax, ends)
    said = [f"{row['topic'] or 'no topic'}: {row['guesses']} guess{'es' * (row['guesses'] > 1)}, "
            f"{row['sure']:.0%} sure, {row['right']:.0%} right" + _verdict(row) for row in rows]
    picture = fig.Picture(figure, clean("; ".join(said) + "." if said else
                                        "No scored guess with a confidence yet: "
                                        "ft.predict(..., guess=..., confidence=0.7)."))
    picture.rows = rows
    return picture


def _calibration_rows(topic) -> list[dict]:
    first = {}
    for entry in progress_log.entries():
        right, sure = entry.get("right"), entry.get("confidence")
        if entry.get("kind") == "score" and isinstance(right, bool) and _is_number(sure):
            key = (str(entry.get("topic") or ""), str(entry.get("question")))
            first.setdefault(key, (float(sure), right))
    groups: dict = {}
    for (name, _), (sure, right) in first.items():
        if topic is None:
            groups.setdefault(name, []).append((sure, right))
        elif name == topic:
            groups.setdefault(f"{name}, about {round(sure, 1):.0%} sure", []).append((sure, right))
    return [{"topic": name, "guesses": len(given), "sure": sum(s for s, _ in given) / len(given),
             "right": sum(r for _, r in given) / len(given)}
            for name, given in sorted(groups.items())]


def _verdict(row) -> str:
    low, high = metrics.wilson(row["right"] * row["guesses"], row["guesses"])
    if low <= row["sure"] <= high:
        return ", which fits" if row["guesses"] >= FEW else f"; below {FEW}, too few to tell"
    return f", too {'sure' if row['sure'] > high else 'modest'}"
