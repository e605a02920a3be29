"""LoRA from scratch, as derived in lesson 02. Training uses peft's; a test compares the two.

Hu et al. 2021, arXiv:2106.09685: a frozen weight W gets the update (lora_alpha / r) B A, where A
has shape (r, in) and B (out, r). B starts at zero, so the adapted model starts as the base model.
"""

import math

import torch
from torch import nn


class LoRALinear(nn.Module):
    """The frozen `linear` plus a trainable update of rank `r`; shapes stay as they were."""

    def __init__(self, linear: nn.Linear, r: int, lora_alpha: float):
        super().__init__()
        self.linear, self.scaling = linear, lora_alpha / r
        like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.A = nn.Parameter(torch.empty(r, linear.in_features, **like))
        self.B = nn.Parameter(torch.zeros(linear.out_features, r, **like))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # as nn.Linear starts, and peft's A

    def forward(self, x):
        """Two thin matmuls; the product B A itself is never computed."""
        return self.linear(x) + self.scaling * (x @ self.A.T @ self.B.T)


def inject(model: nn.Module, target_modules: list[str], r: int, lora_alpha: float) -> nn.Module:
    """Freeze `model` and put a LoRALinear around each linear layer whose name is a target."""
    model.requires_grad_(False)
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            if name in target_modules:
                setattr(block, name, LoRALinear(child, r, lora_alpha))
    return model


def merge(model: nn.Module) -> nn.Module:
    """Merge all updates into their weights, in place; returns a model without LoRA."""
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            if isinstance(child, LoRALinear):
                child.linear.weight.data += child.scaling * child.B.data @ child.A.data
                setattr(block, name, child.linear)
    return model
