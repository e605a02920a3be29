"""`ft.what_if`: a panel of controls over fine-tuning runs. Moving a control trains nothing: it
looks up a finished run or a forecast. Start trains, and draws the run over the baseline.

    panel = ft.what_if(model="tiny", data="tasks"); panel
    await panel.result()      # in the next cell: waits, and leaves the figure in the notebook
"""

from __future__ import annotations

import threading

from ftkit.base import formatting, machine
from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.data import schema
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.forecast import Forecast
from ftkit.notebook import fields as config_fields
from ftkit.notebook import runner, to_script, widgets
from ftkit.notebook.panel import Panel
from ftkit.report import diagnose, plots

FIRST_STEPS = 60  # max_steps of the first run unless a config is given


def what_if(experiment: Experiment | None = None, *, model: str = "tiny", data="translation",
            val=None, probes=("general",), config: Config | None = None, baseline=None,
            fields=None):
    """Controls for every field of Config over runs of one experiment, drawn over a baseline.

    experiment: whose runs they are; without one, the panel has pickers for model and data, which
    start at the values given here (names, folders, files; val and probes as in Experiment).
    config: the initial values of the controls, by default 60 steps. baseline: a Run to compare
    with, by default the first run. fields: names of the fields to show; the others stay as
    `config` has them. Returns a WhatIf, which displays itself. Raises UserError for bad data,
    an unknown model or an unknown field.
    """
    if not isinstance(experiment, Experiment | None):
        raise UserError(f"what_if was given a {type(experiment).__name__}; give it an Experiment, "
                        "or model= and data= to start from")
    with_pickers = experiment is None
    experiment = experiment or Experiment(model=model, data=data, val=val, probes=probes)
    return WhatIf(experiment, config or Config(max_steps=FIRST_STEPS), baseline, fields,
                  with_pickers)


