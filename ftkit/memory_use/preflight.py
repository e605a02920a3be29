"""Before a run: does it fit into the memory that is free? If not, what is the cheapest change?

    facts = ModelFacts.of("tiny"); config = facts.resolve(config)
    check(lab, config, facts)     predicted bytes, or TooBig: a sentence, and .change, which fits
    fitted(lab, config, facts)    in a notebook: a config that fits, with the same updates

An upper bound in closed form is computed first. Only if it exceeds the free memory is the run
simulated, in training and evaluation, on the longest records of its data. A run is rejected before
any model is loaded. The environment variable FTKIT_PREFLIGHT=0 turns this off.
"""

from __future__ import annotations

import gc
import heapq
import math
import os

from ftkit.base import free_memory, machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import gb
from ftkit.memory_use import cheaper_configs, formula, model_shapes
from ftkit.model import cache
from ftkit.model import loading as models

# Memory in addition to the tensors: libraries still to be loaded, threads, the scratch space of
# kernels, and fragmentation. The resident size of our steps grew by up to 1.5 times their tensors.
SPARE, FRAGMENTATION = 256 * 2**20, 1.3
SIMULATED_RECORDS = 512  # larger batches are extrapolated from batches of one and two times this
PROPOSED = 0.85  # fraction of the free memory that a proposed change may need, as it runs later
EVAL_TOKENS = 4096  # in a batch of `packed_loss.nll`
TEMPLATE_TOKENS = 64  # more than a template adds to a record or to a turn of a chat


class TooBig(UserError):
    """The run does not fit in memory. needed, free: bytes. change: fields of Config with which the
    run fits, or {}."""

    def __init__(self, needed: int, free: int, change: dict, text: str):
        super().__init__(text)
        self.needed, self.free, self.change = needed, free, change

    def __reduce__(self):  # it may come from another process
        return TooBig, (self.needed, self.free, self.change, str(self))


def check(experiment, config, model: ModelFacts) -> int | None:
    """Predict the bytes of a run; None if they cannot be predicted.

    config: as returned by `ModelFacts.resolve`. If memory is plentiful the result is an upper
    bound, else it is simulated. Raises TooBig if the run does not fit.
    """
    if os.environ.get("FTKIT_PREFLIGHT") == "0":
        return None
    device = machine.device()

    def bound(limits) -> tuple[float, bool]:
        """Return an upper bound on the run's bytes, and whether it fits in the free memory."""
        count = model.resident_bytes(config, experiment) + step_upper_bound(model, config, *limits)
        return count, _with_overhead(count, device) <= free_memory.available()

    upper_bound, fits = bound(experiment.token_limits(config))
    if fits:
        return round(upper_bound)
    gc.collect()
    search = FitSearch(experiment, model, device, free_memory.available())
    # The first bound assumes a token per byte. Counting tokens takes at most a second, and the run
    # needs the counts anyway; the simulation of a larger model takes many seconds.
    counted, fits = bound(search.counted_limits(config))
    if fits:
        return round(counted)
    return search.check(config, upper_bound)


def fitted(experiment, config, model: ModelFacts) -> tuple:
    """Return (config, predicted bytes, note or None); in a notebook the config may be changed.

    Later cells of a notebook need the result. If a run does not fit, it gets the smallest change
    that keeps its updates the same, and the note describes the change. If there is no such change,
    TooBig says which cells to run again.
    """
    try:
        return config, check(experiment, config, model), None
    except TooBig as error:
        if not machine.in_notebook():
            raise
        if not (error.change and cheaper_configs.learns_the_same(error.change)):
            raise TooBig(error.needed, error.free, error.change, f"{error}. The cells below need "
                                                                 "the result of this one: change "
                                                                 "this cell, run it again, then "
                                                                 "run those again.") from None
        smaller = config.but(**error.change)
        fields = " ".join(f"{name}={value}" for name, value in error.change.items())
        note = (f"{gb(error.free)} are free, too little for this run as configured, "
                f"so it uses {fields}, which learns the same")
        return smaller, check(experiment, smaller, model), note


