"""Lesson 04, instruction tuning."""

from __future__ import annotations

import math

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_choices, check_number


@exercise("make_example")
def _(make_example):
    prompt, answer, eos = [1, 20, 21], [30, 31], 2
    made = make_example(list(prompt), list(answer), eos, 10)
    if not isinstance(made, tuple | list) or len(made) != 2:
        return f"{made!r}; expected a pair (input_ids, labels)"
    ids, labels = map(list, made)
    if ids == prompt + answer:
        return "input_ids end without EOS; the model would never learn where an answer ends"
    if ids != [1, 20, 21, 30, 31, 2]:
        return f"input_ids are {ids}; expected prompt, answer and EOS: [1, 20, 21, 30, 31, 2]"
    if labels == [-100] * 3 + [30, 31, -100]:
        return "EOS is there but its label is -100, so no loss teaches the model to stop"
    if labels == ids:
        return "the labels are the ids: the prompt must not be trained on, its labels are -100"
    if labels == [-100, -100, 30, 31, 2, -100]:
        return "the labels are shifted; the model shifts by itself, a label stands at its own token"
    if labels != [-100] * 3 + [30, 31, 2]:
        return f"labels are {labels}; expected [-100, -100, -100, 30, 31, 2]"
    cut = make_example(list(prompt), list(answer), eos, 4)
    if cut is None or tuple(map(list, cut)) != ([1, 20, 21, 30], [-100] * 3 + [30]):
        return f"max_length 4: {cut!r}; expected the first 4 positions of both rows"
    if make_example(list(prompt), list(answer), eos, 3) is not None:
        return "max_length 3: no token with loss is left; expected None instead of an empty lesson"


@exercise("label_rows")
def _(verdicts):
    if message := check_choices(verdicts, (
            "right", "no end", "shifted twice", "loss on the prompt")):
        return message
    said = [verdicts.get(row) for row in "ABCD"]
    if said[0] == "right":
        return "row A: look at its last label, under EOS"
    if said[1] == "right" or said[1] == "no end":
        return "row B: the label 30 stands under token 22; where does the model shift?"
    if said[2] == "right":
        return "row C: 20, 21 and 22 are the question; does the model have to learn to ask it?"
    if said != ["no end", "shifted twice", "loss on the prompt", "right"]:
        return f"you said {', '.join(map(str, said))}; each word belongs to one row"


@exercise("step_loss")
def _(step_loss):
    mistakes = {3.0: "the mean of means, where a token of the first counts nine times as much as "
                     "one of the second",
                220.0: "that is the sum; divide by all labelled tokens"}
    if message := check_number("10 tokens at 4 and 90 at 2", step_loss([(4.0, 10), (2.0, 90)]),
                               2.2, mistakes):
        return message
    loss = step_loss([(2.0, 30), (math.nan, 0), (1.0, 10)])
    if math.isnan(loss):
        return "a micro-batch without labels made the whole step nan; it has no token: leave it out"
    return check_number("30 at 2, none at nan, 10 at 1", loss, 1.75)
