"""Bytes of weights, gradients and optimizer states in closed form, which is exact.

    states(parameters, trainable, config)         on one GPU or with ZeRO
    zero_states(7.5e9, ranks=64, stage=3)         as in the paper's figure 1
"""

from ftkit.base.optimizers import OPTIMIZERS

FP32, HALF = 4, 2


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
           quantized: float = 0, factored: float = 0, bits: float = 0, hidden: float = 0) -> dict:
    """Bytes per GPU of weights, gradients, master copies and optimizer state.

    quantized: number of parameters with `bits` bits each, including scales. factored: number of
    Adafactor's values, one per row and column of a matrix. hidden: trainable weights in matrices of
    hidden layers, which Muon updates.
    """
    kind, entry = recipe(config, zero), OPTIMIZERS[config.optim]
    weight = (kind["weights"] * trainable + kind["frozen"] * (parameters - trainable - quantized)
              + bits / 8 * quantized)
    optimizer = kind["optimizer"] * trainable
    if entry.factored:
        optimizer = FP32 * factored
    elif entry.rest:
        rest = OPTIMIZERS[entry.rest].state_bytes(kind["weights"])
        optimizer = kind["optimizer"] * hidden + rest * (trainable - hidden)
    divided = zero_states(parameters, gpus, zero, weights=weight / parameters,
                          gradients=kind["gradients"], trainable=trainable)
    share = gpus if zero else 1
    return {"weights": divided["parameters"], "gradients": divided["gradients"],
            "master": kind["master"] * trainable / share, "optimizer": optimizer / share}


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
