"""Solutions of lesson 22, right variants, and the mistakes that people make."""

import functools
import math
import statistics

from shown_solutions import shown

import ftkit as ft
from ftkit.experiment.run import Run

effective = shown("effective")

T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def verdict(low, high, margin):
    if high < -margin:
        return "lower"
    if low > margin:
        return "higher"
    return "no relevant difference" if max(abs(low), abs(high)) < margin else "undecided"


def with_half_width(half, judge=verdict):
    """A solution whose half width is half(differences, a, b)."""
    def decide(a, b, margin):
        differences = [y - x for x, y in zip(a, b, strict=True)]
        mean, width = statistics.mean(differences), half(differences, a, b)
        return mean - width, mean + width, judge(mean - width, mean + width, margin)
    return decide


def right_half(d, a, b):
    return T[len(d)] * statistics.stdev(d) / math.sqrt(len(d))

decide = with_half_width(right_half)


def decide_from_sums(a, b, margin):
    d, n = [b[i] - a[i] for i in range(len(a))], len(a)
    mean = sum(d) / n
    half = T[n] * (sum((x - mean) ** 2 for x in d) / (n - 1) / n) ** 0.5
    return [mean - half, mean + half, verdict(mean - half, mean + half, margin)]


def decide_by_package(a, b, margin):
    from ftkit.base.significance import difference

    found = difference(b, a, paired=True)
    low, high = found.mean - found.margin(0.025), found.mean + found.margin(0.025)
    return low, high, verdict(low, high, margin)


def unpaired(d, a, b):
    return T[len(d)] * math.sqrt((statistics.variance(a) + statistics.variance(b)) / len(d))


def against_zero(low, high, margin):
    return "lower" if high < 0 else "higher" if low > 0 else "no relevant difference"


def effective_at_once(records, settings):
    per_step = settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"]
    return [settings["num_train_epochs"] * -(-records // per_step), per_step,
            settings["lora_alpha"] / settings["r"]]


def effective_by_walking(records, settings):
    steps = 0
    for _ in range(settings["num_train_epochs"]):
        left = records
        while left > 0:
            for _ in range(settings["gradient_accumulation_steps"]):
                left -= settings["per_device_train_batch_size"]
            steps += 1
    return (steps, effective(records, settings)[1], settings["lora_alpha"] / settings["r"])


def changed(index, value):
    """The right solution with another value at `index`: value(records, settings)."""
    def solution(records, settings):
        result = list(effective(records, settings))
        result[index] = value(records, settings)
        return result
    return solution


def per_step(settings):
    return settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"]


def runs_of(losses, seeds=(0, 1, 2), **fields):
    """Runs that ended with these losses, without having been run."""
    return [Run(id=f"run {seed}", config=ft.Config(max_steps=20, seed=seed, **fields),
                model_name="tiny", data={"name": "tasks", "rows": 10, "sha256": "0"},
                rows=[{"step": 1, "loss": 1.0}], before={"val_loss": 9.0},
                after={"val_loss": loss})
            for seed, loss in zip(seeds, losses, strict=True)]


def experiment(**changes):
    return {"a": runs_of([1.0, 1.1, 1.2]), "b": runs_of([0.5, 0.65, 0.7], weight_decay=0.1),
            "measure": "val_loss", "margin": 0.05, "verdict": "lower"} | changes


def trained():
    lab = ft.Experiment(model="tiny", data="tasks")
    config = ft.Config(max_steps=6, eval_steps=6)
    return experiment(a=lab.sweep(config, seed=[0, 1, 2]), b=lab.sweep(
        config.but(learning_rate=1e-6), seed=[0, 1, 2]), verdict="higher")


SOLUTIONS = {
    "decide": {
        "variants": [decide_from_sums, decide_by_package],
        "wrong": {
            "a - b": (lambda a, b, margin: decide(b, a, margin), "yours is a - b"),
            "sd of one difference": (
                with_half_width(lambda d, a, b: T[len(d)] * statistics.stdev(d)),
                "by √n"),
            "divisor n": (with_half_width(
                lambda d, a, b: T[len(d)] * statistics.pstdev(d) / math.sqrt(len(d))),
                          "divisor n - 1"),
            "1.96": (with_half_width(
                lambda d, a, b: 1.96 * statistics.stdev(d) / math.sqrt(len(d))),
                     "many seeds"),
            "unpaired": (with_half_width(unpaired), "that of the paired differences"),
            "against zero": (with_half_width(right_half, against_zero), "crosses an end"),
            "only a verdict": (lambda a, b, margin: "lower", "return three things"),
            "t of one seed less": (with_half_width(
                lambda d, a, b: {3: 12.706, 5: 3.182}[len(d)] * statistics.stdev(d)
                / math.sqrt(len(d))), "belongs to 2 seeds"),
        },
    },
    "effective": {
        "variants": [effective_at_once, effective_by_walking],
        "wrong": {
            "rounded down": (changed(0, lambda n, s: s["num_train_epochs"] * (n // per_step(s))),
                             "counts as well"),
            "rounded once": (changed(0, lambda n, s: math.ceil(
                s["num_train_epochs"] * n / per_step(s))),
                             "round up in each epoch"),
            "batches": (changed(0, lambda n, s: s["num_train_epochs"] * math.ceil(
                n / s["per_device_train_batch_size"])),
                        "several batches make one"),
            "batch alone": (changed(1, lambda n, s: s["per_device_train_batch_size"]),
                            "accumulation × batch"),
            "no division": (changed(2, lambda n, s: s["lora_alpha"]), "lora_alpha / r"),
            "one number": (lambda n, s: effective(n, s)[0], "return three numbers"),
        },
    },
    "own_experiment": {
        "variants": [functools.partial(trained),
                     experiment(b=runs_of([1.0, 1.2, 1.1], method="lora", learning_rate=5e-3),
                       verdict="undecided")],
        "wrong": {
            "two changes": (experiment(b=runs_of([0.5, 0.65, 0.7], weight_decay=0.1,
                                                 warmup_steps=0.2)),
                            "2 things differ"),
            "nothing changed": (experiment(b=runs_of([0.5, 0.65, 0.7])), "nothing differs"),
            "two seeds": (experiment(a=runs_of([1.0, 1.1], (0, 1)),
                                     b=runs_of([0.5, 0.6], (0, 1), weight_decay=0.1)),
                          "at least 3"),
            "other seeds": (experiment(b=runs_of([0.5, 0.65, 0.7], (3, 4, 5), weight_decay=0.1)),
                            "the same seeds"),
            "wishful": (experiment(b=runs_of([0.9, 1.15, 1.1], weight_decay=0.1)),
                        "that is 'undecided'"),
            "no margin": (experiment(margin=0), "smallest difference that matters"),
            "own words": (experiment(verdict="better"), "expected one of"),
            "a config per side": (experiment(a=runs_of([1.0, 1.1], (0, 1)) + runs_of(
                [1.2], (2,), weight_decay=0.2)),
                                  "only the seed may"),
        },
    },
}
