"""Solutions of lesson 09, right variants, and the mistakes that people make."""

import math

import numpy as np
from shown_solutions import edited

MOMENTS = {"adamw": 8, "adamw_8bit": 2, "sgd": 0}


def state_bytes(frozen, trained, frozen_bytes=2, optimizer="adamw"):
    return frozen * frozen_bytes + trained * (8 + MOMENTS[optimizer])


def by_parts(frozen, trained, frozen_bytes=2, optimizer="adamw"):
    parts = {"weights": frozen * frozen_bytes + trained * 4, "gradients": trained * 4}
    if optimizer == "adamw":
        parts["moments"] = 2 * 4 * trained
    elif optimizer == "adamw_8bit":
        parts["moments"] = 2 * 1 * trained
    return sum(parts.values())


def in_numpy(frozen, trained, frozen_bytes=2, optimizer="adamw"):
    return np.dot([frozen, trained], [frozen_bytes, 8 + MOMENTS[optimizer]])


def one_moment_of_8_bits(frozen, trained, frozen_bytes=2, optimizer="adamw"):
    moments = {"adamw": 8, "adamw_8bit": 1, "sgd": 0}[optimizer]
    return frozen * frozen_bytes + trained * (8 + moments)


def sgd_with_momentum(frozen, trained, frozen_bytes=2, optimizer="adamw"):
    moments = {"adamw": 8, "adamw_8bit": 2, "sgd": 4}[optimizer]
    return frozen * frozen_bytes + trained * (8 + moments)


def summed(hidden, layers, vocabulary):
    return [sum(34 * hidden for _ in range(layers)), 4 * vocabulary + 4 * vocabulary]


def as_floats(hidden, layers, vocabulary):
    return np.array([34.0 * hidden * layers])[0], float(2 * 4 * vocabulary)


def with_the_fixed_part(budget, short, long):
    slope = (long[1] - short[1]) / (long[0] - short[0])
    return math.floor((budget - (long[1] - slope * long[0])) / slope)


def interpolated(budget, short, long):
    return int(np.interp(budget, [short[1], 10 * long[1] - 9 * short[1]],
                         [short[0], 10 * long[0] - 9 * short[0]]))


def _slope(short, long):
    return (long[1] - short[1]) / (long[0] - short[0])


SOLUTIONS = {
    "state_bytes": {
        "variants": [by_parts, in_numpy],
        "wrong": {
            "no gradients": (edited(state_bytes, "8 +", "4 +"), "four parts is missing"),
            "frozen as trained": (
                lambda frozen, trained, frozen_bytes=2, optimizer="adamw": (
                    (frozen + trained) * (8 + MOMENTS[optimizer])),
                "neither gradients nor"),
            "no frozen weights": (
                lambda frozen, trained, frozen_bytes=2, optimizer="adamw": (
                    trained * (8 + MOMENTS[optimizer])),
                "in memory too"),
            "frozen weights in fp32": (
                lambda frozen, trained, frozen_bytes=2, optimizer="adamw": (
                    state_bytes(frozen, trained, 4, optimizer)),
                "`frozen_bytes` bytes each"),
            "frozen_bytes is ignored": (
                lambda frozen, trained, frozen_bytes=2, optimizer="adamw": (
                    state_bytes(frozen, trained, 2, optimizer)),
                "`frozen_bytes` is ignored"),
            "optimizer is ignored": (
                lambda frozen, trained, frozen_bytes=2, optimizer="adamw": (
                    state_bytes(frozen, trained, frozen_bytes)),
                "`optimizer` is ignored"),
            "one moment of 8 bits": (one_moment_of_8_bits, "two moments"),
            "SGD with momentum": (sgd_with_momentum, "stores no moments"),
            "in GB": (lambda *a, **k: state_bytes(*a, **k) / 1e9, "in GB"),
        },
    },
    "token_bytes": {
        "variants": [summed, as_floats],
        "wrong": {
            "one layer": (lambda h, n, v: (34 * h, 8 * v), "one layer"),
            "34 values": (lambda h, n, v: (68 * h * n, 8 * v), "bytes already"),
            "no gradient": (lambda h, n, v: (34 * h * n, 4 * v), "either the gradient"),
            "16 bits": (lambda h, n, v: (34 * h * n, 2 * v), "in fp32"),
            "logits in each layer": (lambda h, n, v: (34 * h * n, 8 * v * n), "one head"),
            "logits of each hidden unit": (lambda h, n, v: (34 * h * n, 8 * v * h), "hidden size"),
            "the wrong order": (lambda h, n, v: (8 * v, 34 * h * n), "wrong order"),
            "the sum": (lambda h, n, v: 34 * h * n + 8 * v, "expected two numbers"),
        },
    },
    "longest": {
        "variants": [with_the_fixed_part, interpolated],
        "wrong": {
            "through the origin": (lambda b, s, t: int(b * s[0] / s[1]), "does not grow"),
            "no fixed part": (lambda b, s, t: int(b / _slope(s, t)), "fixed part"),
            "what can be added": (lambda b, s, t: int((b - s[1]) / _slope(s, t)), "tokens to add"),
            "added to the long point": (lambda b, s, t: int((b - t[1]) / _slope(s, t)),
                                        "to the long point"),
            "rounded up": (lambda b, s, t: math.ceil(s[0] + (b - s[1]) / _slope(s, t)),
                           "rounded up"),
            "not rounded": (lambda b, s, t: s[0] + (b - s[1]) / _slope(s, t), "whole number"),
        },
    },
}
