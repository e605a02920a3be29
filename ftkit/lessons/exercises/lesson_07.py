"""Lesson 07, the learning rate."""

import math
from collections.abc import Callable, Sequence

from ftkit.lessons.by_hand.schedules import warmup_cosine
from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import told


def _same(left: Sequence[float], right: Sequence[float]) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(left, right, strict=True))


def _judge(given: list, right: list[float], mistakes: Sequence[tuple[list[float], str]],
           case: str) -> str | None:
    """The message for the learning rates of steps 1, 2, ...; None for the right ones."""
    for step, value in enumerate(given, 1):
        if not isinstance(value, int | float):
            return f"step {step} gave {value!r}; expected a number"
    off = next((f"step {i} gave {a:.4g}; expected {b:.4g}" for i, (a, b) in
                enumerate(zip(given, right, strict=True), 1) if not _same([a], [b])), "")
    message = told(given, right, mistakes, off, _same)
    return message and f"{case}: {message}"


def _values(rule: Callable[[int], float], total: int) -> list[float]:
    return [rule(step) for step in range(1, total + 1)]


def _after(warmup: int, rule: Callable[[int], float], total: int) -> list[float]:
    """The correct warm-up to a peak of 0.8, followed by `rule`."""
    return _values(lambda step: 0.8 * step / warmup if step <= warmup else rule(step), total)


@exercise("warmup_cosine")
def _(answer):
    total, peak, warmup = 20, 0.8, 4
    right = _values(lambda step: warmup_cosine(step, total, peak, warmup), total)

    def wave(progress):
        return peak * (1 + math.cos(math.pi * progress)) / 2

    mistakes = [
        (_values(lambda s: wave((s - 1) / total), total),
         "there is no warm-up; steps 1 to warmup rise linearly"),
        ([peak * (s - 1) / warmup if s <= warmup else right[s - 1] for s in range(1, total + 1)],
         "the first step has learning rate 0 and is lost; step 1 has peak / warmup"),
        ([peak * s / (warmup + 1) if s <= warmup else right[s - 1] for s in range(1, total + 1)],
         "the warm-up stops below the peak; step warmup has the peak"),
        (_after(warmup, lambda s: wave((s - 1) / total), total),
         "after the warm-up the curve jumps: progress must start at 0 there, so count the steps "
         "after the warm-up, and divide by total - warmup"),
        (_after(warmup, lambda s: wave((s - 1 - warmup) / total), total),
         "the curve does not reach 0: the steps after the warm-up are total - warmup"),
        (_after(warmup, lambda s: wave((s - warmup) / (total - warmup)), total),
         "the last step has learning rate 0 and is lost: step warmup + 1 has progress 0"),
        (_after(warmup, lambda s: wave((s - 1 - warmup) / (total - 1 - warmup)), total),
         "the last step has learning rate 0 and is lost: divide by total - warmup"),
        (_after(warmup, lambda s: peak * math.cos(
            math.pi / 2 * (s - 1 - warmup) / (total - warmup)), total),
         "this is a quarter of a wave; half a wave goes from cos 0 = 1 to cos π = -1, lifted and "
         "halved: (1 + cos) / 2"),
        (_after(warmup, lambda s: peak * (1 - (s - 1 - warmup) / (total - warmup)), total),
         "this decay is linear; a cosine was asked for"),
        (_after(warmup, lambda s: 2 * wave((s - 1 - warmup) / (total - warmup)), total),
         "after the warm-up the learning rate is twice the peak: halve 1 + cos"),
        (_after(warmup, lambda s: wave((s - 1 - warmup) / (total - warmup) * 180 / math.pi), total),
         "math.cos takes radians: half a wave ends at π, not at 180"),
        (_after(warmup, lambda s: wave(2 * (s - 1 - warmup) / (total - warmup)), total),
         "this is a whole wave, which rises again; half a wave ends at cos π"),
        (_after(warmup, lambda s: 0.1 * peak + 0.9 * wave((s - 1 - warmup) / (total - warmup)),
                total),
         "this ends at a tenth of the peak, which is usual in pretraining; here it ends at 0"),
        ([min(peak, value * 1e9) if s > warmup else value for s, value in enumerate(right, 1)],
         "after the warm-up the learning rate never falls"),
        ([value / peak for value in right], "these are fractions of the peak; multiply by it"),
    ]
    given = _values(lambda step: answer(step, total, peak, warmup), total)
    message = _judge(given, right, mistakes, f"total={total}, peak={peak}, warmup={warmup}")
    if message:
        return message
    try:
        none = answer(1, total, peak, 0)
    except ZeroDivisionError:
        return "warmup=0 divides by zero; without warm-up step 1 has the peak"
    if not math.isclose(none, peak):
        return f"warmup=0: step 1 gave {none:.4g}; expected the peak, {peak}"


def _seeds(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"target": target, "kept": kept} for target, kept in pairs]


@exercise("choose_learning_rate")
def _(choose):
    sweep = {1e-5: _seeds((0.1, 0.9), (0.2, 0.9)), 1e-4: _seeds((0.96, 0.6), (0.8, 0.9)),
             3e-4: _seeds((0.9, 0.7), (0.92, 0.66)), 5e-4: _seeds((0.93, 0.74), (0.95, 0.74)),
             6e-4: _seeds((1.0, 0.7), (0.84, 0.82)), 7e-4: _seeds((1.0, 0.6), (0.89, 0.88)),
             1e-3: _seeds((0.99, 0.2), (0.97, 0.3))}
    chosen = choose(dict(sweep), 0.9)
    wrong = told(chosen, 6e-4, [
        (1e-5, "1e-05 keeps most but its mean target is 0.15: the floor is 0.9"),
        (1e-3, "0.001 has the best target, but keeps 0.25; among those that reach the floor, "
               "kept decides"),
        (1e-4, "0.0001 reaches the floor with one seed only; its mean is 0.88: compare means "
               "over the seeds"),
        (3e-4, "0.0003 is the lowest that reaches the floor, but 0.0006 reaches it too and keeps "
               "more: 0.76 against 0.68"),
        (5e-4, "0.0005 reaches the floor with every seed and has the best worst seed, but means "
               "decide: 0.0006 has the target 0.92 and keeps 0.76 against 0.74"),
        (7e-4, "0.0007 has the highest sum of both scores and the best single seed; above the "
               "floor, the mean of kept alone decides: 0.0006 keeps 0.76 against 0.74"),
    ], f"choose_learning_rate(sweep, 0.9) gave {chosen!r}; expected 0.0006")
    if wrong:
        return wrong
    try:
        found = choose({1e-5: sweep[1e-5]}, 0.9)
    except ValueError:
        return "max() of nothing raises ValueError; return None where none reaches the floor"
    if found is not None:
        return "no learning rate reaches the floor in the second case; expected None"
    if choose(dict(sweep), 0.98) != 1e-3:
        return "0.001 has the mean target 0.98 and reaches the floor 0.98: at least, not above"
