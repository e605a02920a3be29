"""What a run would take, before it is started: a stored run that answers already, seconds, bytes.

    forecast = Forecast(lab); forecast.load()
    forecast.recall(config); forecast.seconds(config); forecast.estimate_memory(config)
"""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import time

from ftkit.base import machine
from ftkit.base.config import Config
from ftkit.data import encoding
from ftkit.engine import loop
from ftkit.experiment import inputs, store
from ftkit.experiment.run import Run, plain
from ftkit.memory_use import footprint, preflight

SAMPLE = 64  # records whose length is counted
READ_AHEAD = 20_000  # up to this many records are encoded beforehand
# A training step costs 6 N operations a token, with frozen weights 4 N; a forward pass costs 2 N.
FORWARD_PASSES = {"full": 3.0, "other": 2.0}
EFFICIENCY = {"bf16": 0.7, "fp32": 0.4}  # of the speed of one matmul, measured on tiny
SETUP = 0.3  # seconds to copy the model and read the records


@dataclasses.dataclass
class Facts:
    """What the time depends on besides Config.

    model: its sizes. record_tokens: tokens in a record, on average. records: training records.
    watched_tokens: tokens that are read in one evaluation.
    """

    model: preflight.ModelFacts
    record_tokens: float
    records: int
    watched_tokens: int


@dataclasses.dataclass
class Memory:
    """bytes: peak of the tensors of one step, None where it is unknown. refused: why the run
    will not start because it does not fit, else empty."""

    bytes: int | None = None
    refused: str = ""


