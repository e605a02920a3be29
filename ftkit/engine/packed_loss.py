"""The loss of a packed batch: no padding, and logits only for supervised tokens.

    Forward.of(model)                                 packed or padded, decided once for a run
        .loss_sum(batch), .token_losses(batch)        loss of the supervised tokens: sum, or each
    nll(model, examples, batch_tokens=4096)           (sum of the loss, number of supervised tokens)

The model is transformers' own. Its linear layers read the row of a `packed_batch.PackedBatch`, and
`packed_attention` keeps the sequences apart. A model that cannot run this way gets ordinary padded
batches, which give the same numbers more slowly; the reason is printed once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ftkit.base import messages
from ftkit.base.config import MAX_LOGITS
from ftkit.engine.packed_attention import base_of, fast_path, hidden_states, switch_on, why_padded
from ftkit.engine.packed_batch import PackedBatch, pack
from ftkit.model.eval_mode import evaluating


class Forward:
    """Computes the loss of a model on packed or padded batches; `Forward.of(model)` decides which.

    padded_because: the reason for padded batches, None for packed ones. max_logits: largest number
    of logits in memory at once.
    """

    def __init__(self, model, padded_because: str | None = None, max_logits: int = MAX_LOGITS):
        self.model, self.base = model, base_of(model)
        self.padded_because, self.max_logits = padded_because, max_logits

    @classmethod
    def of(cls, model) -> Forward:
        """Choose packed or padded batches by `why_padded`; prints the reason for padding once.

        On a GPU, call it under the run's autocast, which changes the attention kernel.
        """
        reason = why_padded(model)
        if reason is not None:
            messages.say_once(f"using padded batches instead of the fast path: {reason}")
        return cls(model, reason)

    def loss_sum(self, batch: PackedBatch) -> torch.Tensor:
        """Sum of the supervised tokens' losses (nats), differentiable.

        Respects autocast. The model keeps our attention function afterwards, since gradient
        checkpointing calls it again in the backward pass; `fast_path` around a run restores it.
        """
        if self.padded_because is not None:
            return F.cross_entropy(*self.logits(batch), reduction="sum")
        return _head_loss(*self._predictions(batch), self.max_logits)

    def token_losses(self, batch: PackedBatch) -> torch.Tensor:
        """The loss of each supervised token, (R,), in the order of `batch.rows`.

        For objectives that are not a sum over tokens. All logits are kept in memory.
        """
        return F.cross_entropy(*self.logits(batch), reduction="none")

    def logits(self, batch: PackedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (logits (R, vocabulary) in fp32, supervised tokens (R,)) of a batch."""
        if self.padded_because is not None:
            return _padded_logits(self.model, batch)
        head, hidden, targets = self._predictions(batch)
        return head(hidden).float(), targets

    def _predictions(self, batch):
        """Return (head, hidden states (R, d), targets (R,))."""
        base = self.base
        switch_on(base)
        if self._draws_dropout():
            batch = batch.unshared()
        hidden = hidden_states(base, batch.input_ids, batch.position_ids, batch.layout)
        hidden = hidden.index_select(0, batch.rows.to(hidden.device))
        return base.get_output_embeddings(), hidden, batch.targets.to(hidden.device)

    def _draws_dropout(self) -> bool:
        if not self.base.training:
            return False
        config = self.base.config.get_text_config()
        return bool(getattr(config, "attention_dropout", 0)) or any(m.p > 0 for m in self._dropouts)

    @functools.cached_property
    def _dropouts(self) -> list:
        return [m for m in self.base.modules() if isinstance(m, torch.nn.Dropout)]


def loss_sum(model, batch: PackedBatch) -> torch.Tensor:
    """Loss sum of a single batch: `Forward.of(model).loss_sum(batch)`."""
    return Forward.of(model).loss_sum(batch)


def _head_loss(head, hidden, targets, max_logits):
    plain = type(head) is torch.nn.Linear and head.bias is None and not head._forward_hooks  # noqa: SLF001
    if not plain:
        return F.cross_entropy(head(hidden).float(), targets, reduction="sum")
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        hidden = hidden.to(torch.get_autocast_dtype(device))
    chunk = max(64, max_logits // head.weight.shape[0])
    with torch.autocast(device, enabled=False):
        if torch.is_grad_enabled():
            return _LinearCrossEntropy.apply(hidden, head.weight, targets, chunk)
        weight = head.weight.to(hidden.dtype)
        return sum((_chunk_loss(h @ weight.t(), t)[0]
                    for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True)),
                   torch.zeros((), device=hidden.device))


