"""`ft.what_if`: a panel of controls over fine-tuning runs. Moving a control trains nothing: it
looks up a finished run or a forecast. Start trains, and draws the run over the baseline.

    panel = ft.what_if(model="tiny", data="tasks"); panel
    await panel.result()      # in the next cell: waits, and leaves the figure in the notebook
"""

from __future__ import annotations

import threading

from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.forecast import Forecast
from ftkit.experiment.run import plain
from ftkit.notebook import answers_view, background, kernel, table_view, widgets
from ftkit.notebook import fields as config_fields
from ftkit.notebook.batches import Batches
from ftkit.notebook.changes import Changes
from ftkit.notebook.forecast_line import Forecasts
from ftkit.notebook.panel import Panel
from ftkit.notebook.shown_runs import ShownRuns
from ftkit.report import plots

FIRST_STEPS = 60  # max_steps of the first run unless a config is given
_by_cell: dict[str, WhatIf] = {}  # the panel that each cell of the notebook has made last


def what_if(experiment: Experiment | None = None, *, model: str = "tiny", data="translation",
            val=None, probes=("general",), config: Config | None = None, baseline=None,
            fields=None):
    """Controls for every field of Config over runs of one experiment, drawn over a baseline.

    experiment: whose runs they are; without one, the panel has pickers for model and data, which
    start at the values given here (names, folders, files; val and probes as in Experiment).
    config: the initial values of the controls, by default 60 steps. baseline: a Run to compare
    with, by default the first run. fields: names of the fields to show; the others stay as
    `config` has them. Returns a WhatIf, which displays itself; where its cell is run again, it has
    the runs, the baseline and the controls of the one before. Raises UserError for bad data, an
    unknown model or an unknown field.
    """
    if not isinstance(experiment, Experiment | None):
        raise UserError(f"what_if was given a {type(experiment).__name__}; give it an Experiment, "
                        "or model= and data= to start from")
    with_pickers = experiment is None
    experiment = experiment or Experiment(model=model, data=data, val=val, probes=probes)
    made = WhatIf(experiment, config or Config(max_steps=FIRST_STEPS), baseline, fields,
                  with_pickers)
    cell = kernel.cell_id()
    if cell:
        old, _by_cell[cell] = _by_cell.get(cell), made
        if old is not None and old.asked == made.asked:
            made.adopt(old)
    return made


