"""Whether mixed precision will round many of a model's weights to a neighbor value."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ftkit.base import messages

if TYPE_CHECKING:
    import torch


def spacing(x, dtype: torch.dtype) -> torch.Tensor:
    """Distance from |x| to the next larger number of `dtype` (fp32, fp16 or bf16), in fp64."""
    import torch

    info = torch.finfo(dtype)
    x = torch.as_tensor(x, dtype=torch.float64).abs().clamp(min=info.smallest_normal)
    return 2.0 ** x.log2().floor() * info.eps


def halfway(weights, dtype: torch.dtype) -> float:
    """Fraction of the numbers in the tensors that are exactly halfway between two of `dtype`, where
    the smallest update decides how they are rounded; of many numbers about 100,000 are looked at.
    """
    import torch

    weights = list(weights)
    every = max(1, sum(w.numel() for w in weights) // 100_000)
    some = torch.cat([w.detach().reshape(-1)[::every].double().cpu() for w in weights])
    return (some / spacing(some, dtype) % 1 == 0.5).double().mean().item()


HALFWAY = 0.01  # fraction of such weights that is reported; of fp32 weights it is 1 in 65,536


def rounding_note(model, config) -> str | None:
    """A warning where that many weights are halfway between two numbers of the compute precision
    that the loss of a run falls at any learning rate; None otherwise. Also printed, once."""
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
            "learning rate; take precision fp32, or a copy of the model from "
            "`ftkit export FOLDER COPY --dtype bf16`")
    _print_once(note)
    return note


@functools.cache  # once, however many runs of a sweep find it
def _print_once(note: str):
    messages.say(note)
