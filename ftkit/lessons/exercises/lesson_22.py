"""Lesson 22, the what-if lab."""

import math
import statistics

from ftkit.base import significance
from ftkit.lessons.checks import exercise, near
from ftkit.lessons.claims import verdict_of
from ftkit.lessons.exercises._common import check_parts

VERDICTS = ("lower", "higher", "no relevant difference", "undecided")
T = {3: 4.303, 5: 2.776}  # as the lesson gives them
T_OF_FEWER = {3: 12.706, 5: 3.182}  # one seed less


def _interval(differences: list[float]) -> tuple[float, float]:
    n = len(differences)
    half = T[n] * statistics.stdev(differences) / math.sqrt(n)
    mean = statistics.mean(differences)
    return mean - half, mean + half


@exercise("decide")
def _(decide):
    replay = ([1.16, 1.41, 1.26], [0.89, 0.90, 0.91])
    cases = [(*replay, 0.05), (*replay, 0.1), ([1.0, 1.1, 1.2], [1.01, 1.1, 1.21], 0.1),
             ([1.0, 1.1, 1.2], [1.0, 1.2, 1.15], 0.1),
             ([0.5, 0.4, 0.6, 0.5, 0.7], [1.0, 1.0, 1.1, 1.1, 1.2], 0.1)]
    for a, b, margin in cases:
        result = decide(list(a), list(b), margin)
        case = f"a = {a}, b = {b}, margin {margin}"
        check_parts(result, 3, "return three things: low, high, verdict")
        if message := _interval_message(result[:2], a, b, case):
            return message
        low, high = _interval([y - x for x, y in zip(a, b, strict=True)])
        expected = verdict_of(low, high, margin)
        if result[2] != expected:
            return f"{case}: {low:.3f} to {high:.3f} is {expected!r}; yours {result[2]!r}" + (
                ": the interval crosses an end of the margin" if expected == "undecided" else "")


def _interval_message(ends, a, b, case) -> str | None:
    """The message for a wrong interval, which names the mistake if it is a usual one."""
    differences = [y - x for x, y in zip(a, b, strict=True)]
    n, (low, high) = len(a), _interval(differences)
    if all(near(e, x, 1e-2) or abs(e - x) < 1e-3 for e, x in zip(ends, (low, high), strict=True)):
        return None
    mean, half = statistics.mean(differences), (high - low) / 2
    width = (ends[1] - ends[0]) / 2
    if near((ends[0] + ends[1]) / 2, -mean, 1e-2):
        return f"{case}: the difference is b - a; yours is a - b"
    if near(width, half * math.sqrt(n), 1e-2):
        return f"{case}: divide the standard deviation by √n; yours is that of a single difference"
    if near(width, half * math.sqrt((n - 1) / n), 1e-2):
        return f"{case}: the standard deviation has the divisor n - 1 (statistics.stdev)"
    if near(width, half * T_OF_FEWER[n] / T[n], 1e-2):
        return (f"{case}: t = {T_OF_FEWER[n]} belongs to {n - 1} seeds; the lesson's table is by "
                f"the number of seeds, so t = {T[n]}")
    if near(width, half * 1.96 / T[n], 1e-2):
        return f"{case}: 1.96 is for many seeds; with {n} take t = {T[n]}"
    if near((ends[0] + ends[1]) / 2, mean, 1e-2):
        return (f"{case}: the half width is {width:.3f}, expected {half:.3f}: the standard "
                "deviation is that of the paired differences")
    return (f"{case}: the interval is {ends[0]:.3f} to {ends[1]:.3f}; expected {low:.3f} to "
            f"{high:.3f}")


