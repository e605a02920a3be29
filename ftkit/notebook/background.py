"""A queue of tasks and the thread that runs them, so that the notebook stays responsive.

    task = TrainingTask(experiment, config, owner)
    QUEUE.submit(task); QUEUE.stop(owner); await QUEUE.wait_until_idle(owner)
"""

import asyncio
import collections
import contextlib
import threading
import time
from collections.abc import Callable

from ftkit.base import cancel
from ftkit.experiment.run import Run
from ftkit.notebook import kernel, widgets

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
STOPPED, FAILED, CANCELED = "stopped", "failed", "canceled"


class BackgroundTask:
    """A function to call when no run is waiting. The Stop button does not end it.

    `.state` is WAITING, RUNNING, FINISHED, STOPPED, FAILED or CANCELED, `.error` the exception of
    the function, `.seconds` the time from start to end, `.done` an Event. owner: the object that
    submits it. on_change: called with the task, in the queue's thread, when its state changes.
    """

    can_wait = True  # training goes first
    waited = 0.0  # seconds in a pause, which do not count
    cancelable = False  # whether a run ends it at its next `cancel.point`; it is then STOPPED
    what = ""  # described as the reason when a run has to wait for it

    def __init__(self, function: Callable[[], object], owner=None,
                 on_change: Callable | None = None):
        self.function, self.owner, self.on_change = function, owner, on_change
        self.state, self.error, self.seconds = WAITING, None, 0.0
        self.done, self.stop_requested = threading.Event(), threading.Event()

    def execute(self):
        """Call the function and record how it ended; raises nothing."""
        began = time.perf_counter()
        self.change_state(RUNNING)
        try:
            with (cancel.cancelable(self.stop_requested.is_set) if self.cancelable
                  else contextlib.nullcontext()):
                self.function()
            state = STOPPED if self.stop_requested.is_set() else FINISHED
        except cancel.Canceled:
            state = STOPPED
        except BaseException as error:  # noqa: BLE001 - the queue continues whatever it was
            self.error, state = error, FAILED
        self.seconds = time.perf_counter() - began - self.waited
        self.change_state(state)

    def change_state(self, state: str):
        self.state = state
        try:
            if self.on_change:
                widgets.guarded(self.on_change)(self)
        finally:
            if state not in (WAITING, RUNNING):
                self.done.set()


class TrainingTask(BackgroundTask):
    """One run of an Experiment. Setting `stop_requested` ends it after its current step.

    `pause`, `step` and `resume` may be called from any thread; `.left` is the number of steps until
    it waits, None without a pause.

    `.run` is the finished Run (a partial one if it was stopped), `.started_run` the Run before its
    first step, `.rows` the rows that are not drawn yet. `.recall`: looks up a finished run of the
    Config when the task begins; if there is one, nothing is trained and `.recalled` is set.
    """

    can_wait = False
    recall: Callable | None = None
    recalled = False
    sample: int | list = 0  # prompts to answer at each evaluation, see `Experiment.run`

    def __init__(self, experiment, config, owner=None, on_change: Callable | None = None):
        super().__init__(self.train, owner, on_change)
        self.experiment, self.config = experiment, config
        self.run: Run | None = None
        self.started_run: Run | None = None
        self.rows: collections.deque = collections.deque()
        self.left: int | None = None
        self._learning_rate: float | None = None  # to set after the current step

    @property
    def paused(self) -> bool:
        return self.left == 0

    def pause(self):
        self.left = 0

    def step(self):
        """Take one step and pause again."""
        self.left = 1

    def resume(self):
        self.left = None

    @property
    def learning_rate(self) -> float | None:
        """The peak of the next step; None before the run has begun. Set it at any time."""
        run = self.started_run
        return self._learning_rate or (run and run.peak_learning_rate(run.last_step + 1))

    @learning_rate.setter
    def learning_rate(self, value: float):
        self._learning_rate = value

    def _after_step(self) -> bool:
        """Wait while paused; returns whether the run should end."""
        began = time.perf_counter()
        if self.left:
            self.left -= 1
        while self.paused and not self.stop_requested.wait(0.03):
            pass
        self.waited += time.perf_counter() - began
        if self._learning_rate is not None:
            assert self.started_run is not None  # it has taken a step
            self.started_run.set_learning_rate(self._learning_rate)
            self._learning_rate = None
        return self.stop_requested.is_set()

    def does(self, experiment, config) -> bool:
        """Whether this task trains `config` on `experiment` and was not stopped."""
        return (self.experiment is experiment and self.config == config
                and not self.stop_requested.is_set())

    def train(self):
        """Train; called in the queue's thread."""
        stored = self.recall(self.config) if self.recall else None
        if stored is not None:
            self.run, self.recalled = stored, True
            return

        def start(run):
            self.started_run = run

        self.run = self.experiment.run(
            self.config, on_start=start, on_row=self.rows.append,
            stop=self._after_step, live=False, sample=self.sample)


