"""`Experiment`: the model, data and evaluation that runs with different Configs share."""

import copy
import json
import random
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftkit.base import machine, messages
from ftkit.base.config import Config
from ftkit.base.config_fields import START, changing
from ftkit.base.errors import UserError
from ftkit.base.files import at_home, new_folder
from ftkit.base.run_end import Stop
from ftkit.data import encoding, schema
from ftkit.evaluate import scoring
from ftkit.experiment import fingerprint, inputs, store, sweep, trackers
from ftkit.experiment.run import DataInfo, Prepared, Run, Watch, plain
from ftkit.memory_use import preflight
from ftkit.model import adapter_folder, cache, identity, loading, merge, rounding

ROOMS = ("base", "data", "model", "engine", "evaluate", "experiment")  # whose code makes a result

# Experiment → its records as tokens, encoded once for many runs.
_encoded_records: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

# Experiment → (its evaluation sets as tokens, {how a run starts: what was measured there}).
_measured_starts: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Experiment:
    """A fine-tuning question: a model, training records, and what to evaluate.

    model: name, folder, hub id, or a `(model, tokenizer)` pair, which is copied for every run; to
    continue from another run, pass `model=(run.model, run.tokenizer)`.
    data, val, probes: sample names, files, tables or lists of records, as in `ft.records`. `val`
    defaults to the validation split of a sample or DatasetDict, else to a tenth of the data.
    probes may be a dict of name → source; each is evaluated during the run as `<name>_loss`.
    replay_from: the source of general records for `Config.replay`.
    eval_records: limit on the records of `val` and of each probe; all runs use the same ones.
    metrics: name → function of (model, tokenizer) that returns a number, or of (answer, record),
    whose mean over the greedy answers to the validation records is taken. They are measured with
    the losses, and early stopping can watch them. torch's draws in them come from the run's
    random state (`ftkit.model.random_state`).
    Raises UserError (DataError for bad records) before any model is loaded.
    """

    CONFIG = Config  # the kind of Config that its runs take

    def __init__(self, model: str | Path | tuple[Any, Any] = "tiny", data="translation", val=None,
                 probes=("general",), template=None, replay_from="general", eval_records=64,
                 metrics=None):
        model = str(model) if isinstance(model, Path) else model
        inputs.check_kinds(model, template, eval_records)
        self.model, self.template, self.eval_records = model, template, eval_records
        self.model_name = model if isinstance(model, str) else "tuned"
        if isinstance(model, str):
            loading.locate(model)
        self.train, self.val = inputs.with_validation(data, val)
        self.probes = inputs.named_probes(probes)
        self._given = {"model": model, "data": data, "val": val, "replay_from": replay_from,
                       "probes": probes if isinstance(probes, dict | str | Path)
                       else list(probes or ())}
        self.replay_from = replay_from
        self.metrics = inputs.named_metrics(
            metrics, self.probes, self.val, eval_records, template)

    def run(self, config: Config | None = None, *, on_start: Callable | None = None,
            on_row: Callable | None = None,
            stop: Callable[[], bool | str | Stop | None] | None = None,
            live: bool | None = None, out: str | Path | None = None,
            save_steps: int | None = None, sample: int | list[str] = 0, log: str | None = None,
            **overrides) -> Run:
        """Train fresh weights with `config` and return the Run.

        An interrupt (Ctrl-C, the square button) ends the run early; `run.end` is then
        "interrupted", and its rows so far are kept.

        overrides: fields of Config, as in `lab.run(learning_rate=1e-2)`.
        on_start: called with the Run before its first step. on_row: called with each row.
        stop: called after each step; True, a reason as text, or a `Stop` ends the run.
        live: draw the curves during training; None draws them in a notebook only.
        out: new folder for the tuned adapter or model.
        save_steps: steps between checkpoints, from which `resume` continues; 0 writes one only on
        an interrupt, None never. `run.notes` gives their size and time.
        sample: validation records to answer at each evaluation (a number), or prompts; the answers
        are in `run.samples`.
        log: "tensorboard", "trackio" or "wandb", which then gets the rows too.
        """
        if not isinstance(config, Config | None):
            raise UserError(f"config is {type(config).__name__}; expected a "
                            f"{self.CONFIG.__name__}")
        config = (config or self.CONFIG()).but(**overrides)
        watch = Watch(on_start, on_row, stop, live, save_steps, sample, log)
        return self._train(config, watch, out)

    def resume(self, id: str, *, out: str | Path | None = None, save_steps: int = 0,
               **watching) -> Run:
        """Continue an interrupted run of this experiment from its last checkpoint, or from its
        first step if it has none. The curve equals that of an uninterrupted run.

        id: the run's id or its beginning. Other arguments: see `run`. Raises UserError if the run
        has reached its end, or its model, data or ftkit version is different.
        """
        from ftkit.experiment import checkpoints

        with store.locked(checkpoints.stored(id).id):
            stored = checkpoints.stored(id)
            if differs := stored.differing(self.identity()):
                raise UserError(f"run {stored.id} was made with another model, other records, or "
                                f"another version of ftkit ({', '.join(differs)} differ). Build "
                                "the experiment as it was then.")
            return self._train(stored.config, Watch(save_steps=save_steps, **watching), out, stored)

    def _train(self, config, watch: Watch, out, stored: Run | None = None) -> Run:
        from ftkit.experiment import checkpoints, saving

        out = None if out is None else new_folder(out)
        with trackers.logged(watch) as watch:
            *_, run = self.iterate(config, watch, stored)
        if out:
            saving.save(run, out)
        checkpoints.remove(run)  # only now: a run that was killed while it is saved can continue
        return run

    def source(self) -> dict | None:
        """Return arguments that rebuild this experiment in another process, with absolute paths;
        None if the model or records are objects in memory."""
        if self.metrics or inputs.has_no_name(self._given):
            return None
        return inputs.absolute(self._given) | {"template": self.template,
                                               "eval_records": self.eval_records}

    def sweep(self, config: Config | None = None, *, on_row: Callable | None = None,
              parallel: bool | int | None = None, backend: str | None = None,
              halving: bool = False, resume: bool = False, **values) -> list[Run]:
        """Train all combinations: `lab.sweep(learning_rate=[1e-4, 1e-3], seed=range(3))`.

        Returns the runs in the order of the grid. An interrupt keeps and returns the finished runs
        and prints how to continue.
        on_row: called with each row; rows of runs side by side are interleaved.
        parallel: None trains small models on a CPU side by side, one per thread; False never does;
        True or a number (of runs at a time) does so for any model that fits. Runs share the
        threads, and the order of summation changes only the last digits.
        backend: "dask" or "ray" trains on that cluster. Runs of a lost worker are run again. The
        runs are returned without their models.
        halving: successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943). All runs start;
        at 1/8, 1/4, 1/2 of the steps (for eight) the worse half by val_loss is ended early, seeds
        counted together. A run that starts slowly can lose although it would have won later.
        resume: take finished runs of the same model, data, probes and Config from the store,
        without their models. Off by default, so that a cell that is run again trains again.
        Raises UserError before any run if a field is unknown or a value is invalid.
        """
        return sweep.sweep(self, config or self.CONFIG(), values, on_row=on_row, parallel=parallel,
                           backend=backend, halving=halving, resume=resume)

    def fixed_settings(self) -> dict:
        """Settings that two runs must share so that Config can explain their difference: model,
        hashes of training and evaluation data, template."""
        again = self.replay_from
        return {"model": fingerprint.fingerprint(self.model), "data": self.train.sha256,
                "validation": self.val.sha256,
                "probes": {name: probe.sha256 for name, probe in self.probes.items()},
                "template": self.template, "eval_records": self.eval_records,
                "metrics": sorted(self.metrics),
                "replay_from": str(again) if isinstance(again, str | Path)
                else schema.compact(again).sha256}

    def identity(self) -> dict:
        """Everything that must be equal for a stored run to replace a new one: the fixed
        settings, every file of the model and its base, the tokenizer, and ftkit's code."""
        return plain(self.fixed_settings() | self._made_of())

    def _made_of(self) -> dict:
        again = self.replay_from
        return {
            "ftkit": machine.versions()["ftkit"], "code": identity.code(*ROOMS),
            "model files": identity.of(self.model) if isinstance(self.model, str)
            else identity.of_tokenizer(self.model[1]),
            "model config": None if isinstance(self.model, str)
            else str(getattr(self.model[0], "config", None)),
            "replayed records": schema.compact(again).sha256
            if isinstance(again, str | Path) and at_home(again).is_file() else None,
            "longest run": machine.steps_in_tier(10**9)}

    def show_batch(self, n: int = 2, config: Config | None = None):
        """Show the tokens of the first `n` training records, with those trained on marked."""
        config = config or Config()
        tokenizer = self.load_tokenizer()
        examples = encoding.encode_all(
            self.train[:n], tokenizer, loss_on=config.loss_on, template=self.template,
            split_special_tokens=config.split_special_tokens).examples
        return encoding.show_batch(examples, tokenizer)

    def __repr__(self) -> str:
        watched = ", ".join(self.probes) or "nothing else"
        return (f"Experiment({self.model_name} on {self.train.name}: {len(self.train)} records, "
                f"{len(self.val)} for validation, watching {watched})")

    # ---------------------------------------------------- one run, for the modules that drive it

    def iterate(self, config, watch: Watch, stored: Run | None = None):
        """Train as a generator that yields the Run before the first step, after each step, and at
        the end. stored: the Run to continue."""
        from ftkit.experiment import checkpoints

        try:
            run, prepared = self.begin(config)
        except KeyboardInterrupt:  # somewhere deep in a library that loads the model
            raise KeyboardInterrupt("interrupted before the first step; nothing was "
                                    "trained") from None
        kept = checkpoints.of_run(self, run, watch.save_steps, stored)
        if watch.on_start:
            watch.on_start(run)
        yield run
        yield from self.train_steps(run, prepared, watch, kept)
        yield run

    def begin(self, config) -> tuple[Run, Prepared]:
        """Create a Run and its encoded data, with a random state of its own, seeded by the Config.
        Raises UserError if the run does not fit into memory; in a notebook, `preflight.fitted`
        first tries smaller batches with the same updates."""
        from ftkit.engine import loop
        from ftkit.model.random_state import RandomState

        if type(config) is not self.CONFIG:
            raise UserError(f"config is {type(config).__name__}; expected a {self.CONFIG.__name__}")
        facts, predicted, smaller = preflight.ModelFacts.of(self.model), None, None
        if facts is not None:
            config, predicted, smaller = preflight.fitted(self, facts.resolve(config), facts)
        elif machine.device() == "cuda":  # not here yet; the type in which it is loaded is needed
            config = config.typed(*preflight.number_formats())
        model, tokenizer = self.fresh_model(config)
        if facts is None:  # it was not on this machine before it was loaded
            facts = preflight.ModelFacts.of_loaded(model)
            config, predicted, smaller = preflight.fitted(self, facts.resolve(config), facts)
        own = RandomState(config.seed)
        with own:
            prepared = self.encode(tokenizer, config)
            model = loading.trainable(model, config)
        prepared.random = own
        run = Run(id=store.new_id(), config=config, model_name=self.model_name,
                  data=prepared.about,
                  total_steps=machine.steps_in_tier(loop.steps_in(config, len(prepared.units))),
                  predicted_memory_bytes=predicted, model=model, tokenizer=tokenizer,
                  experiment=self, machine=machine.describe(), versions=machine.versions())
        run.trainable_parameters, run.total_parameters = loading.count(model)
        unread = ("the records are preference pairs, and this run is trained on `chosen` only; "
                  "`ftkit run --objective dpo` or ftkit.inside.preferences.DPO learns from both"
                  if self.train.kind == "preference" and self.CONFIG is Config else None)
        known = loading.notes(self.model) if isinstance(self.model, str) else []
        known += _encoded_records[self][1].notes
        if smaller:
            messages.say(smaller)
        run.notes += [*filter(None, (*known, smaller, rounding.rounding_note(model, config),
                                     unread)), *inputs.notes_on(config, run.total_steps)]
        return run, prepared

    def train_steps(self, run, prepared, watch: Watch, checkpoints=None):
        """Take the steps of a Run from `begin`, as a generator."""
        from ftkit.experiment.checkpoints import keep_source
        from ftkit.experiment.training import Training

        training = Training(self, run, prepared, watch, checkpoints)
        if checkpoints is not None and training.writer.rows_file:
            keep_source(run, self.source())
        return training.steps()

    def load_tokenizer(self):
        return loading.load_tokenizer(self.model) if isinstance(self.model, str) else self.model[1]

    def model_facts(self):
        """Sizes of the model (`preflight.ModelFacts`); loads it only if it is not on disk."""
        from ftkit.memory_use.preflight import ModelFacts

        return ModelFacts.of(self.model) or ModelFacts.of_loaded(
            self.fresh_model(self.CONFIG())[0])

    def fresh_model(self, config):
        """Return (model, tokenizer) with the initial weights; the caller may train the model."""
        if not isinstance(self.model, str):
            if config.method == "qlora":
                raise UserError("method is qlora, which quantizes weights while they are loaded; "
                                "expected a model given by name or folder. Save the tuned model "
                                "first.")
            model, tokenizer = self.model
            model = copy.deepcopy(model)
            return merge.unwrap(model), tokenizer
        if config.method == "qlora":
            if adapter_folder.is_adapter(loading.locate(self.model)):
                raise UserError(f"method is qlora and {self.model} is an adapter; expected a whole "
                                "model. Merge the adapter into its base with `ftkit export` first.")
            return loading.load(self.model, quantize=True, dtype=loading.base_dtype(config),
                                quant_type=config.bnb_4bit_quant_type,
                                load_in_8bit=config.load_in_8bit)
        narrow = config.method != "full" and config.base_dtype not in (None, "fp32")
        # A merge into 16 bits would round an adapter away, so such a model is cast afterwards.
        narrow = narrow and not adapter_folder.is_adapter(loading.locate(self.model))
        return cache.fresh(self.model, loading.base_dtype(config) if narrow else None)

    def encode(self, tokenizer, config) -> Prepared:
        """Encode the training and evaluation records."""
        options = {"max_length": config.max_length, "template": self.template,
                   "split_special_tokens": config.split_special_tokens}
        coded, evaluations = self._encoded(tokenizer, config.loss_on, options)
        examples = coded.examples
        about: DataInfo = {
            "name": self.train.name, "rows": len(self.train), "sha256": self.train.sha256,
            "validation_rows": len(self.val), "truncated": coded.truncated,
            "skipped": coded.skipped, "replayed": 0, "held_still": self.fixed_settings(),
            "made_of": self._made_of()}
        if config.replay:
            general = schema.compact(self.replay_from)
            count = round(len(coded.examples) * config.replay / (1 - config.replay))
            drawn = random.Random(f"replay/{config.seed}").choices(general, k=count)
            replayed = encoding.encode_all(drawn, tokenizer, **options).examples
            examples = encoding.joined(examples, replayed)
            about["replayed"] = count
        units = encoding.Units(examples, config.max_length if config.packing else None)
        return Prepared(units, dict(evaluations), about)

    def _encoded(self, tokenizer, loss_on, options):
        watched = {"val": self.val, **self.probes}
        # A tokenizer loaded by name is a new object in every run, so its files are the key.
        coder = identity.of(self.model) if isinstance(self.model, str) else id(tokenizer)
        key = (loss_on, tuple(options.values()), self.eval_records, id(self.train), coder,
               *((name, id(records)) for name, records in watched.items()))
        kept = _encoded_records.get(self)
        if kept is None or kept[0] != key:
            coded = encoding.encode_all(self.train, tokenizer, loss_on=loss_on, **options)
            evaluations = {f"{name}_loss": encoding.encode_all(
                inputs.some(records, self.eval_records), tokenizer, **options).examples
                for name, records in watched.items()}
            kept = key, coded, {k: e for k, e in evaluations.items() if e}
            _encoded_records[self] = kept
        return kept[1:]

    # ----------------------------------- the objective, which preferences and rewards override

    UNSUPPORTED: tuple[str, ...] = ()  # fields of Config that this objective cannot follow
    NEEDS_TOKEN_LOSSES = False  # whether a step needs the loss of each token, so all logits at once

    def training_rows(self, run, prepared, measure, begin=None):
        """Train `run.model`; yields a row after each step. measure: called at evaluations.
        begin: see `loop.train`."""
        from ftkit.engine import loop

        return loop.train(run.model, prepared.units, run.config, run.total_steps, measure,
                          begin=begin, peak=run.peak_learning_rate)

    def measure(self, run, prepared) -> dict[str, float]:
        """Measure the loss on each evaluation set: name → nats per token."""
        losses, sets = {}, prepared.evaluations
        for place, (name, examples) in enumerate(sets.items(), 1):
            run.activity = f"measuring {name}, {len(examples)} records ({place} of {len(sets)})"
            losses[name] = scoring.loss_on(run.model, examples)
        run.activity = ""
        return losses

    def measure_start(self, run, prepared) -> dict[str, float]:
        """Call `measure` before the first step. The result is cached, since many runs start from
        the same model."""
        import torch

        if type(self).measure is not Experiment.measure:
            return self.measure(run, prepared)
        start = {name: getattr(run.config, name) for name in changing(type(run.config), START)
                 if name != "seed" or run.config.method != "full"}
        shared = run.data["held_still"], run.data["made_of"]
        key = json.dumps([start, shared, torch.get_num_threads()], default=str)
        sets = list(prepared.evaluations.values())
        kept = _measured_starts.get(self)
        if kept is None or [*map(id, kept[0])] != [*map(id, sets)]:
            kept = _measured_starts[self] = sets, {}
        if key not in kept[1]:
            kept[1][key] = self.measure(run, prepared)
        return dict(kept[1][key])

    def plotted_columns(self) -> tuple[str, ...] | None:
        """Columns of the rows to draw in the live figure; None draws the losses."""

    def largest_batch(self, prepared, config) -> list[dict]:
        """Examples in the largest forward pass of training."""
        units = sorted(prepared.units, reverse=True,
                       key=lambda unit: sum(len(example["input_ids"]) for example in unit))
        return [e for i in range(config.batch_size) for e in units[i % len(units)]]

    def evaluation_sets(self, prepared) -> list[list[dict]]:
        """Examples of each evaluation."""
        return list(prepared.evaluations.values())

    def keeps_reference(self, config) -> bool:
        """Whether a frozen copy of the model stays in memory during training."""
        return False
