"""Memory of training in closed form, as one can compute it on paper.

    states(parameters, trainable, config)         weights, gradients, optimizer, in bytes
    activations(shape, config, tokens, length)    after Korthikanti et al. 2022

The states are exact. The activations are the usual estimate; `simulate` traces the real step.
"""

from __future__ import annotations

from ftkit.base.config import MAX_LOGITS
from ftkit.base.optimizers import OPTIMIZERS

FP32, HALF = 4, 2
# Bits of a 4-bit weight with double quantization (Dettmers et al. 2023, section 3): 4, plus an
# 8-bit scale per 64 weights and an fp32 scale per 256 of these scales.
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)


def recipe(config, zero: int = 0) -> dict:
    """Bytes per parameter for frozen and trained weights, gradients, master copies and optimizer.

    Autocast (bf16, fp16) keeps fp32 weights, which need no master copy. Full fine-tuning with ZeRO
    follows its paper: 16-bit weights and gradients, and an fp32 master copy with the optimizer.
    Both need 16 bytes with AdamW. Adapters are always fp32.
    """
    pure = config.precision == "pure-bf16"
    narrow = pure or config.base_dtype in ("bf16", "fp16")
    mixed = bool(zero) and config.precision in ("bf16", "fp16") and config.method == "full"
    low = HALF if pure or mixed else FP32
    return {"frozen": HALF if narrow else FP32, "weights": low, "gradients": low,
            "master": FP32 if mixed else 0,
            "optimizer": OPTIMIZERS[config.optim].state_bytes(HALF if pure else FP32)}


def states(parameters: float, trainable: float, config, gpus: int = 1, zero: int = 0,
           quantized: float = 0, factored: float = 0, papers: bool = True,
           bits: float = NF4_BITS, hidden: float = 0) -> dict:
    """Bytes per GPU of weights, gradients, master copies and optimizer state.

    quantized: number of parameters with `bits` bits each, including scales. factored: number of
    Adafactor's values, one per row and column of a matrix. hidden: trainable weights in matrices of
    hidden layers, which Muon updates. papers: with ZeRO, use the recipe of its paper (`recipe`).
    """
    kind = recipe(config, zero if papers else 0)
    weight = (kind["weights"] * trainable + kind["frozen"] * (parameters - trainable - quantized)
              + bits / 8 * quantized)
    divided = zero_states(parameters, gpus, zero, weights=weight / parameters,
                           gradients=kind["gradients"], trainable=trainable,
                           optimizer=kind["optimizer"])
    share = gpus if zero >= 1 else 1
    optimizer = divided["optimizer"]
    entry = OPTIMIZERS[config.optim]
    if entry.factored:
        optimizer = FP32 * factored / share
    elif entry.rest:
        rest = OPTIMIZERS[entry.rest].state_bytes(kind["weights"]) * (trainable - hidden)
        optimizer = (kind["optimizer"] * hidden + rest) / share
    return {"weights": divided["parameters"], "gradients": divided["gradients"],
            "master": kind["master"] * trainable / share, "optimizer": optimizer}


SCORED = 512  # longest sequence whose attention scores our step keeps on a CPU


def activations(shape, config, tokens: int, length: int, scored: int = SCORED) -> float:
    """Bytes saved for the backward pass: s b h (34 + 5 a s / h) in each layer, in 16 bits.

    Korthikanti et al. 2022 (arXiv:2205.05198), equation 2, for one GPU; s b = tokens, s = length.
    The second term is the attention scores, which flash attention does not keep. scored: longest
    sequence whose scores are kept (0 on a GPU); longer sequences count as this long.
    Without autocast all values take twice the bytes. With checkpointing only the input of each
    layer (2 s b h) and one complete layer are kept. A model without attention has no scores.
    """
    shape = shape.get_text_config()
    h, layers = shape.hidden_size, shape.num_hidden_layers
    heads = getattr(shape, "num_attention_heads", None) or 0
    wide = 2 if config.precision == "fp32" else 1
    layer = wide * tokens * h * (34 + 5 * heads * min(length, scored) / h)
    if config.gradient_checkpointing:
        return layers * wide * 2 * tokens * h + layer
    return layers * layer


def logits(shape, config, supervised_tokens: int) -> float:
    """Bytes of logits and their gradient in ftkit's loss, which holds at most MAX_LOGITS at once.
    """
    vocabulary = shape.get_text_config().vocab_size
    rows = min(supervised_tokens, max(64, MAX_LOGITS // vocabulary))
    return rows * vocabulary * (FP32 + (FP32 if config.precision == "fp32" else HALF))


def zero_states(parameters: float, ranks: int = 1, stage: int = 0, *, weights: float = 4,
           gradients: float = 4, optimizer: float = 8, trainable: float | None = None) -> dict:
    """Bytes per rank of parameters, gradients and optimizer states under ZeRO.

    Stage 1 shards the optimizer states, stage 2 also the gradients, and stage 3 also the parameters
    (section 3 of the paper). weights, gradients, optimizer: bytes per parameter; the paper's
    mixed precision is 2, 2 and 12. trainable: how many of the parameters have gradients and
    optimizer states; by default all. Activations are not included.
    """
    trainable = parameters if trainable is None else trainable
    return {"parameters": weights * parameters / (ranks if stage >= 3 else 1),
            "gradients": gradients * trainable / (ranks if stage >= 2 else 1),
            "optimizer": optimizer * trainable / (ranks if stage >= 1 else 1)}
