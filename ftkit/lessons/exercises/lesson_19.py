"""Lesson 19, multi-task mixing."""

from __future__ import annotations

import math

from ftkit.lessons.claims import exercise, near

SIZES = {"large": 1_000_000, "middle": 100_000, "small": 5_000}


def _same(made, wanted, tolerance=2e-3):
    return all(near(made[task], share, tolerance) for task, share in wanted.items())


@exercise("mixing_shares")
def _(mixing_shares):
    from ftkit.data.mixing import rates

    plain = mixing_shares(SIZES)
    if not near(sum(plain.values()), 1, 1e-6):
        return f"the shares sum to {sum(plain.values()):.3g}, expected 1: divide by the total"
    if not _same(plain, rates(SIZES)):
        return f"proportional: {plain}; expected 90.5, 9.05 and 0.45 %"
    warm = mixing_shares(SIZES, T=2)
    if _same(warm, rates(SIZES, temperature=0.5)):
        return "T=2 made the largest task larger: the exponent is 1 / T, not T"
    if not _same(warm, rates(SIZES, temperature=2)):
        return f"T=2: {warm}; expected 72.1, 22.8 and 5.1 % (square roots of the sizes)"
    capped = mixing_shares(SIZES, K=131_072)
    weights = {task: min(share, 131_072) for task, share in SIZES.items()}
    if not _same(capped, {task: w / sum(weights.values()) for task, w in weights.items()}):
        return "K=131072: cap the size of each task before you divide by the new total"
    both = mixing_shares(SIZES, T=2, K=131_072)
    if not _same(both, rates(SIZES, temperature=2, cap=131_072)):
        return "K and T together: cap first, then take the root"
    if not _same(mixing_shares(SIZES, T=math.inf), dict.fromkeys(SIZES, 1 / 3)):
        return "T=inf: expected a third for each (1 / inf is 0, and a size to the power 0 is 1)"


@exercise("warmest")
def _(warmest):
    from ftkit.data.mixing import rates

    made = warmest(SIZES, 1_105_000, 10)
    seen = rates(SIZES, temperature=made)["small"] * 1_105_000 / 5_000 if made > 0 else 0
    if made > 1e6:
        return "equal mixing shows the small task 74 times; find where it is 10 times"
    if seen > 10.01:
        return f"at T={made:.3g} the small task is seen {seen:.1f} times; at most 10 are allowed"
    if seen < 9.85:
        return f"T={made:.3g} shows it {seen:.1f} times: it may be warmer, up to 10"
    other = warmest({"a": 10_000, "b": 100}, 1_000, 2)
    if not near(other, math.log(100) / math.log(4), 0.01):
        return (f"two tasks of 10,000 and 100, 1,000 draws, 2 passes: {other:.3g}; expected 3.32 "
                "(a share of 20 %)")


@exercise("shares_for_equal_tokens")
def _(shares_for_equal_tokens):
    made = shares_for_equal_tokens({"essay": 200, "word": 2, "line": 20})
    total = 1 / 200 + 1 / 2 + 1 / 20
    wanted = {"essay": 1 / 200 / total, "word": 1 / 2 / total, "line": 1 / 20 / total}
    if _same(made, {"essay": 200 / 222, "word": 2 / 222, "line": 20 / 222}):
        return "that gives the essay even more: a task with long answers must be drawn less often"
    if _same(made, dict.fromkeys(wanted, 1 / 3)):
        return "a third of the records each is what we had: then the essay has 90 % of the tokens"
    if not near(sum(made.values()), 1, 1e-6):
        return f"the shares sum to {sum(made.values()):.3g}, expected 1"
    if not _same(made, wanted):
        return f"200, 2 and 20 tokens: {made}; share times tokens must be equal for all"
