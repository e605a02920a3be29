"""Several runs over a baseline: how each is named, and one figure of them all.

    overlay.picture(runs, baseline)     # a Picture with its sentence and the verdict on the newest
"""

from __future__ import annotations

from ftkit.base import formatting
from ftkit.report import diagnose, live, series
from ftkit.report import style as fig

SHOWN = 4  # runs in one figure, the baseline among them


def name(run, baseline) -> str:
    """A run by what sets it apart from the baseline."""
    if run is baseline:
        return "baseline"
    ours, theirs = run.config.to_dict(), baseline.config.to_dict()
    pairs = {key: (ours[key], theirs.get(key)) for key in ours}
    pairs |= {"model": (run.model_name, baseline.model_name),
              "data": (run.data.get("name"), baseline.data.get("name"))}
    differences = [f"{key}={a:g}" if isinstance(a, float) else f"{key}={a}"
                   for key, (a, b) in pairs.items() if a != b]
    return ", ".join(differences) or "the same again"


def line(run, baseline) -> str:
    """A run in one line: its name, where it ended, why it was stopped."""
    after = ", ".join(f"{key} {formatting.number(formatting.to_float(value))}"
                      for key, value in run.after.items())
    return f"{name(run, baseline)}: {after}" + (f" ({run.stopped})" if run.stopped else "")


def chosen(runs: list, baseline) -> dict:
    """Label → Run: the baseline and the newest others; empty without runs."""
    if not runs:
        return {}
    newest = [run for run in runs[::-1] if run is not baseline][:SHOWN - 1]
    by_label = {}
    for run in [baseline, *newest[::-1]]:
        label = name(run, baseline)
        by_label[label if label not in by_label else f"{label} ({run.id[-4:]})"] = run
    return by_label


def picture(runs: list, baseline) -> fig.Picture | None:
    """The figure of the baseline and the newest runs, with its sentence; None without runs."""
    shown = chosen(runs, baseline)
    if not shown:
        return None
    if len(shown) == 1:
        title = f"{runs[-1].model_name} on {runs[-1].data.get('name')}"
        drawn = live.final_picture(runs[-1], title)
    else:
        drawn = _stacked(shown)
    sentence = "; ".join(finding.text for finding in diagnose.diagnose(runs[-1], baseline))
    sentence = f"{sentence[:1].upper()}{sentence[1:]}" if len(shown) == 1 else (
        f"The newest run ({name(runs[-1], baseline)}): {sentence}")
    if len({str(run.data.get("name")) for run in shown.values()}) > 1:
        sentence += "; each val_loss is on records of the run's own data"
    drawn.text = f"{drawn.text.rstrip('.')}. {sentence}."
    return drawn


def _stacked(runs: dict) -> fig.Picture:
    """One panel over the other, narrow enough to fit next to the controls: val_loss and what
    else was watched; the training loss is too noisy to tell several runs apart."""
    keys = [key for key in series.loss_keys(runs.values()) if key != "loss"][:3] or ["loss"]
    groups = series.grouped(runs)
    high = 0.5 + 2.05 * len(keys)
    with fig.style():
        figure = fig.new_figure(8.2, high)
        for place, key in enumerate(keys):
            bottom = (0.45 + 2.05 * (len(keys) - 1 - place)) / high
            ax = figure.add_axes((0.085, bottom, 0.54, 1.8 / high))
            fig.draw(ax, fig.lines_of(groups, [key], "step"), "step")
            ax.set_ylabel(formatting.clean(key), parse_math=False)
            ax.tick_params(labelbottom=key == keys[-1])
        ax.set_xlabel("step")
    return fig.Picture(figure, series.compared(groups, keys))
