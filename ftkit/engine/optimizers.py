"""The optimizers of `Config.optim`, by the names of transformers."""

from __future__ import annotations

import torch

from ftkit.base.optimizers import OPTIMIZERS


def make(model, config, makers: dict | None = None) -> torch.optim.Optimizer:
    """The optimizer of `config` over the trainable parameters of `model`.

    Weight decay applies to matrices only, not to norms and biases; betas as in transformers.
    makers: replacements for the makers of `base.optimizers`, by name.
    """
    maker = (makers or {}).get(config.optim, OPTIMIZERS[config.optim].make)
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in params if p.ndim >= 2], "weight_decay": config.weight_decay},
              {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0}]
    return maker([g for g in groups if g["params"]], config.learning_rate)
