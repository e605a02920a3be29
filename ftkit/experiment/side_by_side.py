"""Runs of a sweep that go on side by side, each in a thread with its share of the cores.

torch lets go of Python's lock while it computes, so two small models that train with one core each
are done sooner than one after the other with both. What a process has only one of stays with the
thread that asked: it makes every model, from its seed and torch's random state, and tells the rows.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import queue
import sys
import threading
from collections.abc import Callable

from ftkit.base import machine
from ftkit.experiment import run
from ftkit.model import loading


class Flight:
    """A run that can be paused: it goes on in whichever thread takes its next step.

    run: None until it has begun. over: whether it is whole, and among those of the job.
    """

    def __init__(self, job, i: int):
        self.job, self.i, self.run = job, i, job.done.get(i)
        self.over = self.run is not None  # from the store
        self.steps = self.random = self.verdict = None

    def begin(self):
        """Make its model, from torch's random state at its seed; not while another draws."""
        if self.run is None:
            self.run, prepared = self.job.lab.begin(self.job.configs[self.i])
            # A fast tokenizer that two threads use at once raises "Already borrowed".
            self.run.tokenizer = copy.deepcopy(self.run.tokenizer)
            self.steps = self.job.lab.train_steps(self.run, prepared, None, lambda: self.verdict,
                                             False, True)
            self.random = _random_state()

    def step(self) -> dict | None:
        """Take one step: its row, or None at the end. KeyboardInterrupt once it has come to terms
        with one."""
        if next(self.steps, None) is not None:
            return self.run.rows[-1]
        self.over, self.job.done[self.i] = True, self.run
        if (self.run.stopped or "").startswith("interrupted") and not self.verdict:
            raise KeyboardInterrupt
        return None

    def end(self, why: str):
        """End it here; it keeps its rows and its weights."""
        if self.run and self.run.rows and not self.over:
            self.verdict = why
            while self.step():
                pass

    def draws(self, threads: int) -> bool:
        """Take the first step here. Did it draw from torch's random state, which is one for all?

        Dropout does, sampled answers do, and a metric of the user's own may.
        """
        import torch

        self.begin()
        before = torch.get_rng_state()
        with with_threads(threads):
            if row := self.step():
                self.job.tell(self, row)
        self.random = _random_state()
        return not torch.equal(before, self.random[0])


def go_on(flights: list[Flight], workers: int, pause: Callable[[Flight], bool] = lambda _: False):
    """Take steps of all `flights`, so many side by side, until each is over or to be paused.

    After an interrupt or an error none goes on; each can be ended or taken up again.
    """
    flights = [flight for flight in flights if not flight.over]
    if workers > 1:
        return _side_by_side(flights, workers, pause)
    for flight in flights:
        flight.begin()
        _set_random_state(flight.random)
        while not pause(flight) and (row := flight.step()):
            flight.job.tell(flight, row)
        flight.random = _random_state()


def settle(flights: list[Flight]):
    """End what was left half done, keeping its rows."""
    for flight in flights:
        if flight.run:
            flight.end(f"interrupted after step {len(flight.run.rows)} of "
                       f"{flight.run.total_steps}")


@contextlib.contextmanager
def with_threads(count: int):
    """Inside, torch computes with so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _side_by_side(flights, workers, pause):
    waiting, flying, threads = collections.deque(flights), {}, share(workers)
    news, over = queue.SimpleQueue(), threading.Event()
    with with_threads(threads):
        try:
            while waiting or flying:
                while waiting and len(flying) < workers:
                    flight = waiting.popleft()
                    flight.begin()
                    flying[flight] = threading.Thread(
                        target=_fly, args=(flight, pause, threads, over, news), daemon=True)
                    flying[flight].start()
                with contextlib.suppress(queue.Empty):  # an endless wait hears no Ctrl-C on Windows
                    flight, row, error = news.get(timeout=0.5)
                    if error:
                        raise error
                    if row:
                        flight.job.tell(flight, row)
                    else:
                        flying.pop(flight).join()
        finally:
            over.set()
            for thread in flying.values():
                thread.join()


def share(workers: int) -> int:
    """The threads that each of so many runs gets."""
    import torch

    return max(1, torch.get_num_threads() // workers)


def _fly(flight, pause, threads, over, news):
    """The work of a thread."""
    import torch

    error = None
    try:
        torch.set_num_threads(threads)
        while not over.is_set() and not pause(flight) and (row := flight.step()):
            news.put((flight, row, None))
    except BaseException as problem:  # noqa: BLE001  raised again in the thread that asked
        error = problem
    news.put((flight, None, error))


def _random_state():
    import torch

    return torch.get_rng_state(), torch.cuda.get_rng_state_all()


def _set_random_state(state):
    import torch

    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(state[1])


def at_a_time(job, flights: list, parallel) -> int:
    """How many runs go side by side; takes the first step of the first to find out. The job notes
    it, or why there are not more than one."""
    workers, why = _wanted(job, parallel, len(flights))
    if workers > 1:
        flights[0].begin()
        workers, why = _fitting(flights[0].run, workers, parallel)
    if workers > 1 and flights[0].draws(share(workers)):
        workers, why = 1, "its steps draw random numbers, and torch has one random state for all"
    if workers > 1:
        job.notes.append(f"{workers} side by side")
    elif why:
        job.notes.append(f"one after the other: {why}")
        if parallel:
            print(f"ftkit: the runs go one after the other: {why}", file=sys.stderr)
    return workers


def _wanted(job, parallel, runs: int) -> tuple[int, str]:
    """(how many may go side by side, why not more than one)."""
    import torch

    if parallel is False or runs < 2:
        return 1, ""
    if machine.device() == "cuda":
        return 1, "they would have to share the GPU"
    wanted = (torch.get_num_threads() if parallel is None else machine.cores() if parallel is True
              else parallel)
    if wanted < 2:
        return 1, "" if parallel == 1 else "there is one core for them"
    for field in ("lora_dropout", "gradient_checkpointing"):
        if any(getattr(config, field) for config in job.configs):
            return 1, f"{field} needs torch's random state, which is one for all"
    return min(wanted, runs), ""


def _fitting(first: run.Run, workers: int, parallel) -> tuple[int, str]:
    """(how many runs like the first go side by side, why not more than one)."""
    if parallel is None and first.total_parameters >= loading.SMALL:
        return 1, "one run of a model of this size uses all cores"
    need, free = first.predicted_memory_bytes or 0, machine.free_memory()
    fit = max(1, free // need) if need else workers
    return min(workers, fit), (f"two would need about {2 * need / 2**30:.1f} GiB and "
                               f"{free / 2**30:.1f} GiB are free")
