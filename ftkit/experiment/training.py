"""The course of one run: its steps, what is recorded, and when it stops."""

import math
import time
from collections.abc import Callable, Iterator

import torch

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.run_end import End, Stop
from ftkit.data import encoding, schema
from ftkit.engine import loop
from ftkit.evaluate import scoring
from ftkit.experiment import inputs, shelf
from ftkit.experiment.checkpoints import Checkpoints, restore_best
from ftkit.experiment.run import Prepared, Row, Run, Watch
from ftkit.experiment.store import Writer
from ftkit.report.live import Live


class Training:
    """Trains the model of a Run. `steps` is a generator, so a caller can pause between steps;
    pauses do not count as training time.

    lab: the Experiment, which gives the rows (`training_rows`) and the measures (`measure`).
    """

    def __init__(self, lab, run: Run, prepared: Prepared, watch: Watch,
                 checkpoints: Checkpoints | None = None):
        self.lab, self.run, self.prepared = lab, run, prepared
        self.checkpoints, self.asked = checkpoints, inputs.questions(lab.val, watch.sample)
        self.answered: list[str] = []
        self.stop, self.live = watch.stop, watch.live
        self.device = next(run.model.parameters()).device
        self.best = Best(run.model, run.config.early_stopping_patience,
                         run.config.metric_for_best_model)
        self.best.check([*prepared.evaluations, *lab.metrics])
        if checkpoints is not None:
            checkpoints.best, checkpoints.own = self.best, prepared.random
            if checkpoints.saved is not None:
                restore_best(self.best, checkpoints.saved)
        self.callbacks: list[Callable[[Row], object]] = [watch.on_row] if watch.on_row else []
        self.paused_seconds = 0.0
        self.figure = None
        self.writer = Writer(run, watch.store, checkpoints is not None and checkpoints.resumed)

    def steps(self) -> Iterator[Run]:
        """Yield the Run after each step; an interrupt ends it early."""
        try:
            yield from self._steps()
        finally:
            self.writer.close()

    def _steps(self) -> Iterator[Run]:
        run, prepared = self.run, self.prepared
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            if not run.rows:
                run.before = self.measure(self.lab.measure_start)
                self._check_start()
                self._keep_answers(0)
            self._begin_figure()
            rows = self.lab.training_rows(run, prepared, self.measure,
                                          self.checkpoints and self.checkpoints.begin)
            for row in prepared.random.drives(rows):
                self._record(row)
                left = time.perf_counter()
                yield run
                stop = self._stop(row)  # which may wait, too
                self.paused_seconds += time.perf_counter() - left
                if stop:
                    run.end, run.stopped = stop
                    break
            else:
                run.end = End.FINISHED
            if not run.is_finished:  # it was ended by the user, who may continue it
                self._write_checkpoint()
            self.best.restore()
        except KeyboardInterrupt:
            run.end = End.INTERRUPTED
            run.stopped = f"interrupted after step {len(run.rows)} of {run.total_steps}"
            self._write_checkpoint()
        except (torch.OutOfMemoryError, MemoryError):
            run.end = End.OUT_OF_MEMORY
            run.stopped = f"out of memory after step {len(run.rows)} of {run.total_steps}"
            self.writer.finish()
            raise
        except UserError:  # a reward or a metric that cannot be used
            self.writer.close()
            raise
        self._finish()

    def _write_checkpoint(self):
        if self.checkpoints is not None:
            self.checkpoints.write()

    def _check_start(self):
        """Raise UserError if the model's loss is not finite before the first step, and note if it
        is no better than guessing."""
        for name, value in self.run.before.items():
            if name.endswith("_loss") and not math.isfinite(value):
                self.writer.discard()
                raise UserError(f"{name} is {value} before the first step, so the model is broken, "
                                "or overflows in this precision. Try precision fp32, or another "
                                "model.")
        start, general = map(self.run.before.get, ("val_loss", "general_loss"))
        chance = math.log(tokens := self.run.model.get_input_embeddings().weight.shape[0])
        if (start or 0.0) > chance * 0.9999:  # equal, but for rounding, if all weights are zero
            fits = general is not None and general < chance / 2
            self.run.notes.append(
                f"val_loss is {start:.3g} before the first step, no better than guessing among "
                f"{tokens:,} tokens, ln({tokens:,}) = {chance:.3g}; " + (
                    f"with a general_loss of {general:.3g} the model itself is sound: the records "
                    "are unlike what it knows, or in a form or template that it does not know"
                    if fits else
                    "the weights, config.json and tokenizer may not belong together"))

    def measure(self, losses_of: Callable | None = None) -> Row:
        """Measure the evaluation losses and the user's metrics. losses_of: replacement for
        `Experiment.measure`."""
        with self.prepared.random:
            return self._measured(losses_of or self.lab.measure)

    def _measured(self, losses_of: Callable) -> Row:
        with loop.autocast(self.device, self.run.config.precision):
            losses = losses_of(self.run, self.prepared)
        if self.asked:
            is_known = any(map(encoding.answer, self.asked))  # how long an answer is
            self.answered = scoring.answers(self.run.model, self.run.tokenizer, self.asked,
                                            self.lab.template, None if is_known else inputs.LONGEST)
        return losses | {name: inputs.number(name, metric(self.run.model, self.run.tokenizer))
                         for name, metric in self.lab.metrics.items()}

    def _begin_figure(self):
        if self.live is False or (self.live is None and not machine.in_notebook()):
            return
        self.figure = Live(
            total_steps=self.run.total_steps, before=self.run.before,
            keys=self.lab.plotted_columns(),
            title=f"{self.run.model_name} on {self.run.data['name']}")
        self.callbacks.append(self.figure)

    def _record(self, row: Row):
        row["seconds"] -= self.paused_seconds
        self.run.rows.append(row)
        began = time.perf_counter()  # time spent on the disk is not training time
        self.writer.row(row)
        self._keep_answers(int(row["step"]))
        if self.checkpoints is not None:
            self.checkpoints.after(row)
        self.paused_seconds += time.perf_counter() - began
        for callback in self.callbacks:
            callback(row)

    def _keep_answers(self, step: int):
        for record, answer in zip(self.asked, self.answered, strict=False):
            self.run.samples.append({"step": step, "prompt": schema.prompt_of(record),
                                     "reference": encoding.answer(record), "answer": answer})
        self.answered = []

    def _stop(self, row: Row) -> Stop | None:
        step, total, best = row["step"], self.run.total_steps, self.best
        for name in ("loss", "val_loss"):
            if not math.isfinite(row.get(name, 0.0)):
                return Stop(End.DIVERGED, f"diverged at step {step}: {name} is {row[name]}")
        if best.is_exhausted(row):
            return Stop(End.STOPPED_EARLY, f"early stopping at step {step}: no better "
                        f"{best.metric} since step {best.step}, whose weights are kept")
        asked = self.stop() if self.stop and step < total else None
        if isinstance(asked, Stop):
            return asked
        if isinstance(asked, str):
            return Stop(End.ENDED_EARLY, asked) if asked else None
        return Stop(End.STOPPED_BY_HAND,
                    f"stopped manually after step {step} of {total}") if asked else None

    def _finish(self):
        run, last = self.run, self.run.rows[-1] if self.run.rows else {}
        measured_last = run.before and run.before.keys() <= last.keys() and not self.best.weights
        try:
            run.after = {k: last[k] for k in run.before} if measured_last else self.measure()
        except KeyboardInterrupt:
            run.after = {k: v for row in run.rows for k, v in row.items() if k in run.before}
        if not measured_last:
            self._keep_answers(len(run.rows))
        bad = [k for k, v in run.after.items() if k.endswith("_loss") and not math.isfinite(v)]
        if bad and run.end is End.FINISHED:  # by the last update, after its loss was read
            run.end = End.DIVERGED
            run.stopped = f"diverged at step {len(run.rows)}: {bad[0]} is {run.after[bad[0]]}"
        run.seconds, run.tokens = last.get("seconds", 0.0), int(last.get("tokens", 0))
        run.supervised_tokens = int(last.get("supervised_tokens", 0))
        run.peak_memory_bytes = _peak(self.device)
        run.model.eval()
        if self.checkpoints is not None:
            if cost := self.checkpoints.cost():
                run.notes.append(cost)
        shelf.finished(run)
        self.writer.finish()
        if self.figure:
            self.figure.finish(run)


