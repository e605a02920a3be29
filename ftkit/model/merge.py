"""Merge an adapter into its base; interpolate between a base and a tuned model (WiSE-FT).

    half = blend(base, run.model, 0.5)     # no training: one pass over the weights
"""

import copy
import math

from ftkit.base.errors import UserError
from ftkit.model.peft_methods import is_virtual


def unwrap(model):
    """Merge a peft model's adapter into its base in place; returns the transformers model.

    Its name_or_path becomes "", since the merged weights are not stored in any folder. Raises
    UserError if the method is prompt or prefix tuning, whose vectors cannot be merged.
    """
    if not hasattr(model, "peft_config"):
        return model
    if is_virtual(model):
        kind = model.active_peft_config.peft_type.value.lower()
        raise UserError(f"the model was tuned with {kind}, whose virtual tokens cannot be merged "
                        "into weights; expected a full, lora or ia3 run")
    model = model.merge_and_unload()
    model.name_or_path = ""
    return model


def merged(model):
    """Return a merged copy of a peft model, or any other model unchanged."""
    return unwrap(copy.deepcopy(model)) if hasattr(model, "merge_and_unload") else model


def blend(base_model, tuned_model, weight: float):
    """Create a model with parameters (1 - weight) * base + weight * tuned.

    Wortsman et al. 2022 (arXiv 2109.01903). A peft model is copied and merged first; the inputs are
    not changed. Raises UserError if the weight is not between 0 and 1, or the models' parameters
    differ.
    """
    import torch

    if isinstance(weight, bool) or not math.isfinite(weight) or not 0 <= weight <= 1:
        raise UserError(f"weight is {weight!r}; expected a number from 0 (base) to 1 (tuned)")
    blended = copy.deepcopy(merged(base_model))
    tuned = dict(merged(tuned_model).named_parameters())
    for name, parameter in blended.named_parameters():
        other = tuned.pop(name, None)
        if other is None or other.shape != parameter.shape:
            shape = "is missing from" if other is None else f"has shape {tuple(other.shape)} in"
            raise UserError(f"{name} has shape {tuple(parameter.shape)} in the base and {shape} "
                            "the tuned model. Blend a model with the base it was tuned from.")
        if not parameter.is_floating_point():
            raise UserError(f"{name} is quantized ({parameter.dtype}). Load both models in full "
                            "precision before you blend them.")
        parameter.data = torch.lerp(parameter.data, other.data.to(parameter), weight)
    if tuned:
        raise UserError(f"the tuned model has weights that the base lacks: {next(iter(tuned))}. "
                        "Blend a model with the base it was tuned from.")
    return blended.eval()
