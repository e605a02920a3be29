"""What the panel says about the next run before it starts. Slow forecasts are made in the
background, so the page does not wait.

    view = ForecastView(experiment, runs, in_background); view.show(config, may_estimate=True)
"""

from collections.abc import Callable

from ftkit.base import formatting, free_memory
from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.forecast import Forecast
from ftkit.experiment.run import Run
from ftkit.notebook import widgets
from ftkit.notebook.collection import RunCollection


class ForecastView:
    """`.text` is the widget; `.forecast` belongs to the current experiment.

    in_background(function, then, what, cancelable): calls `function` when no run is training, and
    `then` after it.
    """

    def __init__(self, experiment: Experiment, runs: RunCollection, in_background: Callable):
        self.forecast, self._runs = Forecast(experiment), runs
        self._in_background = in_background
        self._config: Config | None = None  # the one that is described now
        self.text = widgets.TextLines(css="ftkit-forecast")

    def load(self, experiment: Experiment, then: Callable[[], None]):
        """Read the model and the data of an experiment in the background."""
        self.forecast = Forecast(experiment)
        self._in_background(self.forecast.load, then, what="loading the model and the data")

    def resolved(self, config: Config) -> Config | None:
        """The Config as a run would store it; None while the model is loading, and for values that
        the run itself will reject."""
        try:
            return self.forecast.resolved(config)
        except UserError:
            return None

    def finished_run(self, config: Config) -> Run | None:
        """The finished run of `config`, from this panel (with its model) or from the store."""
        stored = self.forecast.recall(config)
        return stored and next((run for run in self._runs.all if run.id == stored.id), stored)

    def clear(self):
        self.text.show("")

    def show(self, config: Config, may_estimate: bool) -> Run | None:
        """Say what Start would do; returns the finished run that it would show, if there is one.

        may_estimate: trace the memory of the run in the background if it is unknown.
        """
        self._config = config
        finished = self.finished_run(config)
        if finished is not None:
            is_newest = bool(self._runs.all) and self._runs.all[-1].id == finished.id
            text = "" if is_newest else "already run: Start shows the stored run"
        else:
            if may_estimate and self.forecast.facts and self.forecast.memory(config) is None:
                self._estimate_memory(config)
            text = self.describe(config)
        self.text.show(text)
        return finished

    def _estimate_memory(self, config: Config):
        """Trace the memory unless the controls have moved. A run interrupts and restarts it."""
        forecast = self.forecast
        self._in_background(
            lambda: self._config == config and forecast.estimate_memory(config),
            lambda: self._config is None or self.show(self._config, may_estimate=True),
            what="estimating the memory", cancelable=True)

    def describe(self, config: Config) -> str:
        """Steps, seconds and memory of a run of `config`."""
        seconds, steps = self.forecast.seconds(config), self.forecast.steps(config)
        if seconds is None or steps is None:
            return "loading the model and data ..."
        known = self.forecast.memory(config)
        if known is not None and known.refused:
            return f"does not fit: {known.refused}"
        memory = "memory not known yet" if known is None else "memory not known"
        if known is not None and known.bytes is not None:
            memory = f"{formatting.gb(known.bytes)} of {formatting.gb(free_memory.available())}"
        unit = "step" if steps == 1 else "steps"
        return f"{steps:,} {unit}, about {formatting.duration(max(1, seconds))}, {memory}"
