"""The runs of a what-if panel: all of them, the baseline, and the ones chosen for the chart.

    runs = RunCollection(None, on_change); runs.add(run); runs.picture()
"""

import math
import threading
from collections.abc import Callable
from typing import NamedTuple

from ftkit.base import significance
from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, mean_sd, number, to_float
from ftkit.experiment import annotations, store
from ftkit.experiment.run import Run
from ftkit.report import diagnose, run_chart, series, sweep_picture
from ftkit.report.run_chart import Drawn
from ftkit.report.style import Picture

BAND = 3  # from this many seeds on, runs are drawn as one line with a band
SHOWN = 4  # runs in the chart unless some are chosen, including the baseline
SWEPT = 3  # from this many values of one field on, runs are a sweep


class RunCollection:
    """`.all`: Runs, oldest first. `.baseline`: the Run that others are compared with. `.chosen`:
    Runs ticked in the table; without any, the chart shows the newest. `.requested`: id of a run →
    the Config that was asked for, "auto" values included. `.swept`: id of a run → the field that
    its sweep varied. held: `Experiment.fixed_settings` of the present model and data, whose runs
    alone are drawn unless others are ticked. on_change: called after each change."""

    def __init__(self, baseline: Run | None, held: dict, on_change: Callable[[], None]):
        self._held = held
        self.swept: dict[str, str] = {}
        self._indices: dict[str, int] = {}  # id of a run → number of its letter and color
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

    def index_of(self, run: Run) -> int:
        """The number of a run in order of its first appearance: its color, marker and letter."""
        return self._indices.setdefault(run.id, len(self._indices))

    def name_of(self, run: Run, seeds: int = 1) -> str:
        """The letter of a run, and the name that the learner gave to it or how it differs from the
        baseline. Next to runs of its sweep alone, it is named by the swept value. seeds: how many
        runs that differ only in their seed have this name together.
        """
        given = annotations.read().get(run.id, {}).get("name")
        name = given or self._settings(run, seeds > 1)
        return f"{letter(self.index_of(run))} {name}" + (f", {seeds} seeds" if seeds > 1 else "")

    def line_of(self, run: Run) -> str:
        """A run on one line: its name, its final measures, and why it was stopped."""
        after = ", ".join(f"{key} {number(to_float(value))}" for key, value in run.after.items())
        return f"{self.name_of(run)}: {after}" + (f" ({run.stopped})" if run.stopped else "")

    def _settings(self, run: Run, any_seed: bool) -> str:
        baseline, field = self._reference(run), self.swept.get(run.id)
        ours, theirs = series.settings_of(run), series.settings_of(baseline)
        if self.baseline is None and run.id in self._known():  # of another model or other data
            theirs |= {"model": None, "data": None}
        elif ours["data"] == theirs["data"] and len({
                one.data.get("sha256") for one in (run, baseline)} - {None}) > 1:
            ours["data"] = f"{ours['data']} (other records)"
        differing = [name for name in ours if ours[name] != theirs.get(name)]
        if field is not None:
            alone = self._asked_alike(field)
            names = [field, *(n for n in differing if n != field and (n == "seed" or not alone))]
        else:
            names = differing
        pairs = series.as_pairs({name: ours[name] for name in names
                                 if not (any_seed and name == "seed")})
        if run.id == baseline.id and theirs["data"] is not None:
            if run.changes:  # differs from itself at its start
                pairs = series.as_pairs({"learning_rate": ours["learning_rate"]})
            return f"{pairs} (baseline)" if pairs else "baseline"
        return pairs or ("as the baseline" if any_seed else "the same again")

    def _known(self) -> dict[str, Run]:
        return {run.id: run for run in (*self._stored.values(), *self.all) if run is not None}

    def _reference(self, run: Run) -> Run:
        """The run whose settings are left out of the names of others: the baseline. Until there is
        one for the present model and data, the oldest run; a new run will be the baseline."""
        if self.baseline is not None:
            return self.baseline
        known = self._known()
        return known[min(known)] if run.id in known else run

    def _asked_alike(self, field: str) -> bool:
        """Whether the chosen runs, which are then alone in the chart, asked for the same values of
        all fields but this one and the seed."""
        asked = [{name: value for name, value
                  in self.requested.get(run.id, run.config).differs().items()
                  if name not in (field, "seed")} for run in self.chosen]
        return bool(asked) and all(one == asked[0] for one in asked)

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
        runs, baseline = self.comparable(), self._drawn_baseline()
        if self.chosen or baseline is None:
            return runs
        return [baseline, *[run for run in runs if run is not baseline][1 - SHOWN:]]

    def _groups(self) -> list[tuple[str, list[Run]]]:
        """Name → runs of the chart that differ only in their seed."""
        return [(self.name_of(members[0], len(members)), members)
                for _, members in series.grouped(self.shown())] if self.shown() else []

    def drawn(self) -> list[Drawn]:
        """The lines of the chart; seeds of a chosen config are one line with a band."""
        lines = []
        for name, members in self._groups():
            seeds = {series.settings_of(run).get("seed") for run in members}
            together = bool(self.chosen) and len(seeds) >= BAND
            lines += ([Drawn(name, self.index_of(members[0]), members)] if together else
                      [Drawn(self.name_of(run), self.index_of(run), [run]) for run in members])
        return lines

    def picture(self) -> Picture | None:
        """The figure of the runs in the chart, with its sentence; None without a run."""
        drawn = self.drawn()
        if not drawn:
            return None
        if len(drawn) > 1:
            text = series.compared([(one.name, one.runs) for one in drawn],
                                   run_chart.measures(self.shown()))
        else:
            text = series.summary(drawn[0].runs[0])
        picture = run_chart.picture(drawn, text, training=not self.chosen)
        if not self.chosen:
            findings = "; ".join(found.text for found in self._diagnosis())
            whose = f"The newest run ({self.name_of(self.shown()[-1])})"
            picture.text = f"{text} {whose}: {findings}."
        return picture

    def swept_field(self) -> str | None:
        """The only field in which the chosen runs differ, if it has three values or more; seeds
        do not count."""
        groups = self._groups() if self.chosen else []
        if len(groups) < SWEPT:
            return None
        asked = {self.swept.get(run.id) for _, members in groups for run in members}
        settings = [series.settings_of(members[0]) for _, members in groups]
        differing = {name for name in settings[0]
                     if name != "seed" and len({str(one.get(name)) for one in settings}) > 1}
        found = asked if len(asked) == 1 and None not in asked else differing
        return found.pop() if len(found) == 1 else None

    def sweep(self) -> str:
        """The sweep as an SVG picture; "" unless the chosen runs are one."""
        field = self.swept_field()
        if field is None:
            return ""
        groups = self._groups()
        keys = run_chart.measures([run for _, members in groups for run in members])
        return sweep_picture.svg(field, [Drawn(name, self.index_of(members[0]), members)
                                         for name, members in groups], keys[:2])

    def title(self, config: Config | None) -> str:
        """Which runs are in the chart, and whether `config` asks for other values."""
        runs = self.chosen or self.comparable()[-1:]
        if not runs:
            return ("no run of this model and data yet; the runs listed below are of others"
                    if self.all else "")
        title, field = f"Newest run: {self.name_of(runs[-1])}", self.swept_field()
        if field is not None:
            asked = self.requested.get(runs[0].id, runs[0].config)  # without what "auto" gave
            common = {name: value for name, value in asked.differs().items()
                      if name not in (field, "seed")}
            return f"Sweep of {field}" + (f" at {series.as_pairs(common)}" if common else "")
        if self.chosen:
            title = (f"In the chart: the {len(runs)} chosen runs" if len(runs) > 1
                     else f"In the chart: the chosen run, {self.name_of(runs[-1])}")
        if left_out := len(self.chosen) and len(runs) - len(self.comparable()):
            title += (f" without {left_out} of another model or other data, whose losses cannot be "
                      "compared")
        wanted = [self.requested.get(run.id, run.config) for run in runs]
        return title if config in wanted else f"{title} (settings changed since)"

    def _diagnosis(self) -> list[diagnose.Finding]:
        runs = self.comparable()
        return diagnose.diagnose(runs[-1], None if self.chosen else self._drawn_baseline())

    def verdict(self) -> list[str]:
        """At most 25 words: what one run shows, or which of the chosen runs is best."""
        if not self.shown():
            return []
        groups = self._groups()
        if self.chosen and len(self.shown()) > 1:
            return [best_of(groups) if len(groups) > 1 else spread_of(groups[0][1])]
        first, *others = self._diagnosis()
        return [f"{first.text} → {first.advice}", *(
            f"also {finding.text.partition(':')[0]}" for finding in others)]

    def to_settle(self) -> list[Run]:
        """A run of each of the two best chosen configs, if more seeds would tell them apart."""
        groups = self._groups() if self.chosen else []
        if len(groups) < 2 or not series.on_same_scale(
                groups[0][1][0].data.get("held_still"), self._held):
            return []
        best, following = ranked(groups)[:2]
        if best.runs[0].changes or following.runs[0].changes:  # by hand, so seeds cannot repeat it
            return []
        few = min(len(best.runs), len(following.runs)) == 1
        return [best.runs[0], following.runs[0]] if few else []


