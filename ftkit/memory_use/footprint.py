"""The memory of a run before it runs: `ft.memory(config, model)`.

    ft.memory(method="lora", model="meta-llama/Llama-2-7b")     draws itself
    ft.memory(Config(...), "tiny", measure=True)                compared with a real step here

A real step is traced (`simulate`), or its traced moments are read from the package or the disk. A
number of parameters instead of a model has states only, which are computed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path

from ftkit.base import machine
from ftkit.base.config import LORA, MAX_LOGITS, OBJECTIVES, Config, DPOConfig, for_objective
from ftkit.base.config_fields import MEMORY, changing, fields_of
from ftkit.base.errors import UserError
from ftkit.base.optimizers import OPTIMIZERS
from ftkit.memory_use import footprint_text, formula, model_shapes, traced_step, verdict
from ftkit.memory_use.footprint_text import PADDED
from ftkit.memory_use.traced_step import READ, Step, on_a_line
from ftkit.memory_use.trainers import NOT_PREDICTED, TRAINERS

STATES = ("weights", "gradients", "optimizer")
CHOICES = {"zero": (0, 1, 2, 3), "device": (None, "cpu", "cuda"), "offload": (False, True),
           "attention": (None, "sdpa", "eager"), "trainer": (*TRAINERS,)}
# A forward pass of more tokens is rejected as a mistake.
MOST_TOKENS, MOST_TRACED, TRACED = 10**9, 2**22, 2**20
SEQUENCES = 1024  # that are traced; of more, all count as long as the first
UNIT = 512  # tokens of the simulated sequences from which a batch on a GPU is extrapolated


def memory(config: Config | None = None, model="tiny", *, gpus: int = 1, zero: int = 0,
           offload: bool = False, device: str | None = None, lengths: list[int] | None = None,
           supervised: float = 1.0, attention: str | None = None, logits: int | None = None,
           measure: bool = False, trainer: str = "ftkit",
           gpu: str | None = None, objective: str | None = None,
           progress: Callable[[dict], None] | None = None, **changes) -> Footprint:
    """Memory of one training step of `config` on `model`, in bytes on each of `gpus` GPUs.

    config: by default Config(), with a batch of one record and gradient checkpointing for LoRA and
        QLoRA of a model other than tiny and smollm2, unless `changes` say otherwise.
    model: tiny, smollm2, a known hub id or short name (`model_shapes.names()`), a folder, a
        config.json (no weights needed), or a number of parameters such as 7e9 or "7B" (its weights,
        gradients and optimizer state only).
    zero: ZeRO stage 0 to 3 (0: every GPU holds everything, as in DDP).
    offload: keep the optimizer state in the host's memory.
    device: cpu or cuda: the kernels and allocator to assume. The default is this machine's for a
        model on this machine, and cuda for other models or several GPUs.
    lengths: tokens of each sequence in a batch; by default `batch_size` sequences of `max_length`.
    supervised: fraction of the tokens that contribute to the loss.
    attention: sdpa or eager: transformers' attention on padded batches instead of packed batches.
    logits: how many logits are held at once (give a very large number for all).
    measure: also take one real step here (tiny, smollm2 and folders only).
    trainer: whose step: ftkit, hf (transformers' Trainer: padded batches, all logits at once, AdamW
        without fusion), litgpt (logits in chunks; QLoRA of bitsandbytes 0.42, which keeps inputs),
        or torchtune (full fine-tuning updates a weight in the backward pass).
    gpu: a card by name ("RTX 4090") or size ("24GB"): `.verdict` says whether the step fits, how
        far it could grow, and what would make it fit.
    objective: one of `base.config.OBJECTIVES`; by default the one that `config` implies.
    progress: called with the change of `config` before each further prediction that `gpu` needs.
    changes: fields of Config, `ft.memory(model="tiny", method="lora")`.

    Raises UserError if the model is unknown or arguments contradict each other.
    """
    if not isinstance(config, Config | None):
        raise UserError(f"config is a {type(config).__name__}; expected a Config. Pass a model as "
                        "model=.")
    named = config is None
    config = _of_objective(config or Config(), objective, changes)
    usual = _usual(config, model, changes) if named else {}
    config = config.but(**usual)
    _check(config, gpus, zero=zero, offload=offload, device=device, attention=attention,
           trainer=trainer)
    card = None if gpu is None else verdict.card(gpu)
    _sequences(config)  # raises for a batch that nobody means, before anything is read
    if measure and (attention or logits or offload or device not in (None, machine.device())):
        raise UserError("measure is True, which runs the step as this machine would. Leave "
                        "attention, logits, offload and device out, or leave measure out.")
    count = model_shapes.count_of(model)
    here = count is None and gpus == 1 and _is_on_this_machine(model)
    device = device or (machine.device() if here and gpu is None else "cuda")
    content = None if count is not None else model_shapes.content(model)
    shape = None if content is None else model_shapes.sizes(content)
    context = getattr(shape, "max_position_embeddings", None) or 2048
    longest = max(context, config.max_length or 0)
    with _untraceable_is_user_error(content):
        precision = config.precision or _precision(count, model, content, device)
        config = _stored(content, config.resolved("other", precision, longest, device))
        lengths = lengths or [config.max_length or context] * _sequences(config)
        _check_tokens(lengths)
        footprint = _of_count(config, count, gpus, zero, offload) if content is None else (
            _of_model(config, content, gpus, zero, offload, lengths, supervised, device, attention,
                      logits, trainer))
    footprint = dataclasses.replace(
        footprint, model=footprint_text.name_of(model), device=device,
        notes=footprint_text.notes_on(config, shape, lengths, context, trainer, footprint, usual),
        assumptions=footprint_text.assumptions(config, shape, lengths, supervised, device,
                                               attention, logits, trainer, zero))
    if card is not None:
        def predict(change):
            if progress is not None:
                progress(change)
            return memory(config.but(**change), model, gpus=gpus, zero=zero, offload=offload,
                          device=device, supervised=supervised, attention=attention, logits=logits,
                          trainer=trainer).peak

        footprint = dataclasses.replace(footprint, verdict=verdict.judge(
            predict, config, footprint.peak, card, longest, device, shape is not None))
    return footprint.measured_here(model, lengths, supervised) if measure else footprint


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Bytes per GPU of one training step.

    states: weights, gradients, master copies and optimizer state by formula, which is exact.
    at_peak: the parts at the peak. largest: the maximum of each part, reached at different moments.
    moment: the phase of the step in which the peak is reached; "" if only a number of parameters
        was given. host: bytes in the host's memory.
    measurement: the peak of a real step on this machine, or None.
    bits: bits per quantized weight, else per weight. quantized: number of quantized parameters.
    assumptions: name → assumption of the prediction. notes: sentences about unusual properties.
    verdict: whether the step fits the requested GPU, see `verdict.judge`.
    """

    config: Config
    parameters: int
    trainable: int
    states: dict
    at_peak: dict
    largest: dict
    moment: str = ""
    gpus: int = 1
    zero: int = 0
    model: str = ""
    offload: bool = False
    device: str = "cpu"
    host: float = 0
    measurement: int | None = None
    bits: float = 32.0
    quantized: int = 0
    assumptions: dict = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    verdict: dict | None = None

    @property
    def peak(self) -> int:
        """Bytes at the peak."""
        return round(sum(self.at_peak.values()))

    @property
    def total_states(self) -> float:
        """Bytes of weights, gradients, master copies and optimizer state together."""
        return sum(self.states.values())

    @property
    def fits(self) -> dict[str, bool]:
        """Map each GPU to whether the peak fits, including the needs of CUDA and its allocator."""
        return {name: self.peak <= gpu.usable for name, gpu in model_shapes.GPUS.items()}

    @property
    def reserved(self) -> int:
        """Bytes that the driver will report as used. On a GPU this exceeds the peak, since torch's
        allocator keeps freed memory while there is room."""
        return round(model_shapes.reserved(self.peak)) if self.device == "cuda" else self.peak

    def to_dict(self) -> dict:
        """Return the output of `ftkit memory --json`, in bytes per GPU.

        weights, gradients and optimizer (with master copies) are the complete states. activations,
        logits and other are maxima, reached at different moments, so the sum of all may exceed the
        peak. The parts in `at_peak` add up to the peak.
        """
        parts = self.largest | self.states
        parts["optimizer"] += parts["master"]
        parts["other"] += parts["copies"]
        per_gpu = {name: round(parts[name])
                   for name in (*STATES, "activations", "logits", "other")}
        return {
            "config": self.config.to_dict(), "model": self.model, "parameters": self.parameters,
            "quantized_parameters": self.quantized, "trainable_parameters": self.trainable,
            "assumptions": self.assumptions, "notes": list(self.notes), "gpus": self.gpus,
            "zero": self.zero, "offload": self.offload, "device": self.device,
            "per_gpu": per_gpu | {"peak": self.peak},
            "states": round(sum(per_gpu[k] for k in STATES)),
            "at_peak": {k: round(v) for k, v in self.at_peak.items()} | {"peak": self.peak},
            "moment": self.moment, "host": round(self.host), "bits_per_weight": self.bits,
            "reserved_estimate": self.reserved,
            "method": "simulation" if self.moment else "formula",
            "error": footprint_text.error(self), "measured": self.measurement, "fits": self.fits,
        } | ({} if self.verdict is None else {"verdict": self.verdict})

    def measured_here(self, model, lengths, supervised: float = 1.0) -> Footprint:
        """Return a copy with the measurement of a real step on this machine."""
        from ftkit.memory_use import measure

        if self.gpus > 1 or not _is_on_this_machine(model):
            raise UserError(f"{self.model} on {self.gpus} GPUs cannot be measured here; expected "
                            "tiny, a fetched smollm2 or a folder, on one GPU")
        step = measure.step(str(model), self.config, list(lengths), supervised)
        return dataclasses.replace(self, measurement=step.peak)

    def plot(self):
        """Draw the parts at the peak as a stacked bar, next to the memory of GPUs."""
        from ftkit.memory_use import charts

        return charts.footprint(self)

    def summary(self) -> str:
        """Describe the peak, its error and the GPUs on which it fits, in one or two sentences."""
        return footprint_text.summary(self)

    def text(self, verbose: bool = False) -> str:
        """Return the verdict and the parts at the peak, as text for a terminal."""
        return footprint_text.text(self, verbose)

    def __repr__(self) -> str:
        return f"Footprint({self.summary()})"

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = self.plot()._repr_mimebundle_()
        bundle["text/html"] += footprint_text.table(self)._repr_html_()
        return bundle


