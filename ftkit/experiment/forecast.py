"""Forecast the seconds and bytes of a run, or find a stored run with its result.

    forecast = Forecast(lab); forecast.load()
    forecast.recall(config); forecast.seconds(config); forecast.estimate_memory(config)
"""

import contextlib
import dataclasses
import statistics

from ftkit.base import machine
from ftkit.base.config import Config
from ftkit.base.config_fields import MEMORY, TOKENS, changing
from ftkit.data import encoding, mask_view
from ftkit.engine import loop
from ftkit.experiment import inputs, step_cost, store
from ftkit.experiment.run import Run
from ftkit.memory_use import footprint, preflight

SAMPLE = 64  # records whose length is counted
READ_AHEAD = 20_000  # up to this many records are encoded beforehand
FIRST = 5  # steps of a run by which its forecast is corrected
SETUP = 0.3  # seconds to copy the model and read the records


@dataclasses.dataclass
class Facts:
    """What a run's time depends on besides the Config. record_tokens: mean tokens per record.
    records: number of training records. scored: fraction of the tokens with a loss.
    evaluation_tokens: sum over all evaluation sets."""

    model: preflight.ModelFacts
    record_tokens: float
    records: int
    scored: float
    evaluation_tokens: int

    def unit_tokens(self, config: Config) -> float:
        """Tokens in one unit of a batch: a packed row, or a record."""
        limit = config.max_length or min(self.model.context, 512)
        return limit if config.packing else min(self.record_tokens, limit)

    def batch(self, config: Config, tokens: float) -> step_cost.Batch:
        """A batch of `tokens` tokens in records of mean length."""
        return step_cost.Batch(tokens, self.scored * tokens, tokens * min(
            self.record_tokens, config.max_length or self.model.context))


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
        self.preview: mask_view.BatchView | None = None  # two training records
        self.finished: list[Run] = []  # of the store, oldest first
        self._read: set[str] = set()
        self._observed: set[str] = set()  # runs
        self._memory: dict[tuple, Memory] = {}
        self._identity = lab.identity()

    def load(self):
        """Read the model's sizes, a few records, and the store. This is slow."""
        lab, model, tokenizer = self.lab, self.lab.model_facts(), self.lab.load_tokenizer()

        def labels(records) -> list[int]:
            coded = encoding.encode_all(records, tokenizer, template=lab.template,
                                        max_length=model.context, on_long="skip").examples
            return [label for example in coded for label in example["labels"]]

        sample = inputs.some(lab.train, SAMPLE)
        known = labels(sample)
        self._read_store()
        self.preview = lab.show_batch()
        if len(lab.train) <= READ_AHEAD:
            lab.encode(tokenizer, model.resolve(Config()))
        self.facts = Facts(model, len(known) / max(1, len(sample)), len(lab.train),
                           sum(label >= 0 for label in known) / max(1, len(known)),
                           sum(len(labels(inputs.some(records, lab.eval_records)))
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
        """Seconds from start to end: steps, evaluations as forward passes, and the setup."""
        steps, facts = self.steps(config), self.facts
        if facts is None or steps is None:
            return None
        config = facts.model.resolve(config)
        every = config.eval_steps or max(1, steps // 10)
        evaluations = 1 + steps // every + (steps % every > 0)
        evaluated = step_cost.seconds(facts.model, config, facts.batch(
            config, facts.evaluation_tokens), training=False) if facts.evaluation_tokens else 0
        return SETUP + self.ratio * (steps * self.step_seconds(config, facts)
                                     + evaluations * evaluated)

    def step_seconds(self, config: Config, facts: Facts) -> float:
        """Seconds of a step: at the median speed of the last five similar runs on this machine,
        else by `step_cost`."""
        here = machine.describe()
        same = ("method", "precision", "gradient_checkpointing", "use_dora")
        speeds = [run.tokens_per_second for run in self.finished
                  if run.model_name == self.lab.model_name and run.tokens_per_second > 0
                  and all(getattr(run.config, name) == getattr(config, name) for name in same)
                  and all(run.machine.get(key) == here[key] for key in ("name", "threads"))]
        tokens = config.batch_size * facts.unit_tokens(config)
        each = tokens / statistics.median(speeds[-5:]) if speeds else step_cost.seconds(
            facts.model, config, facts.batch(config, tokens))
        return config.gradient_accumulation_steps * each

    def observe(self, run: Run):
        """Correct the forecasts by the first steps of a run, as soon as it has taken them."""
        if len(run.rows) < FIRST or run.id in self._observed or self.facts is None:
            return
        self._observed.add(run.id)
        took = (run.rows[FIRST - 1]["seconds"] - run.rows[0]["seconds"]) / (FIRST - 1)
        if took > 0:
            self.ratio = took / self.step_seconds(run.config, self.facts)

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
