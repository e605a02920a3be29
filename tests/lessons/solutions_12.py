"""Solutions of lesson 12, right variants, and the mistakes that people make."""

import math

import torch


def _spacing(x, bits=7):
    return 2.0 ** (math.floor(math.log2(abs(x))) - bits)


def round_bf16(x):
    return round(x / _spacing(x)) * _spacing(x) if x else 0.0


def by_torch(x):
    return torch.tensor(x).bfloat16().item()


def by_frexp(x):
    mantissa, exponent = math.frexp(x)  # 0.5 <= |mantissa| < 1
    return math.ldexp(round(mantissa * 256), exponent - 8)


def half_spacing(x):
    return round(x / _spacing(x, 8)) * _spacing(x, 8) if x else 0.0


def as_fp16(x):
    return round(x / _spacing(x, 10)) * _spacing(x, 10) if x else 0.0


def cut_off(x):
    return math.trunc(x / _spacing(x)) * _spacing(x) if x else 0.0


def ties_up(x):
    return math.floor(x / _spacing(x) + 0.5) * _spacing(x) if x else 0.0


def positive_only(x):
    return round_bf16(abs(x))


def round_stochastically(x, unit):
    below = (x / unit).floor()
    return (below + (torch.rand_like(x) < x / unit - below)) * unit


def floor_of_a_sum(x, unit):
    return torch.floor(x / unit + torch.rand_like(x)) * unit


def by_bernoulli(x, unit):
    below = torch.floor_divide(x, unit)
    return (below + torch.bernoulli((x / unit - below).clamp(0, 1))) * unit


def by_coin(x, unit):
    return ((x / unit).floor() + (torch.rand_like(x) < 0.5)) * unit


def reversed_probability(x, unit):
    below = (x / unit).floor()
    return (below + (torch.rand_like(x) > x / unit - below)) * unit


def one_draw(x, unit):
    below = (x / unit).floor()
    return (below + (torch.rand(()) < x / unit - below)) * unit


def in_units(x, unit):
    return round_stochastically(x, unit) / unit


def toward_zero(x, unit):
    cut = (x / unit).trunc()
    return (cut + (torch.rand_like(x) < (x / unit - cut).abs())) * unit


SOLUTIONS = {
    "round_bf16": {
        "right": round_bf16,
        "variants": [by_torch, by_frexp],
        "wrong": {
            "the same spacing everywhere": (lambda x: round(x * 128) / 128, "the spacing at 1"),
            "the spacing itself": (lambda x: _spacing(x), "that is the spacing;"),
            "eight bits after the point": (half_spacing, "half the spacing"),
            "fp16": (as_fp16, "the spacing of fp16"),
            "cut off": (cut_off, "do not cut off"),
            "ties up": (ties_up, "a tie goes to the even multiple"),
            "no sign": (positive_only, "mirror image"),
        },
    },
    "round_stochastically": {
        "right": round_stochastically,
        "variants": [floor_of_a_sum, by_bernoulli],
        "wrong": {
            "to the nearest": (lambda x, unit: (x / unit).round() * unit, "nothing is random"),
            "one draw for all": (one_draw, "one random number for all"),
            "a coin": (by_coin, "in half of the cases"),
            "the wrong probability": (reversed_probability, "nearer neighbor must be more"),
            "in units": (in_units, "multiply the whole number by the unit"),
            "negative numbers": (toward_zero, "on average; expected -0.0525"),
        },
    },
}
