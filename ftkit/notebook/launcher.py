"""Start and stop runs from a what-if panel: one run, one config with several seeds, or one field
over several values. Runs train one after the other, in the background,
and can be paused, taken step by step, and continued with another learning rate.

    launcher.start(); launcher.pause(); launcher.step(); launcher.start_seeds(); launcher.stop()
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence

import ipywidgets as W

from ftkit.base.config import Config
from ftkit.base.config_fields import is_slider, neighbors
from ftkit.base.errors import UserError
from ftkit.experiment.run import Run
from ftkit.notebook import background, widgets
from ftkit.notebook.answers_view import Answers
from ftkit.notebook.collection import RunCollection
from ftkit.notebook.controls import Controls
from ftkit.notebook.forecast_view import ForecastView
from ftkit.notebook.pickers import ModelAndData
from ftkit.notebook.results import SEEDS, Results
from ftkit.notebook.widgets import FIELDS

VALUES = 5  # runs of a sweep
TIPS = {
    "start": ("start", "Train with these values; while another run is training, join the queue"),
    "stop": ("stop", "End the run after its current step, keep it, and empty the queue"),
    "pause": ("pause", "Wait after the current step; again: continue"),
    "step": ("step", "Take one step, then pause"),
    "set-rate": ("use from now on", "Train the present run at this learning rate from its next "
                 "step on; its curve is marked, and its notes say so"),
    "seeds": ("seeds", f"Train these values with {SEEDS} seeds: the chart shows their mean with a "
              "band of one standard deviation"),
    "knob": ("field to sweep", "The field that Sweep changes"),
    "sweep": ("sweep", f"Train {VALUES} neighboring values of this field, all else as the controls "
              "say"),
}


@dataclasses.dataclass
class Batch:
    """Runs that were started together: Configs still to train, and finished runs."""

    missing: list[Config]
    field: str | None  # that a sweep varies
    runs: list[Run]


class Launcher:
    """`.start_button`, `.pause_button`, `.step_button`, `.stop_button`, `.seeds_button`, `.knob`
    (the field to sweep over), `.sweep_button` and `.rate_button` (next to the learning rate, while
    a run trains at another one) are the widgets. `.error` is the exception of the last failed run.

    on_end: called after a run has ended and was drawn. The launcher owns its tasks in the queue.
    """

    def __init__(self, controls: Controls, picked: ModelAndData, forecast: ForecastView,
                 runs: RunCollection, results: Results, answers: Answers,
                 on_end: Callable[[], object], show_error: Callable[[str], None]):
        self.error: BaseException | None = None
        self._controls, self._picked, self._forecast = controls, picked, forecast
        self._runs, self._results, self._answers = runs, results, answers
        self._on_end, self._show_error = on_end, show_error
        self._painter: threading.Thread | None = None
        self._batches: dict[background.TrainingTask, Batch] = {}
        press = functools.partial(widgets.button, show_error=show_error)
        self.start_button = press("Start", "play", self.start, TIPS["start"][1])
        self.stop_button = press("Stop", "stop", self.stop, TIPS["stop"][1])
        self.pause_button = press("", "pause", self.pause, TIPS["pause"][1], css="ftkit-pause")
        self.step_button = press("", "step-forward", self.step, TIPS["step"][1], css="ftkit-step")
        self.rate_button = press("", "", self.set_learning_rate, TIPS["set-rate"][1],
                                 css="ftkit-set-rate")
        if "learning_rate" in controls.rows:
            controls.rows["learning_rate"].children += (self.rate_button,)
        self.seeds_button = press(f"× {SEEDS} seeds", "", self.start_seeds, TIPS["seeds"][1],
                                  css="ftkit-seeds")
        self.sweep_button = press("Sweep", "", self.start_sweep, TIPS["sweep"][1],
                                  css="ftkit-sweep")
        self.knob = W.Dropdown(options=[n for n in controls.fields if is_slider(FIELDS[n])],
                               tooltip=TIPS["knob"][1], layout=W.Layout(width="150px"))
        self.knob.add_class("ftkit-knob")
        self._update_buttons()

    def start(self):
        """Train with the values of the controls, or show their stored run.

        While another run is training, join the queue. Raises UserError if a text field cannot be
        read.
        """
        config = self._read_typed()
        finished = self._forecast.finished_run(config)
        if finished is None:
            self.submit(config)
        else:
            self.show_stored(finished, config)

    def pause(self):
        """Pause the present run, or continue it."""
        if task := self._training():
            task.pause() if task.left is None else task.resume()
        self._update_buttons()

    def step(self):
        """Take one step of the present run, or the first of a new one, and pause."""
        if task := self._training():
            task.step()
        else:
            self.submit(self._read_typed(), left=1)
        self._update_buttons()

    def set_learning_rate(self):
        """Continue the present run with the learning rate of the control."""
        task, rate = self._training(), self._learning_rate()
        if task and rate:
            task.learning_rate = rate
            self._results.status.show(f"learning_rate {rate:g} from the next step on")
        self.show_rate()

    def show_rate(self, ended: bool = False):
        """Offer the learning rate of the control where the present run has another one, unless it
        belongs to a sweep or to seeds. ended: that run has ended just now."""
        task, rate = self._training(), self._learning_rate()
        alone = task and not ended and task not in self._batches
        now = task.learning_rate if task and alone else None
        self.rate_button.description = f"Use {rate:g} from now on" if rate else ""
        self.rate_button.layout.display = None if now and rate and now != rate else "none"

    def _learning_rate(self) -> float | None:
        try:
            config = self._controls.config
        except UserError:
            return None
        return config.learning_rate or getattr(
            self._forecast.resolved(config), "learning_rate", None)

    def _training(self) -> background.TrainingTask | None:
        task = self.running()
        return task if isinstance(task, background.TrainingTask) else None

    def start_seeds(self):
        config = self._read_typed()
        self._start_batch([config.but(seed=config.seed + n) for n in range(SEEDS)])

    def start_sweep(self):
        """Train five neighboring values of the field chosen in `.knob`."""
        config = self._read_typed()
        name = self.knob.value
        if name is None:
            raise UserError("no field shown in this panel has usual values to sweep over. Show "
                            "another group of fields.")
        resolved = self._forecast.resolved(config) or config
        values = neighbors(Config, name, getattr(resolved, name), VALUES)
        self._start_batch([config.but(**{name: value}) for value in values], name)

    def settle(self):
        """Train the two best of the chosen configs with three seeds each, and add them."""
        chosen, best = self._runs.chosen, self._runs.to_settle()
        configs = [self._runs.requested.get(run.id, run.config) for run in best]
        self._start_batch([config.but(seed=config.seed + n) for config in configs
                           for n in range(SEEDS)], self._runs.swept_field(), chosen)

    def _read_typed(self) -> Config:
        """The Config to train, after reading text that was typed and not confirmed."""
        self._show_error("")
        self.error = None
        if self._picked.is_unread:
            self._picked.read()
        self._controls.read_unread()
        return self._controls.config

    def _start_batch(self, configs: list[Config], field: str | None = None,
                     runs: Sequence[Run] = ()):
        """Train configs and choose their runs, with finished `runs`, for the chart. field: the one
        that a sweep varies."""
        batch = Batch(list(configs), field, list(runs))
        for config in configs:
            finished = self._forecast.finished_run(config)
            if finished is None:
                self.submit(config, batch)
            else:
                self._runs.add(finished, self._runs.requested.get(finished.id, config))
                self._add_to_batch(batch, config, finished)

    def _add_to_batch(self, batch: Batch, config: Config, run: Run):
        """Note a finished run of a batch, and show those so far in the chart."""
        batch.missing.remove(config)
        batch.runs = [old for old in batch.runs if old.id != run.id] + [run]
        if batch.field:
            self._runs.swept[run.id] = batch.field
        self._runs.choose(batch.runs)

    def submit(self, config: Config, batch: Batch | None = None, left: int | None = None):
        """Put a run of `config` into the queue, unless it is a second click on Start. left: steps
        until it pauses, which also trains a run anew that is stored."""
        experiment, running = self._picked.experiment, self.running()
        waiting = background.QUEUE.waiting(self)
        if batch is None and any(
                isinstance(task, background.TrainingTask) and task.does(experiment, config)
                for task in (running, *waiting)):
            return
        current = background.QUEUE.current
        if not running and current is not None:
            self._results.status.show(f"waiting: {current.what or 'another run'}")
        task = background.TrainingTask(experiment, config, self, self._task_changed)
        task.sample, task.left = self._answers.sample(), left
        if batch is not None:
            self._batches[task] = batch
        if self._forecast.forecast.facts is None and left is None:
            # Look in the store when it has loaded.
            task.recall = self._forecast.finished_run
        background.QUEUE.submit(task)
        self._update_buttons()

    def show_stored(self, run: Run, config: Config):
        """Show a finished run of `config` instead of training it."""
        status = self._results.status
        if not self._runs.all or self._runs.all[-1].id != run.id:
            status.show(f"already run: {run.id} was loaded from the store")
            self._runs.add(run, self._runs.requested.get(run.id, config))
            self._answers.show_during(run)
        elif status.lines in ([], ["ready"]):
            status.show("already run, from the store: "
                        + self._runs.line_of(run))

    def running(self) -> background.BackgroundTask | None:
        return background.QUEUE.running(self)

    def stop(self):
        """End the run after its current step, keep it, and empty the queue."""
        background.QUEUE.stop(self)
        self._update_buttons()

    def join(self, seconds: float):
        """Wait until all runs have ended and were drawn. Raises TimeoutError."""
        background.QUEUE.join(self, seconds)
        if self._painter is not None:
            self._painter.join(seconds)

    def _task_changed(self, task: background.TrainingTask):
        """Called in the training thread when a task starts and when it ends."""
        if task.state == background.RUNNING:
            self._picked.fold_preview()  # the chart takes its room
            self._results.status.show("evaluating the model before the first step")
            paint = widgets.guarded(self._paint, self._show_error)
            self._painter = threading.Thread(target=paint, args=(task,), daemon=True,
                                             name="ftkit-paint")
            self._painter.start()
        elif task.run is not None:
            if task.state == background.FINISHED and not task.recalled:
                self._forecast.forecast.learn(task.config, task.seconds)
            self._runs.chosen = []
            self._runs.add(task.run, task.config)
        else:
            self._batches.pop(task, None)
            if task.error is not None:
                self.report_failure(task.error)
            self._results.status.show(task.state)
        self._update_buttons(ended=task.state != background.RUNNING)

    def _paint(self, task: background.TrainingTask):
        forecast = self._forecast.forecast

        def also(run: Run | None):
            self._answers.show_during(run)
            if run is not None and task.experiment is forecast.lab:
                forecast.observe(run)

        self._results.draw_live(task, also)
        run, batch = task.run, self._batches.pop(task, None)
        if run is None:
            return
        finished = f"finished: {len(run.rows)} steps, {task.seconds:.1f} s"
        self._results.status.show(
            f"already run: {run.id} was loaded from the store" if task.recalled
            else run.stopped or finished)
        if batch is not None and not run.stopped:
            self._add_to_batch(batch, task.config, run)
        self._on_end()

    def report_failure(self, error: BaseException):
        """Show why a run or a forecast failed; `WhatIf.result` raises it."""
        self.error = error
        widgets.report_error(error, self._show_error, "the run failed")

    def _update_buttons(self, ended: bool = False):
        running = not ended and self.running() is not None
        waiting = len(background.QUEUE.waiting(self))
        self.start_button.description = "Queue" if running or waiting else "Start"
        self.stop_button.disabled = not (running or waiting)
        self.stop_button.description = f"Stop ({waiting} waiting)" if waiting else "Stop"
        task = None if ended else self._training()
        self.pause_button.disabled = task is None
        self.pause_button.icon = "pause" if task is None or task.left is None else "play"
        self.step_button.disabled = task is not None and task.left is None
        self.show_rate(ended)
