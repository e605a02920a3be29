"""`Config`: the settings of a run, with the field names of transformers and peft.

Each field is declared once (`config_fields.option`). The command line, the what-if panel,
`ft.compare`, scripts and the memory prediction derive their lists from the declarations.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from ftkit.base.config_fields import accept, check_names, counterparts, fields_of, given, option
from ftkit.base.errors import UserError
from ftkit.base.optimizers import OPTIMIZERS

# The best learning rate depends on the size of the model and on the method: LoRA needs about ten
# times the rate of full fine-tuning, and a model of a few million parameters about twenty times
# the rate of a model of a billion.
LEARNING_RATES = {
    "tiny": {"full": 1e-3, "lora": 5e-3, "qlora": 5e-3, "ia3": 1e-1, "prompt_tuning": 1e-1,
             "prefix_tuning": 1e-1},
    "other": {"full": 2e-5, "lora": 2e-4, "qlora": 2e-4, "ia3": 3e-3, "prompt_tuning": 3e-2,
              "prefix_tuning": 1e-2},
}
METHODS = tuple(LEARNING_RATES["tiny"])
LORA = ("lora", "qlora")
PRECISIONS = ("fp32", "bf16", "fp16", "pure-bf16")
# Number format of the frozen weights on a GPU, where base_dtype is not given.
BASE_DTYPES = {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16", "pure-bf16": "bf16"}
MOVE_THE_BASE = ("pissa", "olora")  # initial LoRA weights that are taken out of the base
SCHEDULES = ("cosine", "linear", "constant", "warmup_stable_decay")

MAX_LOGITS = 2**24  # logits that the loss holds at once; here, since predictions need no torch
MANY = 10**6  # more than anybody means
# In GRPO the ratio of new to old probability is 1 at the first step on a batch of answers.
ONE_ITERATION = (lambda c: c.num_iterations == 1, "num_iterations is 1")


@dataclasses.dataclass(frozen=True)
class Config:
    """The hyperparameters of a run, with the names and units of transformers and peft.

    `None` means "choose for me": `resolved` fills in a value that suits the model and the machine,
    and the Run stores it. Raises UserError if a value is not accepted.
    """

    RATE: ClassVar[float] = 1.0  # times the default learning rate, for this kind of training

    method: str = option(
        "full", "fine-tuning method", METHODS,
        group="Method", changes="start updates memory", elsewhere="peft", on_ranks=True,
        tip="Trains all weights (full), added matrices (lora; qlora: quantized base), scales "
            "(ia3) or virtual tokens. Usual: lora. Fewer parameters: less memory, learn less.",
    )
    learning_rate: float | None = option(
        None, "peak learning rate; the default depends on the model and the method", low=0.0,
        positive=True,
        group="Optimization", changes="schedule", elsewhere="TrainingArguments",
        usual=[float(f"{m}e{e}") for e in range(-6, 0) for m in (1, 2, 5)],
        tip="How far a step moves the weights. Full: 1e-5 (large) to 1e-3 (tiny); LoRA ten "
            "times that. Low: learns nothing; high: forgets, diverges.",
    )
    batch_size: int = option(
        16, "records in one forward pass", low=1, high=MANY,
        group="Optimization", changes="tokens",
        elsewhere="TrainingArguments.per_device_train_batch_size",
        usual=(1, 2, 4, 8, 16, 32, 64, 128),
        tip="Records in one pass. Usual: 4 to 64. Small: noisy steps, slow hardware use; "
            "large: memory runs out, fewer steps an epoch.",
    )
    gradient_accumulation_steps: int = option(
        1, "batches added up before one optimizer step", low=1, high=MANY,
        group="Optimization", changes="tokens memory",
        elsewhere="TrainingArguments", usual=(1, 2, 4, 8, 16),
        tip="Adds up batches before one step: a large batch in little memory. Usual: 1 to 16. "
            "1: noisy steps; many: few, slow steps.",
    )
    epochs: float = option(
        1.0, "passes over the training records", low=0.0, high=MANY, positive=True,
        group="Optimization", changes="tokens", elsewhere="TrainingArguments.num_train_epochs",
        usual=(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0),
        idle=(lambda c: c.max_steps is not None, "max_steps overrides epochs"),
        tip="Passes over the records. Usual: 1 to 3. Too few: underfits; too many: memorizes "
            "the records.",
    )
    max_steps: int | None = option(
        None, "optimizer steps; overrides epochs, repeats the data if needed", low=1, high=10**9,
        group="Optimization", changes="tokens", elsewhere="TrainingArguments",
        none="by epochs", usual=(1, 5, 10, 20, 30, 60, 100, 200, 500, 1000),
        tip="Updates of the weights; overrides epochs. Usual: 20 to 300 here. Few: underfits; "
            "many: overfits and forgets.",
    )
    warmup_steps: float = option(
        0.06, "steps of linear warm-up; below 1: a fraction of all steps", low=0.0, high=10**9,
        group="Optimization", changes="schedule", elsewhere="TrainingArguments",
        usual=(0.0, 0.03, 0.06, 0.1, 0.2, 0.5, 10.0),
        tip="Steps in which the learning rate rises; below 1: a fraction. Usual: 0.03 to 0.1. "
            "None: early spikes; long: little time at the peak.",
    )
    lr_scheduler_type: str = option(
        "cosine", "schedule of the learning rate after the warm-up", SCHEDULES,
        group="Optimization", changes="schedule", elsewhere="TrainingArguments",
        tip="How the learning rate falls after warm-up. Usual: cosine or linear, which end near "
            "0; constant: noisy; warmup_stable_decay: constant, then cosine.",
    )
    num_decay_steps: float = option(
        0.2, "last steps, in which warmup_stable_decay falls to 0; below 1: a fraction of all",
        low=0.0, high=10**9, positive=True,
        group="Optimization", changes="schedule",
        elsewhere="TrainingArguments.lr_scheduler_kwargs", usual=(0.05, 0.1, 0.2, 0.5, 10.0),
        idle=(lambda c: c.lr_scheduler_type != "warmup_stable_decay",
              "lr_scheduler_type is not warmup_stable_decay"),
        tip="Steps at the end in which warmup_stable_decay falls; below 1: a fraction. Usual: 0.1 "
            "to 0.2. Few: noisy; many: like cosine.",
    )
    weight_decay: float = option(
        0.0, "AdamW weight decay, on matrices only", low=0.0, high=MANY,
        group="Optimization", changes="updates", elsewhere="TrainingArguments",
        on_ranks=True, usual=(0.0, 0.01, 0.1, 0.3, 1.0),
        tip="Pulls weights toward zero each step. Usual: 0 to 0.1. Low: hardly any effect in "
            "short runs; high: erases what was pretrained.",
    )
    optim: str = option(
        "adamw_torch", "optimizer", tuple(OPTIMIZERS),
        group="Optimization", changes="updates memory", elsewhere="TrainingArguments",
        tip="Optimizer. Usual: adamw_torch, two fp32 states per weight. 8-bit, adafactor, muon: "
            "less memory, similar result; sgd: no states, hardly learns.",
    )
    max_grad_norm: float = option(
        1.0, "clip the gradient to this norm; 0 turns it off", low=0.0, high=10**12,
        group="Optimization", changes="updates memory",
        elsewhere="TrainingArguments", on_ranks=True,
        usual=(0.0, 0.1, 0.3, 1.0, 3.0, 10.0),
        tip="Scales longer gradients down to this norm. Usual: 0.5 to 1. Low: every step shrinks; "
            "0 or high: one bad batch may ruin it.",
    )
    precision: str | None = option(
        None, "mixed precision: bf16 and fp16 run autocast over fp32 weights", PRECISIONS,
        group="System", changes="start updates memory", elsewhere="TrainingArguments.bf16",
        on_ranks=True,
        tip="Number format. Usual: bf16 where the hardware has it. fp32: exact, slow, more "
            "memory; fp16 overflows; pure-bf16 loses small updates.",
    )
    base_dtype: str | None = option(
        None, "number format of the frozen weights under an adapter; default: that of precision on "
        "a GPU, fp32 on a CPU", ("fp32", "bf16", "fp16"),
        group="System", changes="start memory", elsewhere="from_pretrained.dtype",
        used_by=METHODS[1:],
        tip="Number format of the frozen weights; adapters stay fp32. Usual: bf16, half the "
            "memory. fp32: exact, twice as large; fp16 may overflow.",
    )
    gradient_checkpointing: bool = option(
        False, "recompute activations in the backward pass: less memory, more time",
        group="System", changes="memory",
        elsewhere="TrainingArguments",
        tip="Recomputes activations instead of keeping them. On: much less memory, about a "
            "third more time; off: long records may not fit.",
    )
    r: int = option(
        8, "LoRA rank", low=1, high=2**16,
        group="Method", changes="start memory", elsewhere="LoraConfig", used_by=LORA,
        usual=(1, 2, 4, 8, 16, 32, 64, 128),
        tip="Rank of LoRA's update, its capacity. Usual: 4 to 64. Low: may underfit; high: "
            "more memory, alpha / r shrinks.",
    )
    lora_alpha: float = option(
        16, "LoRA scale: the update is multiplied by alpha / r", low=0.0, high=MANY, positive=True,
        group="Method", changes="start", elsewhere="LoraConfig", used_by=LORA,
        usual=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0),
        tip="LoRA's update is multiplied by alpha / r. Usual: r to 2r. Low: learns slowly; "
            "high: acts like too high a learning rate.",
    )
    lora_dropout: float = option(
        0.0, "dropout before the LoRA matrices", low=0.0, high=0.99,
        group="Method", changes="updates memory", elsewhere="LoraConfig",
        used_by=LORA, on_ranks=True, usual=(0.0, 0.05, 0.1, 0.2, 0.5),
        tip="Fraction of inputs to LoRA set to zero in training. Usual: 0 to 0.1. 0: may overfit "
            "small data; high: learns slowly.",
    )
    target_modules: str = option(
        "all-linear", "layers that get LoRA: all-linear, or names like q_proj,v_proj",
        group="Method", changes="start memory", elsewhere="LoraConfig",
        used_by=(*LORA, "ia3"),
        usual=("all-linear", "q_proj,v_proj", "q_proj,k_proj,v_proj,o_proj"),
        tip="Layers that get LoRA; all-linear is usual. Few (q_proj,v_proj): cheaper, may "
            "learn less; more: more to train and keep.",
    )
    use_rslora: bool = option(
        False, "rsLoRA: scale LoRA by alpha / sqrt(r) instead of alpha / r",
        group="Method", changes="start", elsewhere="LoraConfig", used_by=LORA,
        tip="Scales LoRA by alpha / sqrt(r). Usual: for r above 32. On: high ranks keep their "
            "step, low ranks may overshoot; off: high ranks shrink.",
    )
    use_dora: bool = option(
        False, "DoRA: LoRA for the direction of a weight row, a trained parameter for its length",
        group="Method", changes="start memory", elsewhere="LoraConfig", used_by=LORA,
        tip="Also trains the length of each weight row. Usual: at low rank. On: slower steps; "
            "off: plain LoRA, mostly as good.",
    )
    loraplus_lr_ratio: float = option(
        1.0, "LoRA+: the learning rate of B is this many times that of A; needs lora or qlora",
        low=0.0, high=MANY, positive=True,
        group="Method", changes="updates", used_by=LORA, usual=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
        tip="LoRA+: B learns this many times as fast as A. Usual: 1 (LoRA) to 16, with a lower "
            "learning rate. Low: A dominates; high: unstable.",
    )
    init_lora_weights: str = option(
        "default", "initial LoRA weights; pissa, olora: from the main directions of the base",
        ("default", "gaussian", "orthogonal", "pissa", "olora"),
        group="Method", changes="start memory", elsewhere="LoraConfig",
        used_by=LORA, on_ranks=False,
        tip="Initial LoRA weights. Usual: default (update zero). pissa, olora: the base's main "
            "directions; faster at first, need a lower learning rate.",
    )
    bnb_4bit_quant_type: str = option(
        "nf4", "levels of the 4-bit weights of qlora", ("nf4", "fp4"),
        group="Method", changes="start", elsewhere="BitsAndBytesConfig",
        used_by=("qlora",),
        idle=(lambda c: c.load_in_8bit, "load_in_8bit leaves no 4-bit weights"),
        tip="Levels of qlora's 4-bit weights. Usual: nf4, whose levels suit normally distributed "
            "weights. fp4: a 4-bit float, the same size, larger rounding error.",
    )
    load_in_8bit: bool = option(
        False, "store the base of qlora in 8 bits (LLM.int8()) instead of 4",
        group="Method", changes="start memory", elsewhere="BitsAndBytesConfig",
        used_by=("qlora",),
        tip="Stores qlora's base in 8 bits (LLM.int8()). Usual: off, 4 bits. On: smaller "
            "rounding error, nearly twice the bytes of 4 bits.",
    )
    num_virtual_tokens: int = option(
        20, "trained vectors before the input, in prompt_tuning and prefix_tuning", low=1,
        high=10**5,
        group="Method", changes="start memory",
        elsewhere="PromptTuningConfig PrefixTuningConfig",
        used_by=("prompt_tuning", "prefix_tuning"), usual=(1, 5, 10, 20, 50, 100),
        tip="Trained vectors before the input (prompt_tuning, prefix_tuning). Usual: 10 to 100. "
            "Few: learn little; many: take up context, slow to train.",
    )
    max_length: int | None = option(
        None, "tokens in one record; default: the model's context, at most 512", low=2, high=10**8,
        group="Data", changes="start tokens", elsewhere="records",
        usual=(16, 32, 64, 128, 256, 512, 1024, 2048),
        tip="Tokens kept of a record; the rest is cut. Usual: longest record. Short: answers "
            "are cut off; long: memory grows.",
    )
    packing: bool = option(
        False, "pack several records into rows of max_length; they do not attend to each other",
        group="Data", changes="start tokens", elsewhere="records", sft_only=True,
        tip="Fills rows with several records. Usual for short records on GPUs. On: fewer, "
            "larger steps; off: short records underuse the GPU.",
    )
    loss_on: str = option(
        "response", "tokens that are trained on", ("response", "all"),
        group="Data", changes="start tokens", elsewhere="records", sft_only=True,
        tip="Tokens that contribute to the loss. Usual: response. all: also trains on the "
            "questions, which dilutes the answers.",
    )
    split_special_tokens: bool = option(
        True, "encode special tokens that are written in the records as ordinary text",
        group="Data", changes="start tokens", elsewhere="records",
        tip="Special tokens written in records become ordinary text. Usual: on. off: they act as "
            "special, which suits text that a chat template wrote.",
    )
    replay: float = option(
        0.0, "fraction of general data mixed into the training records", low=0.0, high=0.95,
        group="Data", changes="tokens", elsewhere="records", sft_only=True,
        usual=(0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8),
        tip="Fraction of general data mixed in against forgetting. Usual: 0.05 to 0.25. 0: "
            "forgets more; high: slower, less of the task.",
    )
    l2_sp: float = option(
        0.0, "L2-SP: adds l2_sp / 2 * ||w - start||^2 to the loss",
        low=0.0, high=MANY,
        group="Optimization", changes="updates memory", used_by=("full",),
        usual=(0.0, 0.001, 0.01, 0.1, 1.0),
        tip="Penalty for leaving the starting weights, against forgetting. Usual: 0.001 "
        "to 0.1. Low: no effect; high: learns nothing. Full fine-tuning only.",
    )
    kl_coef: float = option(
        0.0, "adds kl_coef * KL(base || model) at the supervised tokens to the loss", low=0.0,
        high=MANY,
        group="Optimization", changes="updates memory", sft_only=True,
        usual=(0.0, 0.03, 0.1, 0.3, 1.0, 3.0),
        tip="Penalty for predicting other tokens than the base, against forgetting. Usual: 0.1 to "
            "1. Low: no effect; high: learns nothing. Slower by a third.",
    )
    neftune_noise_alpha: float | None = option(
        None, "NEFTune: uniform noise of at most alpha / sqrt(length * dimension) on the "
        "embeddings in training; default: none", low=0.0, high=MANY, positive=True,
        group="Optimization", changes="updates memory",
        elsewhere="TrainingArguments", sft_only=True, none="off",
        usual=(1.0, 5.0, 10.0, 15.0, 50.0),
        tip="NEFTune: noise on the embeddings in training, against overfitting to instructions. "
            "Usual: 5 to 15. Low: no effect; high: drowns the words.",
    )
    early_stopping_patience: int | None = option(
        None, "stop after this many evaluations without a better metric_for_best_model", low=1,
        high=10**9,
        group="Evaluation", changes="updates memory", none="off", usual=(1, 2, 3, 5, 10),
        tip="Stops after this many evaluations without better val_loss. Usual: 2 to 5. 1: "
            "noise stops it early; many: overfits on.",
    )
    metric_for_best_model: str = option(
        "val_loss", "measure for early stopping; a name that ends in loss is better low",
        group="Evaluation", changes="", usual=("val_loss", "general_loss"),
        idle=(lambda c: c.early_stopping_patience is None, "there is no early_stopping_patience"),
        tip="Measure for early stopping: val_loss, general_loss or your own metric. The wrong "
        "one stops too early, or keeps a model that forgot.",
    )
    eval_steps: int | None = option(
        None, "steps between evaluations; default: ten in a run", low=1, high=10**9,
        group="Evaluation", changes="", usual=(1, 2, 5, 10, 20, 50, 100),
        tip="Steps between evaluations; usual: ten evaluations in a run. Often: the run gets "
            "slow; seldom: you miss the best step.",
    )
    seed: int = option(
        0, "random seed: order of the data, initial LoRA weights, dropout", low=0, high=2**32 - 1,
        group="Optimization", changes="start", elsewhere="TrainingArguments", usual=range(10),
        tip="Random seed of data order, initialization and dropout. Use at least 3 seeds for a "
            "claim; with one, luck may look like an effect.",
    )

    def __post_init__(self):
        for name in fields_of(type(self)):
            object.__setattr__(self, name, accept(type(self), name, getattr(self, name)))

    def but(self, **changes) -> Config:
        """Return a copy with some fields changed: `base.but(learning_rate=1e-2)`."""
        check_names(type(self), changes)
        return dataclasses.replace(self, **changes)

    def resolved(self, model: str, precision: str, context: int, device: str = "cpu") -> Config:
        """Return a copy with the defaults filled in. Raises UserError if fields contradict.

        model: "tiny" or "other". precision: the fastest on this machine. context: the model's
        maximum number of tokens. On "cuda" frozen weights get 16 bits; base_dtype None means fp32.
        """
        if self.l2_sp and self.method != "full":
            raise UserError(
                f"l2_sp is {self.l2_sp:g} and method is {self.method}, which freezes the weights "
                "that l2_sp acts on. Set l2_sp to 0, or method to full."
            )
        if self.load_in_8bit and self.method != "qlora":
            raise UserError(
                f"load_in_8bit is True and method is {self.method}, which does not quantize the "
                "base. Set method to qlora for LoRA on an 8-bit base, or load_in_8bit to False.")
        moves_base = self.method in LORA and self.init_lora_weights in MOVE_THE_BASE
        if self.kl_coef and moves_base:
            raise UserError(
                f"kl_coef is {self.kl_coef:g} and init_lora_weights is {self.init_lora_weights}, "
                "which changes the base weights that the KL is measured against. Set kl_coef to 0, "
                "or init_lora_weights to default.")
        if "tuning" in self.method and self.num_virtual_tokens + 2 > context:
            raise UserError(
                f"num_virtual_tokens is {self.num_virtual_tokens:,}, which leaves no room for a "
                f"record in this model's context of {context:,} tokens; expected at most "
                f"{context // 2:,}")
        learning_rate = self.learning_rate
        if learning_rate is None:
            defaults = LEARNING_RATES.get(model, LEARNING_RATES["other"])
            learning_rate = self.RATE * defaults[self.method]
            if model == "tiny":
                learning_rate *= OPTIMIZERS[self.optim].tiny_rate
            if self.method in LORA:  # LoRA+ works best with a lower learning rate for A
                learning_rate /= math.sqrt(self.loraplus_lr_ratio)
        length = min(context, 512) if self.max_length is None else self.max_length
        if length > context:
            raise UserError(
                f"max_length is {length}, longer than the {context} tokens this model can read; "
                f"expected at most {context}"
            )
        return self.but(learning_rate=learning_rate, max_length=length).typed(precision, device)

    def typed(self, precision: str, device: str) -> Config:
        """Return a copy with only the number formats filled in, which need no model."""
        precision, base_dtype = self.precision or precision, self.base_dtype
        if device == "cuda" and self.method != "full" and base_dtype is None:
            base_dtype = BASE_DTYPES[precision]
        return self.but(precision=precision, base_dtype=base_dtype)

    def to_dict(self) -> dict:
        """All fields, ready for JSON."""
        return dataclasses.asdict(self)

    def differs(self) -> dict:
        """Only the fields that are not at their default."""
        return {name: getattr(self, name) for name in given(self)}

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.differs().items())

    def __repr__(self) -> str:
        changed = ", ".join(f"{k}={v!r}" for k, v in self.differs().items())
        return f"{type(self).__name__}({changed})"

    @staticmethod
    def from_dict(values: dict) -> Config:
        """Restore a Config from `to_dict`. Its class is the one that has most of the fields;
        unknown fields are ignored."""
        kind = max((Config, DPOConfig, GRPOConfig, DistillConfig),
                   key=lambda kind: len(values.keys() & fields_of(kind).keys()))
        return kind(**{k: v for k, v in values.items() if k in fields_of(kind)})

    @classmethod
    def from_string(cls, text: str) -> Config:
        """Parse the output of `str(config)`, such as `"method=lora learning_rate=0.001"`."""
        values = {}
        for word in text.split():
            name, equals, value = word.partition("=")
            if not equals:
                raise UserError(f"a Config string contains {word!r:.60}; expected name=value pairs")
            check_names(cls, [name])
            values[name] = None if value == "None" else value
        return cls(**values)

    def training_arguments(self) -> dict:
        """Return the corresponding arguments of `transformers.TrainingArguments`.

        Fields without a counterpart and arguments that are None are left out. Raises UserError if
        num_decay_steps cannot be converted to a number of steps.
        """
        arguments = counterparts(self, "TrainingArguments") | {
            "bf16": self.precision == "bf16", "fp16": self.precision == "fp16",
            "optim": OPTIMIZERS[self.optim].elsewhere or None,
            "lr_scheduler_kwargs": self._decay_arguments()}
        return {name: value for name, value in arguments.items() if value is not None}

    def _decay_arguments(self) -> dict | None:
        if self.lr_scheduler_type != "warmup_stable_decay":
            return None
        steps = self.num_decay_steps * (self.max_steps or 0 if self.num_decay_steps < 1 else 1)
        if not steps:
            raise UserError(f"num_decay_steps is {self.num_decay_steps:g}, a fraction of the run, "
                            "but transformers expects a number of steps. Set num_decay_steps to 1 "
                            "or more, or set max_steps.")
        return {"num_decay_steps": math.ceil(steps)}


@dataclasses.dataclass(frozen=True, repr=False)
class DPOConfig(Config):
    """Config for `preferences.DPO`, with the names of TRL."""

    RATE: ClassVar[float] = 0.05

    loss_type: str = option(
        "sigmoid", "loss of a pair; sigmoid: DPO",
        ("sigmoid", "ipo", "kto", "orpo", "simpo", "sft"),
        group="Optimization", changes="updates memory", elsewhere="DPOConfig",
        tip="Loss of a pair. Usual: sigmoid (DPO). ipo: bounded margin; kto: answers judged alone; "
            "orpo, simpo: no reference; sft: chosen answers only.",
    )
    beta: float = option(
        0.1, "strength of the KL penalty; orpo: weight of the odds ratio; simpo: reward scale",
        low=0.0, high=MANY, positive=True,
        group="Optimization", changes="updates", elsewhere="DPOConfig",
        idle=(lambda c: c.loss_type == "sft", "loss_type is sft"),
        tip="Strength of the KL penalty toward the reference. Usual: 0.01 to 0.5; simpo 2. Low: "
            "moves far from the reference; high: stays close.",
    )
    simpo_gamma: float = option(
        0.5, "target margin of the rewards in simpo", low=0.0, high=MANY,
        group="Optimization", changes="updates", elsewhere="CPOConfig",
        idle=(lambda c: c.loss_type != "simpo", "loss_type is not simpo"),
        tip="Margin that SimPO's rewards should have. Usual: 0.5 to 1.6. Low: answers stay close; "
            "high: moves far. Other losses ignore it.",
    )


@dataclasses.dataclass(frozen=True, repr=False)
class GRPOConfig(Config):
    """Config for `preferences.GRPO`, with the names of TRL. `batch_size` counts questions; TRL
    counts answers instead, num_generations for each question."""

    RATE: ClassVar[float] = 0.1

    batch_size: int = option(
        8, "questions in one step", low=1, high=MANY,
        group="Optimization", changes="tokens",
    )
    num_generations: int = option(
        8, "answers sampled for each question", low=2, high=MANY,
        group="Optimization", changes="tokens", elsewhere="GRPOConfig",
        tip="Answers sampled per question, whose mean is the baseline. Usual: 4 to 64. Few: noise "
            "and dead groups; many: slow.",
    )
    loss_type: str = option(
        "grpo", "how tokens are averaged or clipped (TRL's default is dapo); rloo: RLOOTrainer's",
        ("grpo", "bnpo", "dapo", "dr_grpo", "cispo", "sapo", "luspo", "vespo", "rloo"),
        group="Optimization", changes="updates", elsewhere="GRPOConfig",
        tip="How tokens are averaged or clipped. grpo: in each answer; dapo: all alike; dr_grpo: "
            "by a constant; cispo, sapo: soft clip; rloo: leave-one-out baseline.",
    )
    scale_rewards: str = option(
        "group", "standard deviation that divides the advantages", ("group", "batch", "none"),
        group="Optimization", changes="updates", elsewhere="GRPOConfig",
        tip="Divides advantages by the standard deviation of the group or batch. Usual: group. "
            "group: favors questions nearly always right or wrong; none: Dr. GRPO.",
    )
    importance_sampling_level: str = option(
        "token", "what has one ratio and clip: a token, or a sequence (GSPO)",
        ("token", "sequence"),
        group="Optimization", changes="updates", elsewhere="GRPOConfig",
        idle=ONE_ITERATION,
        tip="What is clipped: each token, or the whole answer (GSPO, with epsilon near 0.0003). It "
            "acts only when num_iterations is above 1.",
    )
    beta: float = option(
        0.0, "strength of the KL penalty", low=0.0, high=MANY,
        group="Optimization", changes="updates memory", elsewhere="GRPOConfig",
        tip="Strength of the KL penalty toward the reference. Usual: 0 to 0.1. Low: free to drift; "
            "high: learns nothing.",
    )
    epsilon: float = option(
        0.2, "clip range of the ratio of new to old probability", low=0.0, high=MANY,
        group="Optimization", changes="updates", elsewhere="GRPOConfig",
        idle=ONE_ITERATION,
        tip="Where the ratio is clipped. Usual: 0.2. It acts only when num_iterations is above 1.",
    )
    epsilon_high: float | None = option(
        None, "upper clip range; default: epsilon", low=0.0, high=MANY,
        group="Optimization", changes="updates", elsewhere="GRPOConfig",
        none="epsilon", idle=ONE_ITERATION,
        tip="Clip range above 1. Usual: epsilon, or 0.28 (DAPO's clip-higher). High: rare tokens "
            "may gain faster, and noise too.",
    )
    temperature: float = option(
        1.0, "sampling temperature of the answers", low=0.01, high=MANY,
        group="Optimization", changes="updates", elsewhere="GRPOConfig",
        tip="Sampling temperature of the answers. Usual: 1. Low: groups that agree and teach "
            "nothing; high: nonsense.",
    )
    num_iterations: int = option(
        1, "optimizer steps on each batch of answers", low=1, high=MANY,
        group="Optimization", changes="tokens updates memory",
        elsewhere="GRPOConfig",
        tip="Steps on the same answers. Usual: 1 to 4. More: cheaper, but the answers grow stale.",
    )
    max_completion_length: int | None = option(
        None, "tokens of a sampled answer; default: a few more than the longest reference", low=1,
        high=MANY,
        group="Optimization", changes="tokens", elsewhere="GRPOConfig",
        tip="Longest sampled answer in tokens. Short: right answers are cut; long: slow.",
    )


@dataclasses.dataclass(frozen=True, repr=False)
class DistillConfig(Config):
    """Config for `distillation.Distillation`, with the names of TRL's GKDConfig."""

    RATE: ClassVar[float] = 0.3

    lmbda: float = option(
        1.0, "fraction of the batches that the student answers; 0: off-policy", low=0.0, high=1.0,
        group="Optimization", changes="tokens", elsewhere="GKDConfig",
        tip="Fraction of the batches that the student answers itself. Usual: 0.5 to 1. 0: the "
            "records' answers, cheaper; 1: the student's own mistakes.",
    )
    beta: float = option(
        1.0, "0: forward KL, 1: reverse KL, between: Jensen-Shannon", low=0.0, high=1.0,
        group="Optimization", changes="updates", elsewhere="GKDConfig",
        tip="Which divergence from the teacher. 0, forward KL: covers all that it may say; 1, "
            "reverse KL: only what it says surely. Usual: 1 on-policy.",
    )
    temperature: float = option(
        1.0, "temperature of sampling and of both distributions", low=0.01, high=MANY,
        group="Optimization", changes="updates", elsewhere="GKDConfig",
        tip="Temperature of sampling, and of both distributions in the loss. Usual: 0.9 to 1. "
            "High: unlikely tokens count more.",
    )
    max_completion_length: int | None = option(
        None, "tokens of a sampled answer; default: a few more than the longest reference", low=1,
        high=MANY,
        group="Optimization", changes="tokens", elsewhere="GKDConfig.max_new_tokens",
        tip="Longest sampled answer in tokens. Short: answers are cut; long: slow.",
    )


