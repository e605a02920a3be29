"""Gradient checkpointing of a transformers model."""

from ftkit.model.random_state import context_fn


def checkpoint(model, use_reentrant: bool = False):
    """Make the layers of a model recompute their activations in the backward pass."""
    how = {"use_reentrant": use_reentrant} if use_reentrant else {
        "use_reentrant": False, "preserve_rng_state": False, "context_fn": context_fn}
    # transformers 5 renamed the method during its minor versions.
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)(how)