class WhatIf(Batches, Changes, Forecasts, ShownRuns):
    """The panel: `.config` are the values of the controls (set it to move them), `.runs` the runs
    so far, `.view` the widgets, `.table` and `.answers` those under the chart. `start` and `stop`
    are its buttons."""

    def __init__(self, experiment, config, baseline, fields, with_pickers):
        self._interrupted = isinstance(background.QUEUE.current, background.TrainingTask)
        background.QUEUE.stop()  # a second panel, or the same cell run again: one run at a time
        self.experiment, self._base_config, self.baseline = experiment, config, baseline
        self.forecast = Forecast(experiment)
        self.asked = (plain(experiment.fixed_settings()), config, tuple(fields or ()), with_pickers)
        self.runs: list = []
        self.error: BaseException | None = None
        self.initial, self._past = config, []  # configs before each change, for Undo
        self._pickers_invalid = False  # the pickers name something else than self.experiment
        self.requested: dict = {}  # id of a run -> the Config of the controls, with its "auto"s
        self._baselines: dict = {}  # model and data -> their baseline
        self._read: dict = {}  # runs of the store by id
        self._handle = None  # of the figure under the cell that waited
        self._painter: threading.Thread | None = None
        self.successor: WhatIf | None = None  # the panel of the same cell, run again
        self.lock = threading.RLock()
        names = {"model": str(experiment.model), "data": self._data_name()} if with_pickers else {}
        callbacks = {"on_control": self._control_changed, "on_config_text": self._read_config_text,
                     "on_picker": self._read_pickers, "on_preset": self._use_preset,
                     "on_copy": self._show_copy, "start": self.start, "stop": self.stop,
                     "undo": self.undo, "reset": self.reset, "seeds": self.start_seeds,
                     "sweep": self.start_sweep}
        self.table, self.answers = table_view.RunTable(self), answers_view.Answers(self)
        tips = table_view.TIPS | answers_view.TIPS
        self.view = Panel(config_fields.grouped(fields), callbacks, names,
                          [self.table.ui, self.answers.ui], tips)
        self._show_values(config)
        self.load_forecast()

    def view_error(self, text: str):
        self.view.show_error(text)

    # ------------------------------------------------------------------- public

    @property
    def config(self) -> Config:
        """The Config of the controls; UserError where their values contradict each other."""
        controls = self.view.controls
        return self._base_config.but(**{name: widgets.read(controls[name]) for name in controls})

    @config.setter
    def config(self, config: Config):
        with self.lock:
            self._past.append(self.config)
            self._no_news()
            self._show_values(config)

    def _show_values(self, config: Config):
        with self.lock:
            self._base_config = self._seen = config
            self.view.set_controls(config)
            self._control_moved()

    def start(self):
        """Train with the values of the controls, or show the stored run if there is one; while
        another run is training, join the queue.

        Raises UserError where a text field cannot be read: nothing is trained in its place.
        """
        self.read_all()
        finished = self._finished_run(self.config)
        if finished is not None:
            return self._show_stored(finished)
        self.submit(self.config)

    def submit(self, config, batch=None):
        running = background.QUEUE.running(self)
        if batch is None and any(
                isinstance(task, background.TrainingTask) and task.does(self.experiment, config)
                for task in (running, *background.QUEUE.waiting(self))):
            return  # a second click on Start
        current = background.QUEUE.current
        if not running and current is not None:
            self.view.status.show(f"waiting: {current.what or 'another run'}")
        task = background.TrainingTask(self.experiment, config, self, self._task_changed)
        task.batch, task.sample = batch, self.answers.sample()
        if self.forecast.facts is None:  # the model is being read: what is stored is known later
            task.recall = self._finished_run
        background.QUEUE.submit(task)
        self._update_buttons()

    def stop(self):
        """End the run after its current step, keep it, and empty the queue."""
        background.QUEUE.stop(self)
        self._update_buttons()

    def adopt(self, old: WhatIf):
        """Continue where another panel of the same cell has stopped."""
        with self.lock:
            self.experiment, self.requested, self._past = (
                old.experiment, old.requested, old._past)
            self.runs, self.baseline, self._baselines = old.runs, old.baseline, old._baselines
            self.table.chosen, self.table.sorted_by = old.table.chosen, old.table.sorted_by
            self.answers.prompts.value = old.answers.prompts.value
        old.successor = self  # a run that is just being stopped comes here
        if self.view.pickers:
            self.view.set_pickers({"model": str(self.experiment.model), "data": self._data_name()})
        self.load_forecast()
        self._show_values(old.config)
        stopped = ("; the run in progress was stopped and is kept" if self._interrupted else "")
        self.view.status.show(f"this cell was run again: {len(self.runs)} runs, their baseline "
                              f"and the controls were kept{stopped}")
        self.runs_changed()

    async def result(self):
        """Wait for the runs that were started (without one, start one with the values of the
        controls), and display the figure under this cell, where later runs update it.

        Returns the newest Run. Interrupting the cell stops the run and keeps it. Raises whatever
        the run raised.
        """
        if not await background.QUEUE.wait_until_idle(self.forecast):
            background.QUEUE.stop(self)  # interrupted while a forecast kept the run waiting
        elif not self.runs and not background.QUEUE.busy(self):
            self.start()
        await background.QUEUE.wait_until_idle(self)
        error, self.error = self.error, None
        if error is not None:
            raise error
        if not self.runs:
            raise UserError("no run was made; press Start in the panel, then run this cell again")
        self._handle = None
        self.display_figure(self.picture())
        return self.runs[-1]

    def wait(self, seconds: float = 600) -> list:
        """Wait until no task is left; returns the runs. For scripts: in a notebook, `await
        panel.result()` keeps the page responsive. Raises TimeoutError."""
        background.QUEUE.join(self.forecast, seconds)
        background.QUEUE.join(self, seconds)
        if self._painter is not None:
            self._painter.join(seconds)
        return self.runs

    def _ipython_display_(self):
        widgets.display(self.view.ui, repr(self))
        print("The controls work as long as the kernel runs: after reopening the notebook, run "
              "this cell again.\nThe figure under the cell that awaits the result is saved.")

    def __repr__(self) -> str:
        return f"WhatIf({self.experiment!r}, {len(self.runs)} runs)"

    # ------------------------------------------------------------------ runs

    def _task_changed(self, task):
        """The state of a TrainingTask has changed; called in the queue's thread."""
        if task.state == background.RUNNING:
            self.view.status.show("evaluating the model before the first step")
            self._painter = threading.Thread(
                target=widgets.guarded(self._paint, self.view.show_error), args=(task,),
                daemon=True, name="ftkit-paint")
            self._painter.start()
        elif task.run is not None:
            self.requested[task.run.id] = task.config
            if task.state == background.FINISHED and not task.recalled:
                self.forecast.learn(task.config, task.seconds)
            self.add_run(task.run)
            self.table.chosen = []
        else:
            if task.error is not None:
                self._run_failed(task.error)
            self.view.status.show(task.state)
        self._update_buttons(ended=task.state != background.RUNNING)

    def _paint(self, task):
        behind = None if self.baseline is None else ("baseline", self.baseline)
        self.view.draw_live(task, behind, f"Training now: {task.config}",
                            self.answers.show_during)
        run = task.run
        if run is None:
            return
        if self.successor is not None:
            self.successor.add_run(run)
            return self.successor.runs_changed()
        finished = f"finished: {len(run.rows)} steps, {task.seconds:.1f} s"
        self.view.status.show(
            f"already run: {run.id} was loaded from the store" if task.recalled
            else run.stopped or finished)
        if task.batch is not None and not run.stopped:
            self.batch_has(task.batch, task.config, run)
        self.show_figure()
        self._show_forecast()

    def _run_failed(self, error):
        self.error = error
        widgets.report_error(error, self.view.show_error, "the run failed")

    def _show_stored(self, run):
        self.requested.setdefault(run.id, self.config)
        if not self.runs or self.runs[-1].id != run.id:
            self.add_run(run)
            self.view.status.show(f"already run: {run.id} was loaded from the store")
            self.show_figure()
        elif not self.view.status.lines or self.view.status.lines == ["ready"]:
            self.view.status.show(f"already run, from the store: "
                                  f"{plots.line_over_baseline(run, self.baseline)}")

    def _update_buttons(self, ended: bool = False):
        with self.lock:
            running = not ended and background.QUEUE.running(self) is not None
            self.view.update_buttons(running, len(background.QUEUE.waiting(self)))

