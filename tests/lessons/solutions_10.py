"""Solutions of lesson 10, and the mistakes that people make."""


def round_trip(values, levels, scale_of=lambda v: v.abs().max(), back=True):
    scale = scale_of(values)
    if scale == 0:
        return values.clone()
    nearest = (values[:, None] / scale - levels).abs().argmin(1)
    return levels[nearest] * (scale if back else 1)


def zeros_divided(values, levels):
    scale = values.abs().max()
    return levels[(values[:, None] / scale - levels).abs().argmin(1)] * (scale or float("nan"))


def next_level_below(values, levels):
    scale = values.abs().max()
    below = (levels <= (values[:, None] / scale)).sum(1) - 1
    return levels[below] * scale


def bits_per_weight(block, double):
    return 4 + (8 / block + 32 / (block * 256) if double else 32 / block)


def frozen_gigabytes(linear, other):
    return (linear * bits_per_weight(64, True) / 8 + other * 2) / 1e9


SOLUTIONS = {
    "round_trip": {
        "right": lambda values, levels: round_trip(values, levels),
        "wrong": {
            "not scaled back": (lambda v, levels: round_trip(v, levels, back=False),
                                "multiply it back"),
            "largest, not largest absolute": (
                lambda v, levels: round_trip(v, levels, lambda x: x.max()), "must come back"),
            "not the nearest": (next_level_below, "the nearest levels give"),
            "divides by zero": (zeros_divided, "a block of zeros"),
        },
    },
    "bits_per_weight": {
        "right": bits_per_weight,
        "wrong": {
            "codes alone": (lambda block, double: 4, "the scales are stored too"),
            "no scale of scales": (lambda block, double: 4 + (8 if double else 32) / block,
                                   "lacks the fp32 scale"),
            "16-bit scales": (lambda block, double: 4 + 16 / block, "expected 4.5"),
        },
    },
    "frozen_gigabytes": {
        "right": frozen_gigabytes,
        "wrong": {
            "half a byte": (lambda linear, other: (linear + other) / 2e9, "half a byte each"),
            "everything quantized": (
                lambda linear, other: (linear + other) * bits_per_weight(64, True) / 8e9,
                "stay in bf16"),
            "no scales": (lambda linear, other: (linear / 2 + other * 2) / 1e9, "0.127 bits"),
        },
    },
}
