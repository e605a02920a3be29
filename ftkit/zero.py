"""ZeRO: who holds which part of the states of training."""
from __future__ import annotations


def states(parameters: float, ranks: int = 1, stage: int = 0, *, weights: float = 4,
           gradients: float = 4, optimizer: float = 8, trainable: float | None = None) -> dict:
    """Bytes per rank of parameters, gradients and optimizer states under ZeRO.

    Stage 1 divides the optimizer states among the ranks, 2 the gradients too, 3 the parameters as
    well (Rajbhandari et al. 2020, arXiv:1910.02054, section 3). weights, gradients, optimizer:
    bytes per parameter; the paper's mixed precision is 2, 2 and 12. trainable: how many of the
    parameters have gradients and optimizer states; by default all. Activations not included.
    """
    trainable = parameters if trainable is None else trainable
    return {"parameters": weights * parameters / (ranks if stage >= 3 else 1),
            "gradients": gradients * trainable / (ranks if stage >= 2 else 1),
            "optimizer": optimizer * trainable / (ranks if stage >= 1 else 1)}


def volume(parameters: float, stage: int = 0, trainable: float | None = None) -> float:
    """Elements that a rank sends (and receives) in one step, for many ranks (section 7 there).

    Gradients are summed and, up to stage 2, what was updated is handed round again: twice the
    trained parameters. Stage 3 gathers all parameters for the forward and again for the backward
    pass.
    """
    trainable = parameters if trainable is None else trainable
    return 2 * parameters + trainable if stage == 3 else 2 * trainable
