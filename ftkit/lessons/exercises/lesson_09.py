"""Lesson 09, where the memory goes."""

from __future__ import annotations

from ftkit.lessons.claims import exercise, near
from ftkit.lessons.exercises._common import check_number


@exercise("state_bytes")
def _(state_bytes):
    wanted = {"adamw": (1000, 1000, 16000), "sgd": (1000, 1000, 8000),
              "adamw_8bit": (1000, 1000, 10000)}
    for optimizer, (n, trained, value) in wanted.items():
        made = state_bytes(n, trained, optimizer)
        if optimizer == "adamw" and near(made, 12 * n):
            return ("12 bytes for each parameter: the weights, their gradients and AdamW's two "
                    "means are four numbers, all in fp32")
        if not near(made, value):
            return f"{n} parameters, all trained, {optimizer}: {made}; expected {value}"
    return check_number("1000 parameters, 10 trained", state_bytes(1000, 10, "adamw"), 4120, {
        16000: "frozen weights have neither gradients nor optimizer states",
        160: "the frozen weights are there as well: 4 bytes for each"})


@exercise("most_parameters")
def _(most_parameters):
    gigabyte = "a GiB is 2**30 bytes, 7 % more than a GB"
    return check_number("most_parameters(80)", most_parameters(80), 79 * 2**30 / 16, {
        79e9 / 16: gigabyte, 80e9 / 16: gigabyte,
        80 * 2**30 / 16: "1 GiB of the card is not yours (CUDA's context)",
    }) or check_number("most_parameters(24, per=2)", most_parameters(24, per=2), 23 * 2**30 / 2)


@exercise("break_even")
def _(break_even):
    return check_number("13 GB, 3 GB at 1000 tokens", break_even(13e9, 3e9, 1000), 13000 / 3, {
        3000 / 13: "upside down: with weights above activations it takes more tokens, not fewer",
        13e9 - 3e9: "that is a difference in bytes; tokens are asked for"})
