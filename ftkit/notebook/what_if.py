"""`ft.what_if`: a panel of controls over fine-tuning runs. Moving a control trains nothing: it
looks up a finished run or a forecast. Start trains, and draws the run over the baseline.

    panel = ft.what_if(model="tiny", data="tasks"); panel
    await panel.result()      # in the next cell: waits, and leaves the figure in the notebook
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import ipywidgets as W

from ftkit.base.config import Config
from ftkit.base.config_fields import grouped
from ftkit.base.errors import UserError
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.forecast import Forecast
from ftkit.experiment.run import Run
from ftkit.notebook import answers_view, background, kernel, layout, pickers, table_view, widgets
from ftkit.notebook.code_view import CodeView
from ftkit.notebook.collection import RunCollection
from ftkit.notebook.controls import Controls, with_basics
from ftkit.notebook.forecast_view import ForecastView
from ftkit.notebook.launcher import Launcher
from ftkit.notebook.results import Results
from ftkit.report.style import Picture

FIRST_STEPS = 60  # max_steps of the first run unless a config is given
# Cell of the notebook → what it asked for last, and its panel.
_by_cell: dict[str, tuple[tuple, WhatIf]] = {}


def what_if(experiment: Experiment | None = None, *, model: str = "tiny", data="translation",
            val=None, probes=("general",), config: Config | None = None,
            baseline: Run | None = None, fields: Sequence[str] | None = None) -> WhatIf:
    """Controls for every field of Config over runs of one experiment, drawn over a baseline.

    experiment: whose runs they are; without one, the panel has pickers for model and data, which
    start at the values given here (names, folders, files; val and probes as in Experiment).
    config: the initial values of the controls, by default 60 steps. baseline: a Run to compare
    with, by default the first run. fields: names of the fields to show; the others stay as
    `config` has them. Returns a WhatIf, which displays itself. When its cell is run again, it
    keeps the runs, the baseline and the controls of the panel before. Raises UserError for bad
    data, an unknown model or an unknown field.
    """
    if not isinstance(experiment, Experiment | None):
        raise UserError(f"experiment is a {type(experiment).__name__}; expected an Experiment, or "
                        "model= and data= instead")
    with_pickers = experiment is None
    experiment = experiment or Experiment(model=model, data=data, val=val, probes=probes)
    config = config or Config(max_steps=FIRST_STEPS)
    cell = kernel.cell_id()
    asked = (pickers.key_of(experiment), config, tuple(fields or ()), with_pickers)
    training = isinstance(background.QUEUE.current, background.TrainingTask)
    background.QUEUE.stop()  # another panel, or the same cell run again: one run at a time
    known, panel = _by_cell.get(cell, (None, None))
    if panel is not None and known == asked:
        panel.run_again(training)
        return panel
    panel = WhatIf(experiment, config, baseline, fields, with_pickers)
    if cell:
        _by_cell[cell] = asked, panel
    return panel


class WhatIf:
    """The panel. Each of its parts owns its widgets and its state:

    - `.controls`: the Config that the controls spell, and its history for Undo
    - `.picked`: the Experiment, and the pickers for model and data
    - `.collection`: the runs, their baseline, and the ones chosen for the chart
    - `.forecast_view`: what the next run would take
    - `.launcher`: Start, Stop, seeds and sweep; the tasks in the queue
    - `.results`: chart, verdict and progress
    - `.table`, `.answers`, `.code`: the table of runs, answers of the models, code to copy

    A part knows only the parts it is given. This class passes on changes between them.
    `.ui` has all widgets, arranged by `layout.py`.
    """

    def __init__(self, experiment: Experiment, config: Config, baseline: Run | None,
                 names: Sequence[str] | None, with_pickers: bool):
        groups = grouped(Config, names) if names else with_basics(grouped(Config))
        # Boxes for the error of a control near them.
        self.at_start, self.at_data, self.at_controls = W.VBox(), W.VBox(), W.VBox()
        self.error_line = widgets.MovingError(self.at_start)
        self.collection = RunCollection(baseline, experiment.fixed_settings(),
                                        self._runs_changed)
        self.results = Results(self.collection, lambda: self.launcher.settle(), self.show_error)
        say, show_error = self.results.status.show, self.show_error
        self.controls = Controls(groups, config, self._controls_changed, say,
                                 lambda text: self.show_error(text, self.at_controls))
        self.forecast_view = ForecastView(experiment, self.collection, self._in_background)
        self.picked = pickers.ModelAndData(experiment, with_pickers, self.forecast_view.clear,
                                           self._experiment_changed,
                                           lambda text: self.show_error(text, self.at_data))
        self.answers = answers_view.Answers(self.picked, self.collection, self._in_background)
        self.launcher = Launcher(self.controls, self.picked, self.forecast_view, self.collection,
                                 self.results, self.answers, self._run_drawn, show_error)
        self.table = table_view.RunTable(self.collection, self._use_values)
        self.code = CodeView(self.picked, self.controls, self._in_background, show_error)
        self.ui = layout.arrange(
            self.controls, self.picked, self.forecast_view, self.launcher, self.results,
            self.table, self.answers, self.code, (self.at_start, self.at_data, self.at_controls))
        self.forecast_view.load(self.experiment, self._loaded)
        self._refresh()

    @property
    def config(self) -> Config:
        """The Config of the controls; set it to move them. Raises UserError if their values
        contradict each other."""
        return self.controls.config

    @config.setter
    def config(self, config: Config):
        self.controls.config = config

    @property
    def experiment(self) -> Experiment:
        return self.picked.experiment

    @property
    def forecast(self) -> Forecast:
        return self.forecast_view.forecast

    @property
    def runs(self) -> list[Run]:
        """The runs so far, oldest first."""
        return self.collection.all

    @property
    def baseline(self) -> Run | None:
        return self.collection.baseline

    def start(self):
        """Press Start: train with the values of the controls, or show the stored run of them."""
        self.launcher.start()

    def stop(self):
        """Press Stop: end the run after its current step, keep it, and empty the queue."""
        self.launcher.stop()

    def picture(self) -> Picture | None:
        """The figure of the chart, with its sentence; None without a run."""
        return self.collection.picture()

    async def result(self) -> Run:
        """Wait for the runs that were started (without one, start one with the values of the
        controls), and display the figure under this cell, where later runs update it.

        Returns the newest Run. Interrupting the cell stops the run and keeps it. Raises whatever
        the run raised.
        """
        queue, launcher = background.QUEUE, self.launcher
        if not await queue.wait_until_idle(self.forecast):
            queue.stop(launcher)  # interrupted while a forecast kept the run waiting
        elif not self.runs and not queue.busy(launcher):
            launcher.start()
        await queue.wait_until_idle(launcher)
        error, launcher.error = launcher.error, None
        if error is not None:
            raise error
        if not self.runs:
            raise UserError("no run was made. Press Start in the panel, then run this cell again.")
        self.results.display_new()
        return self.runs[-1]

    def wait(self, seconds: float = 600) -> list[Run]:
        """Wait until nothing is left to do; returns the runs. For scripts: in a notebook, `await
        panel.result()` keeps the page responsive. Raises TimeoutError."""
        background.QUEUE.join(self.forecast, seconds)
        self.launcher.join(seconds)
        return self.runs

    def run_again(self, stopped: bool):
        """Say that the cell was run again and kept this panel. stopped: a run was told to stop."""
        with contextlib.suppress(TimeoutError):
            self.launcher.join(60)  # until the stopped run is drawn
        self.results.status.show(
            f"this cell was run again: {len(self.runs)} runs, their baseline and the controls were "
            "kept" + ("; the run in progress was stopped and is kept" if stopped else ""))

    def show_error(self, text: str, place: W.Box | None = None):
        """Show an error message next to the field that it names, else in `place`; "" removes it."""
        place = (self.at_data if self.picked.is_unread else
                 self.controls.row_of(text) or place or self.at_start)
        self.error_line.report_at(place, text)

    def _ipython_display_(self):
        widgets.display(self.ui, repr(self))
        print("The controls work as long as the kernel runs: after reopening the notebook, run "
              "this cell again.\nThe figure under the cell that awaits the result is saved.")

    def __repr__(self) -> str:
        return f"WhatIf({self.experiment!r}, {len(self.runs)} runs)"

    def _controls_changed(self):
        if not background.QUEUE.busy(self.launcher):
            self.results.status.show("ready")  # the old status was about other values
        self._refresh()

    def _refresh(self):
        """Show what the controls ask for: a forecast, or the finished run if there is one."""
        with self.controls.lock:
            self.forecast_view.clear()
            config = self.config
            self.controls.show(config, self.forecast_view.resolved(config))
            self.code.update()
            self.launcher.show_rate()
            if self.picked.is_unread:
                return
            self.show_error("")
            finished = self._show_forecast()
            if finished is not None and not background.QUEUE.busy(self.launcher):
                self.launcher.show_stored(finished, config)
            self._show_title()

    def _loaded(self):
        facts = self.forecast.facts
        if facts is not None:
            self.answers.ask_by_default(facts.model.parameters)
        self.picked.show_preview(self.forecast.preview)
        self._refresh()

    def _show_forecast(self) -> Run | None:
        return self.forecast_view.show(self.config, may_estimate=self.launcher.running() is None)

    def _show_title(self):
        if self.launcher.running() is None:
            self.results.show_title(self._valid_config())

    def _valid_config(self) -> Config | None:
        try:
            return self.config
        except UserError:
            return None

    def _runs_changed(self):
        self.table.update()
        self.picked.fold_preview()
        if self.launcher.running() is None:
            self.results.show(self._valid_config())

    def _run_drawn(self):
        self.results.show(self._valid_config())
        self._show_forecast()

    def _use_values(self, run: Run):
        self.config = self.collection.requested.get(run.id, run.config)

    def _experiment_changed(self, old: Experiment):
        """The pickers name another model or other data; returning to one returns its baseline."""
        self.collection.switch(pickers.key_of(old), pickers.key_of(self.experiment),
                               self.experiment.fixed_settings())
        self.answers.forget()
        self.forecast_view.load(self.experiment, self._loaded)
        self._refresh()
        if self.baseline is None and self.runs:
            self.results.status.show("other model or data: the next run is their baseline")

    def _in_background(self, function: Callable[[], object], then: Callable[[], object],
                       what: str = "", cancelable: bool = False):
        """Call `function` when no run is training, and `then` after it unless the experiment has
        changed meanwhile. what: its name, shown while a run waits for it. cancelable: a run
        need not wait."""
        forecast = self.forecast

        def task_changed(task: background.BackgroundTask):
            if task.state == background.FAILED and task.error is not None:
                self.launcher.report_failure(task.error)
            elif task.state == background.FINISHED and self.forecast is forecast:
                widgets.guarded(then, self.show_error)()

        task = background.BackgroundTask(function, forecast, task_changed)
        task.what, task.cancelable = what, cancelable
        if getattr(background.QUEUE.current, "paused", False):
            self.results.status.show("waiting: the run is paused. Continue or stop it.")
        background.QUEUE.submit(task)
