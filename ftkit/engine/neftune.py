"""NEFTune: noise on the embeddings during training (`Config.neftune_noise_alpha`)."""

import contextlib
import math
from collections.abc import Iterator

import torch

from ftkit.engine.packed_attention import base_of
from ftkit.engine.packed_batch import PackedBatch


@contextlib.contextmanager
def noise(model, alpha: float | None, batch: PackedBatch) -> Iterator[PackedBatch]:
    """Add uniform noise of at most alpha / sqrt(L * d) to the embeddings in training mode.

    Jain et al. 2023 (arXiv 2310.05914). d is the embedding dimension. L is the length of the
    longest example, also in a packed row, so that the noise is as in transformers' Trainer with
    padded batches. alpha: None adds no noise and draws no random numbers. Yields the batch to
    use for the forward pass.
    """
    if alpha is None:
        yield batch
        return
    batch = batch.unshared()
    length = max(len(example["input_ids"]) for example in batch.examples)

    def add(module, inputs, embeddings):
        if not module.training:  # the base's forward pass for `kl_coef`
            return embeddings
        bound = alpha / math.sqrt(length * embeddings.shape[-1])
        return embeddings + torch.empty_like(embeddings).uniform_(-bound, bound)

    hook = base_of(model).get_input_embeddings().register_forward_hook(add)
    try:
        yield batch
    finally:
        hook.remove()