class WhatIf:
    """The panel: `.config` are the values of the controls (set it to move them), `.runs` the runs
    so far, `.view` the widgets. `start`, `stop` and `make_baseline` are its buttons."""

    def __init__(self, experiment, config, baseline, fields, with_pickers):
        runner.RUNNER.stop()  # a second panel, or the same cell run again: one run at a time
        self.experiment, self._base_config, self.baseline = experiment, config, baseline
        self.runs: list = []
        self.error: BaseException | None = None
        self.forecast = Forecast(experiment)
        self._pickers_invalid = False  # the pickers name something else than self.experiment
        self._requested: dict = {}  # id of a run -> the Config of the controls, with its "auto"s
        self._handle = None  # of the figure under the cell that waited
        self._painter: threading.Thread | None = None
        self._lock = threading.RLock()
        names = {"model": str(experiment.model), "data": self._data_name()} if with_pickers else {}
        callbacks = {"on_control": self._control_moved, "on_config_text": self._read_config_text,
                     "on_picker": self._read_pickers, "on_selected_run": self._show_selected,
                     "on_copy": self._show_copy, "start": self.start, "stop": self.stop,
                     "make_baseline": self.make_baseline}
        self.view = Panel(config_fields.grouped(fields), callbacks, names)
        self.config = config
        self._load_forecast()

    # ------------------------------------------------------------------- public

    @property
    def config(self) -> Config:
        """The Config of the controls; UserError where their values contradict each other."""
        controls = self.view.controls
        return self._base_config.but(**{name: widgets.read(controls[name]) for name in controls})

    @config.setter
    def config(self, config: Config):
        with self._lock:
            self._base_config = config
            self.view.set_controls(config)
            self._control_moved()

    def start(self):
        """Train with the values of the controls, or show the stored run if there is one; while
        another run is training, join the queue.

        Raises UserError where a text field cannot be read: nothing is trained in its place.
        """
        self.view.show_error("")
        self.error = None
        if self._pickers_invalid:
            self._read_pickers()
        if self.view.config_text.value.strip() != str(self.config):
            self._read_config_text()
        config = self.config
        finished = self._finished_run(config)
        if finished is not None:
            return self._show_stored(finished)
        running = runner.RUNNER.running(self)
        if any(isinstance(task, runner.TrainingTask) and task.does(self.experiment, config)
               for task in (running, *runner.RUNNER.waiting(self))):
            return None  # a second click on Start
        if not running and runner.RUNNER.busy():
            self.view.status.show("waiting")
        runner.RUNNER.submit(runner.TrainingTask(self.experiment, config, self, self._task_changed))
        self._update_buttons()

    def stop(self):
        """End the run after its current step, keep it, and empty the queue."""
        runner.RUNNER.stop(self)
        self._update_buttons()

    def make_baseline(self):
        """Compare all runs with the selected one."""
        if self.view.run_list.value is not None:
            self.baseline = self.runs[self.view.run_list.value]
            self._list_runs()
            self._show_figure()

    async def result(self):
        """Wait for the runs that were started (without one, start one with the values of the
        controls), and display the figure under this cell, where later runs update it.

        Returns the newest Run. Interrupting the cell stops the run and keeps it. Raises whatever
        the run raised.
        """
        if not await runner.RUNNER.wait_until_idle(self.forecast):
            runner.RUNNER.stop(self)  # interrupted while a forecast kept the run waiting
        elif not self.runs and not runner.RUNNER.busy(self):
            self.start()
        await runner.RUNNER.wait_until_idle(self)
        error, self.error = self.error, None
        if error is not None:
            raise error
        if not self.runs:
            raise UserError("no run was made; press Start in the panel, then run this cell again")
        self._handle = None
        self._display_figure(self.picture())
        return self.runs[-1]

    def wait(self, seconds: float = 600) -> list:
        """Wait until no task is left; returns the runs. For scripts: in a notebook, `await
        panel.result()` keeps the page responsive. Raises TimeoutError."""
        runner.RUNNER.join(self.forecast, seconds)
        runner.RUNNER.join(self, seconds)
        if self._painter is not None:
            self._painter.join(seconds)
        return self.runs

    def picture(self):
        """The figure of the baseline and the newest runs, with its sentence; None without one."""
        return plots.over_baseline(self.runs, self.baseline)

    def _ipython_display_(self):
        from IPython.display import display

        display(self.view.ui)
        print("The controls work as long as the kernel runs: after reopening the notebook, run "
              "this cell again.\nThe figure under the cell that awaits the result is saved.")

    def __repr__(self) -> str:
        return f"WhatIf({self.experiment!r}, {len(self.runs)} runs)"

    # --------------------------------------------------------- what the learner changes

    def _control_moved(self):
        """Show the forecast for the new values; a finished run is shown at once."""
        with self._lock:
            self.view.forecast.show("")
            config = self.config
            self.view.show_config(str(config), config.method)
            self._show_copy()
            if self._pickers_invalid:
                return
            self.view.show_error("")
            finished = self._show_forecast()
            if finished is not None and not runner.RUNNER.busy(self):
                self._show_stored(finished)

    def _read_config_text(self):
        self.config = Config.from_string(self.view.config_text.value)

    def _read_pickers(self):
        """Switch to another model or other data."""
        names = {name: picker.value.strip() for name, picker in self.view.pickers.items()}
        self._pickers_invalid = True
        self.view.forecast.show("")
        self.experiment = Experiment(**{name: value for name, value in names.items() if value},
                                     probes=dict(self.experiment.probes))
        self._pickers_invalid, self.baseline = False, None
        self.view.set_pickers({"model": str(self.experiment.model), "data": self._data_name()})
        self.view.status.show("ready")
        self.view.show_error("")
        self._load_forecast()
        self._control_moved()

    def _show_selected(self):
        """Show the run that was selected in the list, and set the controls to its Config."""
        if self.view.run_list.value is None:
            return
        with self._lock:
            run = self.runs[self.view.run_list.value]
            self._add_run(run)
            self.config = self._requested.get(run.id, run.config)
        self._show_figure()

    def _show_copy(self):
        kind = self.view.copy_as.value
        if not kind:
            return self.view.copied.show("")
        config = self.config
        if kind.endswith("script"):  # other libraries have no "auto"
            config = self.forecast.resolved(config) or config
        self.view.copied.show(to_script.KINDS[kind](self.experiment, config))

    # ------------------------------------------------------------------ forecasts

    def _load_forecast(self):
        """Load the model and count tokens in the background: the page does not wait."""
        self.forecast = Forecast(self.experiment)
        self._in_background(self.forecast.load, then=self._control_moved)

    def _in_background(self, function, then):
        """Call `function` in the runner's thread when no run is training, and `then` after it."""
        forecast = self.forecast

        def task_changed(task):
            if task.state == runner.FAILED:
                self._run_failed(task.error)
            elif task.state == runner.FINISHED and self.forecast is forecast:
                widgets.guarded(then, self.view.show_error)()

        runner.RUNNER.submit(runner.BackgroundTask(function, forecast, task_changed))

    def _finished_run(self, config):
        """A finished run of `config`, from this panel or the store; None if none exists."""
        stored = self.forecast.recall(config)
        return stored and next((run for run in self.runs if run.id == stored.id), stored)

    def _show_forecast(self):
        """Show what Start would do; returns the finished run that it would show, if any."""
        with self._lock:
            config = self.config
            finished = self._finished_run(config)
            if finished is not None:
                text = "already run: Start shows the stored run and trains nothing"
            else:
                if self.forecast.facts and not runner.RUNNER.running(self):
                    self._estimate_memory(config)
                text = self._forecast_text(config)
            self.view.forecast.show(
                f"next run: {str(config) or 'all fields at their defaults'}", text)
            return finished

    def _estimate_memory(self, config):
        """Estimate the memory of a run, unless the controls have moved in the meantime."""
        if self.forecast.memory(config) is None:
            self._in_background(
                lambda: self.config == config and self.forecast.estimate_memory(config),
                then=self._show_forecast)

    def _forecast_text(self, config) -> str:
        seconds, steps = self.forecast.seconds(config), self.forecast.steps(config)
        if seconds is None or steps is None:
            return "loading the model and data ..."
        known = self.forecast.memory(config)
        if known is None:
            memory = "memory not known yet"
        elif known.refused:
            return f"does not fit: {known.refused}"
        elif known.bytes is None:
            memory = "memory not known"
        else:
            memory = (f"about {known.bytes / 2**20:,.0f} of "
                      f"{machine.free_memory() / 2**20:,.0f} MiB free memory")
        unit = "step" if steps == 1 else "steps"
        return f"{steps:,} {unit}, about {formatting.duration(max(1, seconds))}, {memory}"

    # ------------------------------------------------------------------ runs and figures

    def _task_changed(self, task):
        """The state of a TrainingTask has changed; called in the runner's thread."""
        if task.state == runner.RUNNING:
            self.view.status.show("evaluating the model before the first step")
            self.view.diagnosis.show()  # it was about another run
            self._painter = threading.Thread(
                target=widgets.guarded(self._paint, self.view.show_error), args=(task,),
                daemon=True, name="ftkit-paint")
            self._painter.start()
        elif task.run is not None:
            for old in self.runs:
                old.model = None  # only the newest run keeps its weights
            self._requested[task.run.id] = task.config
            if task.state == runner.FINISHED:
                self.forecast.learn(task.config, task.seconds)
            self._add_run(task.run)
        else:
            if task.error is not None:
                self._run_failed(task.error)
            self.view.status.show(task.state)
        self._update_buttons(ended=task.state != runner.RUNNING)

    def _paint(self, task):
        behind = None if self.baseline is None else ("baseline", self.baseline)
        self.view.draw_live(task, behind)
        if task.run is not None:
            self.view.status.show(task.run.stopped or (
                f"finished: {len(task.run.rows)} steps, {task.seconds:.1f} s"))
            self._show_figure()
            self._show_forecast()

    def _run_failed(self, error):
        self.error = error
        widgets.report_error(error, self.view.show_error, "the run failed")

    def _show_stored(self, run):
        self._requested.setdefault(run.id, self.config)
        if not self.runs or self.runs[-1] is not run:
            self._add_run(run)
            self.view.status.show(f"already run: {run.id} was loaded from the store")
            self._show_figure()

    def _add_run(self, run):
        """Make a run the newest of the list."""
        with self._lock:
            self.runs = [old for old in self.runs if old is not run] + [run]
            self.baseline = self.baseline or run
            self._list_runs()

    def _show_figure(self):
        """Show the figure and the diagnosis; also under the cell that waited, if one did."""
        picture = self.picture()
        if picture is not None:
            self.view.show_image(picture.png(dpi=100))
            findings = diagnose.diagnose(self.runs[-1], self.baseline)
            self.view.diagnosis.show(*(f"{each.text} → {each.advice}" for each in findings))
            if self._handle is not None:
                self._display_figure(picture)

    def _display_figure(self, picture):
        """Put the figure into the notebook itself, which keeps it when the widgets are gone."""
        if not machine.in_notebook():
            return
        from IPython.display import DisplayHandle

        bundle = picture._repr_mimebundle_()
        if self._handle is not None:
            return self._handle.update(bundle, raw=True)
        self._handle = DisplayHandle()
        self._handle.display(bundle, raw=True)

    def _list_runs(self):
        self.view.show_runs([f"{number}  {plots.line_over_baseline(run, self.baseline)}"
                             for number, run in enumerate(self.runs, 1)])

    def _update_buttons(self, ended: bool = False):
        with self._lock:
            running = not ended and runner.RUNNER.running(self) is not None
            self.view.update_buttons(running, len(runner.RUNNER.waiting(self)))

    def _data_name(self) -> str:
        """What the data picker shows: the name of a sample, or the path of a file."""
        train = self.experiment.train
        return train.name if train.name in schema.sample_names() else str(train.path or train.name)
