"""Lesson 19, multi-task mixing."""

import math

from ftkit.lessons.checks import exercise, near

SIZES = {"large": 1_000_000, "middle": 100_000, "small": 5_000}


def _same(given, wanted, tolerance=2e-3):
    return all(near(given[task], share, tolerance) for task, share in wanted.items())


def _percent(shares) -> str:
    return ", ".join(f"{task} {share:.1%}" for task, share in shares.items())


@exercise("mixing_shares")
def _(mixing_shares):
    from ftkit.data.mixing import rates

    plain = mixing_shares(SIZES)
    if _same(plain, SIZES):
        return "these are the sizes; divide each by their total"
    if not near(sum(plain.values()), 1, 1e-6):
        return f"the shares sum to {sum(plain.values()):.3g}, expected 1: divide by the total"
    if not _same(plain, rates(SIZES)):
        return f"proportional: {_percent(plain)}; expected {_percent(rates(SIZES))}"
    warm = mixing_shares(SIZES, temperature=2)
    if _same(warm, rates(SIZES)):
        return "temperature=2 changed nothing: raise each size to the power 1 / temperature"
    if _same(warm, rates(SIZES, temperature=0.5)):
        return "temperature=2 made the largest task larger: the exponent is 1 / temperature"
    if not near(sum(warm.values()), 1, 1e-6):
        return (f"temperature=2: the shares sum to {sum(warm.values()):.3g}; divide by the total "
                "after the power, not before")
    if not _same(warm, rates(SIZES, temperature=2)):
        return f"temperature=2: {_percent(warm)}; expected {_percent(rates(SIZES, temperature=2))}"
    capped, wanted = mixing_shares(SIZES, cap=131_072), rates(SIZES, cap=131_072)
    if _same(capped, rates(SIZES)):
        return "cap=131072 changed nothing: a size above the cap counts as the cap"
    if not _same(capped, wanted):
        return (f"cap=131072: {_percent(capped)}; expected {_percent(wanted)}: cap the sizes "
                "first, then divide by their new total")
    if not _same(mixing_shares(SIZES, temperature=2, cap=131_072),
                 rates(SIZES, temperature=2, cap=131_072)):
        return "cap and temperature together: cap first, then take the power"
    if not _same(mixing_shares(SIZES, temperature=math.inf), dict.fromkeys(SIZES, 1 / 3)):
        return "temperature=inf: expected a third for each (1 / inf is 0, and x ** 0 is 1)"


@exercise("effective_shares")
def _(effective_shares):
    equal, lengths = dict.fromkeys(("essay", "word"), 0.5), {"essay": 198, "word": 2}
    got = effective_shares(equal, lengths)
    if _same(got, equal):
        return "that is the configured share; the loss sees share × tokens of a record"
    if _same(got, {"essay": 0.01, "word": 0.99}):
        return "that divides by the tokens: a task with longer answers has more of the loss"
    if not near(sum(got.values()), 1, 1e-6):
        return f"they sum to {sum(got.values()):.4g}, expected 1: divide by the sum of the products"
    if not _same(got, {"essay": 0.99, "word": 0.01}):
        return (f"half essays of 198 tokens, half words of 2: {_percent(got)}; expected 99.0% and "
                "1.0%")
    got = effective_shares({"essay": 0.01, "word": 0.99}, lengths)
    if _same(got, {"essay": 0.99, "word": 0.01}):
        return "the configured shares are not used: multiply them by the tokens"
    if not _same(got, {"essay": 0.5, "word": 0.5}):
        return f"1 % essays of 198 tokens, 99 % words of 2: {_percent(got)}; expected 50.0% each"


@exercise("shares_for_equal_tokens")
def _(shares_for_equal_tokens):
    given = shares_for_equal_tokens({"essay": 200, "word": 2, "line": 20})
    total = 1 / 200 + 1 / 2 + 1 / 20
    wanted = {"essay": 1 / 200 / total, "word": 1 / 2 / total, "line": 1 / 20 / total}
    if _same(given, {"essay": 200 / 222, "word": 2 / 222, "line": 20 / 222}):
        return "that gives the essay even more: a task with long answers must be drawn less often"
    if _same(given, dict.fromkeys(wanted, 1 / 3)):
        return "a third of the records each is what we had: then the essay has 90 % of the tokens"
    if not near(sum(given.values()), 1, 1e-6):
        return f"the shares sum to {sum(given.values()):.3g}, expected 1"
    if _same(given, {"essay": 0.071, "word": 0.706, "line": 0.223}, 0.01):
        return "that divides by the root of the tokens; divide by the tokens themselves"
    if not _same(given, wanted) and given["word"] > given["line"] > given["essay"]:
        return f"{_percent(given)}: the order is right; share × tokens must be equal for all tasks"
    if not _same(given, wanted):
        return f"200, 2 and 20 tokens: {_percent(given)}; expected {_percent(wanted)}"
