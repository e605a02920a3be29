"""Lesson 07, the learning rate."""

from __future__ import annotations

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_number

RECIPES = {"A": (2e-5, 3e-4), "B": (5e-6, 3e-4), "C": (3e-4, 3e-4), "D": (2e-4, 3e-4),
           "E": (1e-6, 2e-4), "F": (2e-5, 2e-4)}


@exercise("outside_the_rule")
def _(outside_the_rule):
    made = outside_the_rule(dict(RECIPES))
    names, wanted = set(made), {"C", "D", "E"}
    if "E" not in names and {"C", "D"} <= names:
        return "E tunes at 1/200 of its pretraining rate: below the rule is outside it too"
    if names == {"A", "B", "F"} or names == set(RECIPES) - wanted:
        return "these are the ones inside the rule; the ones that break it were asked for"
    if names == set(RECIPES):
        return "all of them: is your ratio fine-tuning divided by pretraining, and not the inverse?"
    if "F" in names:
        return "F tunes at just 1/10 of its pretraining rate: the ends belong to the rule"
    if names != wanted:
        return f"from A 1/15, B 1/60, C 1/1, D 1/1.5, E 1/200, F 1/10 you chose {sorted(names)}"


@exercise("drift")
def _(drift):
    return check_number("drift(2e-5, 1219)", drift(2e-5, 1219), 1e-5 * 1220, {
        2e-5 * 1219: "that is the sum at a constant rate; a cosine falls to zero",
        2e-5 / 2: "that is the mean rate; a run makes 1,219 steps",
        2e-5 * 2 / 3.14159 * 1219: "a quarter of a cosine wave, from 1 to 0, has the mean 0.64; "
                                   "the schedule is half a wave, from 1 to -1, lifted to 1 to 0",
    }, 0.01) or check_number("drift(1e-3, 20)", drift(1e-3, 20), 1e-3 * 10.5, tolerance=0.06)


@exercise("pick_rate")
def _(pick_rate):
    def seeds(*pairs):
        return [{"target": target, "kept": kept} for target, kept in pairs]

    sweep = {1e-5: seeds((0.1, 0.9), (0.2, 0.9)), 1e-4: seeds((0.96, 0.6), (0.8, 0.9)),
             3e-4: seeds((0.9, 0.7), (0.92, 0.66)), 1e-3: seeds((0.99, 0.2), (0.97, 0.3))}
    made = pick_rate(sweep, 0.9)
    if made == 1e-5:
        return "rate 1e-05 keeps most but its target is 0.15: the floor is 0.9"
    if made == 1e-3:
        return "rate 0.001 has the best target, but keeps 0.25; above the floor, kept decides"
    if made == 1e-4:
        return ("rate 0.0001 reaches the floor with one seed only; its mean is 0.88: compare means "
                "over the seeds")
    if made != 3e-4:
        return f"pick_rate(sweep, 0.9) gave {made!r}, expected 0.0003"
    if pick_rate({1e-5: sweep[1e-5]}, 0.9) is not None:
        return "no rate reaches the floor in the second case; expected None"
    if pick_rate(sweep, 0.98) != 1e-3:
        return "rate 0.001 has the mean 0.98 and reaches the floor 0.98: at least, not above"
