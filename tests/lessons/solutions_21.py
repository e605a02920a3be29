"""Solutions of lesson 21, right variants, and the mistakes that people make."""

import math

from shown_solutions import shown

from ftkit.lessons.exercises.lesson_21 import MEMORY, VERDICTS

throughput = shown("throughput")
triage = shown("triage")

DRILL = {name: right for name, (right, _) in MEMORY.items()}


def throughput_per_device(n, batch, accumulation, devices, length, seconds, peak, recompute):
    own = batch * accumulation * length
    rate = n * own / seconds / peak
    return [own * devices, 6 * rate, (8 if recompute else 6) * rate]


def throughput_by_pass(n, batch, accumulation, devices, length, seconds, peak, recompute):
    tokens = length * sum(batch for _ in range(accumulation * devices))
    available = seconds * devices * peak
    useful, again = (2 + 4) * n * tokens, 2 * n * tokens * recompute
    return tokens, useful / available, (useful + again) / available


def changed(tokens=lambda value, *case: value, mfu=lambda value, *case: value,
            hfu=lambda value, *case: value):
    """The right solution with other values of one of the three."""
    def solution(*case):
        right = throughput(*case)
        return [change(value, *case) for change, value in zip((tokens, mfu, hfu), right,
                                                             strict=True)]
    return solution


def triage_by_table(rows, expected):
    first, last = rows[0], rows[-1]
    val = [row["val_loss"] for row in rows if row.get("val_loss") is not None]
    rates = [row["learning_rate"] for row in rows]
    conditions = {
        "diverged": any(row["loss"] != row["loss"] or abs(row["loss"]) == math.inf for row in rows),
        "nothing trained": first["loss"] == 0,
        "bad start": first["loss"] / expected > 1.2,
        "warm-up": len(set(rates)) > 1 and last["learning_rate"] >= max(rates),
        "overfitting": bool(val) and val[-1] / min(val) > 1.05,
        "fine": True}
    return next(name for name, holds in conditions.items() if holds)


def triage_in_a_loop(rows, expected):
    lowest = latest = None
    for row in rows:
        if not math.isfinite(row["loss"]):
            return "diverged"
        if "val_loss" in row:
            latest = row["val_loss"]
            lowest = latest if lowest is None else min(lowest, latest)
    if not rows[0]["loss"]:
        return "nothing trained"
    if rows[0]["loss"] > 1.2 * expected:
        return "bad start"
    before = [row["learning_rate"] for row in rows[:-1]]
    if all(rows[-1]["learning_rate"] > rate for rate in before):
        return "warm-up"
    return "overfitting" if lowest is not None and latest > 1.05 * lowest else "fine"


def looks_at_the_end(rows, expected):
    whole = [row for row in rows[:-1] if math.isfinite(row["loss"])] + rows[-1:]
    return triage(whole, expected) if math.isfinite(rows[-1]["loss"]) else "fine"


def only_nan(rows, expected):
    if any(math.isnan(row["loss"]) for row in rows):
        return "diverged"
    return triage([row for row in rows if math.isfinite(row["loss"])], expected)


def any_rise(rows, expected):
    val = [row["val_loss"] for row in rows if "val_loss" in row]
    return "overfitting" if val and val[-1] > min(val) else triage(rows, expected)


def against_the_training_loss(rows, expected):
    found = triage(rows, expected)
    gap = "val_loss" in rows[-1] and rows[-1]["val_loss"] > 1.05 * rows[-1]["loss"]
    return "overfitting" if found == "fine" and gap else found


def constant_is_rising(rows, expected):
    rates = [row["learning_rate"] for row in rows]
    found = triage(rows, expected)
    return "warm-up" if found == "fine" and rates[-1] == max(rates) else found


def no_zero(rows, expected):
    found = triage(rows, expected)
    return "fine" if found == "nothing trained" else found


def warm_up_first(rows, expected):
    rates = [row["learning_rate"] for row in rows]
    finite = all(math.isfinite(row["loss"]) for row in rows)
    return "warm-up" if finite and rates[-1] == max(rates) > rates[0] else triage(rows, expected)

RIGHT = {claim: verdict for claim, (verdict, _) in VERDICTS.items()}


