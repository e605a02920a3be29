"""LoRA by hand, the version lesson 02 derives; training uses peft's, and a test holds them equal.

Hu et al. 2021, arXiv:2106.09685: a frozen weight W gets the update (alpha / r) B A, where A has
shape (r, in) and B (out, r). B starts at zero, so the adapted model starts as the base model.
"""

from __future__ import annotations

import math

import torch
from torch import nn


class LoRALinear(nn.Module):
    """`linear` (frozen) plus a trainable update of rank `r`; input and output shapes as before."""

    def __init__(self, linear: nn.Linear, r: int, lora_alpha: float):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.A = nn.Parameter(torch.empty(r, linear.in_features, **like))
        self.B = nn.Parameter(torch.zeros(linear.out_features, r, **like))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # the start of nn.Linear, as in peft
        self.scale = lora_alpha / r

    def forward(self, x):
        return self.linear(x) + (x @ self.A.T @ self.B.T) * self.scale

    def merged(self) -> nn.Linear:
        """A plain linear layer that computes the same."""
        weight = self.linear.weight + self.scale * self.B @ self.A
        out = nn.Linear(self.linear.in_features, self.linear.out_features,
                        bias=self.linear.bias is not None).to(weight)
        out.weight = nn.Parameter(weight.detach())
        out.bias = self.linear.bias
        return out


def inject(model: nn.Module, target_modules: list[str], r: int, lora_alpha: float) -> nn.Module:
    """Freeze `model` and put a LoRALinear around each linear layer whose name is a target."""
    model.requires_grad_(False)
    _replace(model, lambda name, module: LoRALinear(module, r, lora_alpha)
             if isinstance(module, nn.Linear) and name in target_modules else None)
    return model


def merge(model: nn.Module) -> nn.Module:
    """Fold every LoRALinear back into a plain linear layer."""
    _replace(model, lambda _, module: module.merged() if isinstance(module, LoRALinear) else None)
    return model


def _replace(model, new):
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            module = new(name, child)
            if module is not None:
                setattr(parent, name, module)
