"""The optimizers of `Config.optim`, by the names of transformers."""

from __future__ import annotations

import torch

from ftkit.base.errors import UserError


def make(model, config, makers: dict | None = None) -> torch.optim.Optimizer:
    """The optimizer of `config` over the trainable parameters of `model`.

    Weight decay applies to matrices only, not to norms and biases; betas as in transformers.
    makers: name → function of (parameter groups, learning rate), by default `MAKERS`.
    """
    makers = makers or MAKERS
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in params if p.ndim >= 2], "weight_decay": config.weight_decay},
              {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0}]
    return makers[config.optim]([g for g in groups if g["params"]], config.learning_rate)


def _adamw(groups, learning_rate):
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)


def _sgd(groups, learning_rate):
    return torch.optim.SGD(groups, lr=learning_rate, fused=True)


def _adafactor(groups, learning_rate):
    from transformers.optimization import Adafactor

    return Adafactor(groups, lr=learning_rate, scale_parameter=False, relative_step=False)


def _eight_bit(name):
    def make(groups, learning_rate):
        try:
            from bitsandbytes import optim
        except ImportError:
            raise UserError("8-bit optimizers need bitsandbytes, which is not installed here; "
                            "`pip install bitsandbytes`, or choose adamw_torch") from None
        return getattr(optim, name)(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)

    return make


MAKERS = {
    "adamw_torch": _adamw,
    "adamw_bnb_8bit": _eight_bit("AdamW8bit"),
    "paged_adamw_8bit": _eight_bit("PagedAdamW8bit"),
    "adafactor": _adafactor,
    "sgd": _sgd,
}
