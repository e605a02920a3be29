"""The runs of a what-if panel: all of them, the baseline, and the ones chosen for the chart.

    runs = RunCollection(None, on_change); runs.add(run); runs.picture()
"""

import threading
from collections.abc import Callable

from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, to_float
from ftkit.experiment import annotations, store
from ftkit.experiment.comparison import compare
from ftkit.experiment.run import Run
from ftkit.report import diagnose, plots, series
from ftkit.report.style import Picture


class RunCollection:
    """`.all`: Runs, oldest first. `.baseline`: the Run that others are compared with. `.chosen`:
    Runs ticked in the table; without any, the chart shows the newest. `.requested`: id of a run →
    the Config that was asked for, "auto" values included. on_change: called after each change."""

    def __init__(self, baseline: Run | None, on_change: Callable[[], None]):
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

    def switch(self, old: str, new: str):
        """Switch to another model's or data set's baseline, if any. old, new: keys of the two."""
        self._baselines[old] = self.baseline
        self.baseline, self.chosen = self._baselines.get(new), []

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
        return given or plots.name_over_baseline(run, self.baseline or run)

    def shown(self) -> list[Run]:
        """The runs in the chart: the chosen ones, or the baseline and the newest."""
        if self.chosen or not self.all:
            return self.chosen
        return list(plots.newest_over_baseline(self.all, self.baseline).values())

    def picture(self) -> Picture | None:
        """The figure of the runs in the chart, with its sentence; None without a run."""
        if self.chosen:
            return plots.overlay(self.chosen, self.baseline or self.chosen[0])
        return plots.over_baseline(self.all, self.baseline)

    def title(self, config: Config | None) -> str:
        """Which runs are in the chart, and whether `config` asks for other values."""
        runs = self.chosen or self.all[-1:]
        if not runs:
            return ""
        name = self.name_of(runs[-1])
        title = f"Newest run: {name}"
        if self.chosen:
            title = (f"In the chart: the {len(runs)} chosen runs" if len(runs) > 1
                     else f"In the chart: the chosen run, {name}")
        asked = [self.requested.get(run.id, run.config) for run in runs]
        return title if config in asked else f"{title} (the controls say something else)"

    def verdict(self) -> list[str]:
        """The diagnosis of one run, or what sets the chosen runs apart."""
        if len(self.chosen) > 1:
            groups = [members for _, members in series.grouped(self.chosen)]
            if len(groups) == 1:
                return [spread_of(groups[0])]
            return [pair.text for pair in compare(*groups).pairs]
        runs = self.chosen or self.all[-1:]
        baseline = None if self.chosen else self.baseline
        return [f"{finding.text} → {finding.advice}"
                for run in runs for finding in diagnose.diagnose(run, baseline)]


def spread_of(runs: list[Run]) -> str:
    """Mean and deviation of each measure over runs that differ only in their seed."""
    values = ", ".join(f"{key} {cell([to_float(run.after.get(key)) for run in runs])}"
                       for key in runs[0].after)
    return (f"{len(runs)} seeds, mean ± sample standard deviation: {values}. A smaller difference "
            "between two configs may be chance.")
