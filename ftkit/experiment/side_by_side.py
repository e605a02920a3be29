"""Train runs of a sweep side by side: one thread per run, each with some of the cores.

torch releases Python's lock while it computes, so two small models with one core each finish
sooner than one after the other with both cores. The calling thread creates every model and reports
all rows.
"""

import collections
import contextlib
import copy
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

from ftkit.base import free_memory, machine, messages
from ftkit.base.formatting import gb
from ftkit.base.run_end import End, Stop
from ftkit.experiment.run import Row, Run, Watch
from ftkit.experiment.sweep_state import SweepState


class PausableRun:
    """One run of a sweep that can pause after every step; any thread may take the next step.

    run: None until it has begun. done: whether it has ended and is in `sweep.done`.
    """

    def __init__(self, sweep: SweepState, index: int):
        self.sweep, self.index = sweep, index
        self.run: Run | None = sweep.done.get(index)
        self.done = self.run is not None  # from the store
        self.steps: Iterator[Run] = iter(())
        self.stop: Stop | None = None

    def begin(self) -> Run:
        """Create the run's model, unless there is one."""
        run, lab = self.run, self.sweep.lab
        if run is None:
            run, prepared = lab.begin(self.sweep.configs[self.index])
            # A fast tokenizer that two threads use at once raises "Already borrowed".
            run.tokenizer = copy.deepcopy(run.tokenizer)
            self.steps = self._steps(run, prepared)
            self.run = run
        return run

    def _steps(self, run: Run, prepared) -> Iterator[Run]:
        """Take the run's steps. It is stored from the first one on: an interrupt may come between
        `begin` and that."""
        watch = Watch(stop=lambda: self.stop, live=False)
        yield from self.sweep.lab.train_steps(run, prepared, watch)

    def advance(self) -> Row | None:
        """Take one step and return its row, or None at the end. Raises KeyboardInterrupt after an
        interrupt has ended the run, which is then stored with its last measures."""
        run = self.begin()
        if next(self.steps, None) is not None:
            return run.rows[-1]
        self.done, self.sweep.done[self.index] = True, run
        if run.end is End.INTERRUPTED and not self.stop:
            raise KeyboardInterrupt
        return None

    def finish(self, end: End, sentence: str):
        """End a run after its first step; it keeps its rows and weights."""
        if self.run and self.run.rows and not self.done:
            self.stop = Stop(end, sentence)
            while self.advance():
                pass


def advance_all(runs: list[PausableRun], workers: int,
                pause: Callable[[PausableRun], bool] = lambda _: False):
    """Advance `runs`, `workers` at a time, until each is done or `pause` returns True for it.

    An interrupt or error stops all; each can be finished or advanced again.
    """
    runs = [run for run in runs if not run.done]
    if workers > 1:
        return _run_threads(runs, workers, pause)
    for run in runs:
        run.begin()
        while not pause(run) and (row := run.advance()):
            run.sweep.report_row(run, row)


@contextlib.contextmanager
def with_threads(count: int):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_threads(runs, workers, pause):
    import torch

    waiting, running = collections.deque(runs), 0
    events, stop_event = queue.SimpleQueue(), threading.Event()
    threads = max(1, torch.get_num_threads() // workers)  # of each run
    with with_threads(threads), futures.ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        try:
            while waiting or running:
                while waiting and running < workers:
                    run = waiting.popleft()
                    run.begin()
                    pool.submit(_work, run, pause, stop_event, events)
                    running += 1
                with contextlib.suppress(queue.Empty):  # an endless wait hears no Ctrl-C on Windows
                    run, row, error = events.get(timeout=0.5)
                    if error:
                        raise error
                    if row:
                        run.sweep.report_row(run, row)
                    else:
                        running -= 1
        finally:
            stop_event.set()


def _work(run, pause, stop_event, events):
    """Advance one run in a thread; puts each row, and None at the end, into `events`."""
    failure = None
    try:
        while not stop_event.is_set() and not pause(run) and (row := run.advance()):
            events.put((run, row, None))
    except BaseException as error:  # noqa: BLE001  raised again in the thread that called
        failure = error
    events.put((run, None, failure))


def choose_workers(sweep: SweepState, runs: list[PausableRun], parallel: bool | int | None) -> int:
    """Number of runs to train side by side, at least 1; the reason for 1 becomes a note of the
    sweep."""
    workers, reason = _allowed_workers(sweep, parallel, len(runs))
    if workers > 1:
        workers, reason = _fitting_workers(runs[0].begin(), workers, parallel)
    if workers > 1:
        sweep.notes.append(f"{workers} side by side")
    elif reason:
        sweep.notes.append(f"one after the other: {reason}")
        if parallel:
            messages.say(f"the runs are trained one after the other: {reason}")
    return workers


def _allowed_workers(sweep, parallel, count: int) -> tuple[int, str]:
    """Return (largest allowed number of runs side by side, reason if it is 1)."""
    import torch

    if parallel is False or count < 2:
        return 1, ""
    if machine.device() == "cuda":
        return 1, "they would have to share the GPU"
    workers = machine.cores() if parallel is True else parallel or torch.get_num_threads()
    if workers < 2:
        return 1, "" if parallel == 1 else "there is one core for them"
    return min(workers, count), ""


def _fitting_workers(first: Run, workers: int, parallel) -> tuple[int, str]:
    """Return (number of runs like the first that fit into memory, reason if it is 1)."""
    if parallel is None and first.total_parameters >= machine.SMALL:
        return 1, "one run of a model of this size uses all cores"
    needed, free = first.predicted_memory_bytes or 0, free_memory.available()
    fitting = max(1, free // needed) if needed else workers
    return min(workers, fitting), (f"two would need about {gb(2 * needed)} and "
                                   f"{gb(free)} are free")