def step_upper_bound(model, config, tokens: int, length: int) -> float:
    """Upper bound on the bytes of a step, in closed form.

    The sum of exact weights, gradients and optimizer state, of all logits, and of activations for
    `tokens` tokens in sequences of up to `length` (twice the usual estimate, no checkpointing).
    """
    trained = model.parameters if config.method == "full" else (
        model.linear_sides * config.r * (1 + config.use_dora) + model.parameters // 100)
    everything = model.parameters + (trained if config.method != "full" else 0)
    step = formula.states(everything, trained, config, factored=trained)
    plain = config.but(precision="fp32", gradient_checkpointing=False)
    virtual = config.num_virtual_tokens * ("tuning" in config.method)
    length += virtual
    casts = formula.HALF * everything + 3 * model.largest * formula.FP32

    def activations(tokens, layers):
        sizes = model.sizes
        scores = 8 * sizes.num_attention_heads * length * tokens * formula.FP32
        return (2 * formula.activations(sizes, plain, tokens, length)
                + sizes.num_hidden_layers * scores) * layers / sizes.num_hidden_layers + (
            (12 if config.kl_coef else 6) * tokens * sizes.vocab_size * formula.FP32)

    adapters = 1 + config.use_dora + (config.method != "full")
    step = sum(step.values()) + casts
    training = adapters * activations(tokens + virtual * config.batch_size,
                                      model.sizes.num_hidden_layers)
    evaluation = adapters * activations(EVAL_TOKENS + length * (1 + virtual), 2)
    kept = bool(config.early_stopping_patience) + bool(config.l2_sp) + bool(config.kl_coef)
    loading = 2 * formula.FP32 * model.parameters
    return max(loading, step + max(training, evaluation) + kept * formula.FP32 * trained)


def longest(records, config) -> int:
    """Upper bound on the tokens of the longest `batch_size` records, by their characters."""
    if config.packing or config.replay or len(records) < config.batch_size:
        return config.batch_size * config.max_length
    sizes = heapq.nlargest(config.batch_size, map(characters, records))
    return sum(min(config.max_length, size) for size in sizes)


def characters(value) -> int:
    """Upper bound on the tokens of a record: its bytes, as a token has at least one."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return sum(map(characters, value.values())) + TEMPLATE_TOKENS
    return sum(map(characters, value)) if isinstance(value, list | tuple) else 0


# ------------------------------------------------------------------ inside


class ModelFacts:
    """Facts about a model, read without loading it from config.json and the headers of its weights:
    sizes, parameters, the largest tensor, and how many rows and columns its matrices have."""

    def __init__(self, content: dict, tensors: list, kept_copy: float, loaded_bytes: float = 0.0):
        self.content = content
        self.parameters = sum(math.prod(shape) for shape in tensors)
        self.largest = max((math.prod(shape) for shape in tensors), default=0)
        self.linear_sides = sum(sum(shape) for shape in tensors if len(shape) == 2)
        self.kept_copy, self.loaded_bytes = kept_copy, loaded_bytes
        self.sizes = model_shapes.sizes(content)
        self.context = self.sizes.max_position_embeddings or 2048

    @property
    def size_class(self) -> str:
        """The key for default learning rates: "tiny" for a few million parameters, else "other".
        It depends only on the size, so a tuned copy has its base's defaults."""
        return "tiny" if self.parameters < machine.SMALL else "other"

    def resolve(self, config):
        """Fill in the defaults of `config` for this model, as a run stores it.

        Raises UserError if the model does not support a setting.
        """
        precision, device = number_formats(self.parameters)
        return config.resolved(self.size_class, precision, self.context, device)

    @classmethod
    def of_loaded(cls, model) -> ModelFacts:
        """Create the facts of an Experiment's model from a copy that is already in memory."""
        shapes = [tuple(getattr(p, "quant_state", p).shape) for p in model.parameters()]
        return cls(model.config.to_dict(), shapes, 0, sum(p.nbytes for p in model.parameters()))

    @classmethod
    def of(cls, name) -> ModelFacts | None:
        """Create the facts of an Experiment's model: a name, a folder or a pair (model, tokenizer).
        Returns None if the model is not on this machine yet."""
        if not isinstance(name, str):
            model = name[0]
            return cls(model.config.to_dict(), [p.shape for p in model.parameters()], 0)
        where = models.check(name)
        tensors, content = models.stored_shapes(where), models.read_config(where)
        if tensors is None or not content:
            return None
        size = formula.FP32 * sum(math.prod(shape) for shape in tensors)
        # A model that is loaded by name stays in memory in addition to the copy that is trained.
        return cls(content, tensors, size if cache.will_keep(name, size) else 0)

    def resident_bytes(self, config, experiment) -> float:
        """Bytes needed in addition to the step; negative if the model is already loaded."""
        reference = formula.FP32 * self.parameters if experiment.keeps_reference(config) else 0
        copy = 0 if config.method == "qlora" else self.kept_copy
        return copy - self.loaded_bytes + reference


def _with_overhead(count: float, device: str) -> float:
    """Bytes that must be free for tensors of `count` bytes."""
    return model_shapes.needed(count) if device == "cuda" else FRAGMENTATION * count + SPARE


class FitSearch:
    """Simulates runs of one Experiment, and searches for the smallest change that fits."""

    def __init__(self, experiment, model: ModelFacts, device: str, free: int):
        self.experiment, self.model, self.device, self.free = experiment, model, device, free
        self.tokenizer = experiment.load_tokenizer()
        self.required: dict = {}  # Config → bytes
        self.evaluations: dict = {}  # Config without what training alone depends on → bytes

    def check(self, config, upper_bound: float) -> int | None:
        """Simulate the bytes of a run; None if it cannot be traced. Raises TooBig if too large."""
        try:
            required = self.required_bytes(config)
            if self.bytes_to_have_free(config) <= self.free:
                return round(required)
            change = self.smallest_change(config)
        except MemoryError:  # not even enough for the simulation
            required, change = upper_bound, {}
            self.required[config] = upper_bound
        except ValueError:
            raise
        except Exception:  # noqa: BLE001  a model that cannot be traced is not rejected
            return None
        raise TooBig(round(required), self.free, change, self.explain(config, change))

    def counted_limits(self, config) -> tuple[int, int]:
        """Count the tokens of the largest forward pass in training and of the longest sequence."""
        data = self.experiment.encode(self.tokenizer, config)
        batch = [len(e["input_ids"]) for e in self.experiment.largest_batch(data, config)]
        others = [len(e["input_ids"]) for examples in self.experiment.evaluation_sets(data)
                  for e in examples]
        return sum(batch), max(batch + others)

    def bytes_to_have_free(self, config) -> float:
        """Bytes that must be free for a run: its tensors and the overhead."""
        return _with_overhead(self.required_bytes(config), self.device)

    def required_bytes(self, config) -> float:
        """Bytes of the largest possible step, of an evaluation, or of loading (the maximum)."""
        if config not in self.required:
            if config.batch_size > 2 * SIMULATED_RECORDS:  # memory is linear in so large a batch
                one, two = (self._simulated(config.but(batch_size=n * SIMULATED_RECORDS))
                            for n in (1, 2))
                step = one + (two - one) * (config.batch_size / SIMULATED_RECORDS - 1)
            else:
                step = self._simulated(config)
            self.required[config] = step + self.model.resident_bytes(config, self.experiment)
        return self.required[config]

    def _simulated(self, config) -> float:
        from ftkit.engine import packed_batch
        from ftkit.memory_use import by_depth

        experiment, shape = self.experiment, model_shapes.shape(self.model.content)
        data = experiment.encode(self.tokenizer, config)
        batch = packed_batch.pack(experiment.largest_batch(data, config), share=False)
        batches = [batch] * min(2, config.gradient_accumulation_steps)
        step = by_depth.trace(shape, config, batches, self.device,
                              whole=experiment.NEEDS_TOKEN_LOSSES)
        evaluation = self._evaluation_bytes(config, shape, data)
        states = step.before - step.at_peak["weights"]
        best = formula.FP32 * step.trainable if config.early_stopping_patience else 0
        width = formula.HALF if config.base_dtype in ("bf16", "fp16") else formula.FP32
        loading = step.at_peak["weights"] if config.method == "qlora" else (
            width * self.model.parameters * (1.5 if "pure" in config.precision else 1))
        return max(loading, step.peak + best, evaluation + max(0, states) + best)

    def _evaluation_bytes(self, config, shape, data) -> int:
        """Peak bytes of the evaluations, whose batch size is fixed."""
        from ftkit.memory_use import simulate

        key = config.but(batch_size=1, gradient_accumulation_steps=1, gradient_checkpointing=False)
        if key not in self.evaluations:
            batches = [_first_batch(sorted(examples, key=lambda e: -len(e["input_ids"])))
                       for examples in self.experiment.evaluation_sets(data)]
            self.evaluations[key] = max((simulate.evaluation(shape, config, batch, self.device)
                                         for batch in batches), default=0)
        return self.evaluations[key]

    def smallest_change(self, config) -> dict:
        """Return the first change that fits, or {}. Changes that keep the updates the same are
        tried first, those with the largest effect last."""
        accumulates = "gradient_accumulation_steps" not in self.experiment.UNSUPPORTED
        by_name = isinstance(self.experiment.model, str)  # 4-bit weights are made while loading
        found = (cheaper_configs.smallest(family, lambda change: self._fits(config, change))
                 for family in cheaper_configs.families(config, self.device, accumulates, by_name))
        return next(filter(None, found), {})

    def _fits(self, config, change) -> bool:
        try:
            return self.bytes_to_have_free(config.but(**change)) <= PROPOSED * self.free
        except ValueError:  # fields that do not go together, a package that is missing
            return False

    def explain(self, config, change) -> str:
        """State in one sentence the needed and the free memory, and the change that fits."""
        where = " of GPU memory" if self.device == "cuda" else ""
        needed, free = gb(self.bytes_to_have_free(config)), gb(self.free)
        sentence = f"this run needs about {needed}{where}, but {free} are free"
        off = " (FTKIT_PREFLIGHT=0 runs it without this check)"
        if not change:
            return (f"{sentence}; no change of batch, method or length would make it fit. Free "
                    f"some memory, or use a smaller model{off}")
        fields = " ".join(f"{name}={value}" for name, value in change.items())
        needed = gb(self.bytes_to_have_free(config.but(**change)))
        sentence += f"; with {fields} it needs about {needed}"
        if cheaper_configs.learns_the_same(change):
            sentence += " and learns the same"
        return sentence + off


def number_formats(parameters: float = math.inf) -> tuple[str, str]:
    """Return (default precision for a model of this size, device), which determine the number
    formats. On a GPU the size does not matter."""
    return machine.fast_precision(parameters), machine.device()


def tokens_of(unit) -> int:
    """Number of tokens in a batch unit (a list of examples)."""
    return sum(len(example["input_ids"]) for example in unit)


def _first_batch(examples: list) -> list:
    """Select the first batch of `packed_loss.nll`: examples up to EVAL_TOKENS tokens."""
    taken, size = [], 0
    for example in examples:
        taken.append(example)
        size += len(example["input_ids"])
        if size >= EVAL_TOKENS:
            break
    return taken
