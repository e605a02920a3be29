"""`Config`: the settings of a run, with the field names of transformers and peft.

One declaration gives a field its default, range, help on the command line and tip in a notebook.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from typing import ClassVar, NamedTuple

from ftkit.base.errors import UserError

# The best learning rate depends on the size of the model and on the method: LoRA needs about ten
# times that of full fine-tuning, a model of a few million parameters about twenty times that of a
# model of a billion.
LEARNING_RATES = {
    "tiny": {"full": 1e-3, "lora": 5e-3, "qlora": 5e-3, "ia3": 1e-1, "prompt_tuning": 1e-1,
             "prefix_tuning": 1e-1},
    "other": {"full": 2e-5, "lora": 2e-4, "qlora": 2e-4, "ia3": 3e-3, "prompt_tuning": 3e-2,
              "prefix_tuning": 1e-2},
}
METHODS = tuple(LEARNING_RATES["tiny"])
PRECISIONS = ("fp32", "bf16", "fp16", "pure-bf16")
# Number format of the frozen weights on a GPU, where base_dtype is not given.
BASE_DTYPES = {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16", "pure-bf16": "bf16"}


MOVE_THE_BASE = ("pissa", "olora")  # initial LoRA weights that are taken out of the base


class OptimizerState(NamedTuple):
    """What an optimizer keeps for each trained weight, for the predictions of memory.

    numbers: how many of them; width: bytes of each with its scales, None where it has the type of
    the weight. factored: a number for each row and each column of a matrix instead (Adafactor).
    """

    numbers: int = 0
    width: float | None = None
    factored: bool = False


# bitsandbytes: 8 bits, and an fp32 scale for 256 of them.
_EIGHT_BIT = OptimizerState(2, 1 + 4 / 256)
OPTIMIZERS = {"adamw_torch": OptimizerState(2), "adamw_bnb_8bit": _EIGHT_BIT,
              "paged_adamw_8bit": _EIGHT_BIT, "adafactor": OptimizerState(factored=True),
              "sgd": OptimizerState()}
SHORT = {"lr": "learning_rate", "bs": "batch_size", "wd": "weight_decay", "steps": "max_steps",
         "rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "optimizer": "optim",
         "scheduler": "lr_scheduler_type", "warmup": "warmup_steps"}  # what others call them
SCHEDULES = ("cosine", "linear", "constant", "warmup_stable_decay")


MAX_LOGITS = 2**24  # logits that the loss holds at once; here, since predictions need no torch
MANY = 10**6  # more than anybody means
TINY = 1e-30  # a smaller number has no effect in 32 bits


def _option(default, help, choices=None, low=None, high=None, tip="", positive=False):
    """A field: `help` is for the command line, `tip` (at most 25 words: what it does, the usual
    range, what goes wrong at both ends) for the control in a notebook. positive: 0 is rejected."""
    return dataclasses.field(default=default, metadata={
        "help": help, "choices": choices, "low": low, "high": high, "tip": tip,
        "positive": positive})


@dataclasses.dataclass(frozen=True)
class Config:
    """The hyperparameters of a run; names and units as in transformers and peft.

    `None` means "choose for me": `resolved` fills in what suits the model and the machine, and
    the Run stores the filled-in values. Raises UserError with the field, the value given and
    what is accepted.
    """

    RATE: ClassVar[float] = 1.0  # times the default learning rate, for this kind of training

    method: str = _option(
        "full", "fine-tuning method", METHODS,
        tip="Trains all weights (full), added matrices (lora; qlora: quantized base), scales "
            "(ia3) or virtual tokens. Usual: lora. Fewer parameters: less memory, learn less.",
    )
    learning_rate: float | None = _option(
        None, "peak learning rate; the default depends on the model and the method", low=0.0,
        positive=True,
        tip="How far a step moves the weights. Full: 1e-5 (large) to 1e-3 (tiny); LoRA ten "
            "times that. Low: learns nothing; high: forgets, diverges.",
    )
    batch_size: int = _option(
        16, "records in one forward pass", low=1, high=MANY,
        tip="Records in one pass. Usual: 4 to 64. Small: noisy steps, slow hardware use; "
            "large: memory runs out, fewer steps an epoch.",
    )
    gradient_accumulation_steps: int = _option(
        1, "batches added up before one optimizer step", low=1, high=MANY,
        tip="Adds up batches before one step: a large batch in little memory. Usual: 1 to 16. "
            "1: noisy steps; many: few, slow steps.",
    )
    epochs: float = _option(
        1.0, "passes over the training records", low=0.0, high=MANY, positive=True,
        tip="Passes over the records. Usual: 1 to 3. Too few: underfits; too many: memorizes "
            "the records.",
    )
    max_steps: int | None = _option(
        None, "optimizer steps; overrides epochs, repeats the data if needed", low=1, high=10**9,
        tip="Updates of the weights; overrides epochs. Usual: 20 to 300 here. Few: underfits; "
            "many: overfits and forgets.",
    )
    warmup_steps: float = _option(
        0.06, "steps of linear warm-up; below 1: a fraction of all steps", low=0.0, high=10**9,
        tip="Steps in which the learning rate rises; below 1: a fraction. Usual: 0.03 to 0.1. "
            "None: early spikes; long: little time at the peak.",
    )
    lr_scheduler_type: str = _option(
        "cosine", "schedule of the learning rate after the warm-up", SCHEDULES,
        tip="How the learning rate falls after warm-up. Usual: cosine or linear, which end near "
            "0; constant: noisy; warmup_stable_decay: constant, then cosine.",
    )
    num_decay_steps: float = _option(
        0.2, "last steps, in which warmup_stable_decay falls to 0; below 1: a fraction of all",
        low=0.0, high=10**9, positive=True,
        tip="Steps at the end in which warmup_stable_decay falls; below 1: a fraction. Usual: 0.1 "
            "to 0.2. Few: noisy; many: like cosine.",
    )
    weight_decay: float = _option(
        0.0, "AdamW weight decay, on matrices only", low=0.0, high=MANY,
        tip="Pulls weights toward zero each step. Usual: 0 to 0.1. Low: hardly any effect in "
            "short runs; high: erases what was pretrained.",
    )
    optim: str = _option(
        "adamw_torch", "optimizer", tuple(OPTIMIZERS),
        tip="Optimizer. Usual: adamw_torch, two fp32 states per weight. 8-bit or adafactor: less "
            "memory, similar result; sgd: no states, hardly learns.",
    )
    max_grad_norm: float = _option(
        1.0, "clip the gradient to this norm; 0 turns it off", low=0.0, high=10**12,
        tip="Scales longer gradients down to this norm. Usual: 0.5 to 1. Low: every step shrinks; "
            "0 or high: one bad batch may ruin it.",
    )
    precision: str | None = _option(
        None, "mixed precision: bf16 and fp16 run autocast over fp32 weights", PRECISIONS,
        tip="Number format. Usual: bf16 where the hardware has it. fp32: exact, slow, more "
            "memory; fp16 overflows; pure-bf16 loses small updates.",
    )
    base_dtype: str | None = _option(
        None, "number format of the frozen weights under an adapter; default: that of precision on "
        "a GPU, fp32 on a CPU", ("fp32", "bf16", "fp16"),
        tip="Number format of the frozen weights; adapters stay fp32. Usual: bf16, half the "
            "memory. fp32: exact, twice as large; fp16 may overflow.",
    )
    gradient_checkpointing: bool = _option(
        False, "recompute activations in the backward pass: less memory, more time",
        tip="Recomputes activations instead of keeping them. On: much less memory, about a "
            "third more time; off: long records may not fit.",
    )
    r: int = _option(
        8, "LoRA rank", low=1, high=2**16,
        tip="Rank of LoRA's update, its capacity. Usual: 4 to 64. Low: may underfit; high: "
            "more memory, alpha / r shrinks.",
    )
    lora_alpha: float = _option(
        16, "LoRA scale: the update is multiplied by alpha / r", low=0.0, high=MANY, positive=True,
        tip="LoRA's update is multiplied by alpha / r. Usual: r to 2r. Low: learns slowly; "
            "high: acts like too high a learning rate.",
    )
    lora_dropout: float = _option(
        0.0, "dropout before the LoRA matrices", low=0.0, high=0.99,
        tip="Fraction of inputs to LoRA set to zero in training. Usual: 0 to 0.1. 0: may overfit "
            "small data; high: learns slowly.",
    )
    target_modules: str = _option(
        "all-linear", "layers that get LoRA: all-linear, or names like q_proj,v_proj",
        tip="Layers that get LoRA; all-linear is usual. Few (q_proj,v_proj): cheaper, may "
            "learn less; more: more to train and keep.",
    )
    use_rslora: bool = _option(
        False, "rsLoRA: scale LoRA by alpha / sqrt(r) instead of alpha / r",
        tip="Scales LoRA by alpha / sqrt(r). Usual: for r above 32. On: high ranks keep their "
            "step, low ranks may overshoot; off: high ranks shrink.",
    )
    use_dora: bool = _option(
        False, "DoRA: LoRA for the direction of a weight row, a trained parameter for its length",
        tip="Also trains the length of each weight row. Usual: at low rank. On: slower steps; "
            "off: plain LoRA, mostly as good.",
    )
    init_lora_weights: str = _option(
        "default", "initial LoRA weights; pissa, olora: from the main directions of the base",
        ("default", "gaussian", "orthogonal", "pissa", "olora"),
        tip="Initial LoRA weights. Usual: default (update zero). pissa, olora: the base's main "
            "directions; faster at first, need a lower learning rate.",
    )
    bnb_4bit_quant_type: str = _option(
        "nf4", "levels of the 4-bit weights of qlora", ("nf4", "fp4"),
        tip="Levels of qlora's 4-bit weights. Usual: nf4, whose levels suit normally distributed "
            "weights. fp4: a 4-bit float, the same size, larger rounding error.",
    )
    load_in_8bit: bool = _option(
        False, "store the base of qlora in 8 bits (LLM.int8()) instead of 4",
        tip="Stores qlora's base in 8 bits (LLM.int8()). Usual: off, 4 bits. On: smaller "
            "rounding error, nearly twice the bytes of 4 bits.",
    )
    num_virtual_tokens: int = _option(
        20, "trained vectors before the input, in prompt_tuning and prefix_tuning", low=1,
        high=10**5,
        tip="Trained vectors before the input (prompt_tuning, prefix_tuning). Usual: 10 to 100. "
            "Few: learn little; many: take up context, slow to train.",
    )
    max_length: int | None = _option(
        None, "tokens in one record; default: the model's context, at most 512", low=2, high=10**8,
        tip="Tokens kept of a record; the rest is cut. Usual: longest record. Short: answers "
            "are cut off; long: memory grows.",
    )
    packing: bool = _option(
        False, "pack several records into rows of max_length; they do not attend to each other",
        tip="Fills rows with several records. Usual for short records on GPUs. On: fewer, "
            "larger steps; off: short records underuse the GPU.",
    )
    loss_on: str = _option(
        "response", "tokens that are trained on", ("response", "all"),
        tip="Tokens that contribute to the loss. Usual: response. all: also trains on the "
            "questions, which dilutes the answers.",
    )
    replay: float = _option(
        0.0, "fraction of general data mixed into the training records", low=0.0, high=0.95,
        tip="Fraction of general data mixed in against forgetting. Usual: 0.05 to 0.25. 0: "
            "forgets more; high: slower, less of the task.",
    )
    l2_sp: float = _option(
        0.0, "L2-SP: adds l2_sp / 2 * ||w - start||^2 to the loss",
        low=0.0, high=MANY,
        tip="Penalty for leaving the starting weights, against forgetting. Usual: 0.001 "
        "to 0.1. Low: no effect; high: learns nothing. Full fine-tuning only.",
    )
    kl_coef: float = _option(
        0.0, "adds kl_coef * KL(base || model) at the supervised tokens to the loss", low=0.0,
        high=MANY,
        tip="Penalty for predicting other tokens than the base, against forgetting. Usual: 0.1 to "
            "1. Low: no effect; high: learns nothing. Slower by a third.",
    )
    neftune_noise_alpha: float | None = _option(
        None, "NEFTune: uniform noise of at most alpha / sqrt(length * dimension) on the "
        "embeddings in training; default: none", low=0.0, high=MANY, positive=True,
        tip="NEFTune: noise on the embeddings in training, against overfitting to instructions. "
            "Usual: 5 to 15. Low: no effect; high: drowns the words.",
    )
    early_stopping_patience: int | None = _option(
        None, "stop after this many evaluations without a better metric_for_best_model", low=1,
        high=10**9,
        tip="Stops after this many evaluations without better val_loss. Usual: 2 to 5. 1: "
            "noise stops it early; many: overfits on.",
    )
    metric_for_best_model: str = _option(
        "val_loss", "measure for early stopping; a name that ends in loss is better low",
        tip="Measure for early stopping: val_loss, general_loss or your own metric. The wrong "
        "one stops too early, or keeps a model that forgot.",
    )
    eval_steps: int | None = _option(
        None, "steps between evaluations; default: ten in a run", low=1, high=10**9,
        tip="Steps between evaluations; usual: ten evaluations in a run. Often: the run gets "
            "slow; seldom: you miss the best step.",
    )
    seed: int = _option(
        0, "random seed: order of the data, initial LoRA weights, dropout", low=0, high=2**32 - 1,
        tip="Random seed of data order, initialization and dropout. Use at least 3 seeds for a "
            "claim; with one, luck may look like an effect.",
    )

    def __post_init__(self):
        kinds = kinds_of(type(self))
        for field in dataclasses.fields(self):
            value = _accept(field, kinds[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)

    def but(self, **changes) -> Config:
        """The same Config with some fields changed: `base.but(learning_rate=1e-2)`."""
        known = _names(type(self))
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise UserError(_unknown_field(unknown[0], known))
        return dataclasses.replace(self, **changes)

    def resolved(self, model: str, precision: str, context: int, device: str = "cpu") -> Config:
        """This Config with its defaults filled in: `model` is "tiny" or "other", `precision` what
        the machine is fast at, `context` how many tokens the model can read. On the device "cuda"
        frozen weights get 16 bits; base_dtype None means fp32. Raises UserError."""
        if self.l2_sp and self.method != "full":
            raise UserError(
                f"l2_sp is {self.l2_sp:g} and method is {self.method}, which freezes the weights "
                "that l2_sp acts on; give l2_sp 0, or method full, or a lower learning_rate"
            )
        if self.load_in_8bit and self.method != "qlora":
            raise UserError(
                f"load_in_8bit is True and method is {self.method}, whose base is not quantized; "
                "give method qlora for LoRA on a base in 8 bits, or load_in_8bit False")
        moves_base = self.method in ("lora", "qlora") and self.init_lora_weights in MOVE_THE_BASE
        if self.kl_coef and moves_base:
            raise UserError(
                f"kl_coef is {self.kl_coef:g} and init_lora_weights is {self.init_lora_weights}, "
                "which changes the weights of the base that the KL is taken to; give kl_coef 0 or "
                "init_lora_weights default")
        if "tuning" in self.method and self.num_virtual_tokens + 2 > context:
            raise UserError(
                f"num_virtual_tokens is {self.num_virtual_tokens:,} and this model can read "
                f"{context:,} tokens, so no room is left for a record; give {context // 2:,} or "
                "less")
        learning_rate = self.learning_rate
        if learning_rate is None:
            defaults = LEARNING_RATES.get(model, LEARNING_RATES["other"])
            learning_rate = self.RATE * defaults[self.method]
        length = min(context, 512) if self.max_length is None else self.max_length
        if length > context:
            raise UserError(
                f"max_length {length} is longer than the {context} tokens this model can read; "
                f"give {context} or less"
            )
        return self.but(learning_rate=learning_rate, max_length=length).typed(precision, device)

    def typed(self, precision: str, device: str) -> Config:
        """This Config with the number formats that `resolved` fills in; no model is needed."""
        precision, base_dtype = self.precision or precision, self.base_dtype
        if device == "cuda" and self.method != "full" and base_dtype is None:
            base_dtype = BASE_DTYPES[precision]
        return self.but(precision=precision, base_dtype=base_dtype)

    def to_dict(self) -> dict:
        """All fields, ready for JSON."""
        return dataclasses.asdict(self)

    def differs(self) -> dict:
        """Only the fields that are not at their default."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
                if getattr(self, f.name) != f.default}

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.differs().items())

    def __repr__(self) -> str:
        changed = ", ".join(f"{k}={v!r}" for k, v in self.differs().items())
        return f"{type(self).__name__}({changed})"

    @staticmethod
    def from_dict(values: dict) -> Config:
        """The Config that `to_dict` described, of the class with most of its fields; unknown fields
        are left out."""
        kind = max((Config, DPOConfig, GRPOConfig),
                   key=lambda kind: len(values.keys() & set(_names(kind))))
        return kind(**{k: v for k, v in values.items() if k in _names(kind)})

    @classmethod
    def from_string(cls, text: str) -> Config:
        """The Config that `str(config)` wrote: `"method=lora learning_rate=0.001"`."""
        values = {}
        for word in text.split():
            name, equals, value = word.partition("=")
            if not equals:
                raise UserError(f"{word!r:.60} in a Config string; expected name=value pairs")
            if name not in _names(cls):
                raise UserError(_unknown_field(name, _names(cls)))
            values[name] = None if value == "None" else value
        return cls(**values)

    def training_arguments(self) -> dict:
        """The same request in the words of `transformers.TrainingArguments`."""
        same = ("gradient_accumulation_steps", "learning_rate", "optim", "lr_scheduler_type",
                "weight_decay", "max_grad_norm", "gradient_checkpointing", "seed",
                "neftune_noise_alpha")
        is_fraction = 0 < self.warmup_steps < 1
        decay = None
        if self.lr_scheduler_type == "warmup_stable_decay":
            decay = self.num_decay_steps * (self.max_steps or 0 if self.num_decay_steps < 1 else 1)
            if not decay:
                raise UserError("num_decay_steps is a fraction and transformers needs a number of "
                                "steps; give num_decay_steps of at least 1, or max_steps")
        arguments = {
            "per_device_train_batch_size": self.batch_size,
            "num_train_epochs": self.epochs,
            "max_steps": -1 if self.max_steps is None else self.max_steps,
            "warmup_steps": self.warmup_steps if is_fraction else int(self.warmup_steps),
            **{name: getattr(self, name) for name in same},
            "lr_scheduler_kwargs": decay and {"num_decay_steps": math.ceil(decay)},
            "bf16": self.precision == "bf16",
            "fp16": self.precision == "fp16",
        }
        return {name: value for name, value in arguments.items() if value is not None}


