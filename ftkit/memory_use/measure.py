"""Measure one real training step, which `simulate` predicts.

    step("tiny", Config(method="lora"), [128, 128])

On CPU the meter counts the storages; on CUDA the allocator's own peak is read.
"""

import copy

import torch

from ftkit.engine import loop, packed_attention, packed_batch
from ftkit.memory_use import simulate
from ftkit.model import loading
from ftkit.model.random_state import RandomState


def step(model, config, lengths: list[int], supervised: float = 1.0) -> simulate.Step:
    """Train on sequences of these lengths and return the memory of the second step.

    model: a name as in `loading.load`, or a model that is copied. The tokens are arbitrary. In the
    second step the optimizer's state already exists.
    """
    with RandomState(config.seed):
        model = prepare(model, config)
    update = loop.Update(model, config.but(learning_rate=1e-3))
    simulate.fill_state(update)
    size = model.config.get_text_config().vocab_size
    examples = [simulate.example(n, supervised, size) for n in lengths]
    batches = [packed_batch.pack(examples, update.device, share=False)
               for _ in range(config.gradient_accumulation_steps)]
    return taken(update, batches)


def prepare(model, config, copied: bool = True):
    """Prepare a model for training as `Experiment.run` does."""
    if isinstance(model, str):
        model, _ = loading.load(model, quantize=config.method == "qlora",
                                dtype=loading.base_dtype(config),
                                quant_type=config.bnb_4bit_quant_type,
                                load_in_8bit=config.load_in_8bit)
    elif copied:
        model = copy.deepcopy(model)
    model = loading.trainable(model, config)
    packed_attention.why_padded(model)  # its trial is not part of a step
    return model.train()


def taken(update, batches) -> simulate.Step:
    """Take an optimizer step and measure its memory."""
    counts = loading.count(update.model)
    if update.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(update.device)
        before = torch.cuda.memory_allocated(update.device)
        update(batches, 1e-3)
        parts = {"other": torch.cuda.max_memory_allocated(update.device)}
        return simulate.Step([("step", parts)], parts, before, *counts)
    meter = simulate.watch(update, batches)
    before = meter.total
    with meter:
        update(batches, 1e-3)
    meter.mark(("end", 0, 0))
    return simulate.Step(meter.timeline, meter.largest, before, *counts)
