"""Detect weights that mixed precision would round to a neighbor value at the smallest update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftkit.base import messages

if TYPE_CHECKING:
    import torch


def spacing(x, dtype: torch.dtype) -> torch.Tensor:
    """Distance from |x| to the next larger number of `dtype` (fp32, fp16 or bf16), as fp64."""
    import torch

    info = torch.finfo(dtype)
    x = torch.as_tensor(x, dtype=torch.float64).abs().clamp(min=info.smallest_normal)
    return 2.0 ** x.log2().floor() * info.eps


def halfway(weights, dtype: torch.dtype) -> float:
    """Fraction of weights exactly halfway between two numbers of `dtype` (about 100,000 are read).

    The smallest update decides how such a weight is rounded.
    """
    import torch

    weights = list(weights)
    every = max(1, sum(w.numel() for w in weights) // 100_000)
    some = torch.cat([w.detach().reshape(-1)[::every].double().cpu() for w in weights])
    return (some / spacing(some, dtype) % 1 == 0.5).double().mean().item()


HALFWAY = 0.01  # report a larger fraction than this; random fp32 weights have 1 in 65,536


def rounding_note(model, config) -> str | None:
    """Return a warning if many weights are halfway between two numbers of the compute precision,
    so that the loss falls at any learning rate; else None. Each warning is also printed once."""
    import torch

    kind = {"bf16": "bfloat16", "fp16": "float16"}.get(config.precision)
    if config.method != "full" or kind is None:
        return None
    fraction = halfway(model.parameters(), getattr(torch, kind))
    if fraction < HALFWAY:
        return None
    note = (f"{fraction:.0%} of the weights are exactly halfway between two numbers of "
            f"{config.precision}, as in models stored in fp16 or dequantized. The smallest update "
            f"rounds them to a neighbor value, so the {config.precision} loss falls at any "
            "learning rate; use precision fp32, or a copy of the model made by "
            "`ftkit export FOLDER COPY --dtype bf16`")
    messages.say_once(note)  # not for every run of a sweep
    return note
