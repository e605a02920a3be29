"""Reference solutions and named wrong answers for lesson 20."""

from __future__ import annotations

import math
import statistics

from ftkit.evaluate.scoring import normal


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def dpo_loss_of(chosen, rejected, ref_chosen, ref_rejected, beta):
    return softplus(-beta * ((chosen - ref_chosen) - (rejected - ref_rejected)))


def without_reference(chosen, rejected, ref_chosen, ref_rejected, beta):
    return softplus(-beta * (chosen - rejected))


def sides_swapped(chosen, rejected, ref_chosen, ref_rejected, beta):
    return dpo_loss_of(rejected, chosen, ref_rejected, ref_chosen, beta)


def without_minus(*args):
    return -dpo_loss_of(*args)


def overflowing(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return math.log(1 + math.exp(min(700.0, -margin)))


def group_advantages(groups):
    return [[(r - statistics.fmean(g)) / (statistics.stdev(g) + 1e-4) for r in g] for g in groups]


def raw(groups):
    return groups


def without_deviation(groups):
    return [[r - statistics.fmean(g) for r in g] for g in groups]


def nan_when_dead(groups):
    return [[(r - statistics.fmean(g)) / s if (s := statistics.stdev(g)) else math.nan for r in g]
            for g in groups]


def over_the_batch(groups):
    flat = [r for g in groups for r in g]
    mean, sd = statistics.fmean(flat), statistics.stdev(flat)
    return [[(r - mean) / sd for r in g] for g in groups]


def honest_reward(answer, record):
    return float(normal(answer) == normal(record["output"]))


def contains(answer, record):
    return float(record["output"] in answer)


def every_word_is_there(answer, record):
    given = normal(answer).split()
    return float(all(word in given and len(set(given)) == 1
                     for word in normal(record["output"]).split()))


def to_the_letter(answer, record):
    return float(answer == record["output"])


def begins_alike(answer, record):
    return float(bool(answer) and normal(record["output"]).startswith(normal(answer)))


RIGHT = {"A": "too timid", "B": "over-optimized", "C": "hacked", "D": "too hard", "E": "saturated"}

SOLUTIONS = {
    "dpo_loss_of": {
        "right": dpo_loss_of,
        "wrong": {
            "no reference": (without_reference, "subtract the reference"),
            "sides swapped": (sides_swapped, "the better model is punished"),
            "likelihood, not loss": (without_minus, "a loss is minus"),
            "overflow": (overflowing, "use its limit"),
        },
    },
    "group_advantages": {
        "right": group_advantages,
        "wrong": {
            "raw rewards": (raw, "these are the rewards"),
            "no deviation": (without_deviation, "now divide"),
            "nan": (nan_when_dead, "a dead group gives nan"),
            "one baseline for all": (over_the_batch, "its own mean is the baseline"),
        },
    },
    "read_the_panel": {
        "right": RIGHT,
        "wrong": {
            "accuracy is success": (RIGHT | {"B": "saturated"}, "the CHOSEN answers fell"),
            "reward is success": (RIGHT | {"C": "saturated"}, "pays for something else"),
            "dead is dead": (RIGHT | {"E": "too hard"}, "this task is done"),
            "a word of one's own": (RIGHT | {"D": "dead"}, "one of too timid"),
        },
    },
    "honest_reward": {
        "right": honest_reward,
        "wrong": {
            "contains it": (contains, "copying the whole sentence"),
            "only words of it": (every_word_is_there, "repeating the answer"),
            "to the letter": (to_the_letter, "'Anna.' is right too"),
            "prefix": (begins_alike, "a part of the word"),
        },
    },
}
