"""Floating point by hand: the spacing of numbers, bf16 by its bits, stochastic rounding, and a
training loop in which only the rounding of the stored weights varies.

    to_bf16(x)                       # as x.bfloat16() rounds: to the nearest, ties to even
    to_bf16(x, draw=generator)       # up or down at random, right on average
"""

from __future__ import annotations

import functools
import sys

import torch

from ftkit import fast


def spacing(x, dtype: torch.dtype) -> torch.Tensor:
    """Distance from |x| to the next larger number of `dtype` (fp32, fp16 or bf16), in fp64."""
    info = torch.finfo(dtype)
    x = torch.as_tensor(x, dtype=torch.float64).abs().clamp(min=info.smallest_normal)
    return 2.0 ** x.log2().floor() * info.eps


def halfway(weights, dtype: torch.dtype) -> float:
    """Share of the numbers in the tensors that lie exactly half way between two of `dtype`, where
    the smallest update decides how they are rounded; of many numbers about 100,000 are looked at.
    """
    weights = list(weights)
    every = max(1, sum(w.numel() for w in weights) // 100_000)
    some = torch.cat([w.detach().reshape(-1)[::every].double().cpu() for w in weights])
    return (some / spacing(some, dtype) % 1 == 0.5).double().mean().item()


HALFWAY = 0.01  # share of such weights that is told; of weights in fp32 it is 1 in 65,536


def tipping(model, config) -> str | None:
    """A note where many weights lie so that the loss of a run falls at any learning rate; also
    told on stderr, once a process."""
    kind = {"bf16": "bfloat16", "fp16": "float16"}.get(config.precision)
    if config.method != "full" or kind is None:
        return None
    share = halfway(model.parameters(), getattr(torch, kind))
    if share < HALFWAY:
        return None
    note = (f"{share:.0%} of the weights lie exactly half way between two numbers of "
            f"{config.precision}, as in models stored in fp16 or dequantised. The smallest update "
            f"tips them over, so the {config.precision} loss falls at any learning rate; take "
            "precision fp32, or a copy of the model from `ftkit export FOLDER COPY --dtype bf16`")
    _tell(note)
    return note


@functools.cache  # once, however many runs of a sweep say it
def _tell(note: str):
    print(f"ftkit: {note}", file=sys.stderr)


def to_bf16(x: torch.Tensor, draw: torch.Generator | None = None) -> torch.Tensor:
    """fp32 numbers rounded to bf16's 8 significant bits, still stored in fp32.

    bf16 is the upper half of fp32's bits. With `draw` the lower half decides by chance: a number
    a quarter of the way to the next goes there in a quarter of the cases (stochastic rounding).
    """
    bits = x.contiguous().view(torch.int32)
    if draw is None:
        add = 0x7FFF + (bits >> 16 & 1)  # half a unit; exactly half way, to the even one
    else:
        add = torch.randint(0, 1 << 16, x.shape, generator=draw, dtype=torch.int32)
    rounded = ((bits + add) & -65536).view(torch.float32)
    return torch.where(x.isfinite(), rounded, x)


ROUNDINGS = ("none", "nearest", "stochastic")


def train_rounded(model, examples: list[dict], order, learning_rate: float, rounding: str,
                  seed: int = 0) -> list[float]:
    """Train `model` in place with AdamW in fp32 and round the weights to bf16 after each step, as
    a run without fp32 master weights does; returns the loss of every step.

    examples: encoded records; order: indices of each batch. rounding: none, nearest, stochastic.
    Everything else is fp32, so that the rounding of the weights alone makes the difference.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding is {rounding!r}; expected one of {', '.join(ROUNDINGS)}")
    params = [p for p in model.parameters() if p.requires_grad]
    draw = torch.Generator().manual_seed(seed) if rounding == "stochastic" else None
    optimizer = torch.optim.AdamW(params, lr=learning_rate, weight_decay=0.0, fused=True)
    losses = []
    for indices in order:
        batch = fast.flatten([examples[i] for i in indices])
        loss = fast.loss_sum(model, batch) / batch.labelled
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if rounding != "none":
            with torch.no_grad():
                for p in params:
                    p.copy_(to_bf16(p, draw))
        losses.append(float(loss.detach()))
    return losses


def kept_for_backward(model, batch: dict, dtype: torch.dtype | None = None) -> dict:
    """Bytes that autograd keeps for the backward pass of the model's loss on `batch`.

    dtype: autocast to it. `weights` are 16-bit copies of weights that autocast made, `activations`
    the rest; the weights themselves are not counted.
    """
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    shapes = {tuple(p.shape) for p in model.parameters() if p.ndim == 2}
    kept = {}

    def note(tensor):
        key = tensor.untyped_storage().data_ptr()
        if key not in own:
            copy = dtype is not None and tensor.dtype == dtype and bool(
                {tuple(tensor.shape), tuple(tensor.T.shape) if tensor.ndim == 2 else ()} & shapes)
            kept[key] = ("weights" if copy else "activations", tensor.untyped_storage().nbytes())
        return tensor

    with (torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
          torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None)):
        loss = model(**batch).loss
    del loss
    sizes = {"activations": 0, "weights": 0}
    for part, size in kept.values():
        sizes[part] += size
    return sizes
