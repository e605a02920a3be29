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


GENTLE_VAL_LOSS, GENTLE_RISE = 0.3, 0.1  # tuned to the embedded base; lesson 00 names them

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
                "clauses are not learned yet")
    if rise > KEEP_RISE:
        return (f"tasks_loss rose by {rise:.2f}, allowed are {KEEP_RISE}: the other tasks are "
                "being overwritten; which field of Config mixes them back in?")


KEEP_VAL_LOSS, KEEP_RISE = 0.2, 0.2  # tuned to the embedded base; lesson 01 names them


# ------------------------------------------------------------------------------- 02 LoRA


@exercise("lora_parameters")
def _(lora_parameters):
    q, mlp = (4096, 4096), (4096, 11008)
    made = lora_parameters([q, q] * 32, 8)
    if made == 32 * 2 * 8 * 4096:
        return (f"{made:,} for Llama 2 7B, r=8, q and v: half of it; each matrix gets an A and a B")
    if made == 32 * 2 * 4096 * 4096:
        return f"{made:,} for Llama 2 7B: those are the frozen weights, r does not enter"
    if made != 4_194_304:
        return f"Llama 2 7B, r=8, q and v: {made!r}; expected 4,194,304"
    made, wanted = lora_parameters([q] * 4 + [mlp, mlp, mlp[::-1]], 16), 1_249_280
    if made in (16 * 2 * (6 * 4096 + 11008), 16 * 2 * (5 * 4096 + 2 * 11008)):
        return (f"{made:,} for one Llama 2 layer, r=16, all matrices: those of the MLP are not "
                f"square, so n_in and n_out both count; expected {wanted:,}")
    if made != wanted:
        return f"one Llama 2 layer, r=16, all linear: {made!r}; expected {wanted:,}"
    if lora_parameters([], 8) != 0:
        return f"no layers: {lora_parameters([], 8)!r}; expected 0"


@exercise("merge_weight")
def _(merge_weight):
    import torch

    draw = torch.Generator().manual_seed(0)
    W, A, B = (torch.randn(shape, generator=draw) for shape in ((5, 4), (2, 4), (5, 2)))
    x, before = torch.randn(3, 4, generator=draw), W.clone()
    made = merge_weight(W, A, B, 2, 6.0)
    if not torch.equal(W, before):
        return "W itself was changed; return a new matrix, so that the cell can be run again"
    if tuple(made.shape) != (5, 4):
        return f"the result has shape {tuple(made.shape)}; expected that of W, (5, 4)"
    for scale, why in ((1.0, "alpha / r was forgotten"), (6.0, "alpha is not divided by r"),
                       (6 / math.sqrt(2), "alpha / sqrt(r) is rsLoRA's scale")):
        if torch.allclose(made, W + scale * B @ A, atol=1e-5):
            return f"r=2, alpha=6: the update is {scale / 3:.2g} times what it should be; {why}"
    wanted = x @ W.T + 3 * (x @ A.T @ B.T)
    if not torch.allclose(x @ made.T, wanted, atol=1e-4):
        worst = (x @ made.T - wanted).abs().max().item()
        return f"x @ merged.T is off the adapted layer by {worst:.2g}; expected W + alpha/r B A"


@exercise("alpha_for")
def _(alpha_for):
    made = alpha_for(64, 8, 16)
    if _near(made, 16):
        return "r from 8 to 64 with alpha kept at 16: the scale falls from 2 to 0.25"
    if _near(made, 2):
        return "2 is the scale alpha / r itself; which alpha gives this scale at r = 64?"
    if not _near(made, 128):
        return f"r from 8 to 64, alpha was 16: you say {made:g}; expected 128 (scale 2 as before)"
    if not _near(alpha_for(4, 16, 8), 2):
        return f"r from 16 to 4, alpha was 8: you say {alpha_for(4, 16, 8):g}; expected 2"


# ------------------------------------------------------------------ 04 instruction tuning


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
        return "the labels are the ids: the prompt must not carry loss, its labels are -100"
    if labels == [-100, -100, 30, 31, 2, -100]:
        return "the labels are shifted; the model shifts by itself, a label stands at its own token"
    if labels != [-100] * 3 + [30, 31, 2]:
        return f"labels are {labels}; expected [-100, -100, -100, 30, 31, 2]"
    cut = make_example(list(prompt), list(answer), eos, 4)
    if cut is None or tuple(map(list, cut)) != ([1, 20, 21, 30], [-100] * 3 + [30]):
        return f"max_length 4: {cut!r}; expected the first 4 places of both rows"
    if make_example(list(prompt), list(answer), eos, 3) is not None:
        return "max_length 3: no token with loss is left; expected None instead of an empty lesson"


@exercise("label_rows")
def _(verdicts):
    if not isinstance(verdicts, dict) or "..." in verdicts.values():
        raise NotImplementedError
    words = ("right", "no end", "shifted twice", "loss on the prompt")
    for row, said in verdicts.items():
        if said not in words:
            return f"row {row}: {said!r}; expected one of {', '.join(words)}"
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
    made = step_loss([(4.0, 10), (2.0, 90)])
    if _near(made, 3.0):
        return ("10 tokens at 4 and 90 at 2 gave 3.0: the mean of means, where a token of the "
                "first counts nine times as much as one of the second")
    if _near(made, 220.0):
        return "10 tokens at 4 and 90 at 2 gave 220: that is the sum; divide by all labelled tokens"
    if not _near(made, 2.2):
        return f"10 tokens at 4 and 90 at 2 gave {made:.4g}; expected 2.2"
    made = step_loss([(2.0, 30), (math.nan, 0), (1.0, 10)])
    if math.isnan(made):
        return "a micro-batch without labels made the whole step nan; it has no token: leave it out"
    if not _near(made, 1.75):
        return f"30 at 2, none at nan, 10 at 1 gave {made:.4g}; expected 1.75"
