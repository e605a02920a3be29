"""Pictures of Runs: `curves` and `scatter`.

    curves(runs, "general_loss"); scatter(runs, x="val_loss", y="general_loss")
"""

import math

from ftkit.base import formatting
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, number
from ftkit.report import chart, series
from ftkit.report import style as fig
from ftkit.report.style import Picture

__all__ = ["curves", "scatter"]
AXES = {"step": "step", "epoch": "epoch", "tokens": "training tokens",
        "seconds": "seconds of training", "learning_rate": "learning rate"}


def curves(runs, *keys: str, ax=None, x: str = "step") -> Picture:
    """Curves of measures over training. For one run, or with `ax`, all keys share a panel; for
    several runs each key has its own.

    runs: a Run, a list of them, or a dict label → Run or list. keys: default to loss, val_loss
    and every `<probe>_loss`. x: step, epoch, tokens or seconds. ax: axes to draw in. Runs that
    differ only in their seed become one line: the mean, with a band of ± one sample standard
    deviation. A ring marks the best validation step, a cross the last value before divergence.
    `curves(runs).savefig("curves.png")` saves the figure; svg and pdf work too.
    Raises UserError for a key that no run has.
    """
    groups = series.grouped(runs)
    members = [run for _, group in groups for run in group]
    measures = _checked(members, keys, x)
    together = len(groups) == 1 or ax is not None
    panels = [measures] if together else [[key] for key in measures]
    lines = [fig.lines_of(groups, panel, x) for panel in panels]
    labels = [measure_label(panel) for panel in panels]
    figure = draw_panels(lines, x, labels, axes=None if ax is None else [ax])
    text = series.summary(members[0]) if len(members) == 1 else series.compared(groups, measures)
    text += series.captions(members)
    return Picture(figure, text, None if ax else chart.of_lines(lines, labels, x, text))


def scatter(runs, x: str = "val_loss", y: str = "general_loss", label=None,
            frontier: bool = True, start: bool = True) -> Picture:
    """Where each run ended; by default learning (x) against forgetting (y), lower left is best.

    x, y: a measure of `run.after`, an attribute such as seconds, or a field of Config. label: a
    field of Config or a function of a run; by default the fields that differ. Runs that differ
    only in their seed are one point with bars of ± one sample standard deviation. A diverged run
    is a cross at the edge. start: show the untouched model as a star; False leaves more room for
    the runs. frontier: connect the runs that no other run beats in both measures (losses, seconds
    and bytes are better low, other measures high; a field of Config is not a measure).
    Raises UserError for a measure that no run has.
    """
    groups = series.grouped(runs, label)
    members = [run for _, group in groups for run in group]
    for key in (x, y):
        if all(series.value(run, key) is None for run in members):
            known = ", ".join(dict.fromkeys(k for run in members for k in run.after))
            raise UserError(f"no run has {key!r}; expected one of {known or 'no measures'}, a "
                            "field of Config, or an attribute of Run such as seconds")
    points = [(name, *_over_seeds(group, x), *_over_seeds(group, y)) for name, group in groups]
    begun = next((tuple(formatting.to_float(run.before[key]) for key in (x, y)) for run in members
                  if start and x in run.before and y in run.before), None)
    with fig.style():
        figure = fig.new_figure(6.8, 4.4)
        ax = figure.add_axes((0.11, 0.12, 0.83, 0.83))
        named_by_x = all(name.startswith(f"{x}=") and ", " not in name for name, *_ in points)
        best = _frontier(points, x, y, members) if frontier else []
        fig.draw_points(ax, [("", *p[1:]) for p in points] if named_by_x else points, begun,
                        [(p[1], p[3]) for p in best],
                        "".join(axis for axis, key in (("x", x), ("y", y)) if _score(key, members)))
        ax.set_xlabel(clean(AXES.get(x, x)), parse_math=False)
        ax.set_ylabel(clean(AXES.get(y, y)), parse_math=False)
    ends = [f"{name}: {number(mx)}, {number(my)}" if math.isfinite(mx + my)
            else f"{name}: diverged" for name, mx, _, my, _ in points]
    if begun:
        ends.insert(0, f"untouched model: {number(begun[0])}, {number(begun[1])}")
    text = f"{clean(x)}, {clean(y)} of {'; '.join(ends)}."
    if len(best) > 1:
        names = "; ".join(point[0] for point in best)
        text += f" On the frontier, beaten in both by no other run: {names}."
    return Picture(figure, text + series.captions(members))


