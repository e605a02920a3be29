"""Gradient checkpointing of a transformers model."""

from __future__ import annotations


def checkpoint(model, use_reentrant: bool = False):
    """Have the layers of a model compute their activations again in the backward pass."""
    # transformers 5 begins with one name and ends with the other.
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": use_reentrant})
