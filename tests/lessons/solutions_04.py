"""Solutions of lesson 04, and the mistakes that people make."""

import math


def make_example(prompt_ids, answer_ids, eos_id, max_length):
    ids = prompt_ids + answer_ids + [eos_id]
    labels = [-100] * len(prompt_ids) + answer_ids + [eos_id]
    if max_length <= len(prompt_ids):
        return None
    return ids[:max_length], labels[:max_length]


def without_eos(prompt_ids, answer_ids, eos_id, max_length):
    ids = prompt_ids + answer_ids
    return ids, [-100] * len(prompt_ids) + answer_ids


def eos_masked(prompt_ids, answer_ids, eos_id, max_length):
    ids, labels = make_example(prompt_ids, answer_ids, eos_id, max_length)
    return ids, labels[:-1] + [-100]


def loss_on_all(prompt_ids, answer_ids, eos_id, max_length):
    ids = prompt_ids + answer_ids + [eos_id]
    return ids, ids


def shifted(prompt_ids, answer_ids, eos_id, max_length):
    ids, labels = make_example(prompt_ids, answer_ids, eos_id, max_length)
    return ids, labels[1:] + [-100]


def not_cut(prompt_ids, answer_ids, eos_id, max_length):
    return make_example(prompt_ids, answer_ids, eos_id, 100)


def empty_instead_of_none(prompt_ids, answer_ids, eos_id, max_length):
    ids, labels = make_example(prompt_ids, answer_ids, eos_id, 100)
    return ids[:max_length], labels[:max_length]


def step_loss(parts):
    parts = [(mean, n) for mean, n in parts if n]
    return sum(mean * n for mean, n in parts) / sum(n for _, n in parts)


def nan_taken_in(parts):
    return sum(mean * n for mean, n in parts) / sum(n for _, n in parts)


def nan_as_a_zero(parts):
    parts = [(0.0 if math.isnan(mean) else mean, max(n, 1)) for mean, n in parts]
    return sum(mean * n for mean, n in parts) / sum(n for _, n in parts)


SOLUTIONS = {
    "make_example": {
        "right": make_example,
        "wrong": {
            "no EOS": (without_eos, "end without EOS"),
            "EOS masked": (eos_masked, "its label is -100"),
            "loss on all": (loss_on_all, "the prompt must not be trained on"),
            "shifted by hand": (shifted, "the labels are shifted"),
            "not cut": (not_cut, "max_length 4"),
            "nothing to learn from": (empty_instead_of_none, "expected None"),
        },
    },
    "label_rows": {
        "right": {"A": "no end", "B": "shifted twice", "C": "loss on the prompt", "D": "right"},
        "wrong": {
            "EOS overlooked": (
                {"A": "right", "B": "shifted twice", "C": "loss on the prompt", "D": "no end"},
                "look at its last label"),
            "shift taken for right": (
                {"A": "no end", "B": "right", "C": "loss on the prompt", "D": "shifted twice"},
                "where does the model shift"),
            "prompt overlooked": (
                {"A": "no end", "B": "shifted twice", "C": "right", "D": "loss on the prompt"},
                "the question"),
            "a typing slip": (
                {"A": "noend", "B": "right", "C": "right", "D": "right"}, 
                "A: 'noend' is not one of right"),
        },
    },
    "step_loss": {
        "right": step_loss,
        "wrong": {
            "mean of means": (lambda parts: sum(m for m, _ in parts) / len(parts),
                              "the mean of means"),
            "the sum": (lambda parts: sum(m * n for m, n in parts), "that is the sum"),
            "nan spreads": (nan_taken_in, "without labels made"),
            "nan counted as a token": (nan_as_a_zero, "expected 1.75"),
        },
    },
}
