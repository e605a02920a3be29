"""The checks behind `ft.check`, one function for each exercise of the lessons.

    @exercise("double")
    def _(double):
        if double(3) != 6:
            return f"double(3) gave {double(3)!r}, expected 6"

A check gets what the learner wrote and returns None, or a message that names the failing case,
what came out and what was expected. `tests/solutions_NN.py` holds the solutions of lesson NN.
"""

from __future__ import annotations

import math

from ftkit.drill import exercise


def _near(made, wanted, tolerance=1e-3) -> bool:
    return math.isclose(made, wanted, rel_tol=tolerance, abs_tol=1e-12)


# ------------------------------------------------------------------------- 00 start here


@exercise("three_curves")
def _(curves):
    if not isinstance(curves, dict) or ... in curves.values():
        raise NotImplementedError
    names = ("loss", "val_loss", "general_loss")
    for said in curves.values():
        if said not in names:
            return f"{said!r} is no curve; expected one of {', '.join(names)}"
    said = [curves.get(key) for key in (
        "falls even while the model only learns its records by heart",
        "turns up when the model learns its records by heart",
        "turns up when the model loses what it could do before")]
    if said[0] != "loss":
        return (f"{said[0]} does not fall then; only the curve of the records that are trained on "
                "falls while they are learned by heart")
    if said[1] == "general_loss":
        return ("general_loss is measured on other text than the task; learning the records by "
                "heart shows on records of the same kind that are not trained on")
    if said[2] == "val_loss":
        return ("val_loss is measured on records of the new task; what the model could do before "
                "is measured on ordinary prose")
    if said != list(names):
        return f"you said {', '.join(said)}; each curve belongs in one place"


@exercise("tokens_for")
def _(tokens_for):
    wanted = 312e12 * 0.4 * 3600 * (1000 / 2.0) / (6 * 6.7e9)
    made = tokens_for(1000, 6.7e9)
    if _near(made, wanted / 3600):
        return f"tokens_for(1000, 6.7e9) gave {made:.3g}: flops are per second, prices per hour"
    if _near(made, wanted / 0.4):
        return f"tokens_for(1000, 6.7e9) gave {made:.3g}: only `share` of the flops is used"
    if _near(made, wanted * 6):
        return f"tokens_for(1000, 6.7e9) gave {made:.3g}: a token costs 6 operations per parameter"
    if not _near(made, wanted):
        return f"tokens_for(1000, 6.7e9) gave {made:.3g}; expected {wanted:.3g}"
    if not _near(tokens_for(1000, 6.7e9, per_hour=4.0), wanted / 2):
        return "at twice the price per hour, 1000 dollars must buy half the tokens"


@exercise("gentle_run")
def _(run):
    steps, rise = len(run.rows), run.change("general_loss")
    if steps > 150:
        return f"{steps} steps; at most 150 are allowed"
    if not run.after["val_loss"] < GENTLE_VAL_LOSS:
        return (f"val_loss ended at {run.after['val_loss']:.2f}, wanted below {GENTLE_VAL_LOSS}; "
                "learn a little more, by more steps or a somewhat higher rate")
    if rise > GENTLE_RISE:
        return (f"general_loss rose by {rise:.2f}, allowed are {GENTLE_RISE}; take smaller steps, "
                "or mix in general text (replay)")


GENTLE_VAL_LOSS, GENTLE_RISE = 0.6, 0.1  # tuned to the embedded base; lesson 00 names them

# ------------------------------------------------------------------- 01 full fine-tuning


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
        if _near(w, wanted, 1e-6):
            continue
        if t == 1 and _near(w, 0.5 - 0.1 * 0.2 / math.sqrt(0.004), 1e-6):
            return ("the first step is too long: divide m by 1 - beta1 ** t and v by "
                    "1 - beta2 ** t, since both start at zero")
        if t == 1 and _near(w, 0.6, 1e-6):
            return "the step goes uphill: subtract it"
        if t == 1 and _near(w, 0.5 - 0.1 * 2.0, 1e-6):
            return "that is plain gradient descent: divide by the square root of v"
        return f"step {t}: w is {w:.6f}, torch's AdamW gives {wanted:.6f}"


@exercise("state_bytes")
def _(state_bytes):
    all_of_it, few = state_bytes(6.738e9), state_bytes(6.738e9, share=0.01)
    if _near(all_of_it, 12 * 6.738e9):
        return ("12 bytes per parameter: the gradients (2), or the bf16 weights (2) and half of "
                "AdamW's 8 are missing")
    if _near(all_of_it, 8 * 6.738e9):
        return ("8 bytes per parameter: AdamW's two values are fp32, and there is an fp32 master "
                "copy of the weights")
    if not _near(all_of_it, 16 * 6.738e9):
        return f"7B, all trained: {all_of_it / 1e9:.1f} GB; expected 107.8 GB (16 bytes each)"
    if _near(few, 0.01 * 16 * 6.738e9):
        return "1 % trained: the frozen weights must be in memory too, 2 bytes each"
    if not _near(few, 6.738e9 * (2 + 0.01 * 14)):
        return (f"1 % trained: {few / 1e9:.2f} GB; expected 2 bytes for each weight and "
                "14 more for each trained one")


@exercise("keep_what_it_knew")
def _(run):
    steps, rise = len(run.rows), run.change("tasks_loss")
    if steps > 40:
        return f"{steps} steps; at most 40 are allowed"
    if not run.after["val_loss"] < KEEP_VAL_LOSS:
        return (f"val_loss ended at {run.after['val_loss']:.2f}, wanted below {KEEP_VAL_LOSS}: the "
                "headlines are not learned yet")
    if rise > KEEP_RISE:
        return (f"tasks_loss rose by {rise:.2f}, allowed are {KEEP_RISE}: the other tasks are "
                "being overwritten; which field of Config mixes them back in?")


KEEP_VAL_LOSS, KEEP_RISE = 0.2, 0.2  # tuned to the embedded base; lesson 01 names them
