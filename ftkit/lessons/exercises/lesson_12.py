"""Lesson 12, floating point."""

from __future__ import annotations

from ftkit.lessons.claims import exercise, near


@exercise("bf16_spacing")
def _(bf16_spacing):
    for x, wanted in ((0.02, 2**-13), (1.0, 2**-7), (3.0, 2**-6), (0.5, 2**-8)):
        made = bf16_spacing(x)
        if near(made, wanted):
            continue
        if near(made, 2**-7):
            return f"at {x:g}: 2^-7 is the spacing at 1; it grows and shrinks with x"
        if near(made, x * 2**-7):
            return f"at {x:g}: {made:.3g}; between two powers of two the spacing is constant"
        if near(made, wanted / 2):
            return f"at {x:g}: half of it; 8 significant bits are 1 before the point and 7 after"
        return f"at {x:g}: {made:.4g}; expected {wanted:.4g}"


@exercise("round_stochastically")
def _(round_stochastically):
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.full((50_000,), 0.25)
        made = round_stochastically(x, 1.0)
        if not torch.equal(made, made.round()):
            return "some results are not multiples of the unit"
        if made.unique().numel() == 1:
            return f"0.25 always became {made[0].item():g}: that is rounding without chance"
        if made.min() < 0 or made.max() > 1:
            return "0.25 must become 0 or 1, its neighbors"
        mean = made.mean().item()
        if abs(mean - 0.5) < 0.02:
            return "0.25 goes up in half of the cases; the chance must be its distance from below"
        if abs(mean - 0.25) > 0.01:
            return f"the mean of 50,000 roundings of 0.25 is {mean:.3f}; expected 0.25"
        made = round_stochastically(torch.full((50_000,), -0.0525), 0.01).mean().item()
        if abs(made + 0.0525) > 2e-4:
            return f"-0.0525 in units of 0.01 becomes {made:.4f} on average; expected -0.0525"


@exercise("next_scale")
def _(next_scale):
    cases = [((1024, 5, True), (512, 0)), ((1024, 5, False), (1024, 6)),
             ((1024, 1999, False), (2048, 0)), ((1024, 1999, True), (512, 0))]
    for given, wanted in cases:
        made = tuple(next_scale(*given))
        if made == wanted:
            continue
        told = f"scale {given[0]}, {given[1]} good steps, overflowed={given[2]}: {made}; "
        if given[2] and made[0] > given[0]:
            return told + "after an infinity the scale must become smaller"
        if made[0] == wanted[0] and made[1] != 0 == wanted[1]:
            return told + "when the scale changes, counting starts again at 0"
        return told + f"expected {wanted}"
