"""Training behind a panel: one run after the other in a thread of its own, so that the notebook
stays free; Stop keeps the partial run.

    job = Job(lab, config, owner); RUNNER.submit(job); RUNNER.stop(owner); await RUNNER.idle(owner)
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
import time
from collections.abc import Callable

from ftkit.notebook import kernel, widgets

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
STOPPED, FAILED, CANCELLED = "stopped", "failed", "cancelled"


class Job:
    """One piece of work: a run that was asked for and what became of it.

    `.run` is the Run (a partial one when it was stopped), `.error` what it raised, `.state` one of
    waiting, running, finished, stopped, failed, cancelled, `.took` seconds from start to end.
    listen: called with the job whenever its state changes, in the thread of the work.
    """

    aside = False  # a short piece of work that no learner started, and none can stop

    def __init__(self, lab, config, owner=None, listen: Callable | None = None):
        self.lab, self.config, self.owner, self.listen = lab, config, owner, listen
        self.state, self.run, self.error, self.took = WAITING, None, None, 0.0
        self.rows: collections.deque = collections.deque()  # not yet drawn
        self.started = None  # the Run before its first step
        self._stop, self.done = threading.Event(), threading.Event()

    def stop(self):
        """End the work after the step it is in."""
        self._stop.set()

    def asks(self, lab, config) -> bool:
        """Whether it will be, or is, this run; one that was told to stop is not."""
        return self.lab is lab and self.config == config and not self._stop.is_set()

    def work(self):
        """Train; a subclass may do something else. Returns what becomes `.run`."""
        def start(happened):
            self.started = happened

        return self.lab.run(self.config, on_start=start, on_row=self.rows.append,
                            stop=self._stop.is_set, live=False)

    def go(self):
        """Do the work and note how it ended; raises nothing."""
        began = time.perf_counter()
        self._become(RUNNING)
        try:
            self.run = self.work()
            by_hand = (getattr(self.run, "stopped", None) or "").startswith("stopped by hand")
            state = STOPPED if by_hand else FINISHED
        except BaseException as error:  # whatever it was, the next in the queue shall run
            self.error, state = error, FAILED
        self.took = time.perf_counter() - began
        self._become(state)

    def cancel(self):
        self._become(CANCELLED)

    def _become(self, state):
        self.state = state
        try:
            if self.listen:
                widgets.guarded(self.listen)(self)
        finally:
            if state not in (WAITING, RUNNING):
                self.done.set()


class Runner:
    """The queue, and the one thread that works on it: two runs would fight for the same cores,
    and a thread that lives on keeps torch's own threads."""

    def __init__(self):
        self._change = threading.Condition()
        self._queue: collections.deque[Job] = collections.deque()
        self.current: Job | None = None
        self._thread = None

    def submit(self, job: Job, first: bool = False) -> Job:
        """Put a job at the end of the queue (or its beginning), and start working."""
        kernel.on_interrupt(self.stop)
        with self._change:
            (self._queue.appendleft if first else self._queue.append)(job)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, daemon=True, name="ftkit-train")
                self._thread.start()
            self._change.notify_all()
        return job

    def _work(self):
        while True:
            with self._change:
                while not self._queue:
                    self._change.wait()
                self.current = next((job for job in self._queue if not job.aside), self._queue[0])
                self._queue.remove(self.current)
            self.current.go()
            with self._change:
                self.current = None
                self._change.notify_all()

    def waiting(self, owner=None) -> list[Job]:
        """Jobs of this owner (or all) that have not begun."""
        with self._change:
            return [job for job in self._queue if owner in (None, job.owner)]

    def running(self, owner=None) -> Job | None:
        """The job that is being worked on, if it is this owner's."""
        job = self.current
        return job if job and owner in (None, job.owner) else None

    def busy(self, owner=None) -> bool:
        with self._change:
            return self.running(owner) is not None or bool(self.waiting(owner))

    def clear(self, owner=None) -> int:
        """Take what has not begun out of the queue; returns how many that were."""
        with self._change:
            out = [job for job in self.waiting(owner) if not job.aside]
            for job in out:
                self._queue.remove(job)
        for job in out:
            job.cancel()
        return len(out)

    def stop(self, owner=None):
        """End the current run after its step, keeping it, and forget the queue."""
        self.clear(owner)
        job = self.running(owner)
        if job:
            job.stop()

    async def idle(self, owner=None):
        """Wait until nothing of this owner is left to do. A cell that is interrupted while it
        waits stops the run; what it has done so far is kept."""
        try:
            while self.busy(owner):
                await asyncio.sleep(0.05)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.stop(owner)
            with contextlib.suppress(KeyboardInterrupt):
                job = self.running(owner)
                if job:
                    job.done.wait()

    def join(self, owner=None, seconds: float = 600):
        """The same without asyncio; for scripts and tests. Raises TimeoutError."""
        end = time.monotonic() + seconds
        with self._change:
            while self.busy(owner):
                if not self._change.wait(max(0.0, min(1.0, end - time.monotonic()))):
                    if time.monotonic() >= end:
                        raise TimeoutError(f"still training after {seconds:.0f} s")


RUNNER = Runner()
