"""Lesson 02, LoRA."""

import math

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import close, told

SHAPES = ("multiply x (n, d_in) by A.T (d_in, r) and the result by B.T (r, d_out); "
          "torch stores W, A and B as (out, in)")


def _example():
    """x (3, 4), W (5, 4), A (2, 4), B (5, 2); no two sizes are equal."""
    import torch

    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw) for shape in ((3, 4), (5, 4), (2, 4), (5, 2))]


def _wrong_scales(base, update, where: str) -> list[tuple]:
    """Updates with one of the usual wrong scales and their messages; r = 2, lora_alpha = 6."""
    return [(base + scale * update, f"r=2, lora_alpha=6: the update in {where} is {scale / 3:.2g} "
             f"times what it should be; {why}") for scale, why in (
                 (1.0, "the scale lora_alpha / r is missing"),
                 (6.0, "lora_alpha is not divided by r"),
                 (1 / 3, "the scale is r / lora_alpha, the wrong way round"),
                 (6 / math.sqrt(2), "lora_alpha / sqrt(r) is the scale of rsLoRA"),
                 (-3.0, "the update is subtracted"))]


@exercise("lora_forward")
def _(lora_forward):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    x, W, A, B = _example()
    try:
        result = lora_forward(x, W, A, B, 6.0)
    except RuntimeError as error:
        return f"two shapes do not fit ({error}); {SHAPES}"
    if (shape := tuple(getattr(result, "shape", ()))) != (3, 5):
        return f"the output has shape {shape}; expected (n, d_out) = (3, 5)"
    base, update = x @ W.T, x @ A.T @ B.T
    off = (result - base - 3 * update).abs().max().item()
    message = told(result, base + 3 * update, [
        (3 * update, "this is the update alone; add the output of the frozen layer, x @ W.T"),
        (base, "this is the frozen layer alone; add the scaled path through A and B"),
        (3 * (base + update),
         "the frozen layer is scaled too; lora_alpha / r belongs to the update only"),
        *_wrong_scales(base, update, "the output"),
    ], f"the output is off by up to {off:.2g}; expected x W.T + lora_alpha / r * x A.T B.T", close)
    with FlopCounterMode(display=False) as counter:  # one row, 16 wide, r = 1
        lora_forward(*map(torch.ones, ((1, 16), (16, 16), (1, 16), (16, 1))), 1.0)
    if not message and counter.get_total_flops() > 2 * (16 * 16 + 16 + 16):
        return ("the values are right, but B A, which is as large as W, is built; multiply x by "
                "A.T first, and the result by B.T")
    return message


@exercise("lora_parameters")
def _(lora_parameters):
    q, mlp = (4096, 4096), (4096, 11008)
    case, result = "Llama 2 7B, r=8 on q and v", lora_parameters([q, q] * 32, 8)
    reasons = {2 * 4_194_304: "twice too much: A has r * d_in numbers and B r * d_out, no more",
               32 * 2 * 8 * 8 * 4096 * 4096: "A and B are added: r * (d_in + d_out)",
               32 * 2 * 4096 * 4096 + 4_194_304: "W is frozen: only A and B are trained",
               32 * 2 * 8 * 4096: "half of it: each matrix gets an A and a B",
               32 * 2 * 4096 * 4096: "these are the frozen weights; r does not occur in it",
               32 * 2 * 8 * 4096 * 4096: "A and B are added, not multiplied: r * (d_in + d_out)",
               32 * 2 * (8 * 4096 + 4096): "r multiplies both sizes: r * (d_in + d_out)",
               8 * (4096 + 4096): "this is one layer; sum over all of them"}
    if result != 4_194_304:
        return f"{case}: {result!r}; {reasons.get(result, 'expected 4,194,304')}"
    case, expected = "one Llama 2 layer, r=16 on all matrices", 1_249_280
    result = lora_parameters([q] * 4 + [mlp, mlp, mlp[::-1]], 16)
    if result in (16 * 2 * (6 * 4096 + 11008), 16 * 2 * (5 * 4096 + 2 * 11008)):
        return (f"{case}: {result:,}; the matrices of the MLP are not square, so d_in and d_out "
                f"both count; expected {expected:,}")
    if result == 16 * 2 * 4096 * 7:
        return f"{case}: {result:,}; the layers differ: add up r * (d_in + d_out) of each"
    if result != expected:
        return f"{case}: {result!r}; expected {expected:,}"
    if lora_parameters([], 8) != 0:
        return f"no layers: {lora_parameters([], 8)!r}; expected 0"


@exercise("merge_weight")
def _(merge_weight):
    import torch

    x, W, A, B = _example()
    before = W.clone()
    try:
        merged = merge_weight(W, A, B, 2, 6.0)
    except RuntimeError as error:
        return (f"two shapes do not fit ({error}); B (d_out, r) times A (r, d_in) has the shape of "
                "W, (d_out, d_in)")
    if not torch.equal(W, before):
        return "W itself was changed; return a new matrix, so that the cell can be run again"
    if (shape := tuple(getattr(merged, "shape", ()))) != (5, 4):
        return f"the result has shape {shape}; expected that of W, (5, 4)"
    off = (x @ merged.T - x @ W.T - 3 * (x @ A.T @ B.T)).abs().max().item()
    return told(merged, W + 3 * (B @ A), [(3 * (B @ A), "this is the update alone; add W"),
                                          (3 * (W + B @ A), "W is scaled too; lora_alpha / r "
                                           "belongs to the update only"),
                                          *_wrong_scales(W, B @ A, "the merged weight")],
                f"x @ merged.T differs from the adapted layer by {off:.2g}; "
                "expected W + lora_alpha / r * B A", close)
