"""Proofs about number formats: spacing, rounding, underflow, NF4 as bitsandbytes stores it."""

from __future__ import annotations

from ftkit.interview.proofs.core import Found, proof
from ftkit.interview.proofs.memory import GB, nf4_bits, nf4_bytes_7b, normal, parameters_7b


def four_bit(matrix, kind="nf4", block=64):
    from bitsandbytes import functional as bnb

    packed, state = bnb.quantize_4bit(matrix.contiguous(), blocksize=block, quant_type=kind)
    return bnb.dequantize_4bit(packed, state)


def error(matrix, kind="nf4", block=64) -> float:
    """Root mean square error of the round trip relative to the weights' own."""
    return float((four_bit(matrix, kind, block) - matrix).norm() / matrix.norm())


proof("nf4_bits")(lambda: nf4_bits())
proof("nf4_7b")(lambda: nf4_bytes_7b() / GB)
proof("double_quant_saving")(lambda: (nf4_bits(False) - nf4_bits()) * 65e9 / 8 / GB)
proof("qlora_65b")(lambda: 65.286e9 * nf4_bits() / 8 / GB)
proof("nf4_70b")(lambda: 70e9 * nf4_bits() / 8 / GB)
proof("nf4_compression")(lambda: 16 / nf4_bits())
proof("block_size")(lambda: (error(normal(256, 4096)), error(normal(256, 4096), block=4096)))


@proof("nf4_error")
def _():
    errors = {kind: error(normal(1024, 1024), kind) for kind in ("nf4", "fp4")}
    return Found(errors["nf4"], bars=errors)


@proof("nf4_beats_fp4")
def _():
    matrix = normal(1024, 1024)
    return error(matrix), error(matrix, "fp4")


@proof("outlier_error")
def _():
    blocks = normal(4096, 64)
    worse = blocks.clone()
    worse[:, 0] *= 30
    rest = (four_bit(worse) - worse)[:, 1:].norm() / worse[:, 1:].norm()
    return float(rest), error(blocks)


@proof("requantized_error")
def _():
    base = four_bit(normal(512, 512) * 0.02)
    update = normal(512, 512, seed=1) * 0.0005  # a weak adapter: a fortieth of the weights
    merged = base + update
    return float((four_bit(merged) - merged).norm()), float(update.norm())


@proof("adam8_saving")
def _():
    import torch
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


def bf16_weights(count=200_000):
    import torch

    return (normal(count) * 0.02).to(torch.bfloat16)


@proof("bf16_lost")
def _():
    weights = bf16_weights()
    sign = normal(weights.numel(), seed=1).sign()
    moved = (weights.float() - 1e-5 * sign).to(weights.dtype)
    return float(100 * (moved == weights).float().mean())


@proof("bf16_spacing")
def _():
    import torch

    bits = torch.tensor(0.02, dtype=torch.bfloat16).view(torch.int16)
    return float((bits + 1).view(torch.bfloat16).float() - bits.view(torch.bfloat16).float())


@proof("fp16_max")
def _():
    import torch

    high = torch.tensor(1.0, dtype=torch.float16)
    while torch.isfinite(high * 2):
        high = high * 2
    step = high / 2
    while step >= 1:
        if torch.isfinite(high + step):
            high = high + step
        step = step / 2
    return float(high)


@proof("fp16_finer")
def _():
    import torch

    values = 1 + normal(10_000).abs() / 3
    return tuple(float((values - values.to(kind).float()).norm())
                 for kind in (torch.float16, torch.bfloat16))


def underflown(kind: str, scale: float = 1.0) -> float:
    import torch

    gradients = normal(10_000) * 1e-8 * scale
    return float(100 * (gradients.to(getattr(torch, kind)) == 0).float().mean())


proof("underflow")(lambda: (underflown("float16"), underflown("float16", 4096)))
proof("underflow_bf16")(lambda: (underflown("bfloat16"), underflown("float16")))


@proof("bf16_sum")
def _():
    import torch

    total = torch.tensor(0.0, dtype=torch.bfloat16)
    for _ in range(1000):
        total = total + torch.tensor(1.0, dtype=torch.bfloat16)
    return float(total)


def moved_by_rounding(stochastic: bool, step=2e-6) -> float:
    """Mean movement of bf16 weights of 0.02 that are asked to move by `step`."""
    import torch

    weights = torch.full((200_000,), 0.02, dtype=torch.bfloat16)
    wanted = weights.float() + step
    if stochastic:  # add noise below the last kept bit, then cut: the usual way
        noise = torch.randint(0, 2**16, wanted.shape, dtype=torch.int32,
                              generator=torch.Generator().manual_seed(0))
        bits = (wanted.view(torch.int32) + noise) & -(2**16)
        new = bits.view(torch.float32).to(torch.bfloat16)
    else:
        new = wanted.to(torch.bfloat16)
    return float((new.double() - weights.double()).mean())


proof("stochastic_mean")(lambda: moved_by_rounding(True) / 2e-6)
proof("nearest_mean")(lambda: (moved_by_rounding(False), moved_by_rounding(True)))
