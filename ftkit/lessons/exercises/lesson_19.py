"""Lesson 19, multi-task mixing."""

import math

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import told

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


PROXY = {0.05: (1.0, 3.0), 0.1: (1.02, 2.2), 0.2: (1.1, 1.6), 0.25: (1.13, 1.55),
         0.3: (1.6, 1.3), 0.5: (0.95, 0.9)}
PASSES = {share: 20 * share for share in PROXY}
MIXTURE_MISTAKES = [
    (0.5, "0.5 needs 10 passes over the small task; at most 8 are allowed"),
    (0.3, "0.3 has the lowest small loss of the allowed ones, but the large task is 0.6 above the "
          "best allowed loss, 1.0: more than the margin of 0.12"),
    (0.25, "0.25 is 0.13 above the best allowed loss of the large task, more than 0.12; the sum of "
           "both losses does not count"),
    (0.1, "0.1 fits, and so does 0.2, with a lower small loss. The margin counts from the best "
          "*allowed* share (1.0), not from 0.95, which needs too many passes"),
    (0.05, "0.05 is best for the large task, but within the margin the small task decides"),
]


@exercise("choose_mixture")
def _(choose_mixture):
    chosen = choose_mixture(dict(PROXY), dict(PASSES), 8, 0.12)
    if chosen in PROXY.values() or not isinstance(chosen, float | int):
        return f"it returned {chosen!r}; return the share, not its losses"
    if chosen != 0.2:
        return told(chosen, 0.2, MIXTURE_MISTAKES, f"it chose {chosen!r}; expected 0.2")
    falls = {0.1: (1.0, 2.0), 0.2: (1.0, 1.0), 0.4: (1.0, 1.5)}
    if (chosen := choose_mixture(falls, dict.fromkeys(falls, 1), 8, 0.1)) != 0.2:
        return (f"of {falls} it chose {chosen!r}: the lowest small loss decides, not the largest "
                "share")
    low = {0.05: (2.2, 3.0), 0.1: (2.0, 2.0), 0.2: (2.3, 1.0), 0.4: (2.5, 0.5)}
    if (chosen := choose_mixture(low, dict.fromkeys(low, 1), 8, 0.25)) != 0.1:
        return told(chosen, 0.1, [
            (0.4, f"of {low} with a margin of 0.25 it chose 0.4: the margin is added to the best "
                  "loss, 2.0; it is no fraction of it"),
            (0.2, f"of {low} with a margin of 0.25 it chose 0.2: the best loss of the large task "
                  "is 2.0, at 0.1; the smallest share need not have it"),
        ], f"of {low} with a margin of 0.25 it chose {chosen!r}; expected 0.1")
    edge = {0.1: (1.0, 2.0), 0.2: (1.5, 1.0), 0.3: (1.25, 1.75)}
    try:
        chosen = choose_mixture(edge, {share: 8 for share in edge}, 8, 0.5)
    except ValueError:
        return ("no share was left where each needs 8 passes and at most 8 are allowed: a limit "
                "may be reached")
    if chosen != 0.2:
        return (f"it chose {chosen!r} of {edge} with 8 passes each, at most 8 and a margin of 0.5; "
                "expected 0.2: both limits may be reached, at most")