def _chunk_loss(logits, targets):
    """Return (sum of a chunk's losses, log-probabilities in fp32)."""
    logp = torch.log_softmax(logits, -1, dtype=torch.float32)
    return -logp.gather(1, targets[:, None]).sum(), logp


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of the cross entropy of `hidden @ weight.T`, with `chunk` rows of logits in memory.

    The forward pass also computes the gradient of the logits, softmax minus one-hot. If all rows
    fit in one chunk, it is kept for the backward pass; otherwise each chunk turns it into the
    gradients of hidden and weight immediately. torch 2.13's `F.linear_cross_entropy` is as fast in
    fp32, but 3.5 times slower in bf16 on CPU.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, chunk):
        low = weight.to(hidden.dtype)
        ctx.whole = len(targets) <= chunk
        if ctx.whole:
            total, grad = _loss_and_gradient(hidden, low, targets)
            ctx.save_for_backward(grad, hidden, low)
            return total
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), chunk):
            h, t = hidden[start : start + chunk], targets[start : start + chunk]
            loss, grad = _loss_and_gradient(h, low, t)
            total += loss
            torch.mm(grad, low, out=d_hidden[start : start + chunk])
            if d_weight is not None:
                d_weight += grad.t() @ h
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx, scale):
        if ctx.whole:
            grad, hidden, low = ctx.saved_tensors
            need_weight = ctx.needs_input_grad[1]
            d_weight = grad.t() @ (hidden * scale) if need_weight else None
            return (grad @ low) * scale, d_weight, None, None
        d_hidden, d_weight = ctx.saved_tensors
        # In place, since it is as large as the head; autograd refuses a second backward pass.
        return d_hidden * scale, None if d_weight is None else d_weight.mul_(scale), None, None


def _loss_and_gradient(hidden, weight, targets):
    """Return (sum of the losses, gradient of the logits) without keeping the logits."""
    loss, grad = _chunk_loss(hidden @ weight.t(), targets)
    grad.exp_()
    grad[torch.arange(len(targets), device=targets.device), targets] -= 1
    return loss, grad.to(hidden.dtype)


def _padded_logits(model, batch):
    """Compute `Forward.logits` on padded batches, for models that cannot use packed ones."""
    device = batch.input_ids.device
    rows = [torch.tensor([e["input_ids"], [-100, *e["labels"][1:]]], device=device).T
            for e in batch.examples]
    lengths = torch.tensor([len(row) for row in rows], device=device)
    rows = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    mask = torch.arange(rows.shape[1], device=device) < lengths[:, None]
    ids, labels = rows[..., 0].where(mask, 0), rows[:, 1:, 1]
    ragged = len({len(e["input_ids"]) for e in batch.examples}) > 1
    logits = model(input_ids=ids, attention_mask=mask.long() if ragged else None,
                   use_cache=False).logits
    logits = logits[:, -ids.shape[1] : -1]  # drop virtual tokens and the last position
    scored = [(row, i) for row, e in enumerate(batch.examples)
              for i, label in enumerate(e["labels"][1:]) if label != -100]
    at = tuple(torch.tensor(scored, dtype=torch.long, device=device).reshape(-1, 2).T)
    return logits[at].float(), labels[at]


@torch.no_grad()
def nll(model, examples: Sequence[dict], batch_tokens: int = 4096) -> tuple[float, int]:
    """Evaluate examples; returns (sum of the loss in nats, number of supervised tokens).

    The quotient is the mean over tokens; `Trainer.evaluate` reports a mean of batch means.
    """
    device = next(model.parameters()).device
    order = sorted(examples, key=lambda e: len(e["input_ids"]))
    losses, count, batch, size = [], 0, [], 0
    with evaluating(model), fast_path(model):
        forward = Forward.of(model)
        for i, example in enumerate(order):
            batch.append(example)
            size += len(example["input_ids"])
            if size >= batch_tokens or i == len(order) - 1:
                flat = pack(batch, device, share=True)
                losses.append(forward.loss_sum(flat))
                count += flat.supervised_tokens
                batch, size = [], 0
    return sum(float(loss) for loss in losses), count
