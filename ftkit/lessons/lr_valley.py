"""Where runs ended against one field of their Config: the U of a learning-rate sweep.

    valley(runs, "val_loss", "general_loss"); best(runs)
    plain({"loss": [(1e-5, 6.8), (1e-4, 6.1)]}, x="learning rate", y="loss")
"""

from __future__ import annotations

import math

from ftkit.base import formatting
from ftkit.base.errors import UserError
from ftkit.report import plots
from ftkit.report import style as fig


def valley(runs, *keys: str, x: str = "learning_rate", by: str = "method") -> fig.Picture:
    """One panel a key, one line for each value of the field `by`: the mean over seeds with a band
    of ± one sample standard deviation, against the field `x` of Config; the ring is the lowest.

    keys: measures of `run.after`, by default val_loss. Raises ValueError for no runs or a measure
    that no run has.
    """
    keys = keys or ("val_loss",)
    groups = _points(runs, x, by)
    panels = [[fig.Line(name, [(at, *formatting.mean_sd([_value(run, key) for run in members]))
                               for at, members in sorted(places.items())],
                        fig.look(i, len(places)), True)
               for i, (name, places) in enumerate(groups.items())] for key in keys]
    with fig.style():
        axes = plots.panel_axes(panels)
        for ax, key, lines in zip(axes, keys, panels, strict=True):
            _draw(ax, lines, x, formatting.clean(key) + " (nats per token)" * key.endswith("loss"))
    said = []
    for key, lines in zip(keys, panels, strict=True):
        for line in lines:
            at, low, _ = min((p for p in line.points if math.isfinite(p[1])), key=lambda p: p[1],
                             default=(math.nan,) * 3)
            said.append(
                f"{formatting.clean(key)} of {line.label} is lowest, {formatting.number(low)}, at "
                f"{formatting.clean(x)} {at:g}"
            )
    return fig.Picture(axes[0].figure, "; ".join(said) + ".")


def best(runs, key: str = "val_loss", x: str = "learning_rate", by: str = "method") -> dict:
    """For each value of `by`, the value of `x` whose runs have the lowest mean of `key`."""
    return {name: min(places, key=lambda at, p=places: _mean(p[at], key))
            for name, places in _points(runs, x, by).items()}


def plain(series: dict, x: str, y: str) -> fig.Picture:
    """Lines of (x, y) points that are no runs: name → points."""
    lines = [fig.Line(name, [(a, b, 0.0) for a, b in points], fig.look(i, len(points)))
             for i, (name, points) in enumerate(series.items())]
    with fig.style():
        ax = plots.panel_axes([lines])[0]
        _draw(ax, lines, x, y)
    said = [f"{formatting.clean(line.label)} goes from {formatting.number(line.points[0][1])} to "
            f"{formatting.number(line.points[-1][1])}" for line in lines]
    return fig.Picture(ax.figure, "; ".join(said) + ".")


def _draw(ax, lines, x, y):
    fig.draw(ax, lines, x)
    fig.log_if_wide(ax, "x", [p[0] for line in lines for p in line.points])
    ax.set_xlabel(formatting.clean(plots.AXES.get(x, x)), parse_math=False)
    ax.set_ylabel(formatting.clean(y), parse_math=False)


def _points(runs, x, by) -> dict[str, dict]:
    """Name of the line → place on the x axis → its runs."""
    groups: dict[str, dict] = {}
    for run in runs:
        config = formatting.config_of(run)
        groups.setdefault(str(config[by]), {}).setdefault(config[x], []).append(run)
    if not groups:
        raise UserError("no runs were given; expected a list of Runs, such as lab.sweep makes")
    return groups


def _value(run, key) -> float:
    found = formatting.value(run, key)
    if found is None:
        raise UserError(f"a run has no {key!r}; measured were {', '.join(run.after) or 'none'}")
    return found


def _mean(runs, key) -> float:
    mean = formatting.mean_sd([_value(run, key) for run in runs])[0]
    return math.inf if math.isnan(mean) else mean
