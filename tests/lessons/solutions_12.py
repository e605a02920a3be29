"""Solutions of lesson 12, and the mistakes that people make."""

import math

import torch


def bf16_spacing(x):
    return 2.0 ** (math.floor(math.log2(x)) - 7)


def round_stochastically(x, unit):
    below = (x / unit).floor()
    return (below + (torch.rand_like(x) < x / unit - below)) * unit


def by_coin(x, unit):
    return ((x / unit).floor() + (torch.rand_like(x) < 0.5)) * unit


def toward_zero(x, unit):
    cut = (x / unit).trunc()
    return (cut + (torch.rand_like(x) < (x / unit - cut).abs())) * unit


def next_scale(scale, good, overflowed):
    if overflowed:
        return scale / 2, 0
    return (scale * 2, 0) if good + 1 >= 2000 else (scale, good + 1)


def scale_without_reset(scale, good, overflowed):
    return (scale / 2, good) if overflowed else next_scale(scale, good, overflowed)


def scale_up(scale, good, overflowed):
    return (scale * 2, 0) if overflowed else next_scale(scale, good, overflowed)


SOLUTIONS = {
    "bf16_spacing": {
        "right": bf16_spacing,
        "wrong": {
            "the same everywhere": (lambda x: 2.0**-7, "the spacing at 1"),
            "proportional": (lambda x: x * 2.0**-7, "the spacing is constant"),
            "eight bits after the point": (lambda x: bf16_spacing(x) / 2, "half of it"),
        },
    },
    "round_stochastically": {
        "right": round_stochastically,
        "wrong": {
            "to the nearest": (lambda x, unit: (x / unit).round() * unit, "without chance"),
            "a coin": (by_coin, "in half of the cases"),
            "negative numbers": (toward_zero, "on average; expected -0.0525"),
        },
    },
    "next_scale": {
        "right": next_scale,
        "wrong": {
            "no new count": (scale_without_reset, "counting starts again"),
            "the wrong way": (scale_up, "must become smaller"),
            "never doubles": (lambda scale, good, overflowed: (scale / 2, 0) if overflowed
                              else (scale, good + 1), "expected (2048, 0)"),
        },
    },
}
