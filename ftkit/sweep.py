"""Many runs of one Experiment: one after the other, side by side, on a cluster, or by halving.

    runs = lab.sweep(base, learning_rate=[1e-4, 1e-3], seed=range(3)); runs.how

On CPU a stack of small models trained as one is slower than one after the other (measured, 0.79
times); two processes with one thread each are 1.55 times one process with two.
"""

from __future__ import annotations

import html
import itertools
import sys
import time

from ftkit import bar, machine, models, run, words

SIDE_BY_SIDE = 1.55  # measured on two cores: processes of one thread against one with two threads
MANY = 6  # from so many runs on, processes pay if a run takes three seconds
START = 4.0  # seconds until a new process has imported torch and transformers


class Sweep(list):
    """The runs in the order of their grid; `.how` says how they were run. Draws itself as a table.
    """

    how = ""

    def _repr_html_(self):
        page = words.table(self)._repr_html_() if self else ""
        return f"{page}<div>{html.escape(words.clean(self.how))}</div>"


def sweep(lab, config, values: dict, *, on_row=None, parallel=None, backend=None, halving=False,
          resume=False) -> Sweep:
    """One run for every combination of `values` (field → list), in the order of the grid.

    on_row: called with each row; where other processes train, when a run has come back.
    parallel: None runs side by side where that is faster, which the first run tells; False never;
    True or a number of processes always. Each process has one thread; sums in another order make
    a difference in the last digits only. Falls back to one after the other and says why.
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
        raise ValueError(f"backend is {backend!r}; expected None, 'dask' or 'ray'")
    if isinstance(parallel, int) and not isinstance(parallel, bool) and parallel < 1:
        raise ValueError(f"parallel is {parallel}; expected True, False or a number of processes")
    if halving and (backend or parallel):
        raise ValueError("halving compares the runs while they go on, so it runs them in this "
                         "process; leave out backend and parallel")
    job = Job(lab, configs, grid, on_row)
    if resume:
        job.take_from_store()
    from ftkit import elsewhere, halve

    try:
        if halving:
            halve.rounds(job)
        elif backend:
            elsewhere.on_cluster(job, backend)
        else:
            _run(job, parallel)
    except KeyboardInterrupt:
        job.interrupted = True
    return job.finish()


def _listed(name, given) -> list:
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        given = [given]
    given = [v.item() if hasattr(v, "item") else v for v in given]  # numpy and torch numbers
    if not given:
        raise ValueError(f"{name} is empty; give at least one value to run")
    return given


class Job:
    """What is to be run, what has come back, and the progress of both."""

    def __init__(self, lab, configs, grid, on_row):
        self.lab, self.configs, self.grid, self.on_row = lab, configs, grid, on_row
        self.done: dict[int, run.Run] = {}  # place in the grid → Run
        self.notes, self.interrupted, self.began = [], False, time.perf_counter()
        self.stored, self.shown, self.parameters = 0, _Progress(len(configs)), 0

    @property
    def left(self) -> list[int]:
        return [i for i in range(len(self.configs)) if i not in self.done]

    def say(self, i: int, share: float = 0.0, step: str = ""):
        """Show that run `i` is at this share of its steps."""
        point = ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}"
                          for k, v in self.grid[i].items())
        self.shown(len(self.done), self.stored, share,
                   f"run {i + 1} of {len(self.configs)}" + (f": {point}" if point else "") + step)

    def listen(self, i: int, also=None):
        """How run `i` tells its number of steps, and a listener for its rows."""
        total = []

        def start(happened):
            total.append(happened.total_steps)
            self.parameters = happened.total_parameters
            self.say(i)

        def row(row):
            self.say(i, row["step"] / total[0], f" · step {row['step']} of {total[0]}")
            if self.on_row:
                self.on_row(row)
            if also:
                also(row, total[0])

        return start, row

    def train(self, i: int, also=None):
        """Run `i`, here. also: called with each row and the number of steps."""
        start, row = self.listen(i, also)
        self.done[i] = self.lab.run(self.configs[i], on_start=start, on_row=row, live=False)
        self.interrupted = (self.done[i].stopped or "").startswith("interrupted")

    def take_from_store(self):
        """Runs that the store has whole."""
        fixed = run.plain(self.lab.held_still())
        whole = [r for r in run.list_runs() if _whole(r) and r.data.get("held_still") == fixed
                 and r.versions.get("ftkit") == machine.versions()["ftkit"]]
        if not whole:
            return
        model, _ = self.lab._fresh(self.configs[0])
        known = {str(r.config): r for r in whole}
        for i, config in enumerate(self.configs):
            found = known.get(str(_resolved(config, model)))
            if found:
                self.done[i] = found
        self.stored = len(self.done)
        if self.stored:
            self.notes.append(f"{self.stored} from the store (without their models)")

    def arrived(self, i: int, happened: run.Run):
        """A whole run from another process: stored here, so that none is stored twice."""
        happened.experiment = self.lab
        run.keep(happened)
        self.done[i] = happened
        for row in happened.rows if self.on_row else ():
            self.on_row(row)

    def finish(self) -> Sweep:
        made = Sweep(self.done[i] for i in sorted(self.done))
        cut = [r for r in made if (r.stopped or "").startswith("interrupted")]
        fresh = len(made) - self.stored
        said = [f"{len(made)} runs in {bar.clock(time.perf_counter() - self.began)}"
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
        from ftkit import live

        self.total, self.began, self.drawn = total, time.perf_counter(), 0.0
        self.show = live._display() if total > 1 else None
        quiet = total < 2 or self.show is not None or not sys.stderr.isatty()
        self.bar = bar.Bar("sweep", quiet=quiet)

    def __call__(self, done: int, stored: int, share: float, text: str):
        now, left = time.perf_counter(), self.total - done
        if now - self.drawn < 0.2 or not left:
            return
        self.drawn = now
        made, todo = done - stored + share, self.total - stored
        text += f" · {left - 1} more after it" if left > 1 else ""
        self.bar(made / todo, text)
        if self.show and made > 0:
            text += f" · about {bar.clock((now - self.began) / made * (todo - made))} left"
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
            text = words.clean(text)
            meter = "" if share is None else f'<progress max="1" value="{share:.3f}"></progress> '
            self.show({"text/html": f"<div>{meter}{html.escape(text)}</div>", "text/plain": text})


# ------------------------------------------------------------------- one after the other, or not


def _run(job: Job, parallel):
    """In turn in this process, or in several, as `parallel` and the first run say."""
    workers, why = _workers(job, parallel)
    if workers > 1:
        from ftkit import elsewhere

        many = len(job.left) >= MANY
        slower = workers / SIDE_BY_SIDE if many else 1.0
        why = elsewhere.side_by_side(
            job, workers, None if parallel else lambda one: _pays(job, one / slower, workers), many)
    if parallel and why:
        print(f"ftkit: the runs go one after the other: {why}", file=sys.stderr)
    job.notes += [f"one after the other: {why}"] * bool(why)
    for i in job.left:
        if not job.interrupted:
            job.train(i)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _workers(job: Job, parallel) -> tuple[int, str]:
    """(how many processes may train, why not more than one)."""
    todo = len(job.left)
    if parallel is False or todo < 2:
        return 1, ""
    if machine.device() == "cuda":
        return 1, "processes would have to share the GPU"
    wanted = _threads() if parallel is None else machine.cores() if parallel is True else parallel
    wanted = min(wanted, todo)
    if wanted < 2:
        return 1, ("one thread is all that torch may use here" if parallel is None else
                   "there is one core" if parallel is True else "")
    if parallel and (why := _no_room(models.count(job.lab._fresh(job.configs[0])[0])[1], wanted)):
        return 1, why
    return wanted, ""


def _no_room(parameters: int, workers: int) -> str:
    """Why so many processes do not fit: weights, gradients and two moments, the activations of a
    small batch, and the imports."""
    need, free = workers * (20 * parameters + 2**30), machine.free_memory()
    return "" if need <= free else (f"{workers} processes would need about {need / 2**30:.1f} GiB "
                                    f"and {free / 2**30:.1f} GiB are free")


def _pays(job: Job, one: float, workers: int) -> str:
    """Why what is left would not end sooner side by side, where a run takes `one` second with all
    threads."""
    todo, alone = len(job.left), one * workers / SIDE_BY_SIDE
    apart = (todo * alone + (workers - 1) * (START + alone)) / workers
    if apart > 0.9 * todo * one:
        return f"a run takes {one:.1f} s, and {todo} more are too few to start processes for"
    return _no_room(job.parameters, workers)


# ------------------------------------------------------------------------------- the same run


def _resolved(config, model):
    return config.resolved(models.tier(model), "bf16" if machine.bf16_is_fast() else "fp32",
                           models.context(model))


def _whole(happened) -> bool:
    """Whether a stored run reached an end that a second run of it would reach too."""
    why = happened.stopped or ""
    return (len(happened.rows) == happened.total_steps if not why
            else why.startswith(("diverged", "early stopping")))
