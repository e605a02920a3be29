"""The fields of Config as controls and options show them: groups, usual values, where they apply.

Needs no widgets, so the command line can group its options in the same way.
"""

from __future__ import annotations

import dataclasses

from ftkit.base.config import METHODS, Config, kinds_of
from ftkit.base.errors import UserError

FIELDS = {field.name: field for field in dataclasses.fields(Config)}
KINDS = kinds_of(Config)

GROUPS = {  # the names are the tabs of the what-if panel, so they are short
    "Optimization": ("learning_rate", "lr_scheduler_type", "warmup_steps", "num_decay_steps",
                     "batch_size", "gradient_accumulation_steps", "epochs", "max_steps",
                     "optim", "weight_decay", "max_grad_norm", "l2_sp", "kl_coef",
                     "neftune_noise_alpha", "seed"),
    "Method": ("method", "r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora",
               "use_dora", "init_lora_weights", "bnb_4bit_quant_type", "load_in_8bit",
               "num_virtual_tokens"),
    "Data": ("loss_on", "max_length", "packing", "replay"),
    "Evaluation": ("eval_steps", "early_stopping_patience", "metric_for_best_model"),
    "System": ("precision", "base_dtype", "gradient_checkpointing"),
}

_LORA = ("lora", "qlora")
USED_BY = {name: _LORA for name in ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora",
                                    "init_lora_weights")} | {  # no effect with other methods
    "target_modules": (*_LORA, "ia3"), "num_virtual_tokens": ("prompt_tuning", "prefix_tuning"),
    "bnb_4bit_quant_type": ("qlora",), "load_in_8bit": ("qlora",), "l2_sp": ("full",),
    "base_dtype": METHODS[1:]}

# The values of a slider; any other can be typed into the Config line above the controls.
USUAL_VALUES = {
    "learning_rate": [float(f"{m}e{e}") for e in range(-6, 0) for m in (1, 2, 5)],
    "batch_size": [1, 2, 4, 8, 16, 32, 64, 128],
    "gradient_accumulation_steps": [1, 2, 4, 8, 16],
    "epochs": [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0],
    "max_steps": [1, 5, 10, 20, 30, 60, 100, 200, 500, 1000],
    "warmup_steps": [0.0, 0.03, 0.06, 0.1, 0.2, 0.5, 10.0],
    "weight_decay": [0.0, 0.01, 0.1, 0.3, 1.0],
    "max_grad_norm": [0.0, 0.1, 0.3, 1.0, 3.0, 10.0],
    "r": [1, 2, 4, 8, 16, 32, 64, 128],
    "lora_alpha": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0],
    "lora_dropout": [0.0, 0.05, 0.1, 0.2, 0.5],
    "max_length": [16, 32, 64, 128, 256, 512, 1024, 2048],
    "replay": [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8],
    "early_stopping_patience": [1, 2, 3, 5, 10],
    "eval_steps": [1, 2, 5, 10, 20, 50, 100],
    "seed": list(range(10)),
    "l2_sp": [0.0, 0.001, 0.01, 0.1, 1.0],
    "kl_coef": [0.0, 0.03, 0.1, 0.3, 1.0, 3.0],
    "neftune_noise_alpha": [1.0, 5.0, 10.0, 15.0, 50.0],
    "num_decay_steps": [0.05, 0.1, 0.2, 0.5, 10.0],
    "num_virtual_tokens": [1, 5, 10, 20, 50, 100],
}
SUGGESTIONS = {
    "target_modules": ["all-linear", "q_proj,v_proj", "q_proj,k_proj,v_proj,o_proj"],
    "metric_for_best_model": ["val_loss", "general_loss"],
}


def without_effect(config: Config) -> dict[str, str]:
    """Fields that change nothing in a run of `config` → the reason."""
    reasons = {name: f"no effect with method={config.method}"
               for name, methods in USED_BY.items() if config.method not in methods}
    if config.load_in_8bit:
        reasons["bnb_4bit_quant_type"] = "no effect: load_in_8bit has no 4-bit weights"
    if config.max_steps is not None:
        reasons["epochs"] = "no effect: max_steps overrides epochs"
    if config.early_stopping_patience is None:
        reasons["metric_for_best_model"] = "no effect without early_stopping_patience"
    if config.lr_scheduler_type != "warmup_stable_decay":
        reasons["num_decay_steps"] = "no effect: only warmup_stable_decay has these steps"
    return reasons


def neighbors(name: str, value, count: int = 5) -> list:
    """`count` usual values of a field around `value`, which is among them: a sweep of one knob.

    Raises UserError for a field that has no usual values.
    """
    if name not in USUAL_VALUES:
        raise UserError(f"{name} has no list of usual values; choose one of "
                        f"{', '.join(USUAL_VALUES)}")
    usual = list(USUAL_VALUES[name])
    if value is None:
        value = usual[len(usual) // 2]
    values = sorted({*usual, value})
    start = max(0, min(values.index(value) - count // 2, len(values) - count))
    return values[start:start + count]


def check_names(names):
    """UserError for a name that is not a field of Config."""
    unknown = [name for name in names if name not in FIELDS]
    if unknown:
        raise UserError(f"Config has no field {unknown[0]!r}; known: {', '.join(FIELDS)}")


def grouped(names=None) -> dict[str, list[str]]:
    """Group -> its fields among `names` (default: all); groups without fields are left out."""
    chosen = list(FIELDS) if names is None else list(names)
    check_names(chosen)
    groups = {group: [name for name in members if name in chosen]
              for group, members in GROUPS.items()}
    return {group: members for group, members in groups.items() if members}
