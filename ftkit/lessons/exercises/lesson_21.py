"""Lesson 21, interview clinic."""

import math

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import check_choices, check_parts

N = 6.74e9  # parameters of "a 7B"

# Quantity → (right value in GB, {what a common mistake gives: what it is}).
MEMORY = {
    "full, mixed precision": (16 * N / 1e9, {
        8 * N / 1e9: "8 bytes per parameter leave out the fp32 master copy, or have states in bf16",
        12 * N / 1e9: "12 bytes: one part of weights 2, gradients 2, master copy 4, states 8 is "
                      "missing",
        14 * N / 1e9: "14 bytes: the gradients (2 bytes) are missing",
        4 * N / 1e9: "4 bytes are weights and gradients; AdamW's states and the master copy are "
                     "missing",
        18 * N / 1e9: "18 bytes have fp32 gradients (4 bytes), as some trainers keep them; here "
                      "they are in 16 bits",
        16 * N / 2**30: "that is GiB (2³⁰ bytes); a GB is 10⁹ bytes"}),
    "full, pure bf16": (8 * N / 1e9, {
        16 * N / 1e9: "there is no fp32 part here: weights, gradients and both states have 2 bytes",
        12 * N / 1e9: "the states are in bf16 too: two values of 2 bytes",
        6 * N / 1e9: "AdamW has two states per parameter, m and v",
        4 * N / 1e9: "4 bytes are weights and gradients; AdamW's two states are missing",
        8 * N / 2**30: "that is GiB (2³⁰ bytes); a GB is 10⁹ bytes"}),
    "LoRA": (2 * N / 1e9 + 0.32, {
        2 * N / 1e9: "the adapter is missing: 20 million parameters with 16 bytes",
        16 * N / 1e9: "a frozen parameter has no gradient and no states",
        16 * N / 1e9 + 0.32: "a frozen parameter has no gradient and no states",
        0.32: "the frozen base is held in memory too",
        2 * N / 1e9 + 0.16: "8 bytes for an adapter parameter; in fp32 with AdamW it takes 16",
        (2 * N + 0.32e9) / 2**30: "that is GiB (2³⁰ bytes); a GB is 10⁹ bytes",
        4 * N / 1e9 + 0.32: "a frozen parameter has no gradient"}),
    "KV cache": (2 * 32 * 8 * 128 * 4096 * 2 / 1e9, {
        32 * 8 * 128 * 4096 * 2 / 1e9: "a factor of 2 is missing: keys *and* values are kept, and "
                                       "a bf16 value has 2 bytes",
        2 * 8 * 128 * 4096 * 2 / 1e9: "each of the 32 layers has its own cache",
        2 * 32 * 32 * 128 * 4096 * 2 / 1e9: "there are 8 KV heads; the 32 are layers",
        0.5: "that is GiB (2³⁰ bytes); a GB is 10⁹ bytes"}),
}


@exercise("memory_drill")
def _(answers):
    if any(value is ... or value is None for value in answers.values()):
        raise NotImplementedError
    for name, (right, mistakes) in MEMORY.items():
        if name not in answers:
            return f"the answer for {name!r} is missing"
        given = float(answers[name])
        value = min((right, *mistakes), key=lambda value: abs(given - value))  # the nearest one
        why = mistakes.get(value, "") if near(given, value, 0.012) else (
            "list the parts with their bytes and add up")
        if why:
            return f"{name}: {given:g} GB: {why}"


CASES = [  # parameters, batch, accumulation, devices, length, seconds, peak, recompute
    (6.74e9, 4, 2, 8, 2048, 1.7, 989e12, False),
    (6.74e9, 4, 2, 8, 2048, 2.3, 989e12, True),
    (1.7e9, 16, 1, 1, 1024, 1.4, 312e12, True),
]


@exercise("throughput")
def _(throughput):
    for case in CASES:
        result = throughput(*case)
        n, batch, accumulation, devices, length, seconds, peak, recompute = case
        text = (f"{n:.3g} parameters, batch {batch}, accumulation {accumulation}, {devices} "
                f"devices, {length} tokens, {seconds} s, recompute={recompute}")
        check_parts(result, 3, "return three numbers: tokens per step, MFU, HFU")
        tokens = batch * accumulation * devices * length
        if not near(result[0], tokens):
            return f"{text}: {result[0]:,.0f} tokens per step, expected {tokens:,}" + _why_tokens(
                result[0], case)
        mfu = 6 * n * tokens / (seconds * devices * peak)
        hfu = mfu * (8 / 6 if recompute else 1)
        if not near(result[1], mfu):
            return f"{text}: MFU is {result[1]:.3g}, expected {mfu:.3g}" + _why_mfu(
                result[1] / mfu, case)
        if not near(result[2], hfu):
            return f"{text}: HFU is {result[2]:.3g}, expected {hfu:.3g}" + (
                ": the hardware runs the forward pass twice, 8 operations for 6" if recompute else
                ": without recomputation the hardware does the same 6 operations")


