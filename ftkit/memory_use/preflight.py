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
import math
import os

from ftkit.base import free_memory, machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import gb
from ftkit.memory_use import cheaper_configs, footprint, formula, model_shapes
from ftkit.model import cache
from ftkit.model import loading as models

# Memory in addition to the tensors: libraries still to be loaded, threads, the scratch space of
# kernels, and fragmentation. The resident size of our steps grew by up to 1.5 times their tensors.
SPARE, FRAGMENTATION = 256 * 2**20, 1.3
PROPOSED = 0.85  # fraction of the free memory that a proposed change may need, as it runs later
EVAL_TOKENS = 4096  # in a batch of `packed_loss.nll`


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
    search = FitSearch(experiment, model, machine.device(), free_memory.available())
    bound = search.upper_bound(config)
    if _with_overhead(bound, search.device) <= search.free:
        return round(bound)
    gc.collect()
    search.free = free_memory.available()
    return search.check(config, bound)


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

    Weights, gradients and optimizer state in fp32, copies, all logits, and the activations of
    `tokens` tokens in sequences of up to `length`: in each layer twice the usual s b h (34 + 5 a s
    / h) of 16-bit values (Korthikanti et al. 2022, arXiv:2205.05198, equation 2), in fp32, and more
    attention scores.
    """
    sizes, adapted = model.sizes, config.method != "full"
    trained = model.parameters if not adapted else (
        model.linear_sides * config.r * (1 + config.use_dora) + model.parameters // 100)
    everything = model.parameters + adapted * trained
    virtual = config.num_virtual_tokens * ("tuning" in config.method)
    length += virtual

    def activations(tokens, layers):
        layer = tokens * (136 * sizes.hidden_size + 52 * sizes.num_attention_heads * length)
        logits = (12 if config.kl_coef else 6) * tokens * sizes.vocab_size * formula.FP32
        return (1 + adapted + config.use_dora) * (layers * layer + logits)

    kept = bool(config.early_stopping_patience) + bool(config.l2_sp) + bool(config.kl_coef)
    states = formula.FP32 * (everything + (3 + kept) * trained)
    casts = formula.HALF * everything + 3 * model.largest * formula.FP32
    loading = 2 * formula.FP32 * model.parameters
    return max(loading, states + casts + max(
        activations(tokens + virtual * config.batch_size, sizes.num_hidden_layers),
        activations(EVAL_TOKENS + length * (1 + virtual), 2)))


# ------------------------------------------------------------------ inside


class ModelFacts:
    """Facts about a model, read without loading it from config.json and the headers of its weights:
    sizes, parameters, the largest tensor, and how many rows and columns its matrices have. body,
    body_sides: weights of the matrices apart from embeddings and head, and their rows and columns.
    """

    def __init__(self, content: dict, tensors: list, kept_copy: float, loaded_bytes: float = 0.0):
        self.content = content
        self.parameters = sum(math.prod(shape) for shape in tensors)
        self.largest = max((math.prod(shape) for shape in tensors), default=0)
        self.linear_sides = sum(sum(shape) for shape in tensors if len(shape) == 2)
        self.kept_copy, self.loaded_bytes = kept_copy, loaded_bytes
        self.sizes = model_shapes.sizes(content)
        body = [shape for shape in tensors if len(shape) == 2
                and self.sizes.vocab_size not in shape]
        self.body, self.body_sides = sum(map(math.prod, body)), sum(map(sum, body))
        self.context = self.sizes.max_position_embeddings or 2048

    def resolve(self, config):
        """Fill in the defaults of `config` for this model, as a run stores it. They depend on its
        size only, so a tuned copy has its base's.

        Raises UserError if the model does not support a setting.
        """
        precision, device = number_formats(self.parameters)
        return config.resolved("tiny" if self.parameters < machine.SMALL else "other", precision,
                               self.context, device)

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

    def upper_bound(self, config) -> float:
        """Upper bound on the bytes of a run, by the tokens of its largest forward pass in training
        and of its longest sequence."""
        batch, evaluations = self._examples(config)
        longest = max(map(_tokens, [*batch, *(e for one in evaluations for e in one)]))
        return (self.model.resident_bytes(config, self.experiment)
                + step_upper_bound(self.model, config, sum(map(_tokens, batch)), longest))

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

    def _examples(self, config) -> tuple[list[dict], list[list[dict]]]:
        """The examples of the largest forward pass in training, and of each evaluation."""
        data = self.experiment.encode(self.tokenizer, config)
        return (self.experiment.largest_batch(data, config),
                self.experiment.evaluation_sets(data))

    def bytes_to_have_free(self, config) -> float:
        """Bytes that must be free for a run: its tensors and the overhead."""
        return _with_overhead(self.required_bytes(config), self.device)

    def required_bytes(self, config) -> float:
        """Bytes of the largest possible step, of an evaluation, or of loading (the maximum)."""
        if config not in self.required:
            self.required[config] = self._simulated(config) + self.model.resident_bytes(
                config, self.experiment)
        return self.required[config]

    def _simulated(self, config) -> float:
        batch, evaluations = self._examples(config)
        lengths = sorted(map(_tokens, batch), reverse=True)
        labels = sum(label >= 0 for example in batch for label in example["labels"])
        step = footprint.simulated(
            self.model.content, config.but(gradient_accumulation_steps=min(
                2, config.gradient_accumulation_steps)), lengths, labels / sum(lengths),
            self.device, token_losses=self.experiment.NEEDS_TOKEN_LOSSES)
        weights = step.highest[1]["weights"]
        best = formula.FP32 * step.trainable if config.early_stopping_patience else 0
        width = formula.HALF if config.base_dtype in ("bf16", "fp16") else formula.FP32
        loading = weights if config.method == "qlora" else (
            width * self.model.parameters * (1.5 if "pure" in config.precision else 1))
        return max(loading, step.peak + best, best + max(0, step.before - weights)
                   + self._evaluation_bytes(config, evaluations))

    def _evaluation_bytes(self, config, evaluations) -> int:
        """Peak bytes of the evaluations, whose batch size is fixed."""
        from ftkit.memory_use import simulate

        key = config.but(batch_size=1, gradient_accumulation_steps=1, gradient_checkpointing=False)
        if key not in self.evaluations:
            shape = model_shapes.shape(self.model.content)
            self.evaluations[key] = max((
                simulate.evaluation(shape, config, _first_batch(examples), self.device)
                for examples in evaluations), default=0)
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


def _tokens(example: dict) -> int:
    return len(example["input_ids"])


def _first_batch(examples: list) -> list:
    """Select the first batch of `packed_loss.nll`: the longest examples, up to EVAL_TOKENS tokens.
    """
    taken: list[dict] = []
    for example in sorted(examples, key=_tokens, reverse=True):
        if sum(map(_tokens, taken)) >= EVAL_TOKENS:
            break
        taken.append(example)
    return taken
