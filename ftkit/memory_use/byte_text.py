"""Bytes and the parts of a training step's memory, as text."""

from __future__ import annotations

from ftkit.memory_use import model_shapes

NAMES = {"weights": "weights", "gradients": "gradients", "optimizer": "optimizer state",
         "master": "fp32 master copies", "copies": "16-bit copies of weights",
         "activations": "activations", "logits": "logits", "other": "other"}


def gb(count: float) -> str:
    """Bytes as GB (10**9) or, where that is small, MB."""
    if count >= 1e12:
        return f"{count / 1e12:.2f} TB"
    return f"{count / 1e9:.1f} GB" if count >= 9.95e9 else (
        f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB")


def size(count: float) -> str:
    """Bytes in both units, which differ by 7 %."""
    return f"{gb(count)} ({count / model_shapes.GIB:.2f} GiB)" if count >= 1e9 else (
        f"{gb(count)} ({count / 2**20:.1f} MiB)")