class Best:
    """Watches a measure for early stopping and keeps the trainable weights of the best step.

    As in transformers, a measure whose name ends in "loss" should fall, any other should rise.
    """

    def __init__(self, model, patience: int | None, metric: str = "val_loss"):
        self.model, self.patience, self.metric = model, patience, metric
        self.sign = 1 if metric.endswith("loss") else -1
        self.value, self.step, self.worse = math.inf, 0, 0
        self.weights: dict[str, torch.Tensor] | None = None

    def check(self, measured: list[str]):
        """Raise UserError if the run does not measure what early stopping watches."""
        if self.patience is not None and self.metric not in measured:
            raise UserError(f"metric_for_best_model is {self.metric!r}, which this run does not "
                            f"measure; expected one of {', '.join(measured) or 'nothing'}")

    def is_exhausted(self, row: Row) -> bool:
        """Whether `patience` evaluations in a row, including this one, brought no improvement."""
        if self.patience is None or self.metric not in row:
            return False
        if self.sign * row[self.metric] < self.value:
            self.value, self.step, self.worse = self.sign * row[self.metric], int(row["step"]), 0
            self.weights = {n: p.detach().clone() for n, p in self.model.named_parameters()
                            if p.requires_grad}
            return False
        self.worse += 1
        return self.worse >= self.patience

    def restore(self):
        """Put the best weights back."""
        weights = self.weights or {}
        for name, p in self.model.named_parameters():
            if name in weights:
                p.data.copy_(weights[name])


def _peak(device) -> int | None:
    """Peak bytes: on CUDA of the allocator, on CPU of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