class BackgroundQueue:
    """A queue with one thread: two runs at a time would compete for the cores. The thread stays
    alive, because torch's own threads belong to it."""

    def __init__(self):
        self._changed = threading.Condition()
        self._queue: collections.deque[BackgroundTask] = collections.deque()
        self._thread: threading.Thread | None = None
        self.current: BackgroundTask | None = None

    def submit(self, task: BackgroundTask):
        kernel.on_interrupt(self.stop)
        with self._changed:
            self._queue.append(task)
            if not task.can_wait and self.current and self.current.cancelable:
                self.current.stop_requested.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._loop, daemon=True, name="ftkit-train")
                self._thread.start()
            self._changed.notify_all()

    def _loop(self):
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                task = next((t for t in self._queue if not t.can_wait), self._queue[0])
                self._queue.remove(task)
                self.current = task
            task.execute()
            with self._changed:
                self.current = None
                self._changed.notify_all()

    def waiting(self, owner=None) -> list[BackgroundTask]:
        """Tasks of this owner that have not begun; of all owners for None."""
        with self._changed:
            return [task for task in self._queue if owner in (None, task.owner)]

    def running(self, owner=None) -> BackgroundTask | None:
        """The current task, if it is this owner's."""
        task = self.current
        return task if task and owner in (None, task.owner) else None

    def busy(self, owner=None) -> bool:
        """Whether a task of this owner is running or waiting; of any owner for None."""
        with self._changed:
            return self.running(owner) is not None or bool(self.waiting(owner))

    def stop(self, owner=None):
        """End the current run after its step and keep it; remove waiting runs from the queue."""
        with self._changed:
            canceled = [task for task in self.waiting(owner) if not task.can_wait]
            for task in canceled:
                self._queue.remove(task)
        for task in canceled:
            task.change_state(CANCELED)
        current = self.running(owner)
        if current and not current.can_wait:
            current.stop_requested.set()

    async def wait_until_idle(self, owner=None) -> bool:
        """Wait until this owner has no task left. An interrupt of the waiting cell stops the
        current run and keeps it; the result is then False."""
        try:
            while self.busy(owner):
                await asyncio.sleep(0.05)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.stop(owner)
            with contextlib.suppress(KeyboardInterrupt):
                current = self.running(owner)
                if current:
                    current.done.wait()
            return False
        return True

    def join(self, owner=None, seconds: float = 600):
        """`wait_until_idle` without asyncio, for scripts and tests. Raises TimeoutError."""
        end = time.monotonic() + seconds
        with self._changed:
            while self.busy(owner):
                if not self._changed.wait(max(0.0, min(1.0, end - time.monotonic()))):
                    if time.monotonic() >= end:
                        raise TimeoutError(f"still training after {seconds:.0f} s")


QUEUE = BackgroundQueue()
