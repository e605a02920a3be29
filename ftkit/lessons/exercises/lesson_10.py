"""Lesson 10, quantization and QLoRA."""

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import check_number, check_parts, told


def _rounded(values) -> list[float]:
    return [round(float(value), 3) for value in values]


@exercise("quantize_block")
def _(quantize_block):
    import torch

    levels = torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0])
    values = torch.tensor([0.1, -4.0, 1.1, 0.4, -2.9])
    before = values.clone()
    made = quantize_block(values, levels)
    if not torch.equal(values, before):
        return "the values themselves were changed; make a new tensor"
    check_parts(made, 2, "expected two things, (codes, scale)")
    codes, scale = torch.as_tensor(made[0]), float(made[1])
    if scale != 4:
        return told(scale, 4, [
            (float(values.max()),
             "the scale is 1.1, the largest value; expected the largest absolute value, 4"),
            (float(values.min()), "the scale is negative; take the largest absolute value, 4"),
        ], f"the scale is {scale:.4g}; expected 4, the largest absolute value of the block")
    if codes.is_floating_point() and not torch.equal(codes, codes.round()):
        return (f"the codes are {_rounded(codes)}; expected the index of a level, not the level "
                "or the weight itself")
    if codes.is_floating_point():
        return "the codes have a float dtype; an index is an integer, as argmin gives it"
    nearest = [2, 0, 3, 2, 1]
    undivided = "divide the values by the scale before you look for the nearest level"
    wrong = told(codes.tolist(), nearest, [
        ([2, 0, 3, 2, 0],
         "-0.725 is nearer to -0.5 than to -1: take the nearest level, not the next below"),
        ([3, 0, 4, 3, 1],
         "0.025 is nearer to 0 than to 0.25: take the nearest level, not the next above"),
        ([4, 0, 4, 4, 0], undivided), ([2, 0, 4, 3, 0], undivided),
    ], f"{_rounded(before)}, scale 4, levels {levels.tolist()}: the codes are {codes.tolist()}; "
       f"the nearest levels have the indices {nearest}")
    if wrong:
        return wrong
    codes, scale = quantize_block(torch.zeros(4), levels)
    if torch.as_tensor(codes).tolist() != [2] * 4 or float(scale) != 0:
        return (f"a block of zeros gave the codes {torch.as_tensor(codes).tolist()} and the scale "
                f"{float(scale)}; expected the code of level 0 and scale 0: do not divide by 0")


@exercise("bits_per_weight")
def _(bits_per_weight):
    once, twice, small = (bits_per_weight(*args) for args in ((64, False), (64, True), (32, True)))
    return check_number("block 64, plain", once, 4.5, {
        4: "4 bits are the codes alone: the scales are stored too (32 bits for 64 weights)",
        0.5: "that is the part of the scale; each code takes 4 bits more",
        36: "the 32 bits of a scale are shared by all weights of its block",
        4.25: "a scale has 32 bits here, not 16",
    }) or check_number("block 64, double", twice, 4.126953125, {
        4.125: "4.125 lacks the fp32 scale that 256 scales share",
        4.25: "the fp32 scale is shared by 256 scales, so by 256 · 64 weights",
        4.5: "`double` is ignored; with it a scale has 8 bits",
        4 + 8 / 64 + 32 / 64: "the fp32 scale is shared by 256 scales, so by 256 · 64 weights",
        4 + 8 / 64 + 32 / 256: "256 scales share it, not 256 weights: divide by 256 · block",
        4 + 8 / 64 + 8 / (256 * 64): "the value that 256 scales share is fp32: 32 bits, not 8",
    }, 1e-5) or check_number("block 32, double", small, 4.2539062, {
        4.126953125: "`block` is ignored: smaller blocks have more scales",
        4 + 8 / 32 + 32 / (256 * 64): "256 scales of blocks of `block` weights, not always of 64",
    }, tolerance=1e-5)


@exercise("choose_base")
def _(choose_base):
    dense = {"linear": 6.946e9, "experts": 0, "active": 0, "other": 1.245e9, "fused": False}
    small = {"linear": 6.476e9, "experts": 0, "active": 0, "other": 0.262e9, "fused": False}
    experts = {"linear": 0.906e9, "experts": 28.991e9, "active": 1.812e9, "other": 0.635e9,
               "fused": False}
    cases = [
        ("an 8B with 20 GB free", dense, 20, "bf16",
         "bf16 takes 16.4 GB and fits: round only if you must"),
        ("an 8B with 16 GB free", dense, 16, "NF4",
         "8.191e9 parameters of 2 bytes are 16.4 GB of 1e9 bytes (15.3 are GiB)"),
        ("an 8B with 5 GB free", dense, 5, "neither",
         "embedding and head stay in bf16: 3.58 GB in NF4 and 2.49 GB in bf16"),
        ("a 7B with 3.9 GB free", small, 3.9, "NF4",
         "6.476e9 weights at 4.127 bits are 3.34 GB, and 0.52 GB stay in bf16"),
        ("a 7B with 3.82 GB free", small, 3.82, "neither",
         "the scales are stored too: 4.127 bits a weight, not 4"),
        ("a mixture of experts with 10 GB free", experts, 10, "neither",
         "all experts must be in memory, not only the active ones"),
        ("a mixture of experts with 20 GB free", experts, 20, "NF4",
         "dense layers and experts at 4.127 bits and the rest in bf16 are 16.7 GB"),
        ("fused experts with 20 GB free", experts | {"fused": True}, 20, "neither",
         "fused experts stay in bf16, 58 GB"),
        ("fused experts with 60 GB free", experts | {"fused": True}, 60, "NF4",
         "the dense layers are quantized in any case: 59.7 GB"),
        ("fused experts with 62 GB free", experts | {"fused": True}, 62, "bf16",
         "bf16 takes 61.1 GB and fits"),
    ]
    for case, model, free, right, why in cases:
        made = choose_base(dict(model), free)
        if made is not None and made not in ("bf16", "NF4", "neither"):
            return f"{case}: {made!r}; return \"bf16\", \"NF4\" or \"neither\""
        if made != right:
            return f"{case}: {made!r}; expected {right!r}: {why}"
