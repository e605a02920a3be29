"""Proofs about number formats: spacing, rounding, underflow, NF4 as bitsandbytes stores it."""

import torch

from ftkit.interview.proofs.memory import GB, nf4_bits, nf4_bytes_7b, normal, parameters_7b
from ftkit.interview.proofs.registry import Evidence, proof, register


def four_bit(matrix, kind="nf4", block=64):
    """The matrix, quantized to 4 bits by bitsandbytes and back. kind: nf4 or fp4. block: the number
    of weights that share a scale."""
    from bitsandbytes import functional as bnb

    packed, state = bnb.quantize_4bit(matrix.contiguous(), blocksize=block, quant_type=kind)
    return bnb.dequantize_4bit(packed, state)


def error(matrix, kind="nf4", block=64) -> float:
    """Norm of the round trip's error, as a fraction of the norm of the weights."""
    return float((four_bit(matrix, kind, block) - matrix).norm() / matrix.norm())


@proof("simulation")
def nf4_error():
    errors = {kind: error(normal(1024, 1024), kind) for kind in ("nf4", "fp4")}
    return Evidence(errors["nf4"], bars=errors)


@proof("simulation")
def outlier_error():
    blocks = normal(4096, 64)
    worse = blocks.clone()
    worse[:, 0] = 30
    rest = (four_bit(worse) - worse)[:, 1:].norm() / worse[:, 1:].norm()
    return float(rest), error(blocks)


@proof("simulation")
def requantized_error():
    base = four_bit(normal(512, 512) * 0.02)
    update = normal(512, 512, seed=1) * 0.0005  # a weak adapter: a fortieth of the weights
    merged = base + update
    return float((four_bit(merged) - merged).norm()), float(update.norm())


@proof("count")
def adam8_saving():
    from bitsandbytes import functional as bnb

    values = normal(256, 1024)
    small, state = bnb.quantize_blockwise(values, blocksize=256)
    weight = torch.nn.Parameter(values)
    weight.grad = values.clone()
    optimizer = torch.optim.AdamW([weight])
    optimizer.step()
    full = sum(optimizer.state[weight][key].nbytes for key in ("exp_avg", "exp_avg_sq"))
    saved = full - 2 * (small.nbytes + state.absmax.nbytes)
    return saved / values.numel() * parameters_7b() / GB


# ------------------------------------------------------------------------- floating point


@proof("simulation")
def bf16_lost():
    weights = (normal(200_000) * 0.02).bfloat16()
    sign = normal(weights.numel(), seed=1).sign()
    moved = (weights.float() - 1e-5 * sign).bfloat16()
    return 100 * (moved == weights).float().mean()


@proof("count")
def bf16_spacing():
    bits = torch.tensor(0.02, dtype=torch.bfloat16).view(torch.int16)
    return (bits + 1).view(torch.bfloat16).float() - bits.view(torch.bfloat16).float()


@proof("count")
def fp16_max():
    """Search for the largest finite number by doubling, then by adding ever smaller steps."""
    high = torch.tensor(1.0, dtype=torch.float16)
    while torch.isfinite(high * 2):
        high = high * 2
    step = high / 2
    while step >= 1:
        if torch.isfinite(high + step):
            high = high + step
        step = step / 2
    return high


@proof("simulation")
def fp16_finer():
    values = 1 + normal(10_000).abs() / 3
    return tuple((values - values.to(kind).float()).norm()
                 for kind in (torch.float16, torch.bfloat16))


def percent_underflown(kind: torch.dtype, scale: float = 1.0) -> float:
    """Percentage of gradients of 1e-8 that become 0 in this format after scaling."""
    return float(100 * ((normal(10_000) * 1e-8 * scale).to(kind) == 0).float().mean())


@proof("count")
def bf16_sum():
    total = torch.tensor(0.0, dtype=torch.bfloat16)
    for _ in range(1000):
        total = total + torch.tensor(1.0, dtype=torch.bfloat16)
    return total


def moved_by_rounding(stochastic: bool, step=2e-6) -> float:
    """Mean movement of bf16 weights of 0.02 after an update by `step`."""
    weights = torch.full((200_000,), 0.02, dtype=torch.bfloat16)
    exact = weights.float() + step
    if stochastic:  # add noise below the last kept bit, then cut: the usual way
        noise = torch.randint(0, 2**16, exact.shape, dtype=torch.int32,
                              generator=torch.Generator().manual_seed(0))
        exact = ((exact.view(torch.int32) + noise) & -(2**16)).view(torch.float32)
    return float((exact.bfloat16().double() - weights.double()).mean())


register(
    "count",
    nf4_bits=lambda: nf4_bits(),
    nf4_7b=lambda: nf4_bytes_7b() / GB,
    double_quant_saving=lambda: (nf4_bits(False) - nf4_bits()) * 65e9 / 8 / GB,
    qlora_65b=lambda: 65.286e9 * nf4_bits() / 8 / GB,
    nf4_70b=lambda: 70e9 * nf4_bits() / 8 / GB,
    nf4_compression=lambda: 16 / nf4_bits(),
)

register(
    "simulation",
    nf4_beats_fp4=lambda: (error(normal(1024, 1024)), error(normal(1024, 1024), "fp4")),
    block_size=lambda: (error(normal(256, 4096)), error(normal(256, 4096), block=4096)),
    underflow=lambda: (percent_underflown(torch.float16),
                       percent_underflown(torch.float16, 4096)),
    underflow_bf16=lambda: (percent_underflown(torch.bfloat16),
                            percent_underflown(torch.float16)),
    stochastic_mean=lambda: moved_by_rounding(True) / 2e-6,
    nearest_mean=lambda: (moved_by_rounding(False), moved_by_rounding(True)),
)
