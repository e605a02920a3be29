"""Solutions of lesson 10, right variants, and the mistakes that people make."""

import torch
from shown_solutions import edited, shown

choose_base = shown("choose_base")
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


def by_totals(block, double):
    weights = 256 * block
    scales = 256 * 8 + 32 if double else 256 * 32
    return (4 * weights + scales) / weights


def with_fractions(block, double):
    from fractions import Fraction

    return float(4 + (Fraction(8 * 256 + 32, 256 * block) if double else Fraction(32, block)))


def sized(model, free, bits=4 + 8 / 64 + 32 / 64 / 256, two=2e-9, rounded=("linear", "experts")):
    names = [name for name in rounded if not (name == "experts" and model["fused"])]
    all_of = sum(model[name] for name in ("linear", "experts", "other"))
    low = sum(model[name] for name in names)
    if two * all_of <= free:
        return "bf16"
    return "NF4" if two * (all_of - low + low * bits / 16) <= free else "neither"


def in_order(model, free):
    sizes = {"bf16": 2 * (model["linear"] + model["experts"] + model["other"]) / 1e9}
    experts = model["experts"] * (2 if model["fused"] else 0.51586914)
    sizes["NF4"] = (model["linear"] * 0.51586914 + experts + model["other"] * 2) / 1e9
    return next((name for name, size in sizes.items() if size < free), "neither")


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
            "8 bits for all": (lambda block, double: 4 + 8 / block + 8 / (256 * block) if double
                               else 4 + 32 / block, "32 bits, not 8"),
            "always blocks of 64": (
                lambda block, double: 4 + 8 / block + 32 / (256 * 64) if double
                else 4 + 32 / block, "not always of 64"),
            "shared by the block": (lambda block, double: 4 + 40 / block if double
                                    else 4 + 32 / block,
                                    "shared by 256 scales"),
        },
    },
    "choose_base": {
        "variants": [sized, in_order],
        "wrong": {
            "NF4 first": (edited("choose_base", 'if bf16 <= free_gb:\n        return "bf16"\n    '
                                 'return "NF4" if nf4 <= free_gb else "neither"',
                                 'return "NF4" if nf4 <= free_gb else "neither"'),
                          "round only if you must"),
            "lower case": (lambda model, free: choose_base(model, free).lower(), "'nf4'; return"),
            "GiB": (lambda model, free: sized(model, free, two=2 / 2**30), "15.3 are GiB"),
            "four bits": (lambda model, free: sized(model, free, 4), "are stored too"),
            "without double quantization": (lambda model, free: sized(model, free, 4.5),
                                            "a 7B with 3.9 GB free: 'neither'"),
            "all quantized": (
                lambda model, free: sized(model, free, rounded=("linear", "experts", "other")),
                "embedding and head stay"),
            "active experts": (
                lambda model, free: sized(model | {"experts": model["active"]}, free),
                "not only the active ones"),
            "fused experts are quantized": (
                lambda model, free: sized(model | {"fused": False}, free), "fused experts stay"),
            "nothing is quantized when fused": (
                lambda model, free: sized(
                    model, free, rounded=() if model["fused"] else ("linear", "experts")),
                "in any case"),
            "experts are never quantized": (
                lambda model, free: sized(model, free, rounded=("linear",)), "are 16.7 GB"),
            "never neither": (lambda model, free: "bf16" if sized(model, free) == "bf16" else "NF4",
                              "3.58 GB in NF4"),
        },
    },
}
