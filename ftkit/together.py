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
import threading
from collections.abc import Callable


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
            self.run, prepared = self.job.lab._start(self.job.configs[self.i])
            # A fast tokenizer that two threads use at once raises "Already borrowed".
            self.run.tokenizer = copy.deepcopy(self.run.tokenizer)
            self.steps = self.job.lab._train(self.run, prepared, None, lambda: self.verdict,
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
    except BaseException as problem:  # for the thread that asked
        error = problem
    news.put((flight, None, error))


def _random_state():
    import torch

    return torch.get_rng_state(), torch.cuda.get_rng_state_all()


def _set_random_state(state):
    import torch

    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(state[1])