SETTINGS = {"num_train_epochs": 3, "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1, "r": 8, "lora_alpha": 16}


@exercise("effective")
def _(effective):
    cases = [(1000, {}, (375, 8, 2.0)),
             (1000, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
              (375, 8, 2.0)),
             (10, {"per_device_train_batch_size": 4}, (9, 4, 2.0)),
             (20, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4,
                   "num_train_epochs": 1}, (2, 16, 2.0)),
             (1000, {"r": 64}, (375, 8, 0.25))]
    for records, changes, expected in cases:
        settings = SETTINGS | changes
        result = effective(records, dict(settings))
        case = f"{records} records, " + ", ".join(f"{k} {v}" for k, v in settings.items())
        check_parts(result, 3,
                    "return three numbers: optimizer steps, sequences per step, LoRA scale")
        for index, name in enumerate(("optimizer steps", "sequences per step", "LoRA scale")):
            if not near(result[index], expected[index]):
                return (f"{case}: {name} is {result[index]:g}, expected {expected[index]:g}"
                        + _why_effective(index, result[index], records, settings))


def _why_effective(index: int, given: float, records: int, settings: dict) -> str:
    epochs, batch = settings["num_train_epochs"], settings["per_device_train_batch_size"]
    accumulation = settings["gradient_accumulation_steps"]
    if index == 1:
        return ": an optimizer step takes accumulation × batch sequences"
    if index == 2:
        return ": the scale is lora_alpha / r"
    if given == epochs * math.ceil(records / batch) and accumulation > 1:
        return ": several batches make one optimizer step"
    if given == epochs * (math.ceil(records / batch) // accumulation) or given == epochs * (
            records // (batch * accumulation)):
        return ": a last incomplete batch or group counts as well, so round up"
    if given == math.ceil(epochs * records / (batch * accumulation)):
        return ": each epoch ends with its own incomplete batch, so round up in each epoch"
    if near(given, epochs * records / (batch * accumulation)):
        return ": a number of steps is whole; round up in each epoch"
    return ""


@exercise("own_experiment")
def _(experiment):
    if any(value is ... for value in experiment.values()):
        raise NotImplementedError
    missing = {"a", "b", "measure", "margin", "verdict"} - set(experiment)
    if missing:
        return f"the experiment has no {' and no '.join(sorted(missing))}"
    a, b = list(experiment["a"]), list(experiment["b"])
    seeds = [[run.config.seed for run in side] for side in (a, b)]
    if seeds[0] != seeds[1]:
        return (f"the seeds of a are {seeds[0]}, those of b {seeds[1]}; both sides need the same "
                "seeds in the same order, so that each gives one difference")
    if len(set(seeds[0])) < 3:
        return f"{len(set(seeds[0]))} different seeds; at least 3 are needed"
    if message := _one_change(a, b):
        return message
    measure, margin = experiment["measure"], experiment["margin"]
    if measure not in a[0].after:
        return f"the runs have no measure {measure!r}; they have {', '.join(a[0].after)}"
    if not margin > 0:
        return f"the margin is {margin}; give the smallest difference that matters, above 0"
    found = significance.difference(*([run.after[measure] for run in side] for side in (b, a)),
                                    paired=True)
    half = found.margin(significance.LEVEL / 2)
    low, high = found.mean - half, found.mean + half
    expected = verdict_of(low, high, margin)
    if experiment["verdict"] not in VERDICTS:
        return f"the verdict is {experiment['verdict']!r}; expected one of {', '.join(VERDICTS)}"
    if experiment["verdict"] != expected:
        return (f"{measure}: the interval of b - a is {low:.3f} to {high:.3f}, the margin "
                f"{margin}: that is {expected!r}, not {experiment['verdict']!r}")


def _one_change(a, b) -> str | None:
    """None if exactly one setting differs (a method may have its own learning rate), else a
    message."""
    from ftkit.experiment import fingerprint

    for name, side in (("a", a), ("b", b)):
        mixed = {n for run in side for n in fingerprint.differences([side[0]], [run])} - {"seed"}
        if mixed:
            return f"the runs of {name} differ in {', '.join(sorted(mixed))}; only the seed may"
    differs = set(fingerprint.differences(a, b)) - {"seed"}
    if "method" in differs:
        differs.discard("learning_rate")
    if not differs:
        return "nothing differs between a and b; change one setting"
    if len(differs) > 1:
        return (f"{len(differs)} things differ: {', '.join(sorted(differs))}; with more than one "
                "you cannot say which of them had the effect")