@dataclasses.dataclass(frozen=True, repr=False)
class DPOConfig(Config):
    """A Config of `preferences.DPO`; names as in TRL."""

    RATE: ClassVar[float] = 0.05

    loss_type: str = _option(
        "sigmoid", "loss of a pair; sigmoid: DPO",
        ("sigmoid", "ipo", "kto", "orpo", "simpo", "sft"),
        tip="Loss of a pair. Usual: sigmoid (DPO). ipo: bounded margin; kto: answers judged alone; "
            "orpo, simpo: no reference; sft: chosen answers only.",
    )
    beta: float = _option(
        0.1, "strength of the KL penalty; orpo: weight of the odds ratio; simpo: reward scale",
        low=0.0, high=MANY, positive=True,
        tip="Strength of the KL penalty toward the reference. Usual: 0.01 to 0.5; simpo 2. Low: "
            "moves far from the reference; high: stays close.",
    )
    simpo_gamma: float = _option(
        0.5, "target margin of the rewards in simpo", low=0.0, high=MANY,
        tip="Margin that SimPO's rewards should have. Usual: 0.5 to 1.6. Low: answers stay close; "
            "high: moves far. Other losses ignore it.",
    )


@dataclasses.dataclass(frozen=True, repr=False)
class GRPOConfig(Config):
    """A Config of `preferences.GRPO`; names as in TRL, but `batch_size` counts questions and TRL's
    counts answers, which are num_generations times as many."""

    RATE: ClassVar[float] = 0.1

    batch_size: int = _option(8, "questions in one step", low=1, high=MANY)
    num_generations: int = _option(
        8, "answers sampled for each question", low=2, high=MANY,
        tip="Answers sampled per question, whose mean is the baseline. Usual: 4 to 64. Few: noise "
            "and dead groups; many: slow.",
    )
    loss_type: str = _option(
        "grpo", "how tokens are averaged (TRL's default is dapo)",
        ("grpo", "bnpo", "dapo", "dr_grpo"),
        tip="How tokens are averaged. grpo: in each answer, so long wrong answers are punished "
            "less; bnpo, dapo: all alike; dr_grpo: by a constant.",
    )
    scale_rewards: str = _option(
        "group", "standard deviation that divides the advantages", ("group", "batch", "none"),
        tip="Divides advantages by the standard deviation of the group or batch. Usual: group. "
            "group: favors questions nearly always right or wrong; none: Dr. GRPO.",
    )
    importance_sampling_level: str = _option(
        "token", "what has one ratio and clip: a token, or a sequence (GSPO)",
        ("token", "sequence"),
        tip="What is clipped: each token, or the whole answer (GSPO, with epsilon near 0.0003). It "
            "acts only when num_iterations is above 1.",
    )
    beta: float = _option(
        0.0, "strength of the KL penalty", low=0.0, high=MANY,
        tip="Strength of the KL penalty toward the reference. Usual: 0 to 0.1. Low: free to drift; "
            "high: learns nothing.",
    )
    epsilon: float = _option(
        0.2, "clip range of the ratio of new to old probability", low=0.0, high=MANY,
        tip="Where the ratio is clipped. Usual: 0.2. It acts only when num_iterations is above 1.",
    )
    epsilon_high: float | None = _option(
        None, "upper clip range; default: epsilon", low=0.0, high=MANY,
        tip="Clip range above 1. Usual: epsilon, or 0.28 (DAPO's clip-higher). High: rare tokens "
            "may gain faster, and noise too.",
    )
    temperature: float = _option(
        1.0, "sampling temperature of the answers", low=0.01, high=MANY,
        tip="Sampling temperature of the answers. Usual: 1. Low: groups that agree and teach "
            "nothing; high: nonsense.",
    )
    num_iterations: int = _option(
        1, "optimizer steps on each batch of answers", low=1, high=MANY,
        tip="Steps on the same answers. Usual: 1 to 4. More: cheaper, but the answers grow stale.",
    )
    max_completion_length: int | None = _option(
        None, "tokens of a sampled answer; default: a few more than the longest reference", low=1,
        high=MANY,
        tip="Longest sampled answer in tokens. Short: right answers are cut; long: slow.",
    )