# ------------------------------------------------------------------ inside


def _precision(count, model, content, device: str) -> str:
    """The default precision of a run; an unknown model is built to count its parameters."""
    if device == "cuda":
        return "bf16"
    if count is None:
        count = model_shapes.parameters(model)
    if count is None:
        from ftkit.memory_use import simulate
        from ftkit.model import loading

        count = loading.count(simulate.build(model_shapes.shape(content), Config()))[1]
    return machine.fast_precision(count)


def _stored(content, config: Config) -> Config:
    """Return the Config with the method that a folder's quantized weights imply."""
    stored = (content or {}).get("quantization_config")
    if not stored or stored.get("quant_method") not in (None, "bitsandbytes"):
        return config
    if config.method in LORA and stored.get("load_in_8bit"):
        return config.but(method="qlora", load_in_8bit=True)
    if config.method == "lora" and stored.get("load_in_4bit"):
        return config.but(method="qlora",  # fp4 is bitsandbytes' own default
                          bnb_4bit_quant_type=stored.get("bnb_4bit_quant_type") or "fp4")
    if config.method == "qlora":
        return config
    raise UserError(f"the weights of this model are quantized ({stored.get('quant_method')}), and "
                    f"their memory with method {config.method} cannot be predicted; expected "
                    "bitsandbytes weights in 4 or 8 bits with lora or qlora")


