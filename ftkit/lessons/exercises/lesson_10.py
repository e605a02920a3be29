"""Lesson 10, quantization and QLoRA."""

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import check_number, check_parts, close, told


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


@exercise("dequantize_block")
def _(dequantize_block):
    import torch

    levels = torch.linspace(-1, 1, 16)
    packed = torch.tensor([0x1F, 0x80, 0xE3], dtype=torch.uint8)
    before = packed.clone()
    try:
        made = dequantize_block(packed, 3.0, levels)
    except IndexError:
        return ("torch takes a tensor of uint8 as a mask when it is used as an index; convert the "
                "codes with .long()")
    if not torch.equal(packed, before):
        return "`packed` itself was changed; make a new tensor"
    made = torch.as_tensor(made, dtype=torch.float32)
    wanted = 3 * levels[[1, 15, 8, 0, 14, 3]]
    if made.shape == (3, 2) and torch.allclose(made.flatten(), wanted):
        return "the shape is (3, 2); expected a 1-D tensor of 6 weights: flatten it"
    if made.shape != wanted.shape:
        return (f"3 bytes gave a tensor of shape {tuple(made.shape)}; each byte holds two codes, "
                "so 6 weights are expected")
    return told(made, wanted, [
        (wanted / 3, "the scale is missing: multiply the levels by it"),
        (wanted[[1, 0, 3, 2, 5, 4]], "the two codes of a byte are in the wrong order: the high "
                                     "four bits come first"),
        (wanted[[0, 2, 4, 1, 3, 5]], "all high codes come first and then all low codes; "
                                     "expected high, low, high, low, ..."),
        (3.0 * torch.tensor([1, 15, 8, 0, 14, 3.0]), "these are codes times the scale; look up "
                                                     "the level of each code first"),
        (wanted / 9, "the levels are divided by the scale; multiply them by it"),
    ], f"bytes 0x1F, 0x80, 0xE3 with scale 3 gave {_rounded(made)}; the codes are 1, 15, "
       f"8, 0, 14, 3, so expected {_rounded(wanted)}", close)


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
    }, 1e-5) or check_number("block 32, double", small, 4.2539062, {
        4.126953125: "`block` is ignored: smaller blocks have more scales"}, tolerance=1e-5)
