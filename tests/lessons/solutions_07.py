"""Solutions of lesson 07, right variants, and the mistakes that people make."""

import math
import statistics

from shown_solutions import shown

warmup_cosine = shown("warmup_cosine")
choose_learning_rate = shown("choose_learning_rate")


def half_wave(progress):
    return (1 + math.cos(math.pi * progress)) / 2


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


def never_none(sweep, floor):
    found = choose_learning_rate(sweep, floor)
    return next(iter(sweep)) if found is None else found


def by_best_seed(sweep, floor):
    fit = [rate for rate in sweep if max(s["target"] for s in sweep[rate]) >= floor]
    return max(fit, key=lambda rate: max(s["kept"] for s in sweep[rate]), default=None)


SOLUTIONS = {
    "warmup_cosine": {
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
                lambda s, total, w: half_wave((s - w) / (total - w))),
                               "is lost"),
            "quarter of a wave": (after_warmup(
                lambda s, total, w: math.cos(math.pi / 2 * (s - 1 - w) / (total - w))),
                                  "quarter of a wave"),
            "linear": (after_warmup(lambda s, total, w: 1 - (s - 1 - w) / (total - w)), "linear"),
            "not halved": (after_warmup(
                lambda s, total, w: 2 * half_wave((s - 1 - w) / (total - w))),
                           "twice the peak"),
            "fractions": (lambda s, total, peak, w: warmup_cosine(s, total, 1.0, w),
                          "multiply by it"),
            "zero warm-up": (no_zero_warmup, "divides by zero"),
            "degrees": (after_warmup(lambda s, total, w: (
                1 + math.cos(180 * (s - 1 - w) / (total - w))) / 2), "takes radians"),
            "a whole wave": (after_warmup(
                lambda s, total, w: half_wave(2 * (s - 1 - w) / (total - w))), "a whole wave"),
            "never falls": (after_warmup(lambda s, total, w: 1.0), "never falls"),
            "ends at a tenth": (after_warmup(
                lambda s, total, w: 0.1 + 0.9 * half_wave((s - 1 - w) / (total - w))),
                                "a tenth of the peak"),
        },
    },
    "choose_learning_rate": {
        "variants": [choose_by_sorting, choose_by_sums],
        "wrong": {
            "no floor": (lambda sweep, floor: choose_learning_rate(sweep, 0.0), "the floor is 0.9"),
            "highest target": (
                lambda sweep, floor: max(sweep, key=lambda rate: statistics.fmean(
                    seed["target"] for seed in sweep[rate])),
                "kept decides"),
            "best seed": (by_best_seed, "one seed only"),
            "never None": (never_none, "expected None"),
            "largest of none": (lambda sweep, floor: choose_learning_rate(sweep, floor) or max([]),
                                "max() of nothing"),
            "above, not at least": (lambda sweep, floor: choose_learning_rate(sweep, floor + 1e-6),
                                    "at least, not above"),
            "every seed": (lambda sweep, floor: max((
                rate for rate, seeds in sweep.items() if min(s["target"] for s in seeds) >= floor),
                key=lambda rate: statistics.fmean(s["kept"] for s in sweep[rate]), default=None),
                           "with every seed"),
            "highest sum": (lambda sweep, floor: max((
                rate for rate in sweep if choose_learning_rate({rate: sweep[rate]}, floor)),
                key=lambda rate: statistics.fmean(s["target"] + s["kept"] for s in sweep[rate]),
                default=None), "highest sum"),
            "best single seed": (lambda sweep, floor: max((
                rate for rate in sweep if choose_learning_rate({rate: sweep[rate]}, floor)),
                key=lambda rate: max(s["kept"] for s in sweep[rate]), default=None), "single seed"),
            "best worst seed": (lambda sweep, floor: max((
                rate for rate in sweep if choose_learning_rate({rate: sweep[rate]}, floor)),
                key=lambda rate: min(s["kept"] for s in sweep[rate]), default=None), "worst seed"),
            "the lowest": (lambda sweep, floor: min((
                rate for rate, seeds in sweep.items() if statistics.fmean(
                    seed["target"] for seed in seeds) >= floor - 1e-9), default=None),
                           "the lowest that reaches the floor"),
        },
    },
}