def _usual(config, model, given: dict) -> dict:
    """What LoRA of a large model is run with, a batch of one record and checkpointing, where
    nothing else is given."""
    usual = {"batch_size": 1, "gradient_checkpointing": True}
    return {} if model in ("tiny", "smollm2") or config.method not in LORA else {
        name: value for name, value in usual.items() if name not in given}


def _of_objective(config, objective: str | None, changes: dict):
    """Convert `config` to the Config class of an objective, with `changes`."""
    if objective is None:
        return config.but(**changes)
    kind, _ = OBJECTIVES.get(objective, (Config, {}))
    kept = {k: v for k, v in config.differs().items() if k in fields_of(kind)}
    return for_objective(objective, kept | changes)


def _sequences(config) -> int:
    """Number of sequences in a forward pass: per record 2 in DPO, num_generations in GRPO."""
    each = 2 if isinstance(config, DPOConfig) else getattr(config, "num_generations", 1)
    if config.batch_size * each * (config.max_length or 512) > MOST_TOKENS:
        raise UserError(f"batch_size {config.batch_size:,} with max_length "
                        f"{config.max_length or 512:,} is more than {MOST_TOKENS:,} tokens in one "
                        "forward pass. Set a smaller batch_size or max_length, and use "
                        "gradient_accumulation_steps for the rest.")
    return config.batch_size * each


