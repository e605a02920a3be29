"""What a panel says about a run before it starts; the forecasts are made behind the page.

`Forecasts` is the part of `WhatIf` that asks `ftkit.experiment.forecast` in the queue's thread.
"""

from __future__ import annotations

from ftkit.base import formatting, free_memory
from ftkit.experiment.forecast import Forecast
from ftkit.notebook import background, widgets
from ftkit.notebook.part import Part


class Forecasts(Part):
    """A part of `WhatIf`: it uses its experiment, config, runs, view and lock."""

    def load_forecast(self):
        """Load the model and count tokens in the background: the page does not wait."""
        self.forecast = Forecast(self.experiment)
        self.in_background(self.forecast.load, then=self._control_moved,
                           what="loading the model and the data")

    def in_background(self, function, then, what: str = "", cancelable: bool = False):
        """Call `function` in the queue's thread when no run is training, and `then` after it;
        what: what a run that waits for it is waiting for. cancelable: a run need not wait."""
        forecast = self.forecast

        def task_changed(task):
            if task.state == background.FAILED:
                self._run_failed(task.error)
            elif task.state == background.FINISHED and self.forecast is forecast:
                widgets.guarded(then, self.view.show_error)()

        task = background.BackgroundTask(function, forecast, task_changed)
        task.what, task.cancelable = what, cancelable
        background.QUEUE.submit(task)

    def _finished_run(self, config):
        """A finished run of `config`, from this panel or the store; None if none exists."""
        stored = self.forecast.recall(config)
        return stored and next((run for run in self.runs if run.id == stored.id), stored)

    def _show_forecast(self):
        """Show what Start would do; returns the finished run that it would show, if any."""
        with self.lock:
            config = self.config
            finished = self._finished_run(config)
            if finished is not None:
                text = "already run: Start shows the stored run and trains nothing"
            else:
                if self.forecast.facts and not background.QUEUE.running(self):
                    self._estimate_memory(config)
                text = self._forecast_text(config)
            self.view.forecast.show(
                f"next run: {str(config) or 'all fields at their defaults'}", text)
            return finished

    def _estimate_memory(self, config):
        """Estimate the memory of a run, unless the controls have moved in the meantime. A run that
        is started ends the estimate, which is made after it."""
        if self.forecast.memory(config) is None:
            self.in_background(
                lambda: self.config == config and self.forecast.estimate_memory(config),
                then=self._show_forecast, what="estimating the memory", cancelable=True)

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
                      f"{free_memory.available() / 2**20:,.0f} MiB free memory")
        unit = "step" if steps == 1 else "steps"
        return f"{steps:,} {unit}, about {formatting.duration(max(1, seconds))}, {memory}"
