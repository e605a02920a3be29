"""Floating point from scratch: bf16, stochastic rounding, Kahan summation, loss scaling.

    to_bf16(x)                       # as x.bfloat16() rounds: to the nearest, ties to even
    to_bf16(x, draw=generator)       # up or down at random, right on average
"""

import torch

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.engine import packed_batch, packed_loss


def to_bf16(x: torch.Tensor, draw: torch.Generator | None = None) -> torch.Tensor:
    """Round fp32 numbers to bf16's 8 significant bits; the result is still stored in fp32.

    bf16 is the upper half of fp32's bits. With `draw` the lower half is the probability of rounding
    up (stochastic rounding): a number a quarter of the way to the next one is rounded up in a
    quarter of the cases.
    """
    bits = x.contiguous().view(torch.int32)
    if draw is None:
        add = 0x7FFF + (bits >> 16 & 1)  # half a unit; a tie goes to the even number
    else:
        add = torch.randint(0, 1 << 16, x.shape, generator=draw, dtype=torch.int32)
    rounded = ((bits + add) & -65536).view(torch.float32)
    return torch.where(x.isfinite(), rounded, x)


ROUNDINGS = ("none", "nearest", "stochastic", "kahan")


def train_rounded(model, examples: list[dict], order: list[list[int]], learning_rate: float,
                  rounding: str, seed: int = 0) -> list[float]:
    """Train `model` in place, rounding weights to bf16 after each step; returns each step's loss.

    This simulates a run without fp32 master weights. All else is fp32. examples: encoded
    records. order: indices of each batch. rounding: "none", "nearest", "stochastic", or "kahan",
    which keeps the remainder of each weight in a second bf16 number. The smoke tier takes at most
    4 of more than 12 steps. Raises UserError if `rounding` is unknown.
    """
    if rounding not in ROUNDINGS:
        raise UserError(f"rounding is {rounding!r}; expected one of {', '.join(ROUNDINGS)}")
    params = [p for p in model.parameters() if p.requires_grad]
    draw = torch.Generator().manual_seed(seed) if rounding == "stochastic" else None
    rest = [torch.zeros_like(p) for p in params]  # used by kahan alone
    optimizer = torch.optim.AdamW(params, lr=learning_rate, weight_decay=0.0, fused=True)
    losses = []
    for indices in order[:machine.steps_in_tier(len(order))]:
        batch = packed_batch.pack([examples[i] for i in indices])
        loss = packed_loss.loss_sum(model, batch) / batch.supervised_tokens
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if rounding != "none":
            with torch.no_grad():
                for p, cut in zip(params, rest, strict=True):
                    whole = p + cut
                    p.copy_(to_bf16(whole, draw))
                    if rounding == "kahan":
                        cut.copy_(to_bf16(whole - p))
        losses.append(float(loss.detach()))
    return losses


def train_scaled(model, examples: list[dict], order, dtype: torch.dtype, factor: float,
                 scale: float, learning_rate: float = 1e-3) -> int:
    """Train `model` in place with loss scaling; returns the number of skipped steps.

    The loss is factor × loss, under autocast to `dtype` unless that is fp32. examples, order: as in
    `train_rounded`. scale: the initial loss scale. A step with gradients that are not finite is
    skipped and halves the scale, down to 1.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    skipped = 0
    for indices in order:
        batch = packed_batch.pack([examples[i] for i in indices])
        with torch.autocast("cpu", torch.float16, enabled=dtype == torch.float16):
            loss = packed_loss.loss_sum(model, batch) / batch.supervised_tokens
        (loss * factor * scale).backward()
        gradients = [p.grad for p in model.parameters()]
        if all(g.isfinite().all() for g in gradients):
            for gradient in gradients:
                gradient.div_(scale)
            optimizer.step()
        else:
            skipped += 1
            scale = max(1.0, scale / 2)
        optimizer.zero_grad()
    return skipped


def second_moment(gradients: list[float], dtype: torch.dtype, beta2: float = 0.999) -> list[float]:
    """AdamW's second moment after each of `gradients`, for one weight of `dtype`.

    torch keeps the moment in the dtype of the weight.
    """
    weight = torch.nn.Parameter(torch.zeros(1, dtype=dtype))
    optimizer = torch.optim.AdamW([weight], lr=0.0, betas=(0.9, beta2))
    found = []
    for gradient in gradients:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        found.append(optimizer.state[weight]["exp_avg_sq"].item())
    return found
