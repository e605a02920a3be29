"""Pictures of Runs: `curves` and `scatter`; beside them `Live`, `summary` and `table`.

    curves(runs, "general_loss"); scatter(runs, x="val_loss", y="general_loss")
"""

from __future__ import annotations

import math

from ftkit.base import formatting
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, number
from ftkit.report import series
from ftkit.report import style as fig
from ftkit.report.style import Picture

__all__ = ["curves", "scatter"]
AXES = {"step": "step", "epoch": "epoch", "tokens": "training tokens",
        "seconds": "seconds of training", "learning_rate": "learning rate"}


def curves(runs, *keys: str, ax=None, x: str = "step") -> Picture:
    """How the measures moved: one panel for one run, one panel a key for several runs.

    runs: a Run, a list of them, or a dict label → Run or list. keys: default to loss, val_loss
    and every `<probe>_loss`. x: step, epoch, tokens or seconds. ax: draw everything there. Runs
    that differ only in their seed become one line: the mean, with a band of ± one sample standard
    deviation. The ring is the best validation step, a cross the last value before a run diverged.
    Raises UserError for a key that no run has.
    """
    groups = series.grouped(runs)
    members = [run for _, group in groups for run in group]
    measures = _checked(members, keys, x)
    together = len(groups) == 1 or ax is not None
    panels = [measures] if together else [[key] for key in measures]
    with fig.style():
        drawn = [fig.lines_of(groups, panel, x) for panel in panels]
        places = [ax] if ax is not None else panel_axes(drawn)
        for place, panel, lines in zip(places, panels, drawn, strict=True):
            fig.draw(place, lines, x)
            _name_axes(place, panel, x)
    text = series.summary(members[0]) if len(members) == 1 else series.compared(groups, measures)
    return Picture(places[0].figure, text)


def scatter(runs, x: str = "val_loss", y: str = "general_loss", label=None,
            frontier: bool = True) -> Picture:
    """Where each run ended; by default learning (x) against forgetting (y), lower left is best.

    x, y: a measure of `run.after`, an attribute such as seconds, or a field of Config. label: a
    field of Config or a function of a run; by default the fields that differ. Runs that differ
    only in their seed are one point with bars of ± one sample standard deviation. The star is the
    model before training. A run without a finite value is a cross at the edge, called diverged.
    frontier: connect the points that no other beats in both measures, by their means (losses,
    seconds and bytes are better low, other measures high; a field of Config is not a measure).
    Raises UserError for a measure that no run has.
    """
    groups = series.grouped(runs, label)
    members = [run for _, group in groups for run in group]
    for key in (x, y):
        if all(series.value(run, key) is None for run in members):
            known = ", ".join(dict.fromkeys(k for run in members for k in run.after))
            raise UserError(f"no run has {key!r}; measured were {known or 'none'}; a field of "
                            "Config or an attribute of Run such as seconds is accepted too")
    points = [(name, *_over_seeds(group, x), *_over_seeds(group, y)) for name, group in groups]
    start = next((tuple(formatting.to_float(run.before[key]) for key in (x, y)) for run in members
                  if x in run.before and y in run.before), None)
    with fig.style():
        figure = fig.new_figure(6.8, 4.4)
        ax = figure.add_axes((0.11, 0.12, 0.83, 0.83))
        told = all(name.startswith(f"{x}=") and ", " not in name for name, *_ in points)
        best = _frontier(points, x, y, members) if frontier else []
        fig.draw_points(ax, [("", *p[1:]) for p in points] if told else points, start,
                        [(p[1], p[3]) for p in best],
                        "".join(axis for axis, key in (("x", x), ("y", y)) if _score(key, members)))
        ax.set_xlabel(clean(AXES.get(x, x)), parse_math=False)
        ax.set_ylabel(clean(AXES.get(y, y)), parse_math=False)
    said = [f"{name}: {number(mx)}, {number(my)}" if math.isfinite(mx + my)
            else f"{name}: diverged" for name, mx, _, my, _ in points]
    if start:
        said.insert(0, f"untouched model: {number(start[0])}, {number(start[1])}")
    text = f"{clean(x)}, {clean(y)} of {'; '.join(said)}."
    if len(best) > 1:
        names = "; ".join(point[0] for point in best)
        text += f" On the frontier, beaten in both by no other run: {names}."
    return Picture(figure, text)


def _frontier(points, x, y, members) -> list:
    """The points that no other is at least as good as in both and better in one, along x."""
    if x == y or {x, y} & _fields(members):
        return []
    signs = [-1 if _score(key, members) else 1 for key in (x, y)]
    good = {i: (signs[0] * p[1], signs[1] * p[3]) for i, p in enumerate(points)
            if math.isfinite(p[1] + p[3])}
    kept = [i for i, (a, b) in good.items()
            if not any(c <= a and d <= b and (c, d) != (a, b) for c, d in good.values())]
    return sorted((points[i] for i in kept), key=lambda p: p[1])


def _fields(runs) -> set:
    return set().union(*(series.config_of(run) for run in runs))


def _score(key, runs) -> bool:
    """Whether it is a measure that is better high, such as exact match."""
    return key not in _fields(runs) and not key.endswith(
        ("loss", "perplexity", "seconds", "bytes", "parameters", "tokens"))


def _over_seeds(runs, key) -> tuple[float, float]:
    return formatting.mean_sd([formatting.to_float(series.value(run, key)) for run in runs])


def _checked(runs, keys, x) -> list[str]:
    known = dict.fromkeys(series.loss_keys(runs))
    known.update(dict.fromkeys(k for run in runs for row in run.rows for k in row))
    for key in keys:
        if key not in known:
            raise UserError(f"no run has {key!r}; known: {', '.join(map(str, known)) or 'none'}")
    if any(run.rows for run in runs) and not any(x in row for run in runs for row in run.rows):
        raise UserError(f"x is {x!r}; expected step, epoch, tokens or seconds")
    return list(keys) or series.loss_keys(runs) or ["loss"]


def panel_axes(drawn) -> list:
    """Axes two in a row, with room at the right for the names of the lines."""
    words = max((len(fig.short(line.label)) + (21 if _diverged(line) else 6)
                 for lines in drawn for line in lines), default=10)
    right, left = 0.25 + 0.073 * words, 0.62
    columns = min(2, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    wide = 4.6 if columns == 1 else 3.2
    high = max(2.5, 0.165 * max(map(len, drawn)))
    width, height = columns * (left + wide + right), rows * (high + 0.6)
    figure = fig.new_figure(width, height)
    return [figure.add_axes((
        ((i % columns) * (left + wide + right) + left) / width,
        ((rows - 1 - i // columns) * (high + 0.6) + 0.45) / height, wide / width, high / height))
        for i in range(len(drawn))]


def _diverged(line) -> bool:
    return any(not math.isfinite(p[1]) for p in line.points)


def _name_axes(ax, keys, x):
    losses = all(key.endswith("loss") for key in keys)
    name = keys[0] if len(keys) == 1 else "loss" if losses else "value"
    ax.set_ylabel(clean(name) + (" (nats per token)" if losses else ""), parse_math=False)
    ax.set_xlabel(clean(AXES.get(x, x)), parse_math=False)
