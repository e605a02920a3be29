"""The state of a sweep: its remaining and finished runs, and the progress display."""

import sys
import time
from collections.abc import Callable

from ftkit.base import formatting, messages, progress_bar
from ftkit.base.formatting import to_html
from ftkit.base.run_end import End
from ftkit.experiment import store
from ftkit.experiment.run import Row, Run
from ftkit.report import live
from ftkit.report.table import table


class Sweep(list[Run]):
    """The runs in the order of the grid, shown as a table; `.how` says how they were run."""

    how = ""

    def _repr_html_(self):
        page = table(self)._repr_html_() if self else ""
        return f"{page}<div>{to_html(formatting.clean(self.how))}</div>"


class SweepState:
    """lab: the Experiment. configs, grid: each run's Config, and its values of the grid's fields.
    done: index → finished Run. notes: how the runs are trained, for `Sweep.how`."""

    def __init__(self, lab, configs: list, grid: list[dict], on_row: Callable | None):
        self.lab, self.configs, self.grid, self.on_row = lab, configs, grid, on_row
        self.done: dict[int, Run] = {}
        self.notes: list[str] = []
        self.interrupted = False
        self.began = time.perf_counter()
        self.stored = 0  # runs taken from the store
        self.fractions: dict[int, float] = {}  # index → fraction of the run that is done
        self.progress = _Progress(len(configs))

    @property
    def remaining(self) -> list[int]:
        return [i for i in range(len(self.configs)) if i not in self.done]

    def show_run(self, index: int, step: str = ""):
        fields = ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}"
                           for k, v in self.grid[index].items())
        begun = sum(part for i, part in self.fractions.items() if i not in self.done)
        self.progress(len(self.done), self.stored, begun,
                      f"run {index + 1} of {len(self.configs)}" + (f": {fields}" if fields else "")
                      + step)

    def report_row(self, paused, row: Row):
        """Show a new row of a PausableRun and pass it to `on_row`."""
        total = paused.run.total_steps
        self.fractions[paused.index] = row["step"] / total
        self.show_run(paused.index, f" · step {row['step']} of {total}")
        if self.on_row:
            self.on_row(row)

    def take_stored(self):
        """Take finished runs of the same experiment, config and version from the store."""
        finished = store.finished(self.lab.identity())
        if not finished:
            return
        by_config, facts = {str(r.config): r for r in finished}, self.lab.model_facts()
        for i, config in enumerate(self.configs):
            run = by_config.get(str(facts.resolve(config)))
            if run:
                self.done[i] = run
        self.stored = len(self.done)
        if self.stored:
            self.notes.append(f"{self.stored} from the store (without their models)")

    def add_remote(self, index: int, run: Run):
        """Store a complete run from a worker. Workers store nothing, so no run is stored twice."""
        run.experiment = self.lab
        store.add(run)
        self.done[index] = run
        if self.on_row:
            for row in run.rows:
                self.on_row(row)

    def result(self) -> Sweep:
        """Return the runs that have ended; prints how they were run."""
        runs = Sweep(self.done[i] for i in sorted(self.done))
        interrupted = [r for r in runs if r.end is End.INTERRUPTED]
        is_cut = self.interrupted or bool(interrupted)
        if is_cut:
            runs.how = (f"interrupted: {len(runs) - len(interrupted)} of {len(self.configs)} runs "
                        "are finished and kept; the same call with resume=True takes them from the "
                        "store (without their models) and continues")
        else:
            took = formatting.duration(time.perf_counter() - self.began)
            count = f"{len(runs)} runs" + (f" in {took}" if len(runs) > self.stored else "")
            runs.how = ", ".join([count, *self.notes])
        self.progress.close(runs.how, is_cut or bool(self.stored))
        return runs


class _Progress:
    """Remaining runs and time, in one output of the cell or one line of the terminal."""

    def __init__(self, total: int):
        self.total, self.began, self.drawn = total, time.perf_counter(), 0.0
        self.show = live.notebook_display() if total > 1 else None
        quiet = total < 2 or self.show is not None or not sys.stderr.isatty()
        self.bar = progress_bar.Bar("sweep", quiet=quiet)

    def __call__(self, done: int, stored: int, begun: float, text: str):
        """begun: progress of the unfinished runs, as a number of runs."""
        now, left = time.perf_counter(), self.total - done
        if now - self.drawn < 0.2 or not left:
            return
        self.drawn = now
        trained, to_train = done - stored + begun, self.total - stored
        if left > 1:
            text += f" · {left - 1} more after it"
        self.bar(trained / to_train, text)
        if self.show and trained > 0:
            seconds = (now - self.began) / trained * (to_train - trained)
            text += f" · about {formatting.duration(seconds)} left"
        self._display(text, trained / to_train)

    def close(self, text: str, must_print: bool):
        """Show the last text, outside a notebook on stderr."""
        self._display(text)
        if must_print or not self.bar.quiet:
            self.bar.close()
            if not self.show:
                messages.say(text)

    def _display(self, text: str, fraction: float | None = None):
        if self.show:
            text, meter = formatting.clean(text), ""
            if fraction is not None:
                meter = f'<progress max="1" value="{fraction:.3f}"></progress> '
            self.show({"text/html": f"<div>{meter}{to_html(text)}</div>", "text/plain": text})
