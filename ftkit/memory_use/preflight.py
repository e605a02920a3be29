"""Before a run: does it fit into the memory that is free? If not, what is the cheapest change?

    facts = ModelFacts.of("tiny"); config = facts.resolve(config)
    check(lab, config, facts)     predicted bytes, or TooBig: a sentence, and .change, which fits

A bound in closed form comes first and costs nothing; only a run that it does not clear is
simulated, on the longest records of its own data, training and evaluation. What is refused is
refused before any model is loaded, while the process is well. FTKIT_PREFLIGHT=0 turns it off.
"""

from __future__ import annotations

import gc
import heapq
import math
import os
from types import SimpleNamespace

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.memory_use import formula, model_shapes, units
from ftkit.model import adapter_folder, cache
from ftkit.model import loading as models

# What the tensors' bytes do not show: libraries still to be loaded, threads, the kernels' scratch
# space and fragmentation. The resident size of our steps grew by up to half more than their
# tensors.
SPARE, FRAGMENTS = 256 * 2**20, 1.3
MANY = 512  # records in a batch beyond which the rest is extrapolated
PROPOSED = 0.85  # share of what is free that a proposed change may take: it is asked for later
EVAL_TOKENS = 4096  # as `fast.nll` reads
# An evaluation has sizes of its own. PRODUCTS of one size: of the matrices of a layer and the head,
# forward and twice backward, and of attention.
EVAL_SIZES, PRODUCTS = 2, 30
TEMPLATE_TOKENS = 64  # more than a template adds to a record or to a turn of a chat


class TooBig(UserError):
    """The run does not fit. needed, free: bytes; change: fields of Config with which it does, {}
    where there is no such change."""

    def __init__(self, needed: int, free: int, change: dict, text: str):
        super().__init__(text)
        self.needed, self.free, self.change = needed, free, change

    def __reduce__(self):  # it may come from another process
        return TooBig, (self.needed, self.free, self.change, str(self))


def check(lab, config, found) -> int | None:
    """Predicted bytes of the run of an Experiment, or TooBig; None where it cannot be predicted.

    config: as `ModelFacts.resolve` returns it. found: the ModelFacts of the experiment's model.
    Where memory is plentiful the number is an upper bound, else what the simulation says.
    """
    if os.environ.get("FTKIT_PREFLIGHT") == "0":
        return None
    device, free = machine.device(), machine.free_memory()
    most = found.beside(config, lab) + bound(found, config, *lab.token_limits(config))
    if _with_spare(most, device) + kernels(lab, config, device) <= free:
        return round(most)
    gc.collect()
    machine.pooled_memory()  # what earlier runs have left goes back to the system
    free = machine.free_memory()
    return _Weighing(lab, found, device, free).weigh(config, most)


