"""Lesson 01, full fine-tuning."""

from __future__ import annotations

import math

from ftkit.lessons.claims import exercise, near


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
    all_of_it, few = bytes_of_states(6.738e9), bytes_of_states(6.738e9, share=0.01)
    if near(all_of_it, 12 * 6.738e9):
        return ("12 bytes per parameter: the gradients (2), or the bf16 weights (2) and half of "
                "AdamW's 8 are missing")
    if near(all_of_it, 8 * 6.738e9):
        return ("8 bytes per parameter: AdamW's two values are fp32, and there is an fp32 master "
                "copy of the weights")
    if not near(all_of_it, 16 * 6.738e9):
        return f"7B, all trained: {all_of_it / 1e9:.1f} GB; expected 107.8 GB (16 bytes each)"
    if near(few, 0.01 * 16 * 6.738e9):
        return "1 % trained: the frozen weights must be in memory too, 2 bytes each"
    if not near(few, 6.738e9 * (2 + 0.01 * 14)):
        return (f"1 % trained: {few / 1e9:.2f} GB; expected 2 bytes for each weight and "
                "14 more for each trained one")


@exercise("keep_what_it_knew")
def _(run):
    steps, rise = len(run.rows), run.change("tasks_loss")
    if steps > 40:
        return f"{steps} steps; at most 40 are allowed"
    if not run.after["val_loss"] < KEEP_VAL_LOSS:
        return (f"val_loss ended at {run.after['val_loss']:.2f}, wanted below {KEEP_VAL_LOSS}: the "
                "clauses are not learned yet")
    if rise > KEEP_RISE:
        return (f"tasks_loss rose by {rise:.2f}, allowed are {KEEP_RISE}: the other tasks are "
                "being overwritten; which field of Config mixes them back in?")


KEEP_VAL_LOSS, KEEP_RISE = 0.2, 0.2  # tuned to the embedded base; lesson 01 names them
