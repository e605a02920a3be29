"""What the recorded experiments compare: lesson, question, arms, data and claim of each.

A plan is read by `recorded.py`, which makes its runs. The main arms are those that the claim of
the lesson needs; `extra` arms are made when every plan has its main ones. An arm that another
plan has made with the same config, data and measures is taken from there.

What is learned is `tasks`: 31 short tasks of instruction form, of which the untouched model answers
none in the form asked for. What may be lost is measured on text and facts that the model knows,
`data_samples/abilities`. Learning rates of an arm come from `lr_valley` or from a small search
of its own on the validation loss, never on what the claim is about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

# The model's own chat template without its default system message, which would be 22 of the 47
# tokens of a record and would cost as much time as the rest.
TEMPLATE = ("<|im_start|>user\n{instruction}\n{input}<|im_end|>\n"
            "<|im_start|>assistant\n{output}<|im_end|>")
COMMON = {"precision": "bf16", "batch_size": 8, "max_length": 128, "max_steps": 60,
          "eval_steps": 20, "lr_scheduler_type": "cosine", "warmup_steps": 0.1}


@dataclasses.dataclass(frozen=True)
class Claim:
    """The main difference of a lesson: arm `left` `op` arm `right` in `measure`.

    An arm is a label; "best full" is the one of those that begin with "full" whose validation loss
    is lowest on average, and "base" the untouched model. text: the lesson's sentence about it.
    beside: other measures that the box shows.
    """

    left: str
    op: str
    right: str
    measure: str
    text: str
    beside: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """One recorded experiment.

    arms: label → fields of Config that differ from `COMMON`; extra: the same, made last.
    data: (arm, seed) → arguments of Experiment. measure: (run, arm) → more numbers of the end.
    seconds: of a run on one core, for the cost that is printed before it starts.
    """

    lesson: str
    question: str
    arms: dict[str, dict]
    claim: Claim
    seconds: float = 80
    extra: dict[str, dict] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    data: Callable[[str, int], dict] = lambda arm, seed: tasks()
    measure: Callable[..., dict] | None = None


def tasks(**more) -> dict:
    """The arguments of Experiment for the task that most plans share."""
    return {"data": "tasks", "template": TEMPLATE, "eval_records": 48} | more


def full(*rates: float, **more) -> dict[str, dict]:
    return {f"full {rate:g}": {"method": "full", "learning_rate": rate, **more}
            for rate in rates}


def lora(*rates: float, **more) -> dict[str, dict]:
    return {f"LoRA {rate:g}": {"method": "lora", "learning_rate": rate, **more}
            for rate in rates}


PLANS = {
    "lora_vs_full": Plan(
        lesson="02",
        question="Does LoRA learn as much as full fine-tuning, each at its own learning rate, and "
                 "does it forget less?",
        arms=full(1e-4, 3e-4, 3e-5, 1e-3) | lora(1e-3, 3e-3, 3e-4, 1e-2),
        claim=Claim("best LoRA", "<", "best full", "english_loss",
                    "each at its best learning rate, LoRA forgets less than full fine-tuning",
                    ("val_loss", "knowledge"))),
    "lr_valley": Plan(
        lesson="07",
        question="How do the loss on the new tasks and on plain English depend on the learning "
                 "rate, for full fine-tuning and for LoRA?",
        arms=full(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3) | lora(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
        claim=Claim("full 0.001", ">", "full 0.0001", "english_loss",
                    "a learning rate above the best one costs what the model knew",
                    ("val_loss", "knowledge"))),
}