class Ranked(NamedTuple):
    """Runs of one config and their final values of the measure they are ranked by."""

    name: str
    runs: list[Run]
    key: str
    ends: list[float]

    @property
    def mean(self) -> float:
        return mean_sd(self.ends)[0]


def ranked(groups: list[tuple[str, list[Run]]]) -> list[Ranked]:
    """The groups in order of their mean val_loss, or first measure; diverged ones last."""
    measured = [run.after for _, members in groups for run in members]
    key = next((name for name in ("val_loss", *measured[0])
                if all(name in after for after in measured)), "val_loss")
    found = [Ranked(name, members, key, [to_float(run.after.get(key)) for run in members])
             for name, members in groups]
    return sorted(found, key=lambda one: (math.isnan(one.mean), one.mean))


def best_of(groups: list[tuple[str, list[Run]]]) -> str:
    """Which config ends with the lowest val_loss, the next one, and whether seeds suffice to tell
    them apart (Welch's test, 5 %)."""
    best, following = ranked(groups)[:2]
    settled = ("More than the noise of the seeds."
               if significance.difference(best.ends, following.ends).seen() else
               "One seed each: may be chance." if min(len(best.ends), len(following.ends)) == 1
               else "Within the noise of the seeds.")
    return (f"{best.name} ends lowest: {best.key} {number(best.mean)}, next "
            f"{number(following.mean)} ({following.name}). {settled}")


def spread_of(runs: list[Run]) -> str:
    """Mean and deviation of each measure over runs that differ only in their seed."""
    values = ", ".join(f"{key} {cell([to_float(run.after.get(key)) for run in runs])}"
                       for key in runs[0].after)
    return f"{len(runs)} seeds, mean ± sample standard deviation: {values}."


def letter(index: int) -> str:
    """A to Z, then AA, AB, ..."""
    head, last = divmod(index, 26)
    return (letter(head - 1) if head else "") + chr(ord("A") + last)
