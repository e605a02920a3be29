"""`ft.what_if`: a panel of controls over fine-tuning runs. Nothing trains under a moving slider:
controls find finished runs, Start makes a new one, which is drawn over the baseline.

    panel = ft.what_if(model="tiny", data="tasks"); panel
    await panel.result()      # in the next cell: waits, leaves the figure in the notebook
"""

from __future__ import annotations

import threading

from ftkit.base import formatting, machine, progress_bar
from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.data import schema
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.forecast import Forecast
from ftkit.notebook import runner, to_script, widgets
from ftkit.notebook.panel import Panel
from ftkit.report import diagnose, overlay

FIRST = 60  # steps of the first run, where nothing else was asked for


def what_if(lab: Experiment | None = None, *, model: str = "tiny", data="translation", val=None,
            probes=("general",), config: Config | None = None, baseline=None, fields=None):
    """Controls for every field of Config over runs of one experiment, drawn over a baseline.

    lab: an Experiment to stay with; without one, model and data are picked in the panel and start
    as given here (names, folders, files; val and probes as in Experiment). config: where the
    controls start, by default 60 steps. baseline: a Run to compare with, by default the first run.
    fields: names of the fields to show; the others stay as `config` has them.
    Returns a WhatIf, which draws itself. Raises ValueError for bad data, model or field.
    """
    if not isinstance(lab, Experiment | None):
        raise UserError(f"what_if was given a {type(lab).__name__}; give it an Experiment, or "
                        "model= and data= to start from")
    picked = lab is None
    lab = lab or Experiment(model=model, data=data, val=val, probes=probes)
    return WhatIf(lab, config or Config(max_steps=FIRST), baseline, fields, picked)