def bound(found, config, tokens: int, length: int) -> float:
    """Bytes that a run surely stays below, in closed form: the states exactly, the activations of
    `tokens` tokens, in sequences of up to `length`, at twice the usual estimate, as if nothing were
    recomputed, and all logits."""
    trained = found.parameters if config.method == "full" else (
        found.linear_sides * config.r * (1 + config.use_dora) + found.parameters // 100)
    everything = found.parameters + (trained if config.method != "full" else 0)
    step = formula.states(everything, trained, config, factored=trained)
    plain = config.but(precision="fp32", gradient_checkpointing=False)
    virtual = config.num_virtual_tokens * ("tuning" in config.method)
    length += virtual
    casts = formula.HALF * everything + 3 * found.largest * formula.FP32

    def read(tokens, layers):
        sizes = found.sizes
        scores = 8 * sizes.num_attention_heads * length * tokens * formula.FP32
        return (2 * formula.activations(sizes, plain, tokens, length)
                + sizes.num_hidden_layers * scores) * layers / sizes.num_hidden_layers + (
            6 * tokens * sizes.vocab_size * formula.FP32)

    adapters = 1 + config.use_dora + (config.method != "full")
    step = sum(step.values()) + casts
    training = adapters * read(tokens + virtual * config.batch_size, found.sizes.num_hidden_layers)
    looking = adapters * read(EVAL_TOKENS + length * (1 + virtual), 2)
    kept = bool(config.early_stopping_patience) + bool(config.l2_sp)
    loading = 2 * formula.FP32 * found.parameters
    return max(loading, step + max(training, looking) + kept * formula.FP32 * trained)


def longest(records, config) -> int:
    """Tokens of the longest `batch_size` records at most, told from their characters."""
    if config.packing or config.replay or len(records) < config.batch_size:
        return config.batch_size * config.max_length
    sizes = heapq.nlargest(config.batch_size, map(characters, records))
    return sum(min(config.max_length, size) for size in sizes)


def characters(value) -> int:
    """No fewer than the tokens of a record: a token has at least one byte."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return sum(map(characters, value.values())) + TEMPLATE_TOKENS
    return sum(map(characters, value)) if isinstance(value, list | tuple) else 0


def kernels(lab, config, device: str) -> int:
    """Bytes of the code that is made for each number of tokens a batch may have."""
    if device == "cuda" or config.precision == "fp32":
        return 0
    from ftkit.engine import packed_batch

    read = config.epochs * len(lab.train) if config.max_steps is None else (
        config.max_steps * config.batch_size * config.gradient_accumulation_steps)
    sizes = min(read, config.batch_size * config.max_length // packed_batch.ROUND) + EVAL_SIZES
    return machine.kernel_cache_bytes(math.ceil(PRODUCTS * sizes))


# ------------------------------------------------------------------ inside


class ModelFacts:
    """What is known of a model without loading it, from its config.json and the headers of its
    weights: sizes, parameters, the largest tensor, sums of rows and columns of its matrices."""

    def __init__(self, content: dict, tensors: list, beside: float, here: float = 0.0):
        inner = content.get("text_config") or content

        def size(*names):
            return next((inner[n] for n in names if isinstance(inner.get(n), int)), 0)

        self.content = content
        self.parameters = sum(math.prod(shape) for shape in tensors)
        self.largest = max((math.prod(shape) for shape in tensors), default=0)
        self.linear_sides = sum(sum(shape) for shape in tensors if len(shape) == 2)
        self.context = size("max_position_embeddings", "n_positions") or 2048
        self._beside, self.here = beside, here
        self.sizes = SimpleNamespace(
            hidden_size=size("hidden_size", "n_embd", "d_model"),
            num_hidden_layers=size("num_hidden_layers", "n_layer") or 1,
            num_attention_heads=size("num_attention_heads", "n_head"),
            vocab_size=size("vocab_size"))
        self.sizes.get_text_config = lambda: self.sizes

    @property
    def tier(self) -> str:
        """The row of default learning rates: as `loading.tier` of the loaded model."""
        return "tiny" if self.parameters < models.SMALL else "other"

    def resolve(self, config):
        """`config` as a run of this model stores it: no field that matters is None.

        Raises UserError where it asks for what the model cannot do.
        """
        return config.resolved(self.tier, "bf16" if machine.bf16_is_fast() else "fp32",
                               self.context)

    @classmethod
    def of(cls, name, model=None) -> ModelFacts | None:
        """Of the model of an Experiment: a name, a folder or a pair (model, tokenizer); None where
        it is not on this machine yet. model: the same model, once it is loaded."""
        if model is None and not isinstance(name, str):
            model = name[0]
            return cls(model.config.to_dict(), [p.shape for p in model.parameters()], 0)
        if model is not None:
            found = cls(model.config.to_dict(), [tuple(getattr(
                p, "quant_state", p).shape) for p in model.parameters()], 0)
            found.here = sum(p.nbytes for p in model.parameters())
            return found
        where = models.locate(name)
        if adapter_folder.is_adapter(where):
            where = models.locate(adapter_folder.base_of(where))
        tensors, content = models.stored_shapes(where), models.read_config(where)
        if tensors is None or not content:
            return None
        size = formula.FP32 * sum(math.prod(shape) for shape in tensors)
        # One that is loaded by name stays in memory untouched, beside the copy that is trained.
        return cls(content, tensors, size if cache.will_keep(name, size) else 0)

    def beside(self, config, lab) -> float:
        """Bytes in use beside the step; negative for a model that is loaded already."""
        reference = formula.FP32 * self.parameters * lab.keeps_reference(config)
        return self._beside * (config.method != "qlora") - self.here + reference


def _with_spare(count: float, device: str) -> float:
    """What must be free for tensors of so many bytes."""
    return count + model_shapes.RESERVED if device == "cuda" else FRAGMENTS * count + SPARE


class _Weighing:
    """Simulations of one Experiment, and the search among them."""

    def __init__(self, lab, found, device, free):
        self.lab, self.found, self.device, self.free = lab, found, device, free
        self.tokenizer, self.known, self.looked = lab.load_tokenizer(), {}, {}

    def weigh(self, config, most: float) -> int | None:
        """Simulated bytes of a run, or TooBig with what would fit."""
        try:
            needed = self.needed(config)
            if self.asked(config) <= self.free:
                return round(needed)
            change = self.cheapest(config)
        except MemoryError:  # not even room to look
            self.known[config], change = most, {}
        except ValueError:
            raise
        except Exception:  # noqa: BLE001  what cannot be traced may fit, so it is not rejected
            return None
        raise TooBig(round(self.needed(config)), self.free, change, self.told(config, change))

    def asked(self, config) -> float:
        """Bytes that must be free for a run."""
        return (_with_spare(self.needed(config), self.device)
                + kernels(self.lab, config, self.device))

    def needed(self, config) -> float:
        """Bytes of the largest step that the data allows, of an evaluation, or of loading."""
        if config not in self.known:
            self.known[config] = self._needed(config) + self.found.beside(config, self.lab)
        return self.known[config]

    def _needed(self, config) -> float:
        if config.batch_size > 2 * MANY:  # memory is linear in so many records
            one, two = (self._traced(config.but(batch_size=n)) for n in (MANY, 2 * MANY))
            return one + (two - one) * (config.batch_size / MANY - 1)
        return self._traced(config)

    def _traced(self, config) -> float:
        from ftkit.engine import packed_loss
        from ftkit.memory_use import simulate

        shape = model_shapes.shape(self.found.content)
        data = self.lab.encode(self.tokenizer, config)
        batch = packed_loss.pack(self.lab.largest_batch(data, config), share=False)
        batches = [batch] * min(2, config.gradient_accumulation_steps)
        step = simulate.trace(shape, config, batches, self.device,
                              whole=self.lab.NEEDS_TOKEN_LOSSES)
        looking = self._looking(config, shape, data)
        states = step.before - step.at_peak["weights"]
        kept = formula.FP32 * step.trainable * bool(config.early_stopping_patience)
        loading = step.at_peak["weights"] if config.method == "qlora" else (
            formula.FP32 * self.found.parameters * (1.5 if "pure" in config.precision else 1))
        return max(loading, step.peak + kept, looking + max(0, states) + kept)

    def _looking(self, config, shape, data) -> int:
        """Peak bytes of the evaluations, whose batches are their own."""
        from ftkit.memory_use import simulate

        same = config.but(batch_size=1, gradient_accumulation_steps=1, gradient_checkpointing=False)
        if same not in self.looked:
            read = [_first(sorted(examples, key=lambda e: -len(e["input_ids"])), EVAL_TOKENS)
                    for examples in self.lab.evaluation_sets(data)]
            self.looked[same] = max((simulate.evaluation(shape, config, examples, self.device)
                                     for examples in read), default=0)
        return self.looked[same]

    def cheapest(self, config):
        """Fields of the first change that fits, from what changes nothing of what is learned to
        what changes most; {} where none does."""
        size, split = config.batch_size, [{}]
        while size > 1:
            size = -(-size // 2)
            passes = -(-config.batch_size * config.gradient_accumulation_steps // size)
            split.append({"batch_size": size, "gradient_accumulation_steps": passes})
            if "gradient_accumulation_steps" in self.lab.UNSUPPORTED:
                del split[-1]["gradient_accumulation_steps"]
        saving = {"gradient_checkpointing": True}
        families = [split[1:]]
        if not config.gradient_checkpointing:
            families.append([one | saving for one in split])
        if self.device == "cpu" and config.precision != "fp32":
            families.append([one | saving | {"precision": "fp32"} for one in split])
        smallest = split[-1] | ({} if config.gradient_checkpointing else saving)
        if config.method == "full" and config.optim == "adamw_torch":
            families.append([smallest | {"optim": "adamw_bnb_8bit"}])
        if config.method == "full":
            families.append([one | saving | _lora(config) for one in split])
        if config.method in ("full", "lora") and isinstance(self.lab.model, str):
            families.append([smallest | _lora(config) | {"method": "qlora"}])
        if config.max_length > 128:
            method = _lora(config) if config.method == "full" else {}
            families.append([smallest | method | {"max_length": config.max_length // 4}])
        for family in families:
            change = self._first(config, family)
            if change is not None:
                return change
        return {}

    def _first(self, config, family):
        """The first change of a family, each of which needs less than the one before."""
        low, high = 0, len(family)
        if not family or not self._possible(config, family[-1]):
            return None
        while low < high - 1:  # family[high - 1] fits
            middle = (low + high - 1) // 2
            if self._possible(config, family[middle]):
                high = middle + 1
            else:
                low = middle + 1
        return family[high - 1]

    def _possible(self, config, change) -> bool:
        try:
            return self.asked(config.but(**change)) <= PROPOSED * self.free
        except ValueError:  # fields that do not go together, a package that is missing
            return False

    def told(self, config, change) -> str:

        where = " of GPU memory" if self.device == "cuda" else ""
        told = (f"this run needs about {units.gb(self.asked(config))}{where} and "
                f"{units.gb(self.free)} are free")
        off = " (FTKIT_PREFLIGHT=0 runs it all the same)"
        if not change:
            return (f"{told}; no change of batch, method or length would make it fit: free some "
                    f"memory or take a smaller model{off}")
        asked = " ".join(f"{name}={value}" for name, value in change.items())
        same = set(change) <= {"batch_size", "gradient_accumulation_steps",
                               "gradient_checkpointing"}
        same = same and ("batch_size" in change) == ("gradient_accumulation_steps" in change)
        return (f"{told}; with {asked} it needs about "
                f"{units.gb(self.asked(config.but(**change)))}"
                + (" and learns the same" if same else "") + off)


def _lora(config) -> dict:
    return {"method": "lora"} | ({"l2_sp": 0.0} if config.l2_sp else {})


def tokens_of(unit) -> int:
    """Tokens of what a batch is counted in, a list of examples."""
    return sum(len(example["input_ids"]) for example in unit)


def _first(examples: list, tokens: int) -> list:
    """The first examples, up to so many tokens and one more, as `fast.nll` makes its batches."""
    taken, size = [], 0
    for example in examples:
        taken.append(example)
        size += len(example["input_ids"])
        if size >= tokens:
            break
    return taken
