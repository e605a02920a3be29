"""What a what-if panel shows of its runs: the chart, which runs it shows, and the verdict; while a
run trains, its growing curves.

    results = Results(runs); results.show(config); results.draw_live(task)
"""

import threading
import time
from collections.abc import Callable

import ipywidgets as W

from ftkit.base.config import Config
from ftkit.experiment.run import Run
from ftkit.notebook import widgets
from ftkit.notebook.background import TrainingTask
from ftkit.notebook.chart_view import ChartView, Growing
from ftkit.notebook.collection import RunCollection
from ftkit.report.live import notebook_display

SEEDS = 3  # runs that tell whether a difference is chance

class Results:
    """`.chart`, `.sweep` (a picture), `.owner` (which runs are shown), `.diagnosis` (the verdict),
    `.settle_button` (next to a verdict that more seeds would settle), `.progress` and `.status` are
    the widgets; `.curves` the chart of the run that is training. settle: what the button calls."""

    def __init__(self, runs: RunCollection, settle: Callable[[], None],
                 show_error: Callable[[str], None]):
        self._runs = runs
        self.sweep = W.HTML(layout=W.Layout(display="none"))
        self.sweep.add_class("ftkit-sweep-picture")
        self.settle_button = widgets.button(
            f"× {SEEDS} seeds", "", settle, f"Train the two best with {SEEDS} seeds each",
            show_error, css="ftkit-settle")
        self.settle_button.layout.display = "none"
        self.chart = ChartView()
        self.curves = Growing(self.chart)
        self.owner = widgets.TextLines(css="ftkit-owner", bold=True)
        self.diagnosis = widgets.TextLines(css="ftkit-diagnosis")
        self.status = widgets.TextLines("ready", css="ftkit-status")
        self.progress = W.IntProgress(layout=W.Layout(width="110px"))
        self.progress.add_class("ftkit-progress")
        self._drawing = threading.Lock()
        self._told = 0.0  # time of the last progress text
        self._display = None  # updates the figure that `display_new` put into a cell

    def show(self, config: Config | None):
        """Draw the collection's runs with their title (`show_title`), and update the figure under a
        waiting cell."""
        picture = self._runs.picture()
        self.show_title(config)
        self.sweep.value = self._runs.sweep()
        self.sweep.layout.display = None if self.sweep.value else "none"
        if picture is None:
            self.chart.clear()
        else:
            self.chart.show(picture)
            if self._display is not None:
                self._display(picture.bundle())

    def show_title(self, config: Config | None):
        """Say which runs are shown, with the verdict on them. config: the values of the controls;
        None if they contradict each other."""
        self.owner.show(self._runs.title(config))
        self.diagnosis.show(*self._runs.verdict())
        self.settle_button.layout.display = None if self._runs.to_settle() else "none"

    def display_new(self):
        """Put the figure into the running cell, which keeps it when the widgets are gone."""
        self._display, picture = notebook_display(), self._runs.picture()
        if self._display is not None and picture is not None:
            self._display(picture.bundle())

    def draw_live(self, task: TrainingTask,
                  also: Callable[[Run | None], None] = lambda run: None):
        """Draw the run of a task as it trains, among the runs of the chart; returns at its end.

        also: called with the run now and then. Meant for a thread of its own.
        """
        with self._drawing:  # an earlier run may still be drawn
            total = 0
            while not task.done.wait(0.03):
                run = task.started_run
                if task.paused and self.curves.began and not task.rows:
                    self._wait(task)
                if not total and run is not None and not run.before and run.activity:
                    self.status.show(f"before the first step: {run.activity}")
                if not total and run is not None and run.before:
                    self.progress.max = total = run.total_steps
                    self._begin(run)
                if total:
                    self._draw_rows(task.rows)
                also(run)
            also(task.run)
            if task.run is not None:
                self.progress.max, self.progress.value = total or 1, len(task.run.rows)

    def _wait(self, task: TrainingTask):
        """Draw a paused run once, and wait until it continues."""
        began = time.perf_counter()
        self.curves.paint()
        self.progress.value = self.curves.row.get("step", 0)
        self.status.show(f"paused after step {self.progress.value} of {self.progress.max}")
        while task.paused and not task.rows and not task.done.wait(0.03):
            pass
        if self.curves.began is not None:  # the time left counts from there
            self.curves.began += time.perf_counter() - began

    def _begin(self, run: Run):
        name = self._runs.name_of(run)
        self.owner.show(f"Training now: {name}")
        self.diagnosis.show()
        self.settle_button.layout.display = "none"
        others = [one for one in self._runs.drawn() if run.id not in [r.id for r in one.runs]]
        self.curves.start(run, name, self._runs.index_of(run), others)

    def _draw_rows(self, rows):
        while rows:
            self.curves.add(rows.popleft())
        if self.curves.shown:
            return
        # Bar and text are separate messages, and nobody reads 20 of them a second.
        if self.curves.paint_if_due() and time.perf_counter() - self._told > 0.25:
            self._told = time.perf_counter()
            self.progress.value = self.curves.row["step"]
            self.status.show(self.curves.progress())
