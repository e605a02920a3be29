"""The runs of a what-if panel: all of them, the baseline, and the ones chosen for the chart.

    runs = RunCollection(None, on_change); runs.add(run); runs.picture()
"""

import math
import threading
from collections.abc import Callable

from ftkit.base import significance
from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, mean_sd, number, to_float
from ftkit.experiment import annotations, store
from ftkit.experiment.run import Run
from ftkit.report import diagnose, plots, series
from ftkit.report.style import Picture


class RunCollection:
    """`.all`: Runs, oldest first. `.baseline`: the Run that others are compared with. `.chosen`:
    Runs ticked in the table; without any, the chart shows the newest. `.requested`: id of a run →
    the Config that was asked for, "auto" values included. `.swept`: id of a run → the field that
    its sweep varied. held: `Experiment.fixed_settings` of the present model and data, whose runs
    alone are drawn unless others are ticked. on_change: called after each change."""

    def __init__(self, baseline: Run | None, held: dict, on_change: Callable[[], None]):
        self._held = held
        self.swept: dict[str, str] = {}
        self.all: list[Run] = []
        self.baseline, self.on_change = baseline, on_change
        self.chosen: list[Run] = []
        self.requested: dict[str, Config] = {}
        self.deleted: list[list[Run]] = []  # one list for each deletion, newest last
        self._baselines: dict[str, Run | None] = {}  # by model and data
        self._stored: dict[str, Run | None] = {}
        self._lock = threading.Lock()  # runs are added by the training thread

    def stored(self) -> list[Run]:
        """All readable runs of the store, oldest first; each is read once."""
        ids = store.ids()
        for id in ids:
            if id not in self._stored and store.has_ended(id):
                self._stored[id] = store.read(id)
        return [run for id in ids if (run := self._stored.get(id)) is not None]

    def add(self, run: Run, requested: Config | None = None):
        """Make a run the newest; the first becomes the baseline."""
        with self._lock:
            self.all = [old for old in self.all if old.id != run.id] + [run]
            self.baseline = self.baseline or run
            if requested is not None:
                self.requested[run.id] = requested
        self.on_change()

    def choose(self, runs: list[Run]):
        """Show these runs in the chart; an empty list shows the newest."""
        self.chosen = list(runs)
        self.on_change()

    def set_baseline(self, run: Run):
        with self._lock:
            if all(run.id != old.id for old in self.all):
                self.all.insert(0, run)
            self.baseline = run
        self.on_change()

    def switch(self, old: str, new: str, held: dict):
        """Switch to the runs and the baseline of another model or data, if any. old, new: keys of
        the two. held: the fixed settings of the new ones."""
        self._baselines[old] = self.baseline
        self.baseline, self.chosen, self._held = self._baselines.get(new), [], held
        self.on_change()

    def delete(self, runs: list[Run]):
        """Move runs out of the store; `restore` brings them back."""
        ids = {run.id for run in runs}
        store.delete(list(ids))
        with self._lock:
            self.deleted.append(runs)
            self.all, self.chosen = [run for run in self.all if run.id not in ids], []
            if self.baseline is not None and self.baseline.id in ids:
                self.baseline = self.all[0] if self.all else None
        self.on_change()

    def restore(self):
        """Undo the last deletion. Raises UserError without one."""
        if not self.deleted:
            raise UserError("no run was deleted in this panel, so there is nothing to restore")
        with self._lock:
            runs = self.deleted.pop()
            store.restore([run.id for run in runs])
            self.all = runs + self.all
            self.baseline = self.baseline or runs[0]
        self.on_change()

    def name_of(self, run: Run) -> str:
        """The name that the learner gave to a run, or how it differs from the baseline."""
        given = annotations.read().get(run.id, {}).get("name")
        name = given or plots.name_over_baseline(run, self.baseline or run)
        field = self.swept.get(run.id)
        if given or field is None or f"{field}=" in name:
            return name
        return f"{series.as_pairs({field: series.settings_of(run)[field]})} ({name})"

    def comparable(self) -> list[Run]:
        """The ticked runs that can be compared with the last of them; without any, all runs of the
        present model and data."""
        held = self.chosen[-1].data.get("held_still") if self.chosen else self._held
        return [run for run in self.chosen or self.all
                if series.on_same_scale(run.data.get("held_still"), held)]

    def _drawn_baseline(self) -> Run | None:
        """The baseline, or the oldest run where its losses cannot be compared with the others."""
        runs = self.comparable()
        return self.baseline if self.baseline in runs else runs[0] if runs else None

    def shown(self) -> list[Run]:
        """The runs in the chart: the chosen ones, or the baseline and the newest."""
        runs = self.comparable()
        if self.chosen or not runs:
            return runs
        return list(plots.newest_over_baseline(runs, self._drawn_baseline()).values())

    def picture(self) -> Picture | None:
        """The figure of the runs in the chart, with its sentence; None without a run."""
        runs, baseline = self.comparable(), self._drawn_baseline()
        if self.chosen:
            return plots.overlay(runs, self.baseline or runs[0])
        return plots.over_baseline(runs, baseline)

    def title(self, config: Config | None) -> str:
        """Which runs are in the chart, and whether `config` asks for other values."""
        runs = self.chosen or self.comparable()[-1:]
        if not runs:
            return ("no run of this model and data yet; the runs listed below are of others"
                    if self.all else "")
        name = self.name_of(runs[-1])
        title = f"Newest run: {name}"
        if self.chosen:
            title = (f"In the chart: the {len(runs)} chosen runs" if len(runs) > 1
                     else f"In the chart: the chosen run, {name}")
        if left_out := len(self.chosen) and len(runs) - len(self.comparable()):
            title += (f" without {left_out} of another model or other data, whose losses cannot be "
                      "compared")
        asked = [self.requested.get(run.id, run.config) for run in runs]
        return title if config in asked else f"{title} (settings changed since)"

    def verdict(self) -> list[str]:
        """At most 25 words: what one run shows, or which of the ticked runs is best."""
        runs = self.comparable()
        if len(self.chosen) > 1 and len(runs) > 1:
            groups = series.grouped(runs)
            return [best_of(groups) if len(groups) > 1 else spread_of(groups[0][1])]
        findings = [finding for run in runs[-1:] for finding in diagnose.diagnose(
            run, None if self.chosen else self._drawn_baseline())]
        return [f"{finding.text} → {finding.advice}" for finding in findings[:1]] + [
            f"also {finding.text.partition(':')[0]}" for finding in findings[1:]]


