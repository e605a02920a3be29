"""Lesson 10, quantization and QLoRA."""

from __future__ import annotations

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_number


@exercise("round_trip")
def _(round_trip):
    import torch

    levels = torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0])
    values = torch.tensor([0.1, -4.0, 1.1, 0.4, -2.9])
    before = values.clone()
    made = round_trip(values, levels)
    if not torch.equal(values, before):
        return "the values themselves were changed; return a new tensor"
    wanted = torch.tensor([0.0, -4.0, 1.0, 0.0, -2.0])
    if torch.allclose(made, wanted / 4):
        return "the result is still divided by the scale: multiply it back"
    if not torch.allclose(made.abs().max(), torch.tensor(4.0)):
        return ("the largest value, -4, must come back exactly: the scale is the largest absolute "
                f"value; you gave {[round(x, 3) for x in made.tolist()]}")
    if not torch.allclose(made, wanted):
        return (f"{before.tolist()} came back as {[round(x, 3) for x in made.tolist()]}; the "
                f"nearest levels give {wanted.tolist()}")
    zeros = round_trip(torch.zeros(4), levels)
    if not torch.equal(zeros, torch.zeros(4)):
        return f"a block of zeros came back as {zeros.tolist()}: do not divide by its scale, 0"


@exercise("bits_per_weight")
def _(bits_per_weight):
    once, twice, small = (bits_per_weight(*args) for args in ((64, False), (64, True), (32, True)))
    return check_number("block 64, plain", once, 4.5, {
        4: "4 bits are the codes alone: the scales are stored too (32 bits for 64 weights)",
    }) or check_number("block 64, double", twice, 4.126953125, {
        4.125: "4.125 lacks the fp32 scale that 256 scales share",
    }, 1e-5) or check_number("block 32, double", small, 4.2539062, tolerance=1e-5)


@exercise("frozen_gigabytes")
def _(frozen_gigabytes):
    return check_number("Llama 2 7B", frozen_gigabytes(6.476e9, 0.262e9), 3.8648, {
        (6.476 + 0.262) / 2: "half a byte each: scales and bf16 parts are missing",
        (6.476 + 0.262) * 0.5158691: "embeddings, head and norms stay in bf16",
        6.476 / 2 + 0.524: "the scales cost 0.127 bits a weight",
        6.476 * 4.126953 + 0.262 * 16: "those are gigabits: 8 to a byte"})
