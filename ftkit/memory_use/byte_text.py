"""Bytes and the parts of a training step's memory, as text."""

from __future__ import annotations

from ftkit.base.formatting import gb
from ftkit.memory_use import model_shapes

NAMES = {"weights": "weights", "gradients": "gradients", "optimizer": "optimizer state",
         "master": "fp32 master copies", "copies": "16-bit copies of weights",
         "activations": "activations", "logits": "logits", "other": "other"}


def size(count: float) -> str:
    """Bytes in both units, which differ by 7 %."""
    return f"{gb(count)} ({count / model_shapes.GIB:.2f} GiB)" if count >= 1e9 else (
        f"{gb(count)} ({count / 2**20:.1f} MiB)")
