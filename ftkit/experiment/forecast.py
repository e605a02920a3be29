"""Forecast the seconds and bytes of a run, or find a stored run with its result.

    forecast = Forecast(lab); forecast.load()
    forecast.recall(config); forecast.seconds(config); forecast.estimate_memory(config)
"""

import contextlib
import dataclasses
import functools
import statistics
import time

from ftkit.base import machine
from ftkit.base.config import Config
from ftkit.base.config_fields import MEMORY, TOKENS, changing
from ftkit.data import encoding
from ftkit.engine import loop
from ftkit.experiment import inputs, store
from ftkit.experiment.run import Run
from ftkit.memory_use import footprint, preflight

SAMPLE = 64  # records whose length is counted
READ_AHEAD = 20_000  # up to this many records are encoded beforehand
EFFICIENCY = {"bf16": 0.7, "fp32": 0.4}  # of the speed of one matmul, measured on tiny
SETUP = 0.3  # seconds to copy the model and read the records


@dataclasses.dataclass
class Facts:
    """What a run's time depends on besides the Config. record_tokens: mean tokens per record.
    records: number of training records. evaluation_tokens: sum over all evaluation sets."""

    model: preflight.ModelFacts
    record_tokens: float
    records: int
    evaluation_tokens: int

    def unit_tokens(self, config: Config) -> float:
        """Tokens in one unit of a batch: a packed row, or a record."""
        limit = config.max_length or min(self.model.context, 512)
        return limit if config.packing else min(self.record_tokens, limit)


@dataclasses.dataclass
class Memory:
    """bytes: peak memory of the tensors of a step, None if unknown. refused: why the run does not
    fit and will not start, else ""."""

    bytes: int | None = None
    refused: str = ""


class Forecast:
    """Forecasts for the runs of one Experiment. All are None until `load`, which may take seconds,
    has set `facts`."""

    def __init__(self, lab):
        self.lab, self.ratio = lab, 1.0
        self.facts: Facts | None = None
        self.finished: list[Run] = []  # of the store, oldest first
        self._read: set[str] = set()
        self._memory: dict[tuple, Memory] = {}
        self._identity = lab.identity()

    def load(self):
        """Read the model's sizes, a few records, and the store. This is slow."""
        lab, model, tokenizer = self.lab, self.lab.model_facts(), self.lab.load_tokenizer()

        def count_tokens(records):
            coded = encoding.encode_all(records, tokenizer, template=lab.template,
                                        max_length=model.context, on_long="skip").examples
            return sum(len(example["input_ids"]) for example in coded)

        sample = inputs.some(lab.train, SAMPLE)
        self._read_store()
        if len(lab.train) <= READ_AHEAD:
            lab.encode(tokenizer, model.resolve(Config()))
        self.facts = Facts(model, count_tokens(sample) / max(1, len(sample)), len(lab.train),
                           sum(count_tokens(inputs.some(records, lab.eval_records))
                               for records in (lab.val, *lab.probes.values())))

    def resolved(self, config: Config) -> Config | None:
        """Fill in the Config's defaults as a run would. Raises UserError if it is impossible."""
        return self.facts and self.facts.model.resolve(config)

    def recall(self, config: Config) -> Run | None:
        """Find the newest finished stored run of the same model, data, probes and Config."""
        resolved = self.resolved(config)
        if resolved is None:
            return None
        self._read_store()
        # To hash the weights of a model in memory takes long.
        now = self.lab.identity() if isinstance(self.lab.model, str) else self._identity
        return next((run for run in reversed(self.finished)
                     if run.config == resolved and not run.differing(now)), None)

    def _read_store(self):
        for name in store.ids():
            if name not in self._read and store.has_ended(name):
                self._read.add(name)
                run = store.read(name)
                if run is not None and run.is_finished:
                    run.note_versions()
                    self.finished.append(run)

    def steps(self, config: Config) -> int | None:
        """Number of optimizer steps of a run."""
        if self.facts is None:
            return None
        units = self.facts.records / (1 - config.replay)
        if config.packing:
            units *= self.facts.record_tokens / self.facts.unit_tokens(config)
        return loop.steps_in(config, max(1, round(units)))

    def seconds(self, config: Config) -> float | None:
        """Seconds from start to end: steps at the speed of similar earlier runs on this machine
        (or estimated from one matmul), evaluations as forward passes, and the setup."""
        steps, facts = self.steps(config), self.facts
        if facts is None or steps is None:
            return None
        config = facts.model.resolve(config)
        per_step = (config.batch_size * config.gradient_accumulation_steps
                    * facts.unit_tokens(config))
        every = config.eval_steps or max(1, steps // 10)
        evaluations = 1 + steps // every + (steps % every > 0)
        speed = self.tokens_per_second(config, facts)
        # A step costs 6 N operations a token, with frozen weights 4 N; a forward pass costs 2 N.
        forward_speed = (3 if config.method == "full" else 2) * speed
        return self.ratio * (SETUP + steps * per_step / speed
                             + evaluations * facts.evaluation_tokens / forward_speed)

    def tokens_per_second(self, config: Config, facts: Facts) -> float:
        """Training speed: median of the last five similar runs on this machine, else a guess."""
        here = machine.describe()
        same = ("method", "precision", "gradient_checkpointing")
        speeds = [run.tokens_per_second for run in self.finished
                  if run.model_name == self.lab.model_name and run.tokens_per_second > 0
                  and all(getattr(run.config, name) == getattr(config, name) for name in same)
                  and all(run.machine.get(key) == here[key] for key in ("name", "threads"))]
        if speeds:
            return statistics.median(speeds[-5:])
        efficiency = EFFICIENCY.get(config.precision or "", 0.3)
        return efficiency * matmul_flops() / (6 * facts.model.parameters)

    def learn(self, config: Config, took: float):
        """Correct later forecasts by the time that a whole run took (seconds)."""
        expected = self.seconds(config)
        if expected and took > 0:
            self.ratio *= min(3.0, max(1 / 3, took / expected)) ** 0.5

    def memory(self, config: Config) -> Memory | None:
        """The result of `estimate_memory`; None before it has run."""
        return self._memory.get(_memory_key(config))

    def estimate_memory(self, config: Config):
        """Trace one step of `config` like `ft.memory`, on records of mean length, and run
        `preflight`. May take a second, so do not call it in a callback."""
        key, resolved, facts = _memory_key(config), self.resolved(config), self.facts
        if key in self._memory or resolved is None or facts is None:
            return
        memory = Memory()
        try:
            preflight.check(self.lab, resolved, facts.model)
        except preflight.TooBig as too_big:
            memory.refused = str(too_big)
        except ValueError:  # the run itself will raise it
            pass
        if isinstance(self.lab.model, str):
            lengths = [max(2, round(facts.unit_tokens(resolved)))] * resolved.batch_size
            with contextlib.suppress(ValueError):  # an unknown shape, a method without a trace
                memory.bytes = footprint.memory(resolved, self.lab.model, lengths=lengths).peak
        self._memory[key] = memory


def _memory_key(config: Config) -> tuple:
    return tuple((name, value) for name, value in config.to_dict().items()
                 if name in changing(type(config), MEMORY, TOKENS))


@functools.cache
def matmul_flops() -> float:
    """Floating-point operations a second in one matmul, measured once in 20 ms."""
    import torch

    matrix = torch.ones(512, 512)
    torch.mm(matrix, matrix)
    began, n = time.perf_counter(), 0
    while time.perf_counter() - began < 0.02:
        torch.mm(matrix, matrix)
        n += 1
    return 2 * 512**3 * n / (time.perf_counter() - began)
