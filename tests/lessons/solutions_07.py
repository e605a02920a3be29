"""Solutions of lesson 07, right variants, and the mistakes that people make."""

import math
import statistics


def half_wave(progress):
    return (1 + math.cos(math.pi * progress)) / 2


def warmup_cosine(step, total, peak, warmup):
    if step <= warmup:
        return peak * step / warmup
    return peak * half_wave((step - 1 - warmup) / (total - warmup))


def by_minimum(step, total, peak, warmup):
    rise = step / warmup if warmup else 1.0
    return peak * min(rise, half_wave(max(0, step - 1 - warmup) / (total - warmup)))


def by_squared_cosine(step, total, peak, warmup):
    if step <= warmup:
        return peak / warmup * step
    return peak * math.cos(math.pi / 2 * (step - warmup - 1) / (total - warmup)) ** 2


def after_warmup(rule):
    """A wrong schedule whose warm-up is right."""
    def schedule(step, total, peak, warmup):
        return peak * step / warmup if step <= warmup else peak * rule(step, total, warmup)
    return schedule


def in_warmup(rule):
    """A wrong schedule that is right after its warm-up."""
    def schedule(step, total, peak, warmup):
        return peak * rule(step, warmup) if step <= warmup else warmup_cosine(
            step, total, peak, warmup)
    return schedule


def no_zero_warmup(step, total, peak, warmup):
    return peak * min(step / warmup, half_wave(max(0, step - 1 - warmup) / (total - warmup)))


def choose_learning_rate(sweep, floor):
    means = {rate: {key: statistics.fmean(seed[key] for seed in seeds) for key in seeds[0]}
             for rate, seeds in sweep.items()}
    fit = [rate for rate in means if means[rate]["target"] >= floor - 1e-9]
    return max(fit, key=lambda rate: means[rate]["kept"], default=None)


def choose_by_sorting(sweep, floor):
    fit = []
    for rate, seeds in sweep.items():
        if sum(seed["target"] for seed in seeds) / len(seeds) > floor - 1e-6:
            fit.append((sum(seed["kept"] for seed in seeds) / len(seeds), rate))
    return sorted(fit)[-1][1] if fit else None


def choose_by_sums(sweep, floor):
    best = None
    for rate, seeds in sweep.items():
        kept = sum(seed["kept"] for seed in seeds)
        if sum(seed["target"] - floor for seed in seeds) > -1e-9 and (
                best is None or kept > best[0]):
            best = kept, rate
    return best and best[1]


def above_only(sweep, floor):
    return choose_learning_rate(sweep, floor + 1e-6)


def never_none(sweep, floor):
    found = choose_learning_rate(sweep, floor)
    return next(iter(sweep)) if found is None else found


def by_best_seed(sweep, floor):
    fit = [rate for rate in sweep if max(s["target"] for s in sweep[rate]) >= floor]
    return max(fit, key=lambda rate: max(s["kept"] for s in sweep[rate]), default=None)


def highest_target(sweep, floor):
    return max(sweep, key=lambda rate: statistics.fmean(s["target"] for s in sweep[rate]))


SOLUTIONS = {
    "warmup_cosine": {
        "right": warmup_cosine,
        "variants": [by_minimum, by_squared_cosine],
        "wrong": {
            "no warm-up": (lambda s, total, peak, w: peak * half_wave((s - 1) / total),
                           "no warm-up"),
            "first step at 0": (in_warmup(lambda s, w: (s - 1) / w), "peak / warmup"),
            "peak not reached": (in_warmup(lambda s, w: s / (w + 1)), "stops below the peak"),
            "jump": (after_warmup(lambda s, total, w: half_wave((s - 1) / total)), "jumps"),
            "stops early": (after_warmup(lambda s, total, w: half_wave((s - 1 - w) / total)),
                            "does not reach 0"),
            "last step at 0": (after_warmup(
                lambda s, total, w: half_wave((s - w) / (total - w))), "is lost"),
            "quarter of a wave": (after_warmup(
                lambda s, total, w: math.cos(math.pi / 2 * (s - 1 - w) / (total - w))),
                "quarter of a wave"),
            "linear": (after_warmup(lambda s, total, w: 1 - (s - 1 - w) / (total - w)), "linear"),
            "not halved": (after_warmup(
                lambda s, total, w: 2 * half_wave((s - 1 - w) / (total - w))), "twice the peak"),
            "fractions": (lambda s, total, peak, w: warmup_cosine(s, total, 1.0, w),
                          "multiply by it"),
            "zero warm-up": (no_zero_warmup, "divides by zero"),
        },
    },
    "choose_learning_rate": {
        "right": choose_learning_rate,
        "variants": [choose_by_sorting, choose_by_sums],
        "wrong": {
            "no floor": (lambda sweep, floor: choose_learning_rate(sweep, 0.0), "the floor is 0.9"),
            "highest target": (highest_target, "kept decides"),
            "best seed": (by_best_seed, "one seed only"),
            "never None": (never_none, "expected None"),
            "above, not at least": (above_only, "at least, not above"),
        },
    },
}
