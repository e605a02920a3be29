"""KL divergence to the base model, a penalty against forgetting (`Config.kl_coef`)."""

import contextlib
import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ftkit.engine.packed_batch import PackedBatch
from ftkit.engine.packed_loss import Forward
from ftkit.model.eval_mode import evaluating


class KLToBase:
    """KL(base || model) at the supervised tokens of the training batch.

    As in Learning without Forgetting (Li and Hoiem 2016, arXiv 1606.09282), no other text is
    needed. The base is the model with its adapter disabled, or for full fine-tuning a frozen copy
    of all weights. The second forward pass makes a step about a third longer, and all logits of
    both passes are kept in memory.
    """

    def __init__(self, forward: Forward, copy_model: Callable = copy.deepcopy):
        self.forward, self.copy = forward, None
        self.base = forward
        if not hasattr(forward.model, "disable_adapter"):
            self.copy = copy_model(forward.model).requires_grad_(False)
            self.base = Forward(self.copy, forward.padded_because, forward.max_logits)

    def __call__(self, batch: PackedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (sum of token losses, sum of KL) over the supervised tokens, in nats."""
        logits, targets = self.forward.logits(batch)
        disabled = contextlib.nullcontext() if self.copy else self.forward.model.disable_adapter()
        with torch.no_grad(), disabled, evaluating(self.base.model):
            wanted = self.base.logits(batch)[0].log_softmax(-1)
        log_probs = logits.log_softmax(-1)
        loss = F.nll_loss(log_probs, targets, reduction="sum")
        return loss, F.kl_div(log_probs, wanted, log_target=True, reduction="sum")
