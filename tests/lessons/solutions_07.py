"""Solutions of lesson 07, and the mistakes that people make."""

import math
import statistics


def outside_the_rule(recipes):
    return [name for name, (tuned, before) in recipes.items()
            if not 1 / 100 <= tuned / before <= 1 / 10 + 1e-9]


def only_too_high(recipes):
    return [name for name, (tuned, before) in recipes.items() if tuned / before > 0.1 + 1e-9]


def inside_the_rule(recipes):
    return [name for name in recipes if name not in outside_the_rule(recipes)]


def upside_down(recipes):
    return [name for name, (tuned, before) in recipes.items() if not 0.01 <= before / tuned <= 0.1]


def drift(peak, steps):
    return sum(peak * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps))


def quarter_wave(peak, steps):
    return sum(peak * math.cos(math.pi / 2 * step / steps) for step in range(steps))


def pick_rate(sweep, floor):
    means = {rate: {key: statistics.fmean(seed[key] for seed in seeds) for key in seeds[0]}
             for rate, seeds in sweep.items()}
    fit = [rate for rate in means if means[rate]["target"] >= floor - 1e-9]
    return max(fit, key=lambda rate: means[rate]["kept"], default=None)


def pick_without_floor(sweep, floor):
    return pick_rate(sweep, 0.0)


def pick_best_target(sweep, floor):
    return max(sweep, key=lambda rate: statistics.fmean(s["target"] for s in sweep[rate]))


def pick_by_best_seed(sweep, floor):
    fit = [rate for rate in sweep if max(s["target"] for s in sweep[rate]) >= floor]
    return max(fit, key=lambda rate: max(s["kept"] for s in sweep[rate]), default=None)


def pick_always_something(sweep, floor):
    found = pick_rate(sweep, floor)
    return next(iter(sweep)) if found is None else found


SOLUTIONS = {
    "outside_the_rule": {
        "right": outside_the_rule,
        "wrong": {
            "below the rule forgotten": (only_too_high, "below the rule is outside"),
            "the others": (inside_the_rule, "inside the rule"),
            "ratio upside down": (upside_down, "not the inverse"),
        },
    },
    "drift": {
        "right": drift,
        "wrong": {
            "constant rate": (lambda peak, steps: peak * steps, "constant rate"),
            "mean rate": (lambda peak, steps: peak / 2, "mean rate"),
            "quarter of a wave": (quarter_wave, "quarter of a cosine wave"),
        },
    },
    "pick_rate": {
        "right": pick_rate,
        "wrong": {
            "no floor": (pick_without_floor, "the floor is 0.9"),
            "highest target": (pick_best_target, "kept decides"),
            "best seed": (pick_by_best_seed, "one seed only"),
            "never None": (pick_always_something, "expected None"),
        },
    },
}
