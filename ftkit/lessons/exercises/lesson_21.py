"""Lesson 21, interview clinic."""

from __future__ import annotations

import math

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_choices, check_number

VERDICTS = {
    "LoRA forgets less than full fine-tuning.":
        ("depends", "in the settings of Biderman et al. it learns less and forgets less; at equal "
                    "target loss the difference may vanish, depending on rank, learning rate "
                    "and data distance"),
    "Instruction tuning uses the same loss as pretraining.":
        ("true", "cross-entropy of the next token; the mask only leaves tokens out"),
    "QLoRA trains the 4-bit weights.":
        ("false", "they are frozen; the adapter is trained, in fp32 by default in peft"),
    "Padding with EOS makes a model that never stops.":
        ("depends", "only where EOS is masked by its id, and the base has not learned to end"),
    "ZeRO-3 divides the activations of a GPU.":
        ("false", "it divides weights, gradients and optimizer state"),
    "A full copy of a 7B takes 13.5 GB in bf16.":
        ("true", "6.74 billion parameters of two bytes"),
}


@exercise("tokens_bought")
def _(tokens_bought):
    wanted = 1000 / 2.0 * 3600 * 1.248e14 / 6 / 6.74e9
    return check_number("1,000 dollars for a 7B at 125 TFLOP/s and 2 dollars an hour",
                        tokens_bought(1000, 6.74e9, 1.248e14, 2.0), wanted, {
        wanted / 3600: "an hour has 3,600 seconds",
        wanted * 3: "2 operations are the forward pass; the backward pass costs twice that",
        wanted * 4: "that is what 2,000 hours buy; divide the budget by the price of an hour",
    }) or check_number("10 dollars for a 1B at 100 TFLOP/s and 4 dollars an hour",
                       tokens_bought(10, 1e9, 1e14, 4.0), 1.5e8)


def _log(losses, rates, val=()):
    rows = [{"step": i, "loss": loss, "learning_rate": rate}
            for i, (loss, rate) in enumerate(zip(losses, rates, strict=True), 1)]
    for row, value in zip(rows[-len(val):], val, strict=False):
        row["val_loss"] = value
    return rows


@exercise("triage")
def _(triage):
    falling, rates = [3.0, 2.0, 1.5, 1.2, 1.0, 0.9], [0.5, 1.0, 0.8, 0.6, 0.4, 0.2]
    cases = [
        ("the loss falls, the rate peaks at step 2, val_loss falls to 1.1",
         _log(falling, rates, (1.6, 1.3, 1.1)), "fine"),
        ("val_loss falls to 1.1 and ends at 1.4",
         _log(falling, rates, (1.1, 1.2, 1.4)), "overfitting"),
        ("val_loss falls to 1.10 and ends at 1.12, within 5 %",
         _log(falling, rates, (1.3, 1.1, 1.12)), "fine"),
        ("the rate climbs to the last step", _log([3.0, 2.9, 2.8, 2.7, 2.7, 2.6],
                                                  [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), "warm-up"),
        ("the loss is nan at step 3 and no later one is worse",
         _log([3.0, 9.0, math.nan, math.nan], [0.1, 0.2, 0.3, 0.4]), "diverged"),
        ("the loss is inf at step 2", _log([3.0, math.inf, 3.0, 2.0], rates[:4]), "diverged"),
        ("the rate is constant and no val_loss was measured",
         _log(falling, [1.0] * 6), "fine"),
    ]
    for told, rows, wanted in cases:
        made = triage([dict(row) for row in rows])
        if made != wanted:
            return f"{told}: your answer is {made!r}; expected {wanted!r}"


@exercise("signed")
def _(signed):
    if message := check_choices(signed, ("true", "false", "depends")):
        return message
    for claim, (right, why) in VERDICTS.items():
        if signed.get(claim) != right:
            return f"{claim!r} is not {signed.get(claim)!r}: {why}"
