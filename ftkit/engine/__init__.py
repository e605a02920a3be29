"""The training loop and what makes it fast: optimizers, packed batches, the loss, generation."""
