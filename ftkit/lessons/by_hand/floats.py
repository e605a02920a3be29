"""Floating point from scratch: bf16 by its bits, stochastic rounding, and a training loop in which
only the rounding of the stored weights varies.

    to_bf16(x)                       # as x.bfloat16() rounds: to the nearest, ties to even
    to_bf16(x, draw=generator)       # up or down at random, right on average
"""

from __future__ import annotations

import torch

from ftkit.base.errors import UserError
from ftkit.engine import packed_batch, packed_loss


def to_bf16(x: torch.Tensor, draw: torch.Generator | None = None) -> torch.Tensor:
    """fp32 numbers rounded to bf16's 8 significant bits, still stored in fp32.

    bf16 is the upper half of fp32's bits. With `draw` the lower half is the probability of rounding
    up: a number a quarter of the way to the next one goes there in a quarter of the cases
    (stochastic rounding).
    """
    bits = x.contiguous().view(torch.int32)
    if draw is None:
        add = 0x7FFF + (bits >> 16 & 1)  # half a unit; a tie goes to the even number
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
    Everything else is fp32, so that only the rounding of the weights differs. Raises UserError for
    another rounding.
    """
    if rounding not in ROUNDINGS:
        raise UserError(f"rounding is {rounding!r}; expected one of {', '.join(ROUNDINGS)}")
    params = [p for p in model.parameters() if p.requires_grad]
    draw = torch.Generator().manual_seed(seed) if rounding == "stochastic" else None
    optimizer = torch.optim.AdamW(params, lr=learning_rate, weight_decay=0.0, fused=True)
    losses = []
    for indices in order:
        batch = packed_batch.pack([examples[i] for i in indices])
        loss = packed_loss.loss_sum(model, batch) / batch.supervised_tokens
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

