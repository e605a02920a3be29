"""Floating point from scratch: bf16 by its bits, stochastic rounding, Kahan summation, training
loops in which only the rounding of the stored weights or the loss scale varies.

    to_bf16(x)                       # as x.bfloat16() rounds: to the nearest, ties to even
    to_bf16(x, draw=generator)       # up or down at random, right on average
"""

from __future__ import annotations

import torch

from ftkit.base import machine
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


ROUNDINGS = ("none", "nearest", "stochastic", "kahan")


def train_rounded(model, examples: list[dict], order: list[list[int]], learning_rate: float,
                  rounding: str, seed: int = 0) -> list[float]:
    """Train `model` in place with AdamW in fp32 and round the weights to bf16 after each step, as
    a run without fp32 master weights does; returns the loss of every step.

    examples: encoded records; order: indices of each batch. rounding: none, nearest, stochastic,
    or kahan, which rounds to the nearest and keeps what was cut off in a second bf16 number for
    each weight. Everything else is fp32, so that only the rounding of the weights differs. In the
    smoke tier a run of more than 12 steps takes 4. Raises UserError for another rounding.
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
    """Train `model` in place on factor × loss with a loss scale, computed by autocast to `dtype`
    (fp32: without); returns how many steps were skipped.

    examples, order: as in `train_rounded`. scale: of the loss at the start; it is halved after each
    step whose gradients are not finite, and that step is skipped. 1 stays as it is.
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
    """AdamW's running mean of squared gradients after each step, for one weight of `dtype` whose
    gradients are given; torch keeps the mean in the weight's own dtype."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=dtype))
    optimizer = torch.optim.AdamW([weight], lr=0.0, betas=(0.9, beta2))
    found = []
    for gradient in gradients:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        found.append(optimizer.state[weight]["exp_avg_sq"].item())
    return found


def draw(lines: dict[str, list[float]], x: list[float], names: tuple[str, str], text: str,
         log: bool = False):
    """Lines over the same x, named at their ends. names: of the two axes; text: what is seen;
    log: a logarithmic x axis."""
    from ftkit.report import style

    with style.style():
        picture = style.new_figure(6.4, 2.6)
        ax = picture.add_axes((0.11, 0.2, 0.62, 0.72))
        ends = []
        for i, (name, y) in enumerate(lines.items()):
            ax.plot(x, y, color=style.COLORS[i], linestyle=("-", "--", ":")[i % 3], linewidth=1.8)
            ends.append((x[-1], y[-1], name, style.COLORS[i]))
        if log:
            ax.set_xscale("log")
        ax.set_xlabel(names[0])
        ax.set_ylabel(names[1])
        ax.autoscale_view()  # the names are placed by the limits, which else are set when drawn
        style.label_line_ends(ax, ends)
    return style.Picture(picture, text)