def _frontier(points, x, y, members) -> list:
    if x == y or {x, y} & _fields(members):
        return []
    signs = [-1 if _score(key, members) else 1 for key in (x, y)]
    good = {i: (signs[0] * p[1], signs[1] * p[3]) for i, p in enumerate(points)
            if math.isfinite(p[1] + p[3])}
    best = [i for i, (a, b) in good.items()
            if not any(c <= a and d <= b and (c, d) != (a, b) for c, d in good.values())]
    return sorted((points[i] for i in best), key=lambda p: p[1])


def _fields(runs) -> set:
    return set().union(*(series.config_of(run) for run in runs))


def _score(key, runs) -> bool:
    """Whether higher values of a measure are better, as for exact match."""
    return key not in _fields(runs) and not key.endswith(
        ("loss", "perplexity", "seconds", "bytes", "parameters", "tokens"))


def _over_seeds(runs, key) -> tuple[float, float]:
    return formatting.mean_sd([formatting.to_float(series.value(run, key)) for run in runs])


def _checked(runs, keys, x) -> list[str]:
    known = dict.fromkeys(series.loss_keys(runs))
    known.update(dict.fromkeys(k for run in runs for row in run.rows for k in row))
    for key in keys:
        if key not in known:
            raise UserError(f"no run has {key!r}; expected one of "
                            f"{', '.join(map(str, known)) or 'nothing'}")
    if any(run.rows for run in runs) and not any(x in row for run in runs for row in run.rows):
        raise UserError(f"x is {x!r}; expected step, epoch, tokens or seconds")
    return list(keys) or series.loss_keys(runs) or ["loss"]


def draw_panels(panels: list[list[fig.Line]], x: str, labels: list[str], axes=None,
                log_x: bool = False, **layout):
    """A figure with one panel for each list of lines, its y axis named by `labels`.

    axes: where to draw; by default new axes, made by `panel_axes` with `layout`. log_x: allow a
    logarithmic x axis, as for a sweep.
    """
    with fig.style():
        axes = axes or panel_axes(panels, **layout)
        losses = ["loss" in label for label in labels]  # panels of losses share a scale
        log = any(loss and fig.is_wide(fig.heights(lines))
                  for loss, lines in zip(losses, panels, strict=True))
        for ax, lines, label, loss in zip(axes, panels, labels, losses, strict=True):
            fig.draw(ax, lines, x, beside_log=log and loss)
            if log_x:
                xs = [point[0] for line in lines for point in line.points]
                fig.log_if_wide(ax, "x", xs, beside_log=x == "learning rate")
            ax.set_xlabel(clean(AXES.get(x, x)), parse_math=False)
            ax.set_ylabel(clean(label), parse_math=False)
    return axes[0].figure


def panel_axes(panels, columns: int = 2, high: float = 2.5, width: float | None = None) -> list:
    """Axes in rows of `columns`, with room at the right for the names of lines. high: inches of a
    panel; width: inches of the figure, by default as needed for the names."""
    letters = max((len(fig.short(line.label))
                   + (21 if _diverged(line) else 6 if line.ring is None else 0)
                   for lines in panels for line in lines), default=10)
    columns = min(columns, len(panels))
    left, wide = 0.76, 4.6 if columns == 1 else 3.2
    column = left + wide + 0.25 + 0.073 * letters if width is None else width / columns
    row = max(high, 0.165 * max(map(len, panels))) + 0.6
    rows = math.ceil(len(panels) / columns)
    width, height = columns * column, rows * row
    figure = fig.new_figure(width, height)
    return [figure.add_axes((
        (i % columns * column + left) / width, ((rows - 1 - i // columns) * row + 0.45) / height,
        wide / width, (row - 0.6) / height)) for i in range(len(panels))]


def _diverged(line) -> bool:
    return any(not math.isfinite(p[1]) for p in line.points)


def measure_label(keys) -> str:
    """The label of the y axis of a panel with these measures."""
    losses = all(key.endswith("loss") for key in keys)
    name = keys[0] if len(keys) == 1 else "loss" if losses else "value"
    return name + (" (nats per token)" if losses else "")
