"""Lesson 12, floating point."""

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import check_choices


@exercise("round_bf16")
def _(round_bf16):
    cases = [(0.02, 164 * 2**-13), (1002.7, 1004.0), (3.01, 193 * 2**-6), (2e-5, 168 * 2**-23)]
    for x, wanted in cases:
        made = round_bf16(x)
        if near(made, wanted, 1e-12):
            continue
        spacing = wanted - _neighbor(wanted, -1)
        if near(made, round(x * 128) / 128, 1e-12):
            return f"at {x:g}: 2^-7 is the spacing at 1; it grows and shrinks with x"
        if near(made, spacing, 1e-12):
            return f"at {x:g}: that is the spacing; return the nearest multiple of it"
        if near(made, _multiple(x, spacing / 2), 1e-12):
            return (f"at {x:g}: half the spacing; 8 significant bits are 1 before the point and 7 "
                    "after")
        if near(made, _multiple(x, spacing / 8), 1e-12):
            return f"at {x:g}: that is the spacing of fp16, which has 10 bits of fraction"
        if near(made, _multiple(x, spacing * 2), 1e-12):
            return (f"at {x:g}: twice the spacing; it is 2 ** (e - 7), and 2 ** e is at most "
                    "abs(x): take the floor of the logarithm")
        if near(made, float(f"{x:.3g}"), 1e-12) or near(made, float(f"{x:.2g}"), 1e-12):
            return (f"at {x:g}: {made:g} is rounded to decimal digits; bf16 has 8 binary digits, "
                    f"so {wanted:.7g}")
        if abs(made - x) < spacing and near(made / spacing, round(made / spacing), 1e-9):
            return (f"at {x:g}: {made:.7g}, a neighbor, but the nearest is {wanted:.7g}; round, do "
                    "not cut off")
        return f"at {x:g}: {made:.7g}; expected {wanted:.7g}"
    for x, wanted in ((1 + 2**-8, 1.0), (1 + 3 * 2**-8, 1 + 2**-6)):
        if not near(round_bf16(x), wanted, 1e-12):
            return (f"{x} is exactly between two numbers of bf16 and became {round_bf16(x):.7g}; "
                    f"a tie goes to the even multiple, {wanted:.7g}")
    if not near(round_bf16(-0.02), -164 * 2**-13, 1e-12):
        return f"-0.02 became {round_bf16(-0.02):.7g}; expected the mirror image of 0.02"
    if round_bf16(0.0) != 0:
        return "0 must stay 0"


def _multiple(x: float, unit: float) -> float:
    return round(x / unit) * unit


def _neighbor(x: float, way: int) -> float:
    """The neighbor of a positive bf16 number, below (-1) or above (1)."""
    import math

    return x + way * 2.0 ** (math.floor(math.log2(x)) - 7)


@exercise("round_stochastically")
def _(round_stochastically):
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.full((50_000,), 0.25)
        made = round_stochastically(x, 1.0)
        if not isinstance(made, torch.Tensor) or made.shape != x.shape:
            return f"expected a tensor of shape {tuple(x.shape)}, as x has, not {made!r:.60}"
        if not torch.equal(made, made.round()):
            return "some results are not multiples of the unit"
        if made.unique().numel() == 1:
            again = {round_stochastically(x, 1.0)[0].item() for _ in range(40)}
            if len(again) > 1:
                return ("all 50,000 elements went the same way: one random number for all; draw "
                        "one for each element, torch.rand_like(x)")
            return f"0.25 always became {made[0].item():g}: nothing is random here"
        if made.min() < 0 or made.max() > 1:
            return "0.25 must become 0 or 1, its neighbors"
        mean = made.mean().item()
        if abs(mean - 0.5) < 0.02:
            return ("0.25 goes up in half of the cases; the probability must be its distance from "
                    "the lower neighbor")
        if abs(mean - 0.75) < 0.02:
            return "0.25 goes up in three of four cases; the nearer neighbor must be more frequent"
        if abs(mean - 0.25) > 0.01:
            return f"the mean of 50,000 roundings of 0.25 is {mean:.3f}; expected 0.25"
        tenths = round_stochastically(torch.full((50_000,), -0.0525), 0.01)
        if tenths.abs().max() >= 1:
            return ("-0.0525 in units of 0.01 became "
                    f"{tenths[0].item():g}: multiply the whole number by the unit again")
        if abs(tenths.mean().item() + 0.0525) > 2e-4:
            return (f"-0.0525 in units of 0.01 becomes {tenths.mean().item():.4f} on average; "
                    "expected -0.0525 (the lower neighbor of a negative number is its floor)")


CAUSES = ("rounded away", "second moment", "loss scale", "range", "nothing wrong")
RUNS = {
    "Full, all in bf16, learning rate 1e-5: the loss falls slowly, 4 % of the weights have "
    "changed.":
        ("rounded away", "half the spacing at 0.02 is 6e-5, so a step of 1e-5 is lost for all "
                         "weights but those near zero"),
    "fp16 autocast without a scaler: the loss stands still, most gradients are exactly 0.":
        ("loss scale", "gradients below 3e-8 become zero in fp16; multiply the loss"),
    "T5 in fp16 with a scaler: the scale halves at every step, activations are inf.":
        ("range", "the activations themselves exceed 65,504, which no scale of the loss changes"),
    "All in bf16, β₂ = 0.999: after a loss spike it learns slowly, though half of the weights "
    "move.":
        ("second moment", "the weights move, so steps are not lost; they are too short, because "
                          "the moment that the spike left does not decay"),
    "Adapters in fp32 on a bf16 base, learning rate 2e-4: the base never changes.":
        ("nothing wrong", "LoRA freezes the base"),
    "An adapter in bf16, learning rate 1e-6: the matrices of typical size 0.02 stay.":
        ("rounded away", "an adapter is small, but its numbers have the same spacing: 1e-6 is far "
                         "below half of 1.2e-4"),
}


@exercise("precision_clinic")
def _(precision_clinic):
    if message := check_choices(precision_clinic, CAUSES):
        return message
    for run, (right, why) in RUNS.items():
        if precision_clinic.get(run) != right:
            return f"{run!r} is not {precision_clinic.get(run)!r}: {why}"