SOLUTIONS = {
    "memory_drill": {
        "variants": [{name: round(value, 2) for name, value in DRILL.items()},
                     {"full, mixed precision": 108, "full, pure bf16": "53.9", "LoRA": 13.8,
                      "KV cache": 0.54}],
        "wrong": {
            "no master copy": (DRILL | {"full, mixed precision": 80.9}, "12 bytes"),
            "no gradients": (DRILL | {"full, mixed precision": 94.4}, "14 bytes"),
            "fp32 states": (DRILL | {"full, pure bf16": 80.9}, "the states are in bf16 too"),
            "one state": (DRILL | {"full, pure bf16": 40.4}, "m and v"),
            "base alone": (DRILL | {"LoRA": 13.48}, "the adapter is missing"),
            "frozen with states": (DRILL | {"LoRA": 107.84}, "no gradient and no states"),
            "keys alone": (DRILL | {"KV cache": 0.268}, "keys *and* values"),
            "all heads": (DRILL | {"KV cache": 2.15}, "8 KV heads"),
            "GiB": (DRILL | {"KV cache": 0.5}, "GiB"),
            "elsewhere": (DRILL | {"KV cache": 7.0}, "list the parts"),
            "8 bytes for the adapter": (DRILL | {"LoRA": 13.64}, "8 bytes for an adapter"),
            "LoRA in GiB": (DRILL | {"LoRA": 12.85}, "that is GiB (2³⁰"),
            "fp32 gradients": (DRILL | {"full, mixed precision": 121.3}, "18 bytes"),
        },
    },
    "throughput": {
        "variants": [throughput_per_device, throughput_by_pass],
        "wrong": {
            "no accumulation": (changed(tokens=lambda t, *c: t / c[2]), "out the accumulation"),
            "one device": (changed(tokens=lambda t, *c: t / c[3]), "out the devices"),
            "sequences": (changed(tokens=lambda t, *c: t / c[4]), "out the length"),
            "peak of one": (changed(mfu=lambda m, *c: m * c[3]), "that of one device"),
            "forward alone": (changed(mfu=lambda m, *c: m / 3), "2 operations"),
            "recomputation counted": (changed(mfu=lambda m, *c: m * (8 / 6 if c[7] else 1)),
                                      "is not useful work"),
            "percent": (changed(mfu=lambda m, *c: 100 * m), "not percent"),
            "HFU as MFU": (changed(hfu=lambda h, *c: h * (6 / 8 if c[7] else 1)),
                           "forward pass twice"),
            "tokens alone": (lambda *case: throughput(*case)[0], "return three numbers"),
        },
    },
    "triage": {
        "variants": [triage_by_table, triage_in_a_loop],
        "wrong": {
            "any rise is overfitting": (any_rise, "within 5 %"),
            "val_loss against the loss": (against_the_training_loss, "falls to 1.1: your answer"),
            "inf is a number": (only_nan, "inf at step 2"),
            "nan at the end is fine": (looks_at_the_end, "nan at step 3"),
            "constant is rising": (constant_is_rising, "is constant"),
            "no tolerance": (
                lambda rows, expected: (
                    "bad start" if rows[0]["loss"] > expected else triage(rows, expected)),
                "within 1.2"),
            "a toy's reference": (lambda rows, expected: triage(rows, math.log(3072)),
                                  "2.0 was expected"),
            "zero is good": (no_zero, "is 0 at each step"),
            "warm-up first": (warm_up_first, "looked at first"),
        },
    },
    "signed": {
        "variants": [dict(reversed(RIGHT.items())), RIGHT | {"A sentence of my own.": "true"}],
        "wrong": {
            "LoRA as a remedy": (RIGHT | {"LoRA forgets less than full fine-tuning.": "true"},
                                 "it learns less and forgets less"),
            "4 bits are trained": (RIGHT | {"QLoRA trains the 4-bit weights.": "true"},
                                   "they are frozen"),
            "ZeRO saves activations": (
                RIGHT | {"ZeRO-3 divides the activations of a GPU.": "depends"},
                "it divides weights"),
            "EOS always": (RIGHT | {"Padding with EOS makes a model that never stops.": "true"},
                           "masked by its id"),
            "another loss": (
                RIGHT | {"Instruction tuning uses the same loss function as pretraining.": "false"},
                "next token"),
            "a word of its own": (RIGHT | {"QLoRA trains the 4-bit weights.": "no"},
                                  "is not one of"),
        },
    },
}
