"""Solutions of lesson 10, right variants, and the mistakes that people make."""

import torch
from shown_solutions import edited, shown

dequantize_block = shown("dequantize_block")
bits_per_weight = shown("bits_per_weight")


def quantize_block(values, levels, scale_of=lambda v: v.abs().max()):
    scale = scale_of(values)
    divisor = scale if scale != 0 else 1.0
    return ((values / divisor)[:, None] - levels).abs().argmin(1), scale


def by_thresholds(values, levels):
    scale = float(values.abs().max())
    middles = (levels[1:] + levels[:-1]) / 2
    return torch.bucketize(values / (scale or 1.0), middles), scale


def by_a_loop(values, levels):
    scale = max(abs(float(v)) for v in values)
    codes = [min(range(len(levels)), key=lambda i: abs(float(v) - scale * float(levels[i])))
             for v in values] if scale else [int((levels == 0).nonzero())] * len(values)
    return [codes, scale]


def next_below(values, levels):
    scale = values.abs().max()
    return (levels <= (values / scale)[:, None] + 1e-9).sum(1) - 1, scale


def levels_for_codes(values, levels):
    codes, scale = quantize_block(values, levels)
    return levels[codes], scale


def zeros_divided(values, levels):
    scale = values.abs().max()
    return torch.nan_to_num((values / scale)[:, None] - levels).abs().argmin(1), scale


def in_place(values, levels):
    scale = values.abs().max()
    values /= scale
    return (values[:, None] - levels).abs().argmin(1), scale


def filled_in(packed, scale, levels):
    weights = torch.empty(2 * len(packed))
    weights[0::2] = levels[(packed // 16).long()] * scale
    weights[1::2] = levels[(packed % 16).long()] * scale
    return weights


def one_by_one(packed, scale, levels):
    weights = []
    for byte in packed.tolist():
        weights += [float(levels[byte >> 4]) * scale, float(levels[byte & 15]) * scale]
    return weights


def by_totals(block, double):
    weights = 256 * block
    scales = 256 * 8 + 32 if double else 256 * 32
    return (4 * weights + scales) / weights


def with_fractions(block, double):
    from fractions import Fraction

    return float(4 + (Fraction(8 * 256 + 32, 256 * block) if double else Fraction(32, block)))


SOLUTIONS = {
    "quantize_block": {
        "variants": [by_thresholds, by_a_loop],
        "wrong": {
            "largest, not largest absolute": (
                lambda v, levels: quantize_block(v, levels, lambda x: x.max()),
                "largest absolute"),
            "root mean square": (
                lambda v, levels: quantize_block(v, levels, lambda x: x.norm() / len(x)**0.5),
                "expected 4"),
            "not divided": (
                lambda values, levels: (
                    (values[:, None] - levels).abs().argmin(1), values.abs().max()),
                "divide the values by the scale"),
            "the next level below": (next_below, "not the next below"),
            "levels instead of codes": (levels_for_codes, "index of a level"),
            "divides by zero": (zeros_divided, "a block of zeros"),
            "in place": (in_place, "were changed"),
            "codes alone": (lambda v, levels: quantize_block(v, levels)[0], "two things"),
            "codes with fractions": (
                lambda v, levels: (
                    quantize_block(v, levels)[0].float(), quantize_block(v, levels)[1]),
                "a float dtype"),
            "the next level above": (lambda v, levels: (
                torch.bucketize(v / v.abs().max(), levels), v.abs().max()), "not the next above"),
        },
    },
    "dequantize_block": {
        "variants": [filled_in, one_by_one],
        "wrong": {
            "no scale": (lambda p, s, levels: dequantize_block(p, 1.0, levels), "scale is missing"),
            "low first": (
                edited("dequantize_block", ">> 4, packed & 15", "& 15, packed >> 4"),
                "wrong order"),
            "not alternating": (
                lambda packed, scale, levels: (
                    levels[torch.cat([packed >> 4, packed & 15]).long()] * scale),
                "all high codes come first"),
            "codes, not levels": (
                lambda packed, scale, levels: (
                    torch.stack([packed >> 4, packed & 15], 1).flatten() * scale),
                "look up the level"),
            "one code in a byte": (
                lambda packed, scale, levels: levels[(packed & 15).long()] * scale,
                "each byte holds two codes"),
            "not flat": (
                lambda packed, scale, levels: dequantize_block(packed, scale, levels).view(-1, 2),
                "flatten it"),
            "divided": (lambda p, s, levels: dequantize_block(p, 1 / s, levels), "divided by"),
            "bytes as an index": (lambda p, s, levels: levels[torch.stack([p >> 4, p & 15], 1)] * s,
                                  "as a mask"),
        },
    },
    "bits_per_weight": {
        "variants": [by_totals, with_fractions],
        "wrong": {
            "codes alone": (lambda block, double: 4, "the scales are stored too"),
            "scale alone": (lambda block, double: bits_per_weight(block, double) - 4,
                            "4 bits more"),
            "no scale of scales": (lambda block, double: 4 + (8 if double else 32) / block,
                                   "lacks the fp32 scale"),
            "16-bit scales": (lambda block, double: 4 + 16 / block, "32 bits here, not 16"),
            "double is ignored": (lambda block, double: 4 + 32 / block, "`double` is ignored"),
            "block is ignored": (lambda block, double: bits_per_weight(64, double),
                                 "`block` is ignored"),
            "256 weights share": (lambda block, double: 4 + 8 / block + 32 / 256 if double
                                  else 4 + 32 / block,
                                  "256 · block"),
            "shared by the block": (lambda block, double: 4 + 40 / block if double
                                    else 4 + 32 / block,
                                    "shared by 256 scales"),
        },
    },
}
