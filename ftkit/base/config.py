"""What is asked of a run: `Config`, with the field names of transformers and peft."""

from __future__ import annotations

import dataclasses
import difflib
import math
from typing import ClassVar

from ftkit.base.errors import UserError

# The rate that works is a property of the model's size and of the method: LoRA wants about ten
# times the full rate, a model of a few million parameters about twenty times that of a real one.
LEARNING_RATES = {
    "tiny": {"full": 1e-3, "lora": 5e-3, "qlora": 5e-3, "ia3": 1e-1, "prompt_tuning": 1e-1,
             "prefix_tuning": 1e-1},
    "other": {"full": 2e-5, "lora": 2e-4, "qlora": 2e-4, "ia3": 3e-3, "prompt_tuning": 3e-2,
              "prefix_tuning": 1e-2},
}
METHODS = tuple(LEARNING_RATES["tiny"])
PRECISIONS = ("fp32", "bf16", "fp16", "pure-bf16")
OPTIMIZERS = ("adamw_torch", "adamw_bnb_8bit", "paged_adamw_8bit", "adafactor", "sgd")
SHORT = {"lr": "learning_rate", "bs": "batch_size", "wd": "weight_decay", "steps": "max_steps",
         "rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "optimizer": "optim",
         "scheduler": "lr_scheduler_type", "warmup": "warmup_steps"}  # what others call them
SCHEDULES = ("cosine", "linear", "constant")