def _why_tokens(given: float, case) -> str:
    _, batch, accumulation, devices, length, *_ = case
    for missing, value in (("the accumulation", batch * devices * length),
                           ("the devices", batch * accumulation * length),
                           ("the length: a sequence has many tokens",
                            batch * accumulation * devices)):
        if near(given, value):
            return f": it leaves out {missing}"
    return ""


def _why_mfu(ratio: float, case) -> str:
    devices, seconds, recompute = case[3], case[5], case[7]
    if near(ratio, 100):
        return ": return a fraction, not percent"
    if near(ratio, devices):
        return ": the peak is that of one device; there are several"
    if near(ratio, 1 / 3):
        return ": 2 operations are the forward pass; training takes 6"
    if near(ratio, 8 / 6) and recompute:
        return ": recomputed work is not useful work, MFU counts 6 operations"
    if near(ratio, seconds):
        return ": divide by the seconds of a step"
    return ""


def _log(losses, rates, val=()):
    rows = [{"step": i, "loss": loss, "learning_rate": rate}
            for i, (loss, rate) in enumerate(zip(losses, rates, strict=True), 1)]
    for row, value in zip(rows[-len(val):], val, strict=False):
        row["val_loss"] = value
    return rows


@exercise("triage")
def _(triage):
    guessing = math.log(3072)  # the loss of a model that never saw the format
    falling, rates = [7.9, 5.0, 3.0, 2.0, 1.0, 0.9], [0.5, 1.0, 0.8, 0.6, 0.4, 0.2]
    rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    slow = [7.9, 7.8, 7.8, 7.7, 7.7, 7.6]
    cases = [
        ("the loss falls, the learning rate peaks at step 2, val_loss falls to 1.1",
         _log(falling, rates, (1.6, 1.3, 1.1)), "fine"),
        ("val_loss falls to 1.1 and ends at 1.4",
         _log(falling, rates, (1.1, 1.2, 1.4)), "overfitting"),
        ("val_loss falls to 1.10 and ends at 1.12, within 5 %",
         _log(falling, rates, (1.3, 1.1, 1.12)), "fine"),
        ("the learning rate rises until the last step", _log(slow, rising), "warm-up"),
        ("the loss is nan at step 3 and no later one is worse",
         _log([7.0, 9.0, math.nan, math.nan], rates[:4]), "diverged"),
        ("the loss is inf at step 2", _log([7.0, math.inf, 3.0, 2.0], rates[:4]), "diverged"),
        ("the learning rate is constant and no val_loss was measured",
         _log(falling, [1.0] * 6), "fine"),
        ("the loss is 0 at each step", _log([0.0] * 6, rates), "nothing trained"),
        ("the first loss is 14.0 and 8.03 was expected",
         _log([14.0, *falling[1:]], rates), "bad start"),
        ("the first loss is 9.0, within 1.2 × the expected 8.03",
         _log([9.0, *falling[1:]], rates), "fine"),
        ("the first loss is 14.0 and the learning rate rises until the end; a bad start is "
         "looked at first", _log([14.0, *slow[1:]], rising), "bad start"),
    ]
    judged = [(case, rows, guessing, right) for case, rows, right in cases]
    judged.append(("the first loss is 7.9 and 2.0 was expected, that of a pretrained model",
                   _log(falling, rates), 2.0, "bad start"))
    for case, rows, expected, right in judged:
        result = triage([dict(row) for row in rows], expected)
        if result != right:
            return f"{case}: your answer is {result!r}; expected {right!r}"


VERDICTS = {
    "LoRA forgets less than full fine-tuning.":
        ("depends", "in the settings of Biderman et al. it learns less and forgets less; at equal "
                    "target score the difference may vanish or reverse, depending on rank, "
                    "learning rate and data distance"),
    "Instruction tuning uses the same loss function as pretraining.":
        ("true", "cross-entropy of the next token; the mask only leaves tokens out"),
    "QLoRA trains the 4-bit weights.":
        ("false", "they are frozen; the adapter is trained, in fp32 by default in peft"),
    "Padding with EOS makes a model that never stops.":
        ("depends", "only where EOS is masked by its id, and the base has not learned to end"),
    "ZeRO-3 divides the activations of a GPU.":
        ("false", "it divides weights, gradients and optimizer state"),
    "The weights of Llama-2-7B take 13.5 GB in bf16.":
        ("true", "6.74 billion parameters of two bytes"),
}


@exercise("signed")
def _(signed):
    if message := check_choices(signed, ("true", "false", "depends")):
        return message
    for claim, (right, why) in VERDICTS.items():
        if signed.get(claim) != right:
            return f"{claim!r} is not {signed.get(claim)!r}: {why}"
