"""Many runs of one Experiment: one after the other, side by side, on a cluster, or by halving.

    runs = lab.sweep(base, learning_rate=[1e-4, 1e-3], seed=range(3)); runs.how

On two cores, two small models at a time with one core each are done sooner than one after
the other with both; SmolLM2-135M gains nothing, and a stack of models trained as one is slower.
"""

from __future__ import annotations

import html
import itertools
import sys
import time

from ftkit.base import formatting, machine, progress_bar
from ftkit.base.errors import UserError
from ftkit.experiment import run, side_by_side, store
from ftkit.report.table import table


class Sweep(list):
    """The runs in the order of their grid; `.how` says how they were run. Draws itself as a table.
    """

    how = ""

    def _repr_html_(self):
        page = table(self)._repr_html_() if self else ""
        return f"{page}<div>{html.escape(formatting.clean(self.how))}</div>"


def sweep(lab, config, values: dict, *, on_row=None, parallel=None, backend=None, halving=False,
          resume=False) -> Sweep:
    """One run for every combination of `values` (field → list), in the order of the grid.

    on_row: called with each row; rows of runs that go side by side come mixed.
    parallel: None runs small models on CPU side by side, as many as there are threads; False
    never; True or a number of runs at a time any model that fits. Threads are shared out among
    the runs, and sums in another order make a difference in the last digits only. Steps that
    draw random numbers (dropout, sampled answers) go one after the other, and `how` says so.
    backend: "dask" or "ray" run on that cluster, through joblib. A lost worker's runs are run
    again. Runs from a cluster come back without their models.
    halving: successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943). All runs start;
    at 1/8, 1/4, 1/2 of the steps (for eight) the worse half by val_loss is ended early, seeds
    counting together. `stopped` of those says so. A run that starts slowly can lose what it
    would have won later.
    resume: take runs that the store has whole (same model, data, probes, config) from there;
    their `.model` is None. Off by default, so that a cell that is run again trains again.
    An interrupt keeps what has finished, prints how to go on and returns it.
    Raises ValueError before any run for an unknown field or a bad value.
    """
    values = {name: _listed(name, given) for name, given in values.items()}
    grid = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    configs = [config.but(**point) for point in grid]
    if backend not in (None, "dask", "ray"):
        raise UserError(f"backend is {backend!r}; expected None, 'dask' or 'ray'")
    if isinstance(parallel, int) and not isinstance(parallel, bool) and parallel < 1:
        raise UserError(f"parallel is {parallel}; expected True, False or a number of runs at a "
                        "time")
    if halving and backend:
        raise UserError("halving compares the runs while they go on, so it runs them in this "
                        "process; leave out backend")
    job = Job(lab, configs, grid, on_row)
    if resume:
        job.take_from_store()
    from ftkit.experiment import cluster, successive_halving

    try:
        if backend:
            cluster.train(job, backend)
        else:
            _here(job, successive_halving.rounds if halving else _all, parallel)
    except KeyboardInterrupt:
        job.interrupted = True
    return job.finish()


def _listed(name, given) -> list:
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        given = [given]
    given = [v.item() if hasattr(v, "item") else v for v in given]  # numpy and torch numbers
    if not given:
        raise UserError(f"{name} is empty; give at least one value to run")
    return given