class Forecast:
    """Of the runs of one Experiment. Until `load` has read the model and a few records, which may
    take seconds, `facts` is None and so are the answers."""

    def __init__(self, lab):
        self.lab, self.ratio = lab, 1.0
        self.facts: Facts | None = None
        self.finished: list[Run] = []  # of the store, oldest first
        self._read: set[str] = set()
        self._memory: dict[tuple, Memory] = {}
        self._fixed = _key(lab.fixed_settings())

    def load(self):
        """Fetch what is needed; slow things happen here."""
        lab, model, tokenizer = self.lab, self.lab.model_facts(), self.lab.load_tokenizer()

        def count_tokens(records):
            coded = encoding.encode_all(records, tokenizer, template=lab.template,
                                        max_length=model.context, on_long="skip").examples
            return sum(len(example["input_ids"]) for example in coded)

        sample = inputs.some(lab.train, SAMPLE)
        self._read_store()
        if len(lab.train) <= READ_AHEAD:
            lab.encode(tokenizer, model.resolve(Config()))
        self.facts = Facts(
            model=model, record_tokens=count_tokens(sample) / max(1, len(sample)),
            records=len(lab.train),
            watched_tokens=sum(count_tokens(inputs.some(records, lab.eval_records))
                               for records in (lab.val, *lab.probes.values())))

    def resolved(self, config: Config) -> Config | None:
        """The Config as the run would store it; UserError where it asks for the impossible."""
        return self.facts and self.facts.model.resolve(config)

    # ------------------------------------------------------------------ runs that are there

    def recall(self, config: Config) -> Run | None:
        """The newest finished run of the same model, data, probes and Config, or None.

        Stored runs come back without their model. A run that was stopped by hand is no answer.
        """
        resolved = self.resolved(config)
        if resolved is None:
            return None
        self._read_store()
        return next((run for run in reversed(self.finished)
                     if run.config == resolved and _key(run.data.get("held_still")) == self._fixed
                     and run.versions.get("ftkit") == machine.versions()["ftkit"]), None)

    def _read_store(self):
        for name in store.ids():
            if name in self._read or not store.has_ended(name):
                continue
            self._read.add(name)
            run = store.read(name)
            if run is not None and run.is_finished:
                self.finished.append(run)

    # ------------------------------------------------------------------------------ seconds

    def steps(self, config: Config) -> int | None:
        """Optimizer steps of a run."""
        if self.facts is None:
            return None
        units = self.facts.records / (1 - config.replay)
        if config.packing:
            length = config.max_length or min(self.facts.model.context, 512)
            units = max(1, units * self.facts.record_tokens / length)
        return loop.steps_in(config, max(1, round(units)))

    def seconds(self, config: Config) -> float | None:
        """Seconds from start to end: steps at the speed of earlier runs like it on this machine
        (else estimated from one matmul), evaluations as forward passes, and some for setup."""
        steps, config = self.steps(config), self.resolved(config) or config
        if self.facts is None or steps is None:
            return None
        length = config.max_length if config.packing else min(
            self.facts.record_tokens, config.max_length)
        per_step = config.batch_size * config.gradient_accumulation_steps * length
        every = config.eval_steps or max(1, steps // 10)
        evaluations = 1 + steps // every + (steps % every > 0)
        speed = self.tokens_per_second(config)
        forward = FORWARD_PASSES["full" if config.method == "full" else "other"] * speed
        return self.ratio * (SETUP + steps * per_step / speed
                             + evaluations * self.facts.watched_tokens / forward)

    def tokens_per_second(self, config: Config) -> float:
        """In training: the median of the last five runs like it here, else a rough guess."""
        here = machine.describe()
        same = ("method", "precision", "gradient_checkpointing")
        speeds = [run.tokens_per_second for run in self.finished
                  if run.model_name == self.lab.model_name and run.tokens_per_second > 0
                  and all(getattr(run.config, name) == getattr(config, name) for name in same)
                  and all(run.machine.get(key) == here[key] for key in ("name", "threads"))]
        return statistics.median(speeds[-5:]) if speeds else (
            EFFICIENCY.get(config.precision, 0.3) * matmul_flops()
            / (6 * self.facts.model.parameters))

    def learn(self, config: Config, took: float):
        """Correct later forecasts by the seconds that a run took from start to end."""
        expected = self.seconds(config)
        if expected and took > 0:
            self.ratio *= min(3.0, max(1 / 3, took / expected)) ** 0.5

    # -------------------------------------------------------------------------------- bytes

    def memory(self, config: Config) -> Memory | None:
        """What `estimate_memory` has found; None before."""
        return self._memory.get(_memory_key(config))

    def estimate_memory(self, config: Config):
        """Trace one step of `config` as `ft.memory` does, on records of the usual length, and ask
        `preflight`. May take a second, so not in a callback."""
        key, resolved = _memory_key(config), self.resolved(config)
        if key in self._memory or resolved is None or self.facts is None:
            return
        memory = Memory()
        try:
            preflight.check(self.lab, resolved, self.facts.model)
        except preflight.TooBig as too_big:
            memory.refused = str(too_big)
        except ValueError:  # the run itself will say it
            pass
        if isinstance(self.lab.model, str):
            length = resolved.max_length if resolved.packing else min(
                resolved.max_length, max(2, round(self.facts.record_tokens)))
            try:
                memory.bytes = footprint.memory(
                    resolved, self.lab.model, lengths=[length] * resolved.batch_size).peak
            except ValueError:  # a shape that is not known, a method that cannot be traced
                pass
        self._memory[key] = memory


def _memory_key(config: Config) -> tuple:
    return tuple((name, value) for name, value in config.to_dict().items()
                 if name not in footprint.NO_MEMORY)


@functools.cache
def matmul_flops() -> float:
    """Floating-point operations a second in one matmul, measured once in 20 ms."""
    import torch

    a = torch.rand(512, 512)
    a @ a
    began, n = time.perf_counter(), 0
    while time.perf_counter() - began < 0.02:
        a @ a
        n += 1
    return 2 * 512**3 * n / (time.perf_counter() - began)


def _key(fixed: dict | None) -> str:
    return json.dumps(plain(fixed), sort_keys=True, default=str)