def best_of(groups: list[tuple[str, list[Run]]]) -> str:
    """Which group of seeds ends with the lowest val_loss, the next one, and whether seeds suffice
    to tell them apart (Welch's test, 5 %)."""
    key = "val_loss" if all("val_loss" in group[0].after for _, group in groups) else next(
        iter(groups[0][1][0].after), "val_loss")
    ends = {name: [to_float(run.after.get(key)) for run in group] for name, group in groups}
    best, following = sorted(
        ends, key=lambda name: (math.isnan(mean := mean_sd(ends[name])[0]), mean))[:2]
    found = significance.difference(ends[best], ends[following])
    settled = ("This is more than the noise of the seeds." if found.seen() else
               "One seed each may be chance; press × 3 seeds." if min(map(len, ends.values())) == 1
               else "This is within the noise of the seeds.")
    return (f"Lowest {key}: {number(mean_sd(ends[best])[0])} with {best}; next "
            f"{number(mean_sd(ends[following])[0])} with {following}. {settled}")


def spread_of(runs: list[Run]) -> str:
    """Mean and deviation of each measure over runs that differ only in their seed."""
    values = ", ".join(f"{key} {cell([to_float(run.after.get(key)) for run in runs])}"
                       for key in runs[0].after)
    return f"{len(runs)} seeds, mean ± sample standard deviation: {values}."
