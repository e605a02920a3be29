"""Copies of a run's rows for TensorBoard, trackio or W&B.

    lab.run(log="tensorboard")      # while it trains
    write(run, "trackio")           # a run that has ended, or a stored one

TensorBoard's files are in `folder()`, one folder per run; trackio keeps its own files, and W&B
sends its rows to its server, unless WANDB_MODE is offline; both in the project "ftkit". All get the
measures before training as step 0, then every column of every row.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftkit.base import machine, messages
from ftkit.base.errors import UserError
from ftkit.experiment.run import Row, Run, Watch

TOOLS = {"tensorboard": "tensorboard --logdir {home}/tensorboard",
         "trackio": "trackio show --project ftkit",
         "wandb": "https://wandb.ai, or after an offline run wandb sync {home}/wandb/offline-*"}


def folder() -> Path:
    return machine.home() / "tensorboard"


def how_to_open(tool: str) -> str:
    """The command or page that shows the log of a tool."""
    return TOOLS[tool].format(home=machine.home())


def check(tool: str, find: Callable[[str], Any] = importlib.util.find_spec):
    """Raise UserError if a tool is unknown or not installed (`find` returns None)."""
    if tool not in TOOLS:
        raise UserError(f"log is {tool!r:.40}; expected {', '.join(TOOLS)}, or None")
    if find(tool) is None:
        raise UserError(f"log is {tool!r}, but {tool} is not installed. Run `pip install "
                        f"'ftkit[{tool}]'`.")


def write(run: Run, tool: str):
    """Write a whole run into the log of a tool. Raises UserError if it is unknown or
    not installed."""
    log = RunLog(tool)
    log.begin(run)
    log.finish()


@contextlib.contextmanager
def logged(watch: Watch):
    """Yield a Watch whose callbacks also write the log `watch.log`. Raises UserError like `check`,
    before any training."""
    if watch.log is None:
        yield watch
        return
    log = RunLog(watch.log)

    def both(first, second):
        return first if second is None else lambda value: (first(value), second(value))

    try:
        yield dataclasses.replace(watch, on_start=both(log.begin, watch.on_start),
                                  on_row=both(log.add_row, watch.on_row))
    finally:
        log.finish()


class RunLog:
    """The log of one run. A failure is printed once and ends the log, never the training.

    make: Run → a writer with `add(step, values)` and `close()`.
    """

    def __init__(self, tool: str, make: Callable[[Run], Any] | None = None):
        if make is None:
            check(tool)
            make = TensorBoard if tool == "tensorboard" else lambda run: Project(run, tool)
        self.tool, self.make = tool, make
        self.run: Any = None
        self.writer: Any = None
        self.has_before = False

    def begin(self, run: Run):
        """Open the log and write the rows of a run that continues."""
        self.run = run
        with self._failures():
            self.writer = self.make(run)
        for row in run.rows:
            self.add_row(row)

    def add_row(self, row: Row):
        with self._failures():
            if self.writer and self.run.before and not self.has_before:  # known by the first row
                self.has_before = True
                self.writer.add(0, self.run.before)
            if self.writer:
                self.writer.add(int(row["step"]), {k: v for k, v in row.items() if k != "step"})

    def finish(self):
        with self._failures():
            if self.writer:
                self.writer.close()

    @contextlib.contextmanager
    def _failures(self):
        try:
            yield
        except Exception as error:  # noqa: BLE001 no error of a log may end the training
            self.writer = None
            messages.say(f"the log for {self.tool} stopped ({type(error).__name__}: {error}); the "
                         "run itself is stored")


class TensorBoard:
    """An event file. TensorBoard stores numbers in 32 bits."""

    def __init__(self, run: Run):
        from torch.utils.tensorboard import SummaryWriter

        place = folder() / run.id
        shutil.rmtree(place, ignore_errors=True)  # left by the part before an interrupt
        self.writer = SummaryWriter(str(place), flush_secs=5)
        self.close = self.writer.close
        self.writer.add_text("config", f"{run.model_name} on {run.data.get('name')}: "
                             f"{str(run.config) or 'all fields at their defaults'}")

    def add(self, step: int, values: dict[str, float]):
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)


class Project:
    """A run in the project "ftkit" of trackio or W&B: local, or on the server that the tool's
    environment variables name. System metrics, code and console output are not recorded."""

    def __init__(self, run: Run, tool: str):
        module = importlib.import_module(tool)
        options = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        if tool == "wandb":
            machine.home().mkdir(parents=True, exist_ok=True)
            options = {"dir": machine.home(), "settings": module.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=True)}
        part = f" from step {len(run.rows)}" if run.rows and not run.is_finished else ""
        self.writer = module.init(project="ftkit", name=run.id + part,
                                  config=run.config.to_dict(), **options)
        self.close = self.writer.finish

    def add(self, step: int, values: dict[str, float]):
        self.writer.log(dict(values), step=step)