def _check_tokens(lengths: list[int]):
    if not lengths or min(lengths) < 2 or max(lengths) > MOST_TRACED:
        raise UserError(f"the sequences have {min(lengths, default=0):,} to "
                        f"{max(lengths, default=0):,} tokens; expected 2 to {MOST_TRACED:,} in "
                        "each")


def _check(config, gpus, **chosen):
    if isinstance(gpus, bool) or not isinstance(gpus, int) or gpus < 1:
        raise UserError(f"gpus is {gpus!r}; expected a whole number of at least 1")
    for name, value in chosen.items():
        if value not in CHOICES[name]:
            raise UserError(f"{name} is {value!r}; expected one of "
                            f"{', '.join(map(str, CHOICES[name]))}"
                            + (f" ({why})" if (why := NOT_PREDICTED.get(str(value))) else ""))
    zero, entry = chosen["zero"], OPTIMIZERS[config.optim]
    if zero and gpus == 1:
        raise UserError(f"zero is {zero} with one GPU, but ZeRO shards states across GPUs. Set "
                        "gpus to 2 or more.")
    if zero and (entry.factored or entry.rest):
        raise UserError(f"optim is {config.optim} with zero {zero}, but it needs whole matrices, "
                        "which ZeRO shards; expected adamw_torch, adamw_bnb_8bit or sgd")
    if chosen["trainer"] != "ftkit" and not entry.elsewhere:
        raise UserError(f"optim is {config.optim} with trainer {chosen['trainer']}, which has no "
                        "such optimizer. Set trainer to ftkit, or optim to adamw_torch.")


@contextlib.contextmanager
def _untraceable_is_user_error(content: dict | None):
    """Convert exceptions of transformers, peft or torch about inconsistent sizes or unsupported
    architectures to a UserError with their reason."""
    try:
        yield
    except (MemoryError, UserError):
        raise
    except Exception as error:  # noqa: BLE001  each architecture checks its sizes in its own way
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"a training step of this {(content or {}).get('model_type')} model cannot be traced "
            f"({type(error).__name__}: {reason}). Check the sizes in its config. To get only its "
            "states, pass its number of parameters, such as 7.5B.") from error


