"""NEFTune, noise on the embeddings while a model trains: `Config.neftune_noise_alpha`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch

from ftkit.engine.packed_attention import base_of
from ftkit.engine.packed_batch import PackedBatch


@contextlib.contextmanager
def noise(model, alpha: float | None, batch: PackedBatch) -> Iterator[PackedBatch]:
    """Inside, embeddings get uniform noise of at most alpha / sqrt(L * d) while they are in
    training mode (Jain et al. 2023, arXiv 2310.05914). Yields the batch to read.

    d: dimension of the embeddings. L: tokens of the longest example of the batch, as in the padded
    batches of transformers' Trainer, whose noise this is, also where the batch is one packed row.
    alpha: None for no noise, which draws no random number.
    """
    if alpha is None:
        yield batch
        return
    batch = batch.unshared()
    length = max(len(example["input_ids"]) for example in batch.examples)

    def add(module, inputs, embeddings):
        if not module.training:  # the pass through the base of `kl_coef`
            return embeddings
        bound = alpha / math.sqrt(length * embeddings.shape[-1])
        return embeddings + torch.empty_like(embeddings).uniform_(-bound, bound)

    hook = base_of(model).get_input_embeddings().register_forward_hook(add)
    try:
        yield batch
    finally:
        hook.remove()