class Job:
    """What is to be run, what has come back, and the progress of both."""

    def __init__(self, lab, configs, grid, on_row):
        self.lab, self.configs, self.grid, self.on_row = lab, configs, grid, on_row
        self.done: dict[int, run.Run] = {}  # place in the grid → Run
        self.notes, self.interrupted, self.began = [], False, time.perf_counter()
        self.stored, self.shown, self.shares = 0, _Progress(len(configs)), {}

    @property
    def left(self) -> list[int]:
        return [i for i in range(len(self.configs)) if i not in self.done]

    def say(self, i: int, step: str = ""):
        """Show run `i` as the one that goes on."""
        point = ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}"
                          for k, v in self.grid[i].items())
        begun = sum(share for k, share in self.shares.items() if k not in self.done)
        self.shown(len(self.done), self.stored, begun,
                   f"run {i + 1} of {len(self.configs)}" + (f": {point}" if point else "") + step)

    def tell(self, flight, row: dict):
        """A row of a run, to whoever listens."""
        self.shares[flight.i] = row["step"] / flight.run.total_steps
        self.say(flight.i, f" · step {row['step']} of {flight.run.total_steps}")
        if self.on_row:
            self.on_row(row)

    def take_from_store(self):
        """Runs that the store has whole."""
        fixed = run.plain(self.lab.fixed_settings())
        whole = [r for r in store.list_runs() if r.is_finished and r.data.get("held_still") == fixed
                 and r.versions.get("ftkit") == machine.versions()["ftkit"]]
        if not whole:
            return
        known = {str(r.config): r for r in whole}
        facts = self.lab.model_facts()
        for i, config in enumerate(self.configs):
            found = known.get(str(facts.resolve(config)))
            if found:
                self.done[i] = found
        self.stored = len(self.done)
        if self.stored:
            self.notes.append(f"{self.stored} from the store (without their models)")

    def arrived(self, i: int, happened: run.Run):
        """A whole run from another machine: stored here, so that none is stored twice."""
        happened.experiment = self.lab
        store.add(happened)
        self.done[i] = happened
        for row in happened.rows if self.on_row else ():
            self.on_row(row)

    def finish(self) -> Sweep:
        made = Sweep(self.done[i] for i in sorted(self.done))
        cut = [r for r in made if (r.stopped or "").startswith("interrupted")]
        fresh = len(made) - self.stored
        said = [f"{len(made)} runs in {progress_bar.clock(time.perf_counter() - self.began)}"
                if fresh else f"{len(made)} runs"] + self.notes
        made.how = ", ".join(said)
        if self.interrupted or cut:
            made.how = (f"interrupted: {len(made) - len(cut)} of {len(self.configs)} runs are "
                        "finished and kept; the same call with resume=True takes them from the "
                        "store (without their models) and goes on")
        self.shown.close(made.how, self.interrupted or bool(cut) or bool(self.stored))
        return made


class _Progress:
    """Runs left and time left, in one place of the cell or in one line of the terminal."""

    def __init__(self, total: int):
        from ftkit.report import live

        self.total, self.began, self.drawn = total, time.perf_counter(), 0.0
        self.show = live.notebook_display() if total > 1 else None
        quiet = total < 2 or self.show is not None or not sys.stderr.isatty()
        self.bar = progress_bar.Bar("sweep", quiet=quiet)

    def __call__(self, done: int, stored: int, share: float, text: str):
        now, left = time.perf_counter(), self.total - done
        if now - self.drawn < 0.2 or not left:
            return
        self.drawn = now
        made, todo = done - stored + share, self.total - stored
        text += f" · {left - 1} more after it" if left > 1 else ""
        self.bar(made / todo, text)
        if self.show and made > 0:
            text += f" · about {progress_bar.clock((now - self.began) / made * (todo - made))} left"
        self._display(text, made / todo)

    def close(self, text: str, tell: bool):
        """The last word; told on stderr where nothing could be shown."""
        self._display(text)
        if tell or not self.bar.quiet:
            self.bar.close()
            if not self.show:
                print(f"ftkit: {text}", file=sys.stderr)

    def _display(self, text: str, share: float | None = None):
        if self.show:
            text = formatting.clean(text)
            meter = "" if share is None else f'<progress max="1" value="{share:.3f}"></progress> '
            self.show({"text/html": f"<div>{meter}{html.escape(text)}</div>", "text/plain": text})


# ------------------------------------------------------------------- one after the other, or not


def _here(job: Job, way, parallel):
    """The runs on this machine, in one way or the other. Torch's random state is left as it was,
    and no run half done."""
    import torch

    flights = [side_by_side.Flight(job, i) for i in range(len(job.configs))]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            way(job, flights, parallel)
        except BaseException:
            side_by_side.settle(flights)
            raise


def _all(job: Job, flights: list, parallel):
    """Every run to its end, one after the other or side by side."""
    left = [flight for flight in flights if not flight.over]
    workers = side_by_side.at_a_time(job, left, parallel)
    last = len(left) % workers  # they share all threads, once the others have ended
    side_by_side.go_on(left[: len(left) - last], workers)
    side_by_side.go_on(left[len(left) - last :], last)
