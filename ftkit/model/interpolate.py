"""Weight interpolation: a model part of the way from its base to its fine-tuned self (WiSE-FT).

    half = blend(base, run.model, 0.5)     # no training: one pass over the weights
"""

from __future__ import annotations

import copy
import math

import torch

from ftkit.base.errors import UserError


def blend(base_model, tuned_model, share: float):
    """A new model with weights (1 - share) · base + share · tuned: 0 is the base, 1 the tuned one.

    Wortsman et al. 2022 (arXiv 2109.01903). `tuned_model` may be a peft model: its adapter is
    merged into a copy first, so that share scales the update. Neither input is changed. Raises
    ValueError for a share outside 0 to 1, and for two models that are not of one kind.
    """
    if isinstance(share, bool) or not math.isfinite(share) or not 0 <= share <= 1:
        raise UserError(f"share is {share!r}; give a number from 0 (base) to 1 (tuned)")
    tuned = merged(tuned_model)
    out = copy.deepcopy(merged(base_model))
    theirs = dict(tuned.named_parameters())
    for name, weight in out.named_parameters():
        other = theirs.pop(name, None)
        if other is None or other.shape != weight.shape:
            shape = "no such weight" if other is None else f"shape {tuple(other.shape)}"
            raise UserError(f"{name} has shape {tuple(weight.shape)} in the base and {shape} in "
                            "the tuned model; blend a model with the base it was tuned from")
        if not weight.is_floating_point():
            raise UserError(f"{name} is quantized ({weight.dtype}); load both models in full "
                            "precision before you blend them")
        weight.data = torch.lerp(weight.data, other.data.to(weight), share)
    if theirs:
        raise UserError(f"the tuned model has weights that the base lacks: {next(iter(theirs))}; "
                        "blend a model with the base it was tuned from")
    return out.eval()


def merged(model):
    """The model itself, or, of a peft model, a copy with the adapter added into the weights."""
    if hasattr(model, "merge_and_unload"):
        return copy.deepcopy(model).merge_and_unload()
    return model
