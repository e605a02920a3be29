"""What a run would take, before it is started: the stored run that answers already, seconds, bytes.

    known = Forecast(lab); known.load(); known.recall(config); known.seconds(config)
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time

from ftkit.base import machine
from ftkit.base.config import Config
from ftkit.data import encoding
from ftkit.engine import loop
from ftkit.experiment import inputs, run
from ftkit.memory_use import preflight
from ftkit.model import loading

SAMPLE, ALL = 64, 20_000  # records whose length is counted; up to ALL they are read beforehand
FORWARD = {"full": 3.0, "other": 2.0}  # a training step in forward passes: 6 N and 4 N against 2 N
USED = {"bf16": 0.7, "fp32": 0.4}  # of a bare matrix product's speed, measured on tiny
WEIGHTLESS = ("learning_rate", "epochs", "max_steps", "warmup_steps", "lr_scheduler_type", "seed",
              "weight_decay", "replay", "early_stopping_patience", "eval_steps", "lora_alpha",
              "metric_for_best_model")  # fields that change no byte
SETUP = 0.3  # seconds to copy the model and read the records


@dataclasses.dataclass
class Facts:
    """What the time depends on besides Config: parameters, tokens in a record, records, tokens
    that are read in one evaluation; and what `Config.resolved` asks for."""

    tier: str
    context: int
    parameters: int
    record_tokens: float
    records: int
    watched_tokens: int


class Forecast:
    """Of the runs of one Experiment. `load` reads the model and a few records, which may take
    seconds; until then everything is unknown (None)."""

    def __init__(self, lab):
        self.lab, self.facts, self.ratio, self._bytes, self._refused = lab, None, 1.0, {}, {}
        self._fixed = _key(lab.held_still())
        self._seen, self._whole = set(), []

    def load(self):
        """Fetch what is needed; slow things happen here."""
        model, tokenizer = self.lab._fresh(Config())
        options = {"template": self.lab.template, "max_length": loading.context(model)}

        def count(records):
            coded = encoding.encode_all(records, tokenizer, on_long="skip", **options).examples
            return sum(len(example["input_ids"]) for example in coded)

        sample = inputs.some(self.lab.train, SAMPLE)
        watched = [self.lab.val, *self.lab.probes.values()]
        self._read_store()
        if len(self.lab.train) <= ALL:
            first = Config().resolved(loading.tier(model), "fp32", options["max_length"])
            self.lab._encode(tokenizer, first)
        self.facts = Facts(
            tier=loading.tier(model), context=loading.context(model),
            parameters=loading.count(model)[1],
            record_tokens=count(sample) / max(1, len(sample)), records=len(self.lab.train),
            watched_tokens=sum(count(inputs.some(records, self.lab.eval_records))
                               for records in watched))

    def resolved(self, config: Config) -> Config | None:
        """The Config as the run would store it; ValueError where it asks for the impossible."""
        if self.facts is None:
            return None
        return config.resolved(self.facts.tier, "bf16" if machine.bf16_is_fast() else "fp32",
                               self.facts.context)

    def recall(self, config: Config):
        """The newest finished run of the same model, data, probes and Config, or None.

        Stored runs come back without their model. A run that was stopped by hand is no answer.
        """
        asked = self.resolved(config)
        if asked is None:
            return None
        self._read_store()
        return next((found for found in reversed(self._whole)
                     if found.config == asked and _key(found.data.get("held_still")) == self._fixed
                     and found.versions.get("ftkit") == machine.versions()["ftkit"]), None)

    def _read_store(self):
        from ftkit.experiment.sweep import _whole

        folder = machine.home() / "runs"
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for name in sorted(names - self._seen):
            if not (folder / name / "result.json").exists():
                continue  # it is still going on
            self._seen.add(name)
            found = run._read(folder / name)
            if found is not None and _whole(found):
                self._whole.append(found)

    def steps(self, config: Config) -> int | None:
        """Optimizer steps of a run."""
        if self.facts is None:
            return None
        units = self.facts.records / (1 - config.replay)
        if config.packing:
            length = config.max_length or min(self.facts.context, 512)
            units = max(1, units * self.facts.record_tokens / length)
        return loop.steps_in(config, max(1, round(units)))

    def seconds(self, config: Config) -> float | None:
        """Seconds from start to end: steps at the speed of earlier runs like it on this machine
        (else a guess from one matrix product), evaluations as forward passes, a little for setup.
        """
        steps, asked = self.steps(config), self.resolved(config)
        if steps is None:
            return None
        length = min(self.facts.record_tokens, asked.max_length)
        if config.packing:
            length = asked.max_length
        per_step = config.batch_size * config.gradient_accumulation_steps * length
        every = config.eval_steps or max(1, steps // 10)
        evaluations = 1 + steps // every + (steps % every > 0)
        rate = self.tokens_per_second(asked)
        forward = FORWARD["full" if config.method == "full" else "other"] * rate
        return self.ratio * (SETUP + steps * per_step / rate
                             + evaluations * self.facts.watched_tokens / forward)

    def tokens_per_second(self, config: Config) -> float:
        """In training: the median of the last five runs like it here, else a rough guess."""
        here = machine.describe()
        like = ("method", "precision", "gradient_checkpointing")
        speeds = [found.tokens_per_second for found in self._whole
                  if found.model_name == self.lab.model_name and found.tokens_per_second > 0
                  and all(getattr(found.config, n) == getattr(config, n) for n in like)
                  and all(found.machine.get(k) == here[k] for k in ("name", "threads"))]
        return statistics.median(speeds[-5:]) if speeds else (
            USED.get(config.precision, 0.3) * matrix_flops() / (6 * self.facts.parameters))

    def learn(self, config: Config, took: float):
        """Correct later forecasts by how long a run took from start to end."""
        said = self.seconds(config)
        if said and took > 0:
            self.ratio *= min(3.0, max(1 / 3, took / said)) ** 0.5

    def bytes(self, config: Config) -> int | None:
        """Peak bytes of the tensors of one step, if `weigh` has found them out."""
        return self._bytes.get(self._weight(config))

    def weigh(self, config: Config):
        """Trace one step of `config` as `ft.memory` does, on records of the usual length. May
        take a second, so not in a callback; what it cannot tell stays None."""
        key, asked = self._weight(config), self.resolved(config)
        if key in self._bytes or asked is None:
            return
        size = None
        try:
            preflight.check(self.lab, config)
        except preflight.TooBig as big:
            self._refused[key] = str(big)
        except ValueError:  # the run itself will say it
            pass
        if isinstance(self.lab.model, str):
            from ftkit.memory_use import footprint

            length = asked.max_length if asked.packing else min(
                asked.max_length, max(2, round(self.facts.record_tokens)))
            try:
                size = footprint.memory(
                    asked, self.lab.model, lengths=[length] * asked.batch_size).peak
            except ValueError:  # a shape that it does not know, a method that it cannot trace
                pass
        self._bytes[key] = size

    def refused(self, config: Config) -> str:
        """Why the run will not start, if `weigh` has found that it does not fit; else empty."""
        return self._refused.get(self._weight(config), "")

    def weighed(self, config: Config) -> bool:
        return self._weight(config) in self._bytes

    def _weight(self, config) -> tuple:
        return tuple((n, v) for n, v in config.to_dict().items() if n not in WEIGHTLESS)


_flops = []


def matrix_flops() -> float:
    """Floating-point operations a second in one matrix product, measured once in 20 ms."""
    import torch

    if not _flops:
        a = torch.rand(512, 512)
        a @ a
        began, n = time.perf_counter(), 0
        while time.perf_counter() - began < 0.02:
            a @ a
            n += 1
        _flops.append(2 * 512**3 * n / (time.perf_counter() - began))
    return _flops[0]


def _key(held: dict | None) -> str:
    return json.dumps(run.plain(held), sort_keys=True, default=str)
