"""Lesson 02, LoRA."""

from __future__ import annotations

import math

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_number


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
    return check_number("alpha_for(64, 8, 16)", alpha_for(64, 8, 16), 128, {
        16: "with the old alpha the scale falls from 2 to 0.25",
        2: "2 is the scale alpha / r itself; which alpha gives this scale at r = 64?",
    }) or check_number("alpha_for(4, 16, 8)", alpha_for(4, 16, 8), 2)
