"""Operations and seconds of a training step in closed form, by method.

    flops(model, config, Batch(tokens=600, scored=300, pairs=20_000))
    seconds(model, config, batch)         on this machine, within a factor of two

model: `preflight.ModelFacts`, whose matrices are counted (all experts of a mixture).
"""

import functools
import math
import time
from typing import NamedTuple

from ftkit.base import machine
from ftkit.base.config import LORA, Config

# Least squares over 56 steps of tiny and SmolLM2 (106 to 1,350 tokens, fp32 and bf16, the methods
# of tests/benchmarks/forecast.py) on one core of an EPYC; each is within 0.6 to 1.6 of its time.
# A forward pass is one pass, a backward pass two, a recomputation one.
PER_ELEMENT = 18e-9, 6e-9  # seconds a pass for each token, layer and hidden unit; more for adapters
PER_LAYER = 0.44e-3, 0.3e-3  # seconds a pass for each layer; more for adapters
PER_WEIGHT, PER_NORM = 3.2e-9, 5.4e-9  # for each trained weight; for each weight that DoRA scales
# On a GPU only the launches of kernels (PER_LAYER) are added to the matmuls, which is not measured.


class Batch(NamedTuple):
    """tokens; those of them that contribute to the loss; the sum of the squared lengths."""

    tokens: float
    scored: float
    pairs: float


def flops(model, config: Config, batch: Batch, training: bool = True) -> float:
    """Floating-point operations of a step's matmuls, or of a forward pass, as torch counts them.

    A weight costs 2 operations a token forward, 2 for the gradient of its input and, only if it is
    trained, 2 for its own (Kaplan et al. 2020, arXiv:2001.08361, section 2.1); the head reads
    only scored tokens. Attention costs 4 a pair of tokens and hidden unit, and 2.5 times that
    backward (Dao 2023, arXiv:2307.08691). Checkpointing repeats the forward pass of the layers.
    """
    tokens, scored, pairs = _padded(config, batch)
    adapter = 2 * adapter_weights(model, config) * tokens
    layers = 2 * model.body * tokens + adapter
    if config.use_dora:  # the product of B and A, through an identity matrix
        layers += 4 * config.r * model.body
    attention = 4 * model.sizes.num_hidden_layers * model.sizes.hidden_size * pairs
    head = 2 * model.sizes.vocab_size * model.sizes.hidden_size * scored
    if not training:
        return layers + attention + head
    own = 2 * (layers + head) if config.method == "full" else layers + head + adapter
    again = layers + attention if config.gradient_checkpointing else 0
    return layers + head + own + 3.5 * attention + again


def seconds(model, config: Config, batch: Batch, training: bool = True) -> float:
    """Seconds of a step, or of a forward pass, on this machine."""
    device = machine.device()
    tokens = _padded(config, batch).tokens
    adapts = config.method in LORA
    passes = 1 if not training else 4 if config.gradient_checkpointing else 3
    layers = passes * model.sizes.num_hidden_layers
    found = (flops(model, config, batch, training) / matmul_flops(config.precision or "", device)
             + layers * (PER_LAYER[0] + adapts * PER_LAYER[1]))
    if device == "cuda":
        return found
    trained = model.parameters if config.method == "full" else adapter_weights(model, config)
    return (found + layers * tokens * model.sizes.hidden_size
            * (PER_ELEMENT[0] + adapts * PER_ELEMENT[1])
            + training * PER_WEIGHT * trained + config.use_dora * PER_NORM * model.body)


def adapter_weights(model, config: Config) -> int:
    """Weights of LoRA's matrices; as many as for all linear layers where fewer are adapted."""
    return config.r * model.body_sides if config.method in LORA else 0


def _padded(config: Config, batch: Batch) -> Batch:
    """The Batch that virtual tokens make of one: padded rows, of which all have logits."""
    if "tuning" not in config.method:
        return batch
    virtual, records = config.num_virtual_tokens, max(1.0, batch.tokens**2 / batch.pairs)
    before = virtual * records if config.method == "prompt_tuning" else 0
    length = batch.tokens / records + virtual
    return Batch(batch.tokens + before, batch.tokens + before, records * length**2)


@functools.cache
def matmul_flops(precision: str = "fp32", device: str = "cpu") -> float:
    """Floating-point operations a second in a matmul, the fastest in 20 ms: another program that
    interrupts one would otherwise make every later forecast too long."""
    import torch

    side = 4096 if device == "cuda" else 512
    dtype = {"fp32": torch.float32, "fp16": torch.float16}.get(precision, torch.bfloat16)
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    torch.mm(matrix, matrix)[0, 0].item()
    end, best = time.perf_counter() + 0.02, math.inf
    while time.perf_counter() < end:
        began = time.perf_counter()
        torch.mm(matrix, matrix)[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best
