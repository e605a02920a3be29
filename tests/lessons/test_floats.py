"""Rounding by hand equals torch's; chance rounding is right on average; what training loses."""

import pytest
import torch

import ftkit as ft
from ftkit.data import encoding
from ftkit.engine import loop
from ftkit.lessons import activations
from ftkit.lessons.by_hand import floats
from ftkit.model import rounding


def test_rounding_to_bf16_by_bits_is_torchs_own():
    draw = torch.Generator().manual_seed(0)
    bits = torch.randint(-2**31, 2**31 - 1, (200_000,), generator=draw, dtype=torch.int64)
    x = bits.to(torch.int32).view(torch.float32)
    x = x[x.isfinite()]
    assert torch.equal(floats.to_bf16(x), x.bfloat16().float())
    odd = torch.tensor([0.0, -0.0, float("inf"), float("nan"), 3.4e38])
    assert torch.equal(floats.to_bf16(odd).nan_to_num(7), odd.bfloat16().float().nan_to_num(7))


def test_stochastic_rounding_is_right_on_average_and_goes_to_a_neighbor():
    draw = torch.Generator().manual_seed(0)
    x = torch.full((100_000,), 0.02 + 0.25 * 2**-13)
    made = floats.to_bf16(x, draw)
    assert made.unique().numel() == 2 and (made.bfloat16().float() == made).all()
    assert made.double().mean().item() == pytest.approx(x[0].item(), rel=1e-4)


@pytest.mark.parametrize("x, dtype, wanted", [
    (0.02, torch.bfloat16, 2.0**-13), (1.0, torch.float16, 2.0**-10), (1.99, torch.float32, 2**-23),
    (-4.0, torch.bfloat16, 2.0**-5)])
def test_spacing_is_the_distance_to_the_next_number(x, dtype, wanted):
    assert rounding.spacing(x, dtype).item() == wanted
    near = torch.tensor(abs(x)).to(dtype)
    upper = torch.nextafter(near, torch.tensor(float("inf"), dtype=dtype))
    assert (upper.double() - near.double()).item() == wanted


def test_what_lies_halfway_between_two_numbers_is_counted():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50_000, generator=draw)
    assert rounding.halfway([x], torch.bfloat16) < 1e-3
    bits = x.view(torch.int32) & -65536
    tied = torch.where(torch.arange(len(x)) < 10_000, bits | 0x8000, bits).view(torch.float32)
    assert rounding.halfway([tied[:7], tied[7:]], torch.bfloat16) == pytest.approx(0.2)
    # fp16 has three bits more than bf16: one number in eight ends in 100
    assert rounding.halfway([x.half().float()], torch.bfloat16) == pytest.approx(0.125, abs=5e-3)
    assert rounding.halfway([x.bfloat16().float()], torch.bfloat16) == 0
    many = torch.where(torch.rand(1_000_000, generator=draw) < 0.3, 1 + 2**-8, 1.0)
    assert rounding.halfway([many], torch.bfloat16) == pytest.approx(0.3, abs=0.01)


def test_small_steps_are_lost_by_nearest_rounding_and_kept_by_chance_and_by_kahan():
    base, tokenizer = ft.load("tiny")
    examples = encoding.encode_all(ft.records("tasks")[:64], tokenizer).examples
    ends = {}
    for way in floats.ROUNDINGS:
        model, _ = ft.load("tiny")
        order = loop.shuffled(len(examples), 8, 0)
        floats.train_rounded(model, examples, [next(order) for _ in range(12)], 1e-4, way)
        ends[way] = ft.loss_on(model, examples)
    assert ends["stochastic"] == pytest.approx(ends["none"], rel=0.05)
    assert ends["kahan"] == pytest.approx(ends["none"], rel=0.05)
    assert ends["nearest"] > 1.2 * ends["none"]


def test_an_unknown_rounding_is_rejected():
    with pytest.raises(ValueError, match="expected one of none, nearest, stochastic, kahan"):
        floats.train_rounded(torch.nn.Linear(1, 1), [], [], 1e-3, "up")


def test_autocast_keeps_fewer_bytes_for_backward_but_copies_of_weights_too():
    model, tokenizer = ft.load("tiny")
    batch = encoding.collate([ft.encode(r, tokenizer) for r in ft.records("tasks")[:8]], 0)
    full = activations.kept_by_autocast(model, batch)
    low = activations.kept_by_autocast(model, batch, torch.bfloat16)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert full["weights"] == 0 and low["weights"] == 2 * matrices
    assert 0.4 < low["activations"] / full["activations"] < 0.95


def test_the_second_moment_in_bf16_never_decays_at_a_beta2_of_0_999():
    gradients = [1.0] * 600 + [0.1] * 600
    fp32, bf16 = (floats.second_moment(gradients, kind) for kind in (torch.float32, torch.bfloat16))
    assert fp32[599] == pytest.approx(1 - 0.999**600, rel=1e-3) and fp32[-1] < 0.6 * fp32[599]
    assert bf16[-1] == bf16[599]
    quick = floats.second_moment(gradients, torch.bfloat16, beta2=0.95)
    assert quick[-1] < 0.02


def test_a_loss_scale_keeps_small_gradients_and_overflow_skips_steps():
    _, tokenizer = ft.load("tiny")
    examples = encoding.encode_all(ft.records("tasks")[:32], tokenizer).examples
    order = [list(range(start, start + 8)) for start in (0, 8, 16, 24)]
    ends, skipped = {}, {}
    for name, kind, factor, scale in (("fp32", torch.float32, 2.0**-20, 1.0),
                                      ("no scale", torch.float16, 2.0**-20, 1.0),
                                      ("scaled", torch.float16, 2.0**-20, 2.0**16),
                                      ("too high", torch.float16, 1.0, 2.0**26)):
        model, _ = ft.load("tiny")
        skipped[name] = floats.train_scaled(model, examples, order, kind, factor, scale)
        ends[name] = ft.loss_on(model, examples)
    assert ends["scaled"] == pytest.approx(ends["fp32"], rel=0.05)
    assert ends["no scale"] > 1.2 * ends["fp32"]
    assert skipped == {"fp32": 0, "no scale": 0, "scaled": 0, "too high": 4}
