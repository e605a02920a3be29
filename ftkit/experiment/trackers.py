"""The rows of a run in the log of another tool, TensorBoard or trackio.

    lab.run(log="tensorboard")      # while it trains
    write(run, "trackio")           # a run that has ended, also one from the store

TensorBoard's files are in `folder()`, one folder for each run; trackio keeps its own files, in the
project "ftkit". Both get the measures before training as step 0, then every column of every row.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftkit.base import machine, messages
from ftkit.base.errors import UserError
from ftkit.experiment.run import Row, Run

TOOLS = {"tensorboard": "tensorboard --logdir {folder}",
         "trackio": "trackio show --project ftkit"}  # name → how its log is opened


def folder() -> Path:
    """Where the logs for TensorBoard are."""
    return machine.home() / "tensorboard"


def how_to_open(tool: str) -> str:
    """The command that shows the log."""
    return TOOLS[tool].format(folder=folder())


def check(tool: str, find: Callable[[str], Any] = importlib.util.find_spec):
    """UserError for a tool that is unknown or not installed. find: returns None for
    a package that is not there."""
    if tool not in TOOLS:
        raise UserError(f"log is {tool!r:.40}; expected {' or '.join(TOOLS)}, or None")
    if find(tool) is None:
        raise UserError(f"log={tool!r} needs {tool}: pip install 'ftkit[{tool}]'")


def write(run: Run, tool: str):
    """Write a whole run into the log of a tool. Raises UserError as `check`."""
    log = RunLog(tool)
    log.begin(run)
    log.finish()


@contextlib.contextmanager
def logged(tool: str | None, on_start: Callable | None, on_row: Callable | None):
    """The callbacks of a run, (on_start, on_row), which write its log as well; the same ones
    without a tool. Raises UserError as `check`, before anything is trained."""
    if tool is None:
        yield on_start, on_row
        return
    log = RunLog(tool)

    def both(first, second):
        return first if second is None else lambda value: (first(value), second(value))

    try:
        yield both(log.begin, on_start), both(log, on_row)
    finally:
        log.finish()


class RunLog:
    """The log of one run: `begin` before its first step, a call with each row, then `finish`.

    A failure is printed once and ends the log, never the training. make: Run → a writer with
    `add(step, values)` and `close()`, by default that of the tool.
    """

    def __init__(self, tool: str, make: Callable[[Run], Any] | None = None):
        if make is None:
            check(tool)
            make = TensorBoard if tool == "tensorboard" else Trackio
        self.tool, self.make = tool, make
        self.run: Run | None = None
        self.writer: Any = None
        self.has_before = False

    def begin(self, run: Run):
        """Open the log. The rows that the run has already, because it continues, are written."""
        self.run = run
        self._safely(lambda: self._open(run))
        for row in run.rows:
            self(row)

    def _open(self, run: Run):
        self.writer = self.make(run)

    def __call__(self, row: Row):
        if self.writer is None or self.run is None:
            return
        before = self.run.before
        if before and not self.has_before:  # known from the first row on
            self.has_before = True
            self._safely(lambda: self.writer.add(0, before))
        values = {name: value for name, value in row.items() if name != "step"}
        self._safely(lambda: self.writer.add(int(row["step"]), values))

    def finish(self):
        if self.writer is not None:
            self._safely(self.writer.close)

    def _safely(self, work: Callable[[], object]):
        try:
            work()
        except Exception as error:  # noqa: BLE001 no error of a log may end the training
            self.writer = None
            messages.say(f"the log for {self.tool} stopped ({type(error).__name__}: {error}); the "
                         "run itself is stored")


class TensorBoard:
    """An event file. Its numbers have 32 bits, as those of every writer for TensorBoard."""

    def __init__(self, run: Run):
        from torch.utils.tensorboard import SummaryWriter

        place = folder() / run.id
        shutil.rmtree(place, ignore_errors=True)  # of the part that an interrupted run wrote
        self.writer = SummaryWriter(str(place), flush_secs=5)
        self.writer.add_text("config", description(run))

    def add(self, step: int, values: dict[str, float]):
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self):
        self.writer.close()


class Trackio:
    """A run of trackio's local project "ftkit", or of the server that trackio's own variables
    name; only the rows, without the load of this machine."""

    def __init__(self, run: Run):
        import trackio

        part = f" from step {len(run.rows)}" if run.rows and not run.is_finished else ""
        self.writer = trackio.init(
            project="ftkit", name=run.id + part, config=run.config.to_dict(), embed=False,
            auto_log_gpu=False, auto_log_cpu=False)

    def add(self, step: int, values: dict[str, float]):
        self.writer.log(dict(values), step=step)

    def close(self):
        self.writer.finish()


def description(run: Run) -> str:
    """Model, data and settings of a run, in one line."""
    return (f"{run.model_name} on {run.data.get('name')}: "
            f"{str(run.config) or 'all fields at their defaults'}")