class WhatIf:
    """The panel: `.config` is what the controls say (set it to move them), `.runs` what was run,
    `.view` the widgets. `start`, `stop` and `make_baseline` are its buttons."""

    def __init__(self, lab, config, baseline, fields, picked):
        runner.RUNNER.stop()  # a cell that is run again, or a second panel: one run at a time
        self.lab, self._base, self.baseline = lab, config, baseline
        self.runs, self.error, self.forecast = [], None, None
        self._refused = False  # what the pickers say is not what self.lab has
        self._asked = {}  # id of a run → the Config that was asked for, with its "auto"s
        self._handle = self._painter = None
        self._lock = threading.RLock()
        names = {"model": str(lab.model), "data": self._source()} if picked else {}
        calls = {"moved": self._moved, "typed": self._typed, "picked": self._pick,
                 "selected": self._select, "copied": self._copy, "start": self.start,
                 "stop": self.stop, "make_baseline": self.make_baseline}
        self.view = Panel(widgets.groups(fields), calls, names)
        self.config = config
        self._look_ahead()

    # ------------------------------------------------------------------- what can be called

    @property
    def config(self) -> Config:
        """The Config that the controls ask for; ValueError where they contradict each other."""
        made = self.view.controls
        return self._base.but(**{name: widgets.read(made[name]) for name in made})

    @config.setter
    def config(self, config: Config):
        with self._lock:
            self._base = config
            self.view.put(config)
            self._moved()

    def start(self):
        """Run what the controls say, or bring it back if it was run before; while another run
        goes on, it waits in the queue. ValueError where what is typed cannot be read: nothing is
        trained in its place."""
        self.view.wrong("")
        self.error = None
        if self._refused:
            self._pick()
        if self.view.line.value.strip() != str(self.config):
            self._typed()
        config = self.config
        known = self._known(config)
        if known is not None:
            return self._bring_back(known)
        ahead = [runner.RUNNER.running(self), *runner.RUNNER.waiting(self)]
        if any(job and job.asks(self.lab, config) for job in ahead):
            return None  # a second click; the same again would only be the same
        if not ahead[0] and runner.RUNNER.busy():
            self.view.status.show("waiting")
        runner.RUNNER.submit(runner.Job(self.lab, config, owner=self, listen=self._changed))
        self._buttons()

    def stop(self):
        """End the run after its step, and keep it; empty the queue."""
        runner.RUNNER.stop(self)
        self._buttons()

    def make_baseline(self):
        """Compare with the selected run from now on."""
        if self.view.list.value is not None:
            self.baseline = self.runs[self.view.list.value]
            self._list()
            self._show()

    async def result(self):
        """Wait for the runs that were started, or make one with the values of the controls; leave
        the figure and its sentence under this cell, also for those that follow. Returns the Run.

        An interrupt of the cell stops the run and keeps it. Raises what the run raised.
        """
        await runner.RUNNER.idle(self.forecast)
        if not self.runs and not runner.RUNNER.busy(self):
            self.start()
        await runner.RUNNER.idle(self)
        error, self.error = self.error, None
        if error is not None:
            raise error
        if not self.runs:
            raise UserError("no run was made; press Start in the panel, then run this cell again")
        self._leave()
        return self.runs[-1]

    def wait(self, seconds: float = 600) -> list:
        """Wait until nothing is left to do; the runs. For scripts: in a notebook `await
        panel.result()` leaves the page free meanwhile."""
        runner.RUNNER.join(self.forecast, seconds)
        runner.RUNNER.join(self, seconds)
        if self._painter is not None:
            self._painter.join(seconds)
        return self.runs

    def picture(self):
        """The figure of the baseline and the newest runs, with its sentence; None without one."""
        return overlay.picture(self.runs, self.baseline)

    def _ipython_display_(self):
        from IPython.display import display

        display(self.view.ui)
        print("The controls live as long as the kernel: after reopening the notebook, run this "
              "cell again.\nThe figure stays, under the cell that awaits the result.")

    def __repr__(self) -> str:
        return f"WhatIf({self.lab!r}, {len(self.runs)} runs)"

    # --------------------------------------------------------- what the learner has changed

    def _moved(self):
        """A control has a new value: say what it would take; a finished run is shown at once."""
        with self._lock:
            self.view.next.show("")  # what was foretold is no longer true
            config = self.config
            self.view.show_config(str(config), config.method)
            self._copy()
            if self._refused:
                return
            self.view.wrong("")
            known = self._foretell()
            if known is not None and not runner.RUNNER.busy(self):
                self._bring_back(known)

    def _typed(self):
        self.config = Config.from_string(self.view.line.value)

    def _pick(self):
        """Another model or other data."""
        asked = {name: picker.value.strip() for name, picker in self.view.pickers.items()}
        self._refused = True
        self.view.next.show("")
        self.lab = Experiment(**{k: v for k, v in asked.items() if v}, probes=dict(self.lab.probes))
        self._refused, self.baseline = False, None
        self.view.name({"model": str(self.lab.model), "data": self._source()})
        self.view.status.show("ready")
        self.view.wrong("")
        self._look_ahead()
        self._moved()

    def _select(self):
        """A run in the list was chosen: the controls go where it was."""
        if self.view.list.value is None:
            return
        with self._lock:
            run = self.runs[self.view.list.value]
            self._put(run)
            self.config = self._asked.get(run.id, run.config)
        self._show()

    def _copy(self):
        kind = self.view.copy.value
        if not kind:
            return self.view.text.show("")
        config = self.config
        if kind.endswith("script"):  # other libraries have no "auto"
            config = self.forecast.resolved(config) or config
        self.view.text.show(to_script.KINDS[kind](self.lab, config))

    # ------------------------------------------------------------------------------ the runs

    def _look_ahead(self):
        """Load the model and find out what runs take, without making the page wait."""
        self.forecast = forecast = Forecast(self.lab)
        self._aside(forecast.load, self._moved)

    def _aside(self, work, then):
        """Do something slow where the training is done, then tell; not while a run goes on."""
        forecast = self.forecast

        class Aside(runner.Job):
            aside = True

            def work(self):
                work()

        def told(job):
            if job.state == runner.FAILED:
                self._failed(job.error)
            elif job.state == runner.FINISHED and self.forecast is forecast:
                widgets.guarded(then, self.view.wrong)()

        runner.RUNNER.submit(Aside(self.lab, None, owner=forecast, listen=told))

    def _weigh(self, config):
        """Find out the memory of a run, unless the controls have moved on meanwhile."""
        if self.forecast.weighed(config):
            return

        def work():
            if self.config == config:
                self.forecast.weigh(config)

        self._aside(work, self._foretell)

    def _known(self, config):
        """A finished run, of this panel or of the store, that answers `config`."""
        asked = self.forecast and self.forecast.resolved(config)
        if not asked:
            return None
        found = self.forecast.recall(config)
        ours = {run.id: run for run in self.runs}
        return ours.get(found.id, found) if found else None

    def _foretell(self):
        """Say what Start would do; returns the finished run that it would bring back, if any."""
        config = self.config
        known = self._known(config)
        ready = self.forecast and self.forecast.facts and known is None
        if ready and not runner.RUNNER.running(self):
            self._weigh(config)
        self.view.next.show(f"next run: {str(config) or 'all at their defaults'}", self._foretold(
            config) if known is None else "run before: Start brings it back and trains nothing")
        return known

    def _foretold(self, config) -> str:
        seconds = self.forecast and self.forecast.seconds(config)
        if seconds is None:
            return "the model is being looked at ..."
        if self.forecast.refused(config):
            return f"does not fit: {self.forecast.refused(config)}"
        size = self.forecast.bytes(config)
        memory = "memory not known" + " yet" * (not self.forecast.weighed(config))
        memory = memory if size is None else (
            f"about {size / 2**20:,.0f} of {machine.free_memory() / 2**20:,.0f} MiB free memory")
        took, steps = max(1, seconds), self.forecast.steps(config)
        return f"{steps:,} step{'s' * (steps != 1)}, about {progress_bar.clock(took)}, {memory}"

    def _changed(self, job):
        """The state of a job is another one; called in the thread that trains."""
        if job.state == runner.RUNNING:
            self.view.status.show("measuring the model before the first step")
            self.view.verdict.show()  # it was about another run
            self._painter = threading.Thread(
                target=widgets.guarded(self._paint, self.view.wrong), args=(job,), daemon=True,
                name="ftkit-paint")
            self._painter.start()
        elif job.run is not None:
            for old in self.runs:
                old.model = None  # only the newest keeps its weights
            self._asked[job.run.id] = job.config
            if job.state == runner.FINISHED:
                self.forecast.learn(job.config, job.took)
            self._put(job.run)
        elif job.error is not None:
            self._failed(job.error)
        if job.run is None and job.state != runner.RUNNING:
            self.view.status.show(job.state)
        self._buttons(over=job.state not in (runner.WAITING, runner.RUNNING))

    def _paint(self, job):
        base = self.baseline
        self.view.follow(job, ("baseline", base) if base is not None else None)
        if job.run is not None:
            steps = len(job.run.rows)
            self.view.status.show(job.run.stopped or f"finished: {steps} steps, {job.took:.1f} s")
            self._show()
            self._foretell()

    def _failed(self, error):
        self.error = error
        if isinstance(error, ValueError):
            return self.view.wrong(formatting.clean(error))
        widgets.failures.append(error)
        self.view.wrong(formatting.clean(f"the run failed: {type(error).__name__}: {error}"))

    def _bring_back(self, known):
        self._asked.setdefault(known.id, self.config)
        if not self.runs or self.runs[-1] is not known:
            self._put(known)
            self.view.status.show(f"run before, {known.id}: brought back from the store")
            self._show()

    def _put(self, run):
        """A run becomes the newest of the list."""
        with self._lock:
            self.runs = [old for old in self.runs if old is not run] + [run]
            self.baseline = self.baseline or run
            self._list()

    def _show(self):
        """The whole figure and what it means; also under the cell that waited, if one did."""
        made = self.picture()
        if made is not None:
            self.view.see(made.png(dpi=100))
            found = diagnose.diagnose(self.runs[-1], self.baseline)
            self.view.verdict.show(*(f"{finding.text} → {finding.advice}" for finding in found))
            if self._handle is not None:
                self._leave(made)

    def _leave(self, made=None):
        """Put the figure into the notebook itself, where it stays when the widgets are gone."""
        if not machine.in_notebook():
            return
        from IPython.display import DisplayHandle

        first = made is None or self._handle is None
        bundle = (made or self.picture())._repr_mimebundle_()
        self._handle = DisplayHandle() if first else self._handle
        (self._handle.display if first else self._handle.update)(bundle, raw=True)

    def _list(self):
        self.view.runs([f"{place}  {overlay.line(run, self.baseline)}"
                        for place, run in enumerate(self.runs, 1)])

    def _buttons(self, over: bool = False):
        running = not over and runner.RUNNER.running(self) is not None
        self.view.buttons(running, len(runner.RUNNER.waiting(self)))

    def _source(self) -> str:
        train = self.lab.train
        return train.name if train.name in schema.sample_names() else str(train.path or train.name)