def _is_on_this_machine(model) -> bool:
    """Whether a model's weights are in a folder on this machine."""
    from ftkit.model import loading

    if not isinstance(model, str) or (model not in ("tiny", "smollm2") and "/" not in model):
        return False
    try:
        folder = Path(loading.locate(model))
    except ValueError:
        return False
    return any(folder.glob("*.safetensors"))


def _of_count(config, count, gpus, zero, offload) -> Footprint:
    """Predict weights, gradients and optimizer state of `count` parameters, all trained."""
    if config.method != "full":
        raise UserError(f"method {config.method} depends on the shape of the model, which "
                        f"{count:g} parameters do not describe. Pass a model, or set method to "
                        "full.")
    if OPTIMIZERS[config.optim].rest:
        raise UserError(f"optim {config.optim} updates matrices and other weights differently, and "
                        f"{count:g} parameters do not say which are which. Pass a model, or set "
                        "optim to adamw_torch.")
    states = formula.states(count, count, config, gpus, zero)
    parts = states | dict.fromkeys(("copies", "activations", "logits", "other"), 0)
    step = _on_each_gpu(Step([("", parts)], parts, 0, count, count), gpus, 0, offload, states)
    return _found(config, step, gpus, zero, offload, states)


def _of_model(config, content, gpus, zero, offload, lengths, *options) -> Footprint:
    """Predict by a traced step, whose states ZeRO shards."""
    half = formula.recipe(config, zero)["master"]
    traced = config.but(precision="pure-bf16") if half else config
    step = simulated(content, traced, lengths, *options,
                     token_losses=type(config) is not Config)
    quantized = step.facts["quantized"]
    bits = 8 * step.facts["quantized_bytes"] / quantized if quantized else 0
    states = formula.states(step.parameters, step.trainable, config, gpus, zero, quantized,
                            step.facts["factored"], bits, step.facts["hidden"])
    if not step.parts["gradients"]:  # each is freed at once
        states |= {"gradients": 0}
    step = _on_each_gpu(step, gpus, zero, offload, states)
    return _found(config, step, gpus, zero, offload, states, bits=bits, quantized=quantized)


def _found(config, step: Step, gpus, zero, offload, states, bits=0.0, quantized=0) -> Footprint:
    moved = ("optimizer", "master") if offload else ()
    moment, at_peak = step.highest
    return Footprint(
        config, round(step.parameters), round(step.trainable),
        states | dict.fromkeys(moved, 0), at_peak, step.parts, moment, gpus, zero,
        bits=bits or 8 * formula.recipe(config, zero)["weights"], quantized=quantized,
        offload=offload, host=gpus * sum(states[part] for part in moved))


def _on_each_gpu(step: Step, gpus, zero, offload, states) -> Step:
    """Return the Step of one rank, with the states sharded as in ZeRO, or in the host's memory.

    Stage 3 adds the gathered parameters: embeddings and head, which stay, and two layers (one in
    use, one being gathered), and the same number of gradients in the backward pass. Stage 2 adds
    the gradients of one layer before they are scattered.
    """
    if not zero and not offload:
        return step
    share = {"weights": gpus if zero == 3 else 1, "gradients": gpus if zero >= 2 else 1}
    root, layer = step.facts.get("root", 0), step.facts.get("layer", 0)
    timeline = []
    for phase, now in step.timeline:
        parts = {k: v / share.get(k, 1) for k, v in now.items()}
        if zero:
            parts |= {"master": states["master"],
                      "optimizer": states["optimizer"] if now["optimizer"] else 0}
        if zero == 3 and phase in ("forward pass", "backward pass"):
            parts["other"] += root + 2 * layer
        if zero >= 2 and phase == "backward pass" and step.trainable == step.parameters:
            parts["other"] += layer + (root if zero == 3 else 0)
        timeline.append((phase, parts | dict.fromkeys(("optimizer", "master") * offload, 0)))
    return dataclasses.replace(step, timeline=timeline, parts={
        part: max(parts[part] for _, parts in timeline) for part in timeline[0][1]})


