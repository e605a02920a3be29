"""Lesson 09, where the memory goes."""

from __future__ import annotations

from ftkit.lessons.claims import exercise, near


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
    made = state_bytes(1000, 10, "adamw")
    if near(made, 16000):
        return "frozen weights have neither gradients nor optimizer states"
    if near(made, 160):
        return "the frozen weights are there as well: 4 bytes for each"
    if not near(made, 4120):
        return f"1000 parameters, 10 of them trained: {made}; expected 4120"


@exercise("most_parameters")
def _(most_parameters):
    made, wanted = most_parameters(80), 79 * 2**30 / 16
    if near(made, 79e9 / 16) or near(made, 80e9 / 16):
        return "a GiB is 2**30 bytes, 7 % more than a GB"
    if near(made, 80 * 2**30 / 16):
        return "1 GiB of the card is not yours (CUDA's context)"
    if not near(made, wanted):
        return f"80 GiB at 16 bytes: {made:.6g} parameters; expected {wanted:.6g}"
    if not near(most_parameters(24, per=2), 23 * 2**30 / 2):
        return "per is the number of bytes for each parameter; 2 gave the wrong number"


@exercise("break_even")
def _(break_even):
    made = break_even(13e9, 3e9, 1000)
    if near(made, 1000 * 3 / 13):
        return "upside down: with weights above activations it takes more tokens, not fewer"
    if near(made, 13e9 - 3e9):
        return "that is a difference in bytes; tokens are asked for"
    if not near(made, 1000 * 13 / 3):
        return f"13 GB, 3 GB at 1000 tokens: {made:.6g}; expected {1000 * 13 / 3:.6g}"
