"""The chart of a what-if panel: a panel for each measure, the learning rates below. Color, dash and
marker of a line belong to its run, from the first point on.

    picture([Drawn("A baseline", 0, [run]), Drawn("B seed=1", 1, [other])], "val_loss fell ...")
"""

from typing import NamedTuple

from ftkit.report import chart, live, plots, series
from ftkit.report import style as fig
from ftkit.report.style import Picture

MOST = 3  # measures that get a panel
TRAINING = "training loss"


class Drawn(NamedTuple):
    """A line in each panel. index: of its color, dash and marker. runs: one, or seeds of one
    config, drawn as their mean."""

    name: str
    index: int
    runs: list


def measures(runs) -> list[str]:
    """The losses that get a panel: val_loss and the probes, or the training loss alone."""
    return [key for key in series.loss_keys(runs) if key != "loss"][:MOST] or ["loss"]


def lines(drawn: list[Drawn], training: bool) -> tuple[list[list[fig.Line]], list[str]]:
    """The lines of each panel, and the panels' names. training: add the training loss of the last
    run, which is too noisy to compare runs by."""
    keys = measures([run for one in drawn for run in one.runs])
    panels = [[_line(one, key) for one in drawn] for key in [*keys, live.RATE]]
    if training and keys != ["loss"]:
        points = fig.mean_points(drawn[-1].runs, "loss", "step")
        panels[0].append(fig.Line(TRAINING, points, fig.look(0, len(points), calm=True)))
    return panels, [*keys, live.RATE_PANEL]


def _line(one: Drawn, key: str) -> fig.Line:
    points = fig.mean_points(one.runs, key, "step")
    return fig.Line(one.name, points, fig.look(one.index, max(3, len(points))), key == "val_loss")


def spec(drawn: list[Drawn], text: str, training: bool) -> dict:
    """The spec of the interactive chart (`chart.page`). text: for screen readers alone, because
    the panel has the verdict next to the chart."""
    marks = [{"x": x, "text": text} for x, text in changes(drawn)]
    return chart.of_lines(*lines(drawn, training), "step", text) | {"quiet": True, "marks": marks}


def changes(drawn: list[Drawn]) -> list[tuple[int, str]]:
    """Steps at which the learning rate of a run was changed in flight, and what it became."""
    return [(change["step"], f"{one.name.partition(' ')[0]}: {change['learning_rate']:g}")
            for one in drawn for run in one.runs for change in getattr(run, "changes", ())]


def picture(drawn: list[Drawn], text: str, training: bool = False) -> Picture:
    """The figure with its interactive chart. text, training: as in `spec` and `lines`."""
    panels, labels = lines(drawn, training)
    shown = [[line for line in panel if line.points] for panel in panels[:-1]]
    figure = plots.draw_panels(shown, "step", labels[:-1], columns=1, high=1.8, width=8.2)
    for ax in figure.axes:
        for step, _ in changes(drawn):
            ax.axvline(step, color="#707070", linestyle=":", linewidth=1)
    return Picture(figure, text, spec(drawn, text, training))
