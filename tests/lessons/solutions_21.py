"""Solutions of lesson 21 and named wrong answers."""

import math

from ftkit.lessons.exercises.lesson_21 import VERDICTS


def tokens_bought(budget, parameters, flops, dollars_per_hour):
    return budget / dollars_per_hour * 3600 * flops / (6 * parameters)


def triage(rows):
    losses, rates = ([row[key] for row in rows] for key in ("loss", "learning_rate"))
    val = [row["val_loss"] for row in rows if "val_loss" in row]
    if not all(map(math.isfinite, losses)):
        return "diverged"
    if rates[-1] == max(rates) > rates[0]:
        return "warm-up"
    return "overfitting" if val and val[-1] > 1.05 * min(val) else "fine"


def looks_at_the_end(rows):
    return "fine" if math.isfinite(rows[-1]["loss"]) is False else triage(rows)


def only_nan(rows):
    return "diverged" if any(math.isnan(row["loss"]) for row in rows) else triage(
        [row for row in rows if math.isfinite(row["loss"])])


def any_rise(rows):
    val = [row["val_loss"] for row in rows if "val_loss" in row]
    return "overfitting" if val and val[-1] > min(val) else triage(rows)


def against_the_training_loss(rows):
    made = triage(rows)
    gap = "val_loss" in rows[-1] and rows[-1]["val_loss"] > 1.05 * rows[-1]["loss"]
    return "overfitting" if made == "fine" and gap else made


def constant_is_climbing(rows):
    return "warm-up" if rows[-1]["learning_rate"] == max(
        row["learning_rate"] for row in rows) and triage(rows) == "fine" else triage(rows)


RIGHT = {claim: verdict for claim, (verdict, _) in VERDICTS.items()}

SOLUTIONS = {
    "tokens_bought": {
        "right": tokens_bought,
        "wrong": {
            "hours for seconds": (lambda b, n, f, d: b / d * f / (6 * n), "3,600 seconds"),
            "forward only": (lambda b, n, f, d: b / d * 3600 * f / (2 * n), "the backward pass"),
            "price multiplied": (lambda b, n, f, d: b * d * 3600 * f / (6 * n), "2,000 hours"),
        },
    },
    "triage": {
        "right": triage,
        "wrong": {
            "any rise is overfitting": (any_rise, "within 5 %"),
            "val_loss against the loss": (against_the_training_loss, "falls to 1.1: your answer"),
            "inf is a number": (only_nan, "inf at step 2"),
            "nan at the end is fine": (looks_at_the_end, "nan at step 3"),
            "constant is climbing": (constant_is_climbing, "the rate is constant"),
        },
    },
    "signed": {
        "right": RIGHT,
        "wrong": {
            "LoRA as a remedy": (RIGHT | {"LoRA forgets less than full fine-tuning.": "true"},
                                 "at default settings it learns less"),
            "4 bits are trained": (RIGHT | {"QLoRA trains the 4-bit weights.": "true"},
                                   "they are frozen"),
            "ZeRO saves activations": (
                RIGHT | {"ZeRO-3 divides the activations of a GPU.": "depends"},
                "it divides weights"),
        },
    },
}
