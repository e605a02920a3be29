"""Experiment = what is held still: the model, the data, what is watched. Its runs vary a Config."""

from __future__ import annotations

import copy
import math
import random
import shutil
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from ftkit.base import machine
from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.data import encoding, schema
from ftkit.experiment import inputs, run
from ftkit.model import adapter_folder, cache, export, loading, merge, rounding

_read = weakref.WeakKeyDictionary()  # Experiment → its records as tokens, read once for many runs


class Experiment:
    """A fine-tuning question: which model, on which records, watched on which probes.

    model: tier name, folder, hub id, or a `(model, tokenizer)` pair (copied for every run), which
    is how one run continues from another: `model=(run.model, run.tokenizer)`.
    data, val, probes: sample names, JSONL files or lists of records; `val` defaults to the
    validation split of a sample, else to a tenth of the data. probes may be a dict of name →
    source; the loss on each is read during the run (`<name>_loss`).
    replay_from: where `Config.replay` takes its general records (a name, a file or records).
    eval_records: at most this many records of `val` and of each probe are used, the same ones in
    all runs.
    metrics: name → function of (model, tokenizer) that gives a number, such as exact match; they
    are measured with the losses and may be what early stopping watches.
    Raises ValueError (DataError for bad records) before any model is loaded.
    """

    CONFIG = Config  # the kind of Config that its runs take

    def __init__(self, model="tiny", data="translation", val=None, probes=("general",),
                 template=None, replay_from="general", eval_records=64, metrics=None):
        model = str(model) if isinstance(model, Path) else model
        inputs.check_kinds(model, template, eval_records)
        self.model, self.template, self.eval_records = model, template, eval_records
        self.model_name = model if isinstance(model, str) else "tuned"
        if isinstance(model, str):
            loading.locate(model)
        self.train, self.val = inputs.with_validation(data, val)
        self.probes = inputs.named_probes(probes)
        self.replay_from = replay_from
        self.metrics = inputs.named_metrics(metrics, self.probes)

    def run(self, config: Config | None = None, *, on_start: Callable | None = None,
            on_row: Callable | None = None, stop: Callable[[], bool] | None = None,
            live: bool | None = None, out: str | Path | None = None, **changes) -> run.Run:
        """Train fresh weights as `config` says and return what happened.

        changes: fields of Config, `lab.run(learning_rate=1e-2)`. on_start: called with the Run
        before its first step; on_row: with each row. stop: asked after each step; True, or the
        reason as a text, ends the run, which keeps its rows so far.
        live: draw the curves while they happen; by default only in a notebook. out: folder for
        the adapter or model. An interrupt (Ctrl-C, the square button) ends the run early and
        returns its rows so far; `run.stopped` says so.
        """
        if not isinstance(config, Config | None):
            raise UserError(f"config is {type(config).__name__}; expected a "
                            f"{self.CONFIG.__name__}")
        config = (config or self.CONFIG()).but(**changes)
        out = inputs.free_folder(out)
        *_, happened = self._steps(config, on_start, on_row, stop, live)
        if out:
            _save(happened, out)
        return happened

    def _steps(self, config, on_start=None, on_row=None, stop=None, live=None, store=True):
        """The run as a generator: its Run before the first step, after each step and at the end.

        store: whether it is kept on disk.
        """
        import torch

        cuda = [torch.cuda.current_device()] if machine.device() == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            happened, prepared = self._start(config)
            if on_start:
                on_start(happened)
            yield happened
            yield from self._train(happened, prepared, on_row, stop, live, store)
        yield happened

    def _start(self, config):
        """A Run before its first step, and what it will read; its model is made from torch's
        random state, which is set to its seed."""
        import torch

        from ftkit.engine import loop
        from ftkit.memory_use import preflight

        if type(config) is not self.CONFIG:
            raise UserError(f"{type(self).__name__}.run was given a {type(config).__name__}; give "
                            f"a {self.CONFIG.__name__}")
        predicted = preflight.check(self, config)
        model, tokenizer = self._fresh(config)
        if predicted is None:
            predicted = preflight.check(self, config, model)
        config = config.resolved(loading.tier(model),
                                 "bf16" if machine.bf16_is_fast() else "fp32",
                                 loading.context(model))
        torch.manual_seed(config.seed)
        prepared = self._encode(tokenizer, config)
        model = loading.trainable(model, config)
        total = machine.steps_in_tier(loop.steps_in(config, len(prepared["units"])))
        happened = run.Run(id=run.new_id(), config=config, model_name=self.model_name,
                           data=prepared["about"], total_steps=total, model=model,
                           tokenizer=tokenizer, experiment=self, machine=machine.describe(),
                           versions=machine.versions())
        happened.trainable_parameters, happened.total_parameters = loading.count(model)
        happened.predicted_memory_bytes = predicted
        if note := rounding.tipping(model, config):
            happened.notes.append(note)
        return happened, prepared

    def sweep(self, config: Config | None = None, *, on_row: Callable | None = None,
              parallel: bool | int | None = None, backend: str | None = None,
              halving: bool = False, resume: bool = False, **values) -> list[run.Run]:
        """One run for every combination: `lab.sweep(learning_rate=[1e-4, 1e-3], seed=range(3))`.

        Returns the runs in the order of the grid. parallel: None runs small models side by side on
        the cores of this machine, False never, True or a number (runs at a time) any model.
        backend: "dask" or "ray", the workers of that cluster. halving: end the worse half early,
        again and again, until one config is left. resume: take whole runs of the same question
        from the store, without their models. An interrupt keeps what has finished. More in
        `ftkit.experiment.sweep.sweep`.
        """
        from ftkit.experiment import sweep

        return sweep.sweep(self, config or self.CONFIG(), values, on_row=on_row, parallel=parallel,
                           backend=backend, halving=halving, resume=resume)

    def held_still(self) -> dict:
        """What two runs must share before a difference between them can be put down to Config:
        the model, hashes of the data that is trained on and watched, the template."""
        from ftkit.experiment import fingerprint

        again = self.replay_from
        return {"model": fingerprint.fingerprint(self.model), "data": self.train.sha256,
                "validation": self.val.sha256,
                "probes": {name: probe.sha256 for name, probe in self.probes.items()},
                "template": self.template, "eval_records": self.eval_records,
                "metrics": sorted(self.metrics),
                "replay_from": str(again) if isinstance(again, str | Path)
                else schema.compact(again).sha256}

    def show_batch(self, n: int = 2, config: Config | None = None):
        """The first `n` training records as the model sees them, tokens with loss marked."""
        config = config or Config()
        tokenizer = self._tokenizer()
        examples = encoding.encode_all(self.train[:n], tokenizer, loss_on=config.loss_on,
                                     template=self.template).examples
        return encoding.show_batch(examples, tokenizer)

    def __repr__(self) -> str:
        watched = ", ".join(self.probes) or "nothing else"
        return (f"Experiment({self.model_name} on {self.train.name}: {len(self.train)} records, "
                f"{len(self.val)} for validation, watching {watched})")

    # ------------------------------------------------------------------ inside

    def _tokenizer(self):
        return loading.load_tokenizer(self.model) if isinstance(self.model, str) else self.model[1]

    def _fresh(self, config):
        """A model nobody has trained yet, and its tokenizer."""
        if not isinstance(self.model, str):
            if config.method == "qlora":
                raise UserError("qlora needs a model by name or folder, since its weights are "
                                "quantized while they are loaded; save the tuned model first")
            model, tokenizer = self.model
            model = copy.deepcopy(model)
            return merge.unwrap(model), tokenizer
        if config.method == "qlora":
            if adapter_folder.is_adapter(loading.locate(self.model)):
                raise UserError(f"qlora needs a whole model and {self.model} is an adapter; "
                                "`ftkit export` merges it into its base first")
            return loading.load(self.model, quantize=True)
        return cache.fresh(self.model)

    def _encode(self, tokenizer, config) -> dict:
        """Records → examples: what is trained on, what is watched, and what was cut or skipped."""
        options = {"max_length": config.max_length, "template": self.template}
        coded, evals = self._coded(tokenizer, config.loss_on, options)
        examples = coded.examples
        about = {"name": self.train.name, "rows": len(self.train), "sha256": self.train.sha256,
                 "validation_rows": len(self.val), "truncated": coded.truncated,
                 "skipped": coded.skipped, "replayed": 0, "held_still": self.held_still()}
        if config.replay:
            general = schema.compact(self.replay_from)
            wanted = round(len(coded.examples) * config.replay / (1 - config.replay))
            line = random.Random(f"replay/{config.seed}").choices(general, k=wanted)
            replayed = encoding.encode_all(line, tokenizer, **options).examples
            examples = encoding.joined(examples, replayed)
            about["replayed"] = wanted
        units = encoding.Units(examples, config.max_length if config.packing else None)
        return {"units": units, "evals": evals, "about": about}

    def _coded(self, tokenizer, loss_on, options):
        """The training records and what is watched, as tokens; the last answer is kept."""
        watched = {"val": self.val, **self.probes}
        asked = (loss_on, tuple(options.values()), self.eval_records, id(self.train), id(tokenizer),
                 *((name, id(records)) for name, records in watched.items()))
        kept = _read.get(self)
        if kept is None or kept[0] != asked:
            coded = encoding.encode_all(self.train, tokenizer, loss_on=loss_on, **options)
            evals = {f"{name}_loss": encoding.encode_all(
                inputs.some(records, self.eval_records), tokenizer, **options).examples
                for name, records in watched.items()}
            _read[self] = kept = asked, coded, {k: e for k, e in evals.items() if e}
        return kept[1:]

    # What training on preferences or rewards does its own way (`ftkit.experiment.preferences`):

    def _rows(self, happened, prepared, measure):
        from ftkit.engine import loop

        return loop.train(happened.model, prepared["units"], happened.config,
                          happened.total_steps, measure)

    def _measure(self, happened, prepared) -> dict:
        from ftkit.evaluate import scoring

        return {k: scoring.loss_on(happened.model, e) for k, e in prepared["evals"].items()}

    def _watched(self) -> tuple[str, ...] | None:
        """What of a row the live figure draws; None for the losses."""

    # What `preflight` asks, before a model is there:

    REFUSED = ()  # fields of Config that cannot be set
    EVERY_TOKEN = False  # whether a step needs the loss of each token, and so all logits at once

    def _most(self, config) -> tuple[int, int]:
        """Tokens of a forward pass in training, and of one sequence, at most."""
        from ftkit.memory_use import preflight

        return preflight.longest(self.train, config), config.max_length

    def _heaviest(self, prepared, config) -> list[dict]:
        """The examples of the largest forward pass in training."""
        from ftkit.memory_use import preflight

        units = sorted(prepared["units"], key=preflight.tokens_of, reverse=True)
        return [e for i in range(config.batch_size) for e in units[i % len(units)]]

    def _looked_at(self, prepared) -> list[list[dict]]:
        """The examples of each evaluation."""
        return list(prepared["evals"].values())

    def _keeps_reference(self, config) -> bool:
        """Whether a second model stays in memory beside the one that is trained."""
        return False

    def _train(self, happened, prepared, on_row, stop, live, store):
        from ftkit.engine import loop

        config, model, total = happened.config, happened.model, happened.total_steps
        device = next(model.parameters()).device

        def measure() -> dict:
            with loop.autocast(device, config.precision):
                losses = self._measure(happened, prepared)
            return losses | {name: inputs.number(name, metric(model, happened.tokenizer))
                             for name, metric in self.metrics.items()}

        best = _Best(model, config.early_stopping_patience, config.metric_for_best_model)
        best.check([*prepared["evals"], *self.metrics])
        figure, writer = None, run.Writer(happened, store)
        _reset_peak(device)
        try:
            happened.before = measure()
            figure = _live(live, happened, self._watched())
            away = 0.0  # seconds that whoever drives this generator spent elsewhere
            for row in self._rows(happened, prepared, measure):
                row["seconds"] -= away
                happened.rows.append(row)
                writer.row(row)
                for listen in filter(None, (on_row, figure)):
                    listen(row)
                left = time.perf_counter()
                yield happened
                away += time.perf_counter() - left
                if not math.isfinite(row["loss"]):
                    happened.stopped = f"diverged at step {row['step']}: the loss is {row['loss']}"
                elif best.seen(row):
                    happened.stopped = (f"early stopping at step {row['step']}: no better "
                                        f"{best.metric} since step {best.step}, whose weights "
                                        "are kept")
                elif stop and row["step"] < total and (why := stop()):
                    happened.stopped = why if isinstance(why, str) else (
                        f"stopped by hand after step {row['step']} of {total}")
                if happened.stopped:
                    break
            best.restore()
        except KeyboardInterrupt:
            happened.stopped = f"interrupted after step {len(happened.rows)} of {total}"
        last = happened.rows[-1] if happened.rows else {}
        fresh = happened.before and happened.before.keys() <= last.keys() and not best.weights
        try:
            happened.after = {k: last[k] for k in happened.before} if fresh else measure()
        except KeyboardInterrupt:
            happened.after = {k: v for row in happened.rows for k, v in row.items()
                              if k in happened.before}
        happened.seconds, happened.tokens = last.get("seconds", 0.0), last.get("tokens", 0)
        happened.supervised_tokens = last.get("supervised_tokens", 0)
        happened.peak_memory_bytes = _peak(device)
        model.eval()
        writer.finish()
        if figure:
            figure.finish(happened)