def _option(default, help, choices=None, low=None, high=None, tip=""):
    """A field: `help` is for the command line, `tip` (at most 25 words: what it does, the usual
    range, what goes wrong at both ends) for the control in a notebook."""
    return dataclasses.field(
        default=default,
        metadata={"help": help, "choices": choices, "low": low, "high": high, "tip": tip},
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that may vary between two runs; names and units as in transformers and peft.

    `None` means "choose for me": `resolved` fills in what this model and machine call for, and
    the Run stores the filled-in values. Raises ValueError naming the field, the value given and
    what is accepted.
    """

    RATE: ClassVar[float] = 1.0  # share of the usual rate that this kind of training wants

    method: str = _option(
        "full", "what is trained", METHODS,
        tip="All weights (full), added matrices (lora; qlora: over 4 bits), scales (ia3) or "
            "virtual tokens. Usual: lora. Full: much memory; few parameters: learn less.",
    )
    learning_rate: float | None = _option(
        None, "peak learning rate; default depends on the model and the method", low=0.0,
        tip="How far a step moves the weights. Full: 1e-5 (large) to 1e-3 (tiny); LoRA ten "
            "times that. Low: learns nothing; high: forgets, diverges.",
    )
    batch_size: int = _option(
        16, "records in one forward pass", low=1,
        tip="Records in one pass. Usual: 4 to 64. Small: noisy steps, slow hardware use; "
            "large: memory runs out, fewer steps an epoch.",
    )
    gradient_accumulation_steps: int = _option(
        1, "batches added up before one optimizer step", low=1,
        tip="Adds up batches before one step: a large batch in little memory. Usual: 1 to 16. "
            "1: noisy steps; many: few, slow steps.",
    )
    epochs: float = _option(
        1.0, "passes over the training records", low=0.0,
        tip="Passes over the records. Usual: 1 to 3. Too few: underfits; too many: learns the "
            "records by heart.",
    )
    max_steps: int | None = _option(
        None, "optimizer steps; overrides epochs, repeats the data if needed", low=1,
        tip="Updates of the weights; overrides epochs. Usual: 20 to 300 here. Few: underfits; "
            "many: overfits and forgets.",
    )
    warmup_steps: float = _option(
        0.06, "steps of linear warm-up; below 1 it is a share of all steps", low=0.0,
        tip="Steps in which the rate climbs; below 1 a share. Usual: 0.03 to 0.1. None: early "
            "spikes; long: little time at full rate.",
    )
    lr_scheduler_type: str = _option(
        "cosine", "learning rate after the warm-up", SCHEDULES,
        tip="How the rate falls after warm-up. Cosine or linear end near 0 and settle; "
            "constant keeps moving, good for probing, noisy at the end.",
    )
    weight_decay: float = _option(
        0.0, "AdamW weight decay, on matrices only", low=0.0,
        tip="Pulls weights towards zero each step. Usual: 0 to 0.1. Low: hardly any effect in "
            "short runs; high: erases what was pretrained.",
    )
    optim: str = _option(
        "adamw_torch", "what turns gradients into steps", OPTIMIZERS,
        tip="Adam keeps two fp32 numbers a weight. Usual: adamw_torch. 8-bit or adafactor: less "
            "memory, close; sgd: none, hardly learns.",
    )
    max_grad_norm: float = _option(
        1.0, "clip the gradient to this norm; 0 turns it off", low=0.0,
        tip="Cuts longer gradients to this norm. Usual: 0.5 to 1. Very low: every step "
            "shrinks; 0 or high: one bad batch may spoil it.",
    )
    precision: str | None = _option(
        None, "arithmetic; bf16 and fp16 mean autocast over fp32 weights", PRECISIONS,
        tip="Number format. bf16 is usual where hardware has it. fp32: exact, slow, more "
            "memory; fp16 overflows; pure-bf16 loses small updates.",
    )
    gradient_checkpointing: bool = _option(
        False, "recompute activations in the backward pass: less memory, more time",
        tip="Recomputes activations instead of keeping them. On: much less memory, about a "
            "third more time; off: long records may not fit.",
    )
    r: int = _option(
        8, "LoRA rank", low=1,
        tip="Rank of LoRA's update, its capacity. Usual: 4 to 64. Low: may underfit; high: "
            "more memory, alpha / r shrinks.",
    )
    lora_alpha: float = _option(
        16, "LoRA scale: the update is multiplied by alpha / r", low=0.0,
        tip="LoRA's update is multiplied by alpha / r. Usual: r to 2r. Low: learns slowly; "
            "high: acts like too large a rate.",
    )
    lora_dropout: float = _option(
        0.0, "dropout before the LoRA matrices", low=0.0, high=0.99,
        tip="Share of inputs to LoRA set to zero in training. Usual: 0 to 0.1. 0: may overfit "
            "small data; high: learns slowly.",
    )
    target_modules: str = _option(
        "all-linear", "layers that get LoRA: all-linear, or names like q_proj,v_proj",
        tip="Layers that get LoRA; all-linear is usual. Few (q_proj,v_proj): cheaper, may "
            "learn less; more: more to train and keep.",
    )
    use_rslora: bool = _option(
        False, "scale LoRA by alpha / sqrt(r) in place of alpha / r",
        tip="Scales LoRA by alpha / sqrt(r). Usual: for r above 32. On: high ranks keep their "
            "step, low ranks may overshoot; off: high ranks shrink.",
    )
    use_dora: bool = _option(
        False, "DoRA: LoRA for the direction of a weight, trained numbers for its length",
        tip="Trains the length of each weight row beside LoRA. Usual: at low rank. On: slower "
            "steps; off: plain LoRA, mostly as good.",
    )
    init_lora_weights: str = _option(
        "default", "where LoRA starts: pissa and olora take over directions of the base's weights",
        ("default", "gaussian", "orthogonal", "pissa", "olora"),
        tip="Where LoRA starts. Usual: default (update zero). pissa, olora train the weights' "
            "main directions: faster at first, need a lower rate.",
    )
    num_virtual_tokens: int = _option(
        20, "trained vectors before the input, in prompt_tuning and prefix_tuning", low=1,
        tip="Trained vectors before the input (prompt_tuning, prefix_tuning). Usual: 10 to 100. "
            "Few: learn little; many: take up context, slow to train.",
    )
    max_length: int | None = _option(
        None, "tokens in one record; default: the model's context, at most 512", low=2,
        tip="Tokens kept of a record; the rest is cut. Usual: longest record. Short: answers "
            "are cut off; long: memory grows.",
    )
    packing: bool = _option(
        False, "fill rows of max_length with several records that do not see each other",
        tip="Fills rows with several records. Usual for short records on GPUs. On: fewer, "
            "larger steps; off: short records underuse the GPU.",
    )
    loss_on: str = _option(
        "response", "which tokens carry loss", ("response", "all"),
        tip="Tokens that are learned. response is usual for instructions; all also teaches "
            "writing the questions, and dilutes the answer.",
    )
    replay: float = _option(
        0.0, "share of general data mixed into the training records", low=0.0, high=0.95,
        tip="Share of general data mixed in against forgetting. Usual: 0.05 to 0.25. 0: "
            "forgets more; high: slower, less of the task.",
    )
    l2_sp: float = _option(
        0.0, "pull towards the starting weights: adds l2_sp / 2 * ||w - start||^2 to the loss",
        low=0.0, tip="Pulls the weights back to where they started, against forgetting. Usually "
        "0.001 to 0.1; smaller changes nothing, larger learns nothing. Full only.",
    )
    early_stopping_patience: int | None = _option(
        None, "stop after this many evaluations without a better metric_for_best_model", low=1,
        tip="Stops after this many evaluations without better val_loss. Usual: 2 to 5. 1: "
            "noise stops it early; many: overfits on.",
    )
    metric_for_best_model: str = _option(
        "val_loss", "what early stopping watches; names that end in loss fall, others rise",
        tip="What early stopping watches: val_loss, general_loss or a metric of yours. The wrong "
        "one stops too early, or keeps a model that forgot.",
    )
    eval_steps: int | None = _option(
        None, "steps between evaluations; default: ten in a run", low=1,
        tip="Steps between evaluations; usual: ten evaluations in a run. Often: the run gets "
            "slow; seldom: you miss the best step.",
    )
    seed: int = _option(
        0, "order of the data, LoRA's random start, dropout", low=0, high=2**32 - 1,
        tip="Draws order, start and dropout. Any number; three or more for a claim. One seed: "
            "luck may look like an effect.",
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _accept(field, getattr(self, field.name)))

    def but(self, **changes) -> Config:
        """The same Config with some fields changed: `base.but(learning_rate=1e-2)`."""
        known = self.__dataclass_fields__
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise UserError(_unknown_field(unknown[0], known))
        return dataclasses.replace(self, **changes)

    def resolved(self, model: str, precision: str, context: int) -> Config:
        """This Config without a None that matters: `model` is the tier, `context` its tokens."""
        if self.l2_sp and self.method != "full":
            raise UserError(
                f"l2_sp is {self.l2_sp:g} and method is {self.method}, which freezes the weights "
                "that l2_sp pulls back; give l2_sp 0, or method full, or a lower learning_rate"
            )
        rates = LEARNING_RATES.get(model, LEARNING_RATES["other"])
        rate = self.RATE * rates[self.method] if self.learning_rate is None else (
            self.learning_rate)
        length = min(context, 512) if self.max_length is None else self.max_length
        if length > context:
            raise UserError(
                f"max_length {length} is longer than the {context} tokens this model can read; "
                f"give {context} or less"
            )
        return self.but(
            learning_rate=rate, precision=self.precision or precision, max_length=length
        )

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
        given = ", ".join(f"{k}={v!r}" for k, v in self.differs().items())
        return f"{type(self).__name__}({given})"

    @staticmethod
    def from_dict(values: dict) -> Config:
        """The Config that `to_dict` described, of the kind whose fields it has; what none knows is
        left out."""
        kind = max((Config, DPOConfig, GRPOConfig),
                   key=lambda kind: len(values.keys() & set(kind.__dataclass_fields__)))
        return kind(**{k: v for k, v in values.items() if k in kind.__dataclass_fields__})

    @classmethod
    def from_string(cls, text: str) -> Config:
        """The Config that `str(config)` wrote: `"method=lora learning_rate=0.001"`."""
        values = {}
        for word in text.split():
            name, equals, value = word.partition("=")
            if not equals:
                raise UserError(f"{word!r:.60} in a Config string; expected name=value pairs")
            if name not in cls.__dataclass_fields__:
                raise UserError(_unknown_field(name, cls.__dataclass_fields__))
            values[name] = None if value == "None" else value
        return cls(**values)

    def training_arguments(self) -> dict:
        """The same request in the words of `transformers.TrainingArguments`."""
        share = 0 < self.warmup_steps < 1
        given = {
            "per_device_train_batch_size": self.batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "num_train_epochs": self.epochs,
            "max_steps": -1 if self.max_steps is None else self.max_steps,
            "learning_rate": self.learning_rate,
            "optim": self.optim,
            "lr_scheduler_type": self.lr_scheduler_type,
            "warmup_steps": self.warmup_steps if share else int(self.warmup_steps),
            "weight_decay": self.weight_decay,
            "max_grad_norm": self.max_grad_norm,
            "bf16": self.precision == "bf16",
            "fp16": self.precision == "fp16",
            "gradient_checkpointing": self.gradient_checkpointing,
            "seed": self.seed,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclasses.dataclass(frozen=True, repr=False)
class DPOConfig(Config):
    """A Config of `preferences.DPO`; names as in TRL."""

    RATE: ClassVar[float] = 0.05

    beta: float = _option(
        0.1, "how strongly leaving the reference counts", low=0.0,
        tip="The scale of the implicit reward. Usual: 0.01 to 0.5. Low: far from the reference; "
            "high: stays there.",
    )


@dataclasses.dataclass(frozen=True, repr=False)
class GRPOConfig(Config):
    """A Config of `preferences.GRPO`; names as in TRL, but `batch_size` counts questions and TRL's
    counts answers, which are num_generations times as many."""

    RATE: ClassVar[float] = 0.1

    batch_size: int = _option(8, "questions in one step", low=1)
    num_generations: int = _option(
        8, "answers drawn to each question", low=2,
        tip="Answers drawn to a question, whose mean is the baseline. Usual: 4 to 64. Few: noise "
            "and dead groups; many: slow.",
    )
    beta: float = _option(
        0.0, "weight of the KL to the reference", low=0.0,
        tip="Weight of the KL to the reference. Usual: 0 to 0.1. Low: free to drift; high: learns "
            "nothing.",
    )
    epsilon: float = _option(
        0.2, "how far the ratio of new to old probability may move", low=0.0,
        tip="Where the ratio is clipped. Usual: 0.2. It acts only when num_iterations is above 1.",
    )
    temperature: float = _option(
        1.0, "temperature of the drawn answers", low=0.01,
        tip="Temperature of the drawn answers. Usual: 1. Low: groups that agree and teach nothing; "
            "high: nonsense.",
    )
    num_iterations: int = _option(
        1, "optimizer steps on each batch of answers", low=1,
        tip="Steps on the same answers. Usual: 1 to 4. More: cheaper, but the answers grow stale.",
    )
    max_completion_length: int | None = _option(
        None, "tokens of a drawn answer; default: a few more than the longest reference", low=1,
        tip="Longest drawn answer in tokens. Short: right answers are cut; long: slow.",
    )


def _unknown_field(name: str, known) -> str:
    near = [SHORT[name]] if name in SHORT else difflib.get_close_matches(name, known, 3, 0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return f"Config has no field {name!r:.60}; {hint}"


def _accept(field, value):
    """`value` in the field's type and range, or a ValueError that says what is accepted."""
    kind, meta = str(field.type), field.metadata
    optional = "None" in kind
    if value is None:
        if optional:
            return None
        raise UserError(f"{field.name} is None; expected {_wanted(field)}")
    try:
        if kind.startswith("bool"):
            value = {"true": True, "false": False}[str(value).lower()]
        elif kind.startswith("int"):
            number = float(value)
            if isinstance(value, bool) or number != int(number):
                raise ValueError
            value = int(number)
        elif kind.startswith("float"):
            if isinstance(value, bool):
                raise ValueError
            value = float(value)
            if not math.isfinite(value):
                raise ValueError
        elif field.name == "target_modules" and isinstance(value, list | tuple | set):
            value = ",".join(map(str, value))
        elif not isinstance(value, str):
            raise ValueError
    except (ValueError, TypeError, KeyError, OverflowError):
        raise UserError(f"{field.name} is {value!r:.60}; expected {_wanted(field)}") from None
    low, high, choices = meta["low"], meta["high"], meta["choices"]
    out = (low is not None and value < low) or (high is not None and value > high)
    if out or (choices and value not in choices) or value == "":
        raise UserError(f"{field.name} is {value!r}; expected {_wanted(field)}")
    if field.name in ("learning_rate", "epochs") and value == 0:
        raise UserError(f"{field.name} is 0, so nothing would be trained; give a positive number")
    return value


def _wanted(field) -> str:
    meta, kind = field.metadata, str(field.type).split(" ")[0]
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    name = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
    bounds = [f"at least {meta['low']:.12g}" if meta["low"] is not None else "",
              f"at most {meta['high']:.12g}" if meta["high"] is not None else ""]
    return " ".join([name[kind], " and ".join(b for b in bounds if b)]).strip()
