"""Lesson 01, full fine-tuning."""

from __future__ import annotations

import math

from ftkit.lessons.claims import exercise, near
from ftkit.lessons.exercises._common import check_number, check_run


@exercise("adamw_step")
def _(adamw_step):
    import torch

    w, m, v = 0.5, 0.0, 0.0
    weight = torch.nn.Parameter(torch.tensor(w, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
    for t, g in enumerate((2.0, -1.0, 0.5), 1):
        weight.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        w, m, v = adamw_step(w, g, m, v, t, lr=0.1)
        wanted = weight.item()
        if near(w, wanted, 1e-6):
            continue
        if t == 1 and near(w, 0.5 - 0.1 * 0.2 / math.sqrt(0.004), 1e-6):
            return ("the first step is too long: divide m by 1 - beta1 ** t and v by "
                    "1 - beta2 ** t, since both start at zero")
        if t == 1 and near(w, 0.6, 1e-6):
            return "the step goes uphill: subtract it"
        if t == 1 and near(w, 0.5 - 0.1 * 2.0, 1e-6):
            return "that is plain gradient descent: divide by the square root of v"
        return f"step {t}: w is {w:.6f}, torch's AdamW gives {wanted:.6f}"


@exercise("bytes_of_states")
def _(bytes_of_states):
    n = 6.738e9
    return check_number("7B, all trained: bytes_of_states(6.738e9)", bytes_of_states(n), 16 * n, {
        12 * n: "12 bytes per parameter: the gradients (2), or the bf16 weights (2) and half of "
                "AdamW's 8 are missing",
        8 * n: "8 bytes per parameter: AdamW's two values are fp32, and there is an fp32 master "
               "copy of the weights",
    }) or check_number("1 % trained: bytes_of_states(6.738e9, share=0.01)",
                       bytes_of_states(n, share=0.01), n * (2 + 0.01 * 14), {
        0.01 * 16 * n: "the frozen weights must be in memory too, 2 bytes each"})


@exercise("keep_what_it_knew")
def _(run):
    return check_run(run, 40, KEEP_VAL_LOSS, "tasks_loss", KEEP_RISE,
                     "the clauses are not learned yet",
                     "the other tasks are being overwritten; which field of Config mixes them in?")


KEEP_VAL_LOSS, KEEP_RISE = 0.2, 0.2  # tuned to the embedded base; lesson 01 names them
