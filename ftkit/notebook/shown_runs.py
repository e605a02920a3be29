"""The runs of a panel: which are in the chart, whose they are, and what they show.

`ShownRuns` is the part of `WhatIf` that keeps runs and baseline, and draws them.
"""

from __future__ import annotations

from ftkit.base import machine
from ftkit.base.formatting import cell, to_float
from ftkit.experiment import store
from ftkit.experiment.comparison import compare
from ftkit.notebook import background
from ftkit.notebook.part import Part
from ftkit.report import diagnose, plots, series


class ShownRuns(Part):
    """A part of `WhatIf`: it uses its table, view and lock."""

    def stored_runs(self) -> list:
        """All runs of the store that can be read, oldest first; each is read once."""
        ids = store.ids()
        for id in ids:
            if id not in self._read and store.has_ended(id):
                self._read[id] = store.read(id)
        return [run for id in ids if (run := self._read.get(id)) is not None]

    def shown_runs(self) -> list:
        """The runs in the chart: those chosen in the table, else the newest ones."""
        return self.table.chosen_runs() or list(
            plots.newest_over_baseline(self.runs, self.baseline).values()) if self.runs else []

    def picture(self):
        """The figure of the chosen runs, or of the baseline and the newest, with its sentence;
        None without a run."""
        chosen = self.table.chosen_runs()
        if chosen:
            return plots.overlay(chosen, self.baseline or chosen[0])
        return plots.over_baseline(self.runs, self.baseline)

    def name_of(self, run) -> str:
        """A run as the table and the chart call it."""
        entry = next((e for e in self.table.entries if e["id"] == run.id), None)
        return entry["run"] if entry else plots.name_over_baseline(run, self.baseline or run)

    def set_baseline(self, run):
        """Compare all runs with this one."""
        with self.lock:
            if all(run.id != old.id for old in self.runs):
                self.runs.insert(0, run)
            self.baseline = run
        self.runs_changed()

    def forget(self, ids: set):
        """Runs were deleted."""
        with self.lock:
            self.runs = [run for run in self.runs if run.id not in ids]
            if self.baseline is not None and self.baseline.id in ids:
                self.baseline = self.runs[0] if self.runs else None
            self.forecast.finished = [r for r in self.forecast.finished if r.id not in ids]
        self.runs_changed()

    def remember(self, runs: list):
        """Deleted runs are back."""
        with self.lock:
            self.runs = runs + self.runs
            self.baseline = self.baseline or runs[0]
            self.forecast.finished += [run for run in runs if run.is_finished]
        self.runs_changed()

    def runs_changed(self):
        """Draw table and chart anew."""
        self.table.update()
        if not background.QUEUE.running(self):
            self.show_figure()

    def add_run(self, run):
        """Make a run the newest of the list."""
        with self.lock:
            self.runs = [old for old in self.runs if old.id != run.id] + [run]
            self.baseline = self.baseline or run
            self.table.update()

    def show_figure(self):
        """Show chart and verdict; also under the cell that waited, if one did."""
        picture = self.picture()
        if picture is None:
            return self.view.show_owner("", [])
        self.view.chart.show(picture)
        self.show_owner()
        if self._handle is not None:
            self.display_figure(picture)

    def show_owner(self):
        """Say whose chart and verdict are on show, and whether the controls say something else."""
        runs = self.shown_runs()
        if not runs or background.QUEUE.running(self):
            return
        chosen = self.table.chosen_runs()
        newest = runs[-1]
        if chosen:
            owner = f"In the chart: the {len(chosen)} chosen runs" if len(chosen) > 1 else (
                f"In the chart: the chosen run, {self.name_of(newest)}")
        else:
            owner = f"Newest run: {self.name_of(newest).removeprefix('⚑ ')}"
        asked = [self.requested.get(run.id, run.config) for run in chosen or [newest]]
        if self.config not in asked:
            owner += " (the controls say something else)"
        self.view.show_owner(owner, self.verdict(runs, chosen))

    def verdict(self, runs: list, chosen: list) -> list[str]:
        """What one run shows, or what sets several apart."""
        if len(chosen) > 1:
            groups: dict[str, list] = {}
            for run in chosen:
                settings = {k: v for k, v in series.settings_of(run).items() if k != "seed"}
                groups.setdefault(str(settings), []).append(run)
            members = list(groups.values())
            if len(members) == 1:
                return [spread_of(members[0])]
            return [pair.text for pair in compare(*members).pairs]
        baseline = None if chosen else self.baseline
        return [f"{each.text} → {each.advice}" for each in diagnose.diagnose(runs[-1], baseline)]

    def display_figure(self, picture):
        """Put the figure into the notebook itself, which keeps it when the widgets are gone."""
        if not machine.in_notebook():
            return
        from IPython.display import DisplayHandle

        bundle = picture._repr_mimebundle_()
        if self._handle is not None:
            return self._handle.update(bundle, raw=True)
        self._handle = DisplayHandle()
        self._handle.display(bundle, raw=True)


def spread_of(runs: list) -> str:
    """How far runs that differ only in their seed are apart."""
    values = ", ".join(f"{key} {cell([to_float(run.after.get(key)) for run in runs])}"
                       for key in runs[0].after)
    return (f"{len(runs)} seeds, mean ± sample standard deviation: {values}. A smaller difference "
            "between two configs may be chance.")
