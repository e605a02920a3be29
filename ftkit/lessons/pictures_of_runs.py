"""Pictures of many runs: a measure against a field of Config, and learning against forgetting.

    sweep_curves(runs, "val_loss", "general_loss"); best_values(runs)
    interval_plot({"5 seeds": (losses_of_a, losses_of_b)}, margin=0.1, x="val_loss, b - a (nats)")

    front = Frontier(measure, x="target", y="others", before=measure(base))
    front.train(lab, {"full 1e-3": config}, seeds=(0, 1, 2))
    front.blend(base, "full 1e-3", shares=(0.5, 0.7))       # WiSE-FT, without a further run
    front.gain("full 1e-3, blend 0.5", over=("full 3e-4", "full 1e-3"))
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from ftkit.base import formatting, significance
from ftkit.base.errors import UserError
from ftkit.base.run_end import End
from ftkit.lessons.claims import verdict_of
from ftkit.model.merge import blend
from ftkit.report import live, plots, series
from ftkit.report import style as fig
from ftkit.report.table import Table, table

# -------------------------------------------------------------------- against a field of Config


def sweep_curves(runs, *keys: str, x: str = "learning_rate", by: str = "method") -> fig.Picture:
    """Measures against the field `x` of Config: a panel for each key, a line for each `by`.

    A line is the mean over seeds with a band of ± one sample standard deviation. In each panel the
    ring marks the `x` with the lowest mean of the first key. keys: measures of `run.after`, by
    default val_loss. Raises UserError without runs, or if a run lacks a measure.
    """
    keys = keys or ("val_loss",)
    groups = _by_line(runs, x, by)
    best = best_values(runs, keys[0], x, by)
    names = [name if by == "method" else f"{by} {name}" for name in groups]
    panels = [[fig.Line(names[i], [(value, *formatting.mean_sd([_measure(run, key)
                                                                for run in members]))
                                   for value, members in sorted(points.items())],
                        fig.look(i, len(points)), ring=best[name])
               for i, (name, points) in enumerate(groups.items())] for key in keys]
    sentences = []
    for key, lines in zip(keys, panels, strict=True):
        for line in lines:
            at_ring = next(mean for value, mean, _ in line.points if value == line.ring)
            lowest = "lowest, " if key == keys[0] else ""
            sentences.append(f"{formatting.clean(key)} of {line.label} is {lowest}"
                             f"{formatting.number(at_ring)}, at {formatting.clean(x)} "
                             f"{line.ring:g}")
    labels = [plots.measure_label([key]) for key in keys]
    figure = plots.draw_panels(panels, x, labels, log_x=True)
    return fig.Picture(figure, "; ".join(sentences) + ".")


def best_values(runs, key: str = "val_loss", x: str = "learning_rate", by: str = "method") -> dict:
    """The best `x` (lowest mean of `key`) for each value of `by`."""
    def mean(members) -> float:
        value = formatting.mean_sd([_measure(run, key) for run in members])[0]
        return math.inf if math.isnan(value) else value

    return {name: min(points, key=lambda value, points=points: mean(points[value]))
            for name, points in _by_line(runs, x, by).items()}


def line_plot(series: dict[str, list[tuple[float, float]]], x: str, y: str,
              log_x: bool = True) -> fig.Picture:
    """Lines through points (x, y), by name; the x axis is logarithmic unless log_x is False."""
    lines = [fig.Line(name, [(a, b, 0.0) for a, b in points], fig.look(i, len(points)))
             for i, (name, points) in enumerate(series.items())]
    sentences = [f"{formatting.clean(line.label)} goes from "
                 f"{formatting.number(line.points[0][1])} to "
                 f"{formatting.number(line.points[-1][1])}" for line in lines]
    figure = plots.draw_panels([lines], x, [y], log_x=log_x)
    return fig.Picture(figure, "; ".join(sentences) + ".")


# As in the concept figure of lesson 22: color and dash of each verdict.
VERDICTS = {"no relevant difference": (0, "-"), "undecided": (1, "--"), "lower": (2, "-"),
            "higher": (3, "-")}


def interval_plot(pairs: dict[str, tuple], margin: float, x: str) -> fig.Picture:
    """95 % intervals of paired differences b − a, with the margin in gray and lesson 22's verdict.

    pairs: name → (a, b), each with one value per seed, in the same order. x: label of the axis.
    Raises UserError for lists of unequal length.
    """
    rows, sentences = [], []
    for name, (a, b) in pairs.items():
        found = significance.difference(b, a, paired=True)
        half = found.margin(significance.LEVEL / 2)
        low, high = found.mean - half, found.mean + half
        rows.append((low, high, verdict_of(low, high, margin)))
        sentences.append(f"{name}: {rows[-1][2]}, {low:.2f} to {high:.2f}")
    with fig.style():
        figure, ax = fig.row_axes([fig.short(name) for name in pairs], 3.6, 1.6, 0.3)
        ax.axvspan(-margin, margin, color="#d9dde3", linewidth=0, zorder=0)
        ax.axvline(0, color=fig.QUIET, linestyle=":", linewidth=1, zorder=1)
        for y, (start, end, verdict) in enumerate(rows):
            color, dash = VERDICTS[verdict]
            color = fig.COLORS[color]
            ax.plot([start, end], [y, y], "|" + dash, color=color, linewidth=3, markersize=10)
            ax.text(1.03, y, verdict, transform=ax.get_yaxis_transform(), va="center",
                    color=fig.dark(color))
        ax.set_xlabel(x, parse_math=False)
    return fig.Picture(figure, f"95 % intervals; gray: the margin of {margin:g}. "
                               f"{'; '.join(sentences)}.")


def _by_line(runs, x: str, by: str) -> dict[str, dict]:
    """Runs grouped by the field `by`, then by the field `x`."""
    lines: dict[str, dict] = {}
    for run in runs:
        config = series.config_of(run)
        lines.setdefault(str(config[by]), {}).setdefault(config[x], []).append(run)
    if not lines:
        raise UserError("no runs were given; expected a list of Runs, such as lab.sweep returns")
    return lines


def _measure(run, key: str) -> float:
    value = series.value(run, key)
    if value is None:
        raise UserError(f"a run has no {key!r}; expected one of "
                        f"{', '.join(run.after) or 'nothing'}")
    return value


# ------------------------------------------------------------------------- learned against kept


class Frontier:
    """Trade-off between `x` (learned) and `y` (kept): conditions with one Run per seed.

    measure: takes a model and returns a dict of numbers, which are added to `run.after`. before:
    the same numbers for the untouched model. joined: conditions connected by a line, such as one
    method at several learning rates. Displays itself; in a notebook the picture grows during
    `train`.
    """

    DRAWING = 0.05  # fraction of the time spent on drawing

    def __init__(self, measure: Callable[[object], dict], x: str, y: str, before: dict,
                 joined: Sequence[str] = ()):
        self.measure, self.x, self.y = measure, x, y
        self.before, self.joined = dict(before), tuple(joined)
        self.conditions: dict[str, list] = {}

    def train(self, lab, conditions: dict, seeds: Sequence[int]) -> Frontier:
        """Train every condition (name → Config) once per seed and add it to the picture."""
        show, start, drawing = live.notebook_display(), time.perf_counter(), 0.0
        for name, config in conditions.items():
            self.conditions[name] = []
            for seed in seeds:
                run = lab.run(config, seed=seed, live=False)
                self._add(name, run, run.model)
                now = time.perf_counter()
                if show and (drawing <= self.DRAWING * (now - start) or seed == seeds[-1]):
                    show(self.picture()._repr_mimebundle_())
                    drawing += time.perf_counter() - now
                if run.end is End.INTERRUPTED:
                    return self
        return self

    def blend(self, base_model, condition: str, shares: Sequence[float]) -> Frontier:
        """Add conditions that interpolate between the base and a condition's models (WiSE-FT)."""
        for share in shares:
            name = f"{condition}, blend {share:g}"
            self.conditions[name] = []
            for run in self.conditions[condition]:
                self._add(name, run, blend(base_model, run.model, share))
        return self

    def _add(self, name, run, model):
        self.conditions[name].append(dataclasses.replace(
            run, model=model, before=run.before | self.before,
            after=run.after | self.measure(model)))

    def values(self, condition: str, key: str) -> list[float]:
        """One number per seed. Raises UserError for an unknown condition."""
        if condition not in self.conditions:
            raise UserError(f"no condition is called {condition!r}; expected one of "
                            f"{', '.join(self.conditions) or 'none yet'}")
        return [formatting.to_float(series.value(run, key))
                for run in self.conditions[condition]]

    def gain(self, condition: str, over: Sequence[str] | None = None) -> list[float]:
        """The gain in `y` over a baseline at the same `x`, a number per seed.

        The baseline is a line through the conditions `over` (default: the joined ones), flat beyond
        its ends. Each seed has its own line, so gains are independent and can be tested against 0.
        Raises UserError if conditions have different numbers of seeds.
        """
        names = list(over or self.joined)
        seeds = {len(self.conditions[name]) for name in [*names, condition]
                 if self.values(name, self.y)}
        if len(seeds) > 1:
            raise UserError("a gain compares runs of the same seed, but the conditions have "
                            f"{' and '.join(map(str, sorted(seeds)))} runs; expected the same "
                            "seeds in every condition. Run the seeds that are missing.")
        lines = zip(*(zip(self.values(name, self.x), self.values(name, self.y), strict=True)
                      for name in names), strict=True)
        pairs = zip(self.values(condition, self.x), self.values(condition, self.y), strict=True)
        gains = []
        for (x, y), line in zip(pairs, lines, strict=True):
            xs, ys = zip(*sorted(line), strict=True)
            gains.append(y - float(np.interp(x, xs, ys)))
        return gains

    def _line(self, names: Sequence[str]) -> list[tuple[float, float]]:
        """Mean (x, y) of each condition, in order of x."""
        return sorted((formatting.mean_sd(self.values(name, self.x))[0],
                       formatting.mean_sd(self.values(name, self.y))[0]) for name in names)

    def picture(self) -> fig.Picture:
        """The scatter, with the joined conditions connected."""
        picture = plots.scatter({name: runs for name, runs in self.conditions.items() if runs},
                                self.x, self.y, frontier=False)
        line = self._line([name for name in self.joined if self.conditions.get(name)])
        if len(line) > 1:
            picture.axes[0].plot(*zip(*line, strict=True), color=fig.QUIET, linewidth=1, zorder=1)
        return picture

    def table(self, *keys: str) -> Table:
        """A line for each condition, mean ± standard deviation over the seeds."""
        return table(
            [{"condition": "before"} | {key: self.before[key] for key in keys}]
            + [{"condition": name} | {key: self.values(name, key) for key in keys}
               for name in self.conditions])

    def _repr_mimebundle_(self, include=None, exclude=None):
        return self.picture()._repr_mimebundle_()

    def __repr__(self):
        return self.picture().text