OBJECTIVES: dict[str, tuple[type[Config], dict]] = {  # name → its Config, and what it sets there
    "sft": (Config, {}), "dpo": (DPOConfig, {}),
    **{name: (DPOConfig, {"loss_type": name}) for name in ("ipo", "kto", "orpo", "simpo")},
    "grpo": (GRPOConfig, {}), "rloo": (GRPOConfig, {"loss_type": "rloo"}),
    "distill": (DistillConfig, {})}


def for_objective(objective: str, values: dict) -> Config:
    """Create the Config of an objective. Raises UserError if there is no such objective, or if it
    does not have one of the values."""
    if objective not in OBJECTIVES:
        raise UserError(f"objective is {objective!r:.60}; expected one of {', '.join(OBJECTIVES)}")
    kind, fixed = OBJECTIVES[objective]
    for name, value in values.items():
        users = [o for o, (other, its) in OBJECTIVES.items()
                 if name in fields_of(other) and name not in its]
        if name not in fields_of(kind):
            raise UserError(f"objective {objective} does not use {name}. Leave it out, or choose "
                            f"objective {', '.join(users)}")
        if value != fixed.get(name, value):
            raise UserError(f"{name} is {value!r:.60} and objective {objective} means "
                            f"{fixed[name]}; leave {name} out, or give objective "
                            f"{', '.join(users)}")
    return kind(**values | fixed)
