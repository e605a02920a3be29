"""Solutions of lesson 12, right variants, and the mistakes that people make."""

import math

import torch
from shown_solutions import edited, shown

round_bf16 = shown("round_bf16")
round_stochastically = shown("round_stochastically")
precision_clinic = shown("precision_clinic")


def _spacing(x, bits=7):
    return 2.0 ** (math.floor(math.log2(abs(x))) - bits)


def by_frexp(x):
    mantissa, exponent = math.frexp(x)  # 0.5 <= |mantissa| < 1
    return math.ldexp(round(mantissa * 256), exponent - 8)


def by_bernoulli(x, unit):
    below = torch.floor_divide(x, unit)
    return (below + torch.bernoulli((x / unit - below).clamp(0, 1))) * unit


def toward_zero(x, unit):
    cut = (x / unit).trunc()
    return (cut + (torch.rand_like(x) < (x / unit - cut).abs())) * unit


def told_apart(start, cause):
    """The right answers, with another cause for the run that begins so."""
    run, = (run for run in precision_clinic if run.startswith(start))
    return precision_clinic | {run: cause}


SOLUTIONS = {
    "round_bf16": {
        "variants": [lambda x: torch.tensor(x).bfloat16().item(), by_frexp],
        "wrong": {
            "the same spacing everywhere": (lambda x: round(x * 128) / 128, "the spacing at 1"),
            "the spacing itself": (lambda x: _spacing(x), "that is the spacing;"),
            "eight bits after the point": (
                lambda x: round(x / _spacing(x, 8)) * _spacing(x, 8) if x else 0.0,
                "half the spacing"),
            "fp16": (lambda x: round(x / _spacing(x, 10)) * _spacing(x, 10) if x else 0.0,
                     "the spacing of fp16"),
            "cut off": (lambda x: math.trunc(x / _spacing(x)) * _spacing(x) if x else 0.0,
                        "do not cut off"),
            "ties up": (lambda x: math.floor(x / _spacing(x) + 0.5) * _spacing(x) if x else 0.0,
                        "a tie goes to the even multiple"),
            "no sign": (lambda x: round_bf16(abs(x)), "mirror image"),
            "seven significant bits": (
                lambda x: round(x / _spacing(x, 6)) * _spacing(x, 6) if x else 0.0,
                "twice the spacing"),
            "three digits": (lambda x: float(f"{x:.3g}"), "decimal digits"),
        },
    },
    "round_stochastically": {
        "variants": [lambda x, unit: torch.floor(x / unit + torch.rand_like(x)) * unit,
                     by_bernoulli],
        "wrong": {
            "to the nearest": (lambda x, unit: (x / unit).round() * unit, "nothing is random"),
            "one draw for all": (
                edited("round_stochastically", "rand_like(x)", "rand(())"),
                "one random number for all"),
            "a coin": (lambda x, unit: ((x / unit).floor() + (torch.rand_like(x) < 0.5)) * unit,
                       "in half of the cases"),
            "the wrong probability": (
                edited("round_stochastically", "< x", "> x"),
                "nearer neighbor must be more"),
            "in units": (lambda x, unit: round_stochastically(x, unit) / unit,
                         "multiply the whole number by the unit"),
            "negative numbers": (toward_zero, "on average; expected -0.0525"),
        },
    },
    "precision_clinic": {
        "variants": [dict(reversed(precision_clinic.items())),
                     dict(sorted(precision_clinic.items()))],
        "wrong": {
            "bf16 needs a scale": (told_apart("Full", "loss scale"), "but those near zero"),
            "fp16 rounds away": (told_apart("fp16", "rounded away"), "multiply the loss"),
            "a scale for T5": (told_apart("T5", "loss scale"), "no scale of the loss changes"),
            "steps are lost after a spike": (told_apart("All", "rounded away"),
                                             "steps are not lost"),
            "a frozen base": (told_apart("Adapters", "rounded away"), "LoRA freezes the base"),
            "an adapter is exact": (told_apart("An adapter", "nothing wrong"), "same spacing"),
            "no such cause": (told_apart("T5", "overflow"), "is not one of"),
        },
    },
}