def _names(kind) -> list[str]:
    """The fields of a Config class; `__dataclass_fields__` would also list class variables."""
    return [field.name for field in dataclasses.fields(kind)]


def _unknown_field(name: str, known) -> str:
    near = [SHORT[name]] if name in SHORT else difflib.get_close_matches(name, known, 3, 0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return f"Config has no field {name!r:.60}; {hint}"


class Kind(NamedTuple):
    """What a field takes: bool, int, float or str, and whether None as well."""

    type: type
    optional: bool


@functools.cache
def kinds_of(config_class) -> dict[str, Kind]:
    """The Kind of each field of a Config class, by its name."""
    hints = typing.get_type_hints(config_class)
    members = {name: typing.get_args(hints[name]) or (hints[name],)
               for name in _names(config_class)}
    return {name: Kind(kinds[0], types.NoneType in kinds) for name, kinds in members.items()}


def _accept(field, kind, value):
    """`value` in the field's type and range, or a UserError that says what is accepted."""
    if value is None and kind.optional:
        return None
    try:
        converted = _convert(field, kind, value)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise UserError(_rejected(field, kind, value)) from None
    low, high, choices = (field.metadata[name] for name in ("low", "high", "choices"))
    if (converted == "" or (choices and converted not in choices)
            or (isinstance(converted, float) and not math.isfinite(converted))
            or (low is not None and converted < low) or (high is not None and converted > high)
            or (isinstance(converted, float) and 0 < converted < TINY)
            or (field.metadata["positive"] and converted == 0)):
        raise UserError(_rejected(field, kind, converted))
    return converted


def _convert(field, kind, value):
    """`value` in the type of its field; any of several exceptions where that cannot be."""
    if kind.type is bool:
        return {"true": True, "false": False}[str(value).lower()]
    if kind.type in (int, float):
        number = float(value)
        if isinstance(value, bool | bytes) or (kind.type is int and number != int(number)):
            raise ValueError
        return kind.type(number)
    if field.name == "target_modules" and isinstance(value, list | tuple | set):
        return ",".join(map(str, value))
    if not isinstance(value, str):
        raise ValueError
    return value


def _rejected(field, kind, value) -> str:
    """The sentence for a value that the field does not accept."""
    choices = field.metadata["choices"]
    text = f"{field.name} is {value!r:.60}; expected {_accepted(field, kind)}"
    suggestions = difflib.get_close_matches(str(value), choices or (), 1)
    return f"{text}; did you mean {suggestions[0]}?" if suggestions else text


def _accepted(field, kind) -> str:
    meta = field.metadata
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    name = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    bounds = [f"at least {meta['low']:.12g}"] if meta["low"] is not None else []
    if meta["positive"]:
        bounds = ["above 0"]
    bounds += [f"at most {meta['high']:.12g}"] if meta["high"] is not None else []
    return f"{name[kind.type]} {' and '.join(bounds)}".strip()
