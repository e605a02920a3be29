"""Lesson 20, preferences and rewards."""

from __future__ import annotations

import math

from ftkit.lessons.claims import exercise, near
from ftkit.lessons.exercises._common import check_choices, check_number


@exercise("dpo_loss_of")
def _(dpo_loss_of):
    start = dpo_loss_of(-3.0, -5.0, -3.0, -5.0, 0.1)
    if near(start, -math.log(2)):
        return "at the start: -0.693; a loss is minus the log-likelihood"
    if near(start, 0.5):
        return "at the start: 0.5, the sigmoid itself; the loss is minus its logarithm, 0.693"
    if not near(start, math.log(2)):
        return (f"policy = reference, so the loss is ln 2 = 0.693 whatever the answers; got "
                f"{start:.3g}: subtract the reference from both sides")
    if message := check_number("margin 1", dpo_loss_of(-2.0, -14.0, -3.0, -5.0, 0.1),
                               math.log(1 + math.exp(-1)), {
            math.log(1 + math.exp(1)): "the better model is punished: wrong sign"}):
        return message
    far = dpo_loss_of(-3.0, -4005.0, -3.0, -5.0, 1.0)
    if not (far == far and 0 <= far < 1e-6):
        return f"margin 4000: {far}; expected 0"
    lost = dpo_loss_of(-4003.0, -5.0, -3.0, -5.0, 1.0)
    if not near(lost, 4000.0):
        return f"margin -4000: {lost}; expected 4000 (log(1 + exp(-m)) overflows: use its limit)"


@exercise("group_advantages")
def _(group_advantages):
    made = group_advantages([[1, 1, 0, 0, 0, 0, 0, 0], [1] * 8, [0, 0, 0, 1, 1, 1, 1, 1]])
    right, rest = made[0][0], made[0][7]
    if near(right, 1) and rest == 0:
        return "these are the rewards; the mean of the group is the baseline"
    if near(right, 0.75):
        return "0.75: right baseline; now divide by the group's standard deviation"
    if any(x != x for x in made[1]):
        return "a dead group gives nan; where all agree the advantages are 0"
    if any(abs(x) > 1e-6 for x in made[1]):
        return "group 2, in which all are right, gets more than 0: its own mean is the baseline"
    if not (near(right, 1.620, 5e-3) or near(right, 1.732, 5e-3)):
        return f"2 of 8 right: {right:.3g} for a right one; expected 1.62 (or 1.73, population)"
    if not near(made[2][0] * made[2][7], -1 * (7 / 8 if near(right, 1.620, 5e-3) else 1), 1e-2):
        return f"5 of 8 right: {made[2][0]:.3g} and {made[2][7]:.3g} do not belong together"


CASES = {"A": "too timid", "B": "over-optimized", "C": "hacked", "D": "too hard", "E": "saturated"}
WHY = {
    "A": "loss at ln 2 and log-probabilities that do not move: nothing was learned yet",
    "B": "the gap is perfect, and the CHOSEN answers fell with the rejected: look at exact match",
    "C": "reward up, held-out measure down: the reward pays for something else",
    "D": "every group is dead because no sample is ever right: nothing to reinforce",
    "E": "every group is dead because all samples are right: this task is done",
}


@exercise("read_the_panel")
def _(verdicts):
    if message := check_choices(verdicts, CASES.values()):
        return message
    for case, wanted in CASES.items():
        if verdicts.get(case) != wanted:
            return f"{case} is not {verdicts.get(case)!r}: {WHY[case]}"


@exercise("honest_reward")
def _(honest_reward):
    record = {"instruction": "Name the first word.", "input": "Anna sees a red fox.",
              "output": "Anna"}
    if not honest_reward("Anna", record) > 0:
        return "the right answer earns nothing"
    if honest_reward("Anna.", record) != honest_reward("Anna", record):
        return "'Anna.' is right too: compare after `normal`"
    best = honest_reward("Anna", record)
    for answer, how in {
        "Anna sees a red fox.": "copying the whole sentence",
        "Anna Anna Anna Anna": "repeating the answer",
        "It is Anna, or sees, or red, or fox": "listing candidates",
        "Ann": "a part of the word",
        "": "silence",
    }.items():
        if honest_reward(answer, record) >= best:
            return f"{how} ({answer!r}) earns as much as the right answer"
    if honest_reward("fox", record) > 0:
        return "a wrong word earns something"