class _Best:
    """Watches a measure for early stopping and keeps the trainable weights of the best step.

    As in transformers, a name that ends in loss is better when it falls, any other when it rises.
    """

    def __init__(self, model, patience: int | None, metric: str = "val_loss"):
        self.model, self.patience, self.metric = model, patience, metric
        self.sign = 1 if metric.endswith("loss") else -1
        self.loss, self.step, self.bad, self.weights = math.inf, 0, 0, None

    def check(self, measured: list[str]):
        """ValueError where early stopping would watch what is never measured."""
        if self.patience is not None and self.metric not in measured:
            raise UserError(f"metric_for_best_model is {self.metric!r}, which this run does not "
                            f"measure; it measures {', '.join(measured) or 'nothing'}")

    def seen(self, row: dict) -> bool:
        """True when `patience` evaluations in a row were no better."""
        if self.patience is None or self.metric not in row:
            return False
        if self.sign * row[self.metric] < self.loss:
            self.loss, self.step, self.bad = self.sign * row[self.metric], row["step"], 0
            self.weights = {n: p.detach().clone() for n, p in self.model.named_parameters()
                            if p.requires_grad}
            return False
        self.bad += 1
        return self.bad >= self.patience

    def restore(self):
        """Put the best weights back."""
        if self.weights:
            for name, p in self.model.named_parameters():
                if name in self.weights:
                    p.data.copy_(self.weights[name])


def _save(happened, out):
    """The tuned weights into the folder `out`, all of it or nothing."""
    from safetensors import SafetensorError

    try:
        happened.saved_to = str(loading.save(happened.model, happened.tokenizer, out))
        export.keep_recipe(happened, out)
    except BaseException as error:  # Ctrl-C too
        happened.saved_to = None
        shutil.rmtree(out, ignore_errors=True)
        if not isinstance(error, OSError | SafetensorError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"run {happened.id} is done and kept, but its weights could not be "
                        f"written to {out}: {reason}; make room and run it again") from None


def _live(wanted, happened, keys=None):
    if wanted is False or (wanted is None and not machine.in_notebook()):
        return None
    from ftkit.report.live import Live

    return Live(total_steps=happened.total_steps, before=happened.before, keys=keys,
                title=f"{happened.model_name} on {happened.data['name']}")


def _reset_peak(device):
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def _peak(device) -> int | None:
    """Peak bytes of the allocator on CUDA; on CPU of the whole process since it started."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


