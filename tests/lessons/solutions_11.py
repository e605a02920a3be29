"""Solutions of lesson 11, and the mistakes that people make."""

from math import ceil

import torch
import torch.nn.functional as F


def activation_bytes(tokens, hidden, layers, checkpointing):
    one = tokens * hidden
    return (2 * layers + 34) * one if checkpointing else 34 * layers * one


def nothing_saved(tokens, hidden, layers, checkpointing):
    return 34 * tokens * hidden * layers


def inputs_alone(tokens, hidden, layers, checkpointing):
    return (2 if checkpointing else 34) * tokens * hidden * layers


def one_byte(tokens, hidden, layers, checkpointing):
    return (1 if checkpointing else 34) * tokens * hidden * layers


def best_segments(layers, inside, edge):
    return min(range(1, layers + 1), key=lambda s: s * edge + ceil(layers / s) * inside)


def root(layers, inside, edge):
    return round(layers**0.5)


def one_a_layer(layers, inside, edge):
    return layers


def not_whole(layers, inside, edge):
    return (layers * inside / edge) ** 0.5 + 0.5


def chunked_loss(hidden, weight, targets, rows):
    total = 0
    for h, t in zip(hidden.split(rows), targets.split(rows), strict=True):
        total = total + F.cross_entropy(h @ weight.T, t, reduction="sum")
    return total / (targets != -100).sum()


def all_at_once(hidden, weight, targets, rows):
    return F.cross_entropy(hidden @ weight.T, targets)


def over_all_rows(hidden, weight, targets, rows):
    return chunked_loss(hidden, weight, targets, rows) * (targets != -100).sum() / len(targets)


def mean_of_means(hidden, weight, targets, rows):
    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.stack([F.cross_entropy(h @ weight.T, t) for h, t in parts]).nanmean()


def empty_chunks(hidden, weight, targets, rows):
    rows = min(rows, 2)
    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.stack([F.cross_entropy(h @ weight.T, t) for h, t in parts]).mean()


SOLUTIONS = {
    "activation_bytes": {
        "right": activation_bytes,
        "wrong": {
            "nothing saved": (nothing_saved, "its input alone"),
            "no layer comes back": (inputs_alone, "is computed again"),
            "one byte": (one_byte, "has 2 bytes"),
        },
    },
    "best_segments": {
        "right": best_segments,
        "wrong": {
            "the root of n": (root, "keep as much as their input"),
            "one a layer": (one_a_layer, "too many"),
            "no whole number": (not_whole, "a whole number"),
        },
    },
    "chunked_loss": {
        "right": chunked_loss,
        "wrong": {
            "all at once": (all_at_once, "lived at once"),
            "over all rows": (over_all_rows, "do not count"),
            "mean of means": (mean_of_means, "count for less"),
            "mean of an empty chunk": (empty_chunks, "without any label"),
        },
    },
}