def _bare(config):
    """Reset all fields that do not change the memory of a step on given sequences, so that one
    simulation serves a whole sweep."""
    kind = type(config)
    return config.but(**{name: field.default for name, field in fields_of(kind).items()
                         if name not in changing(kind, MEMORY)})


def simulated(model, config, lengths, supervised=1.0, device="cpu", attention=None, logits=None,
              trainer="ftkit", token_losses=False) -> Step:
    """Simulate a step on sequences of these lengths; `model` as in `model_shapes.content`.

    Memory is linear in the number of equal sequences and, on a GPU without masks, in the number of
    tokens. Therefore large batches are extrapolated from two small ones. Results are cached on
    disk.
    """
    content, config = model_shapes.content(model), _bare(config)
    further = config.gradient_accumulation_steps - READ
    if device == "cuda" and further > 0 and len(set(lengths)) == 1:
        step = simulated(content, config.but(gradient_accumulation_steps=READ), lengths,
                         supervised, device, attention, logits, trainer, token_losses)
        return traced_step.holding(step, further * step.facts["batch"])
    text = json.dumps(content, sort_keys=True)

    def traced(*batches) -> list[Step]:
        return _traced(text, config, batches, supervised, device, attention, logits, trainer,
                       token_losses)

    for unit in _units(content, lengths, config, device, attention, trainer):
        few = 1 if trainer in PADDED or token_losses else _saturating(
            content, unit * supervised, logits)
        times = sum(lengths) / unit / few
        if times <= 1 or (times == 2 and unit == lengths[0]):
            continue
        steps = traced((unit,) * few, (unit,) * 2 * few)
        if steps and (unit == lengths[0] or not steps[0].facts["padded"]):
            return on_a_line(steps[0], steps[1], times - 1)
    return traced(tuple(lengths))[0]


def _units(content, lengths, config, device: str, attention, trainer: str) -> list[int]:
    """Sequence lengths from which a batch can be extrapolated, in the order to try. UNIT requires
    attention without masks, whose memory per token does not depend on the position."""
    if len(set(lengths)) > 1 and sum(lengths) <= TRACED and len(lengths) <= SEQUENCES:
        return []
    length, window = lengths[0], (content.get("text_config") or content).get("sliding_window")
    packed = attention is None and trainer not in PADDED
    divides = device == "cuda" and packed and length > UNIT and (
        not window or window >= length or config.precision != "fp32")
    return [UNIT, length] if divides else [length]


def _saturating(content, supervised: float, logits: int | None) -> int:
    """Number of sequences from which on the loss holds its maximum of logits. It computes them in
    chunks, and frees a chunk only when the next one is computed."""
    chunk = max(64, (logits or MAX_LOGITS) // max(1, model_shapes.sizes(content).vocab_size))
    return min(SEQUENCES // 2, math.ceil(2 * chunk / max(1, supervised - 1)))


@functools.lru_cache(maxsize=512)
def _traced(content, config, batches: tuple[tuple[int, ...], ...], *options) -> list[Step]:
    """Return the Step of one batch, or two Steps that define a line ([] if they do not), from the
    cache if possible. A batch is the tuple of the lengths of its sequences."""
    question = {"content": content, "config": config.differs(), "batches": batches,
                "objective": type(config).__name__, "options": options}
    steps = traced_step.kept(question)
    if steps is None:
        found = [_whole_timeline(content, config, batch, *options) for batch in batches]
        both = traced_step.aligned(found[0], found[-1]) if len(found) == 2 else found
        steps = traced_step.pruned(both) if both else []
        traced_step.keep(question, steps)
    return steps


@functools.lru_cache(maxsize=4)  # of up to 2 MB
def _whole_timeline(content, config, lengths, *options) -> Step:
    from ftkit.memory_use import by_depth

    return by_depth.step(model_shapes.shape(json.loads(content)), config, list(lengths), *options)
