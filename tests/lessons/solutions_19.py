"""Solutions of lesson 19, and the mistakes that people make."""

import math

from shown_solutions import edited

from ftkit.data import mixing


def normed(weights):
    return {task: weight / sum(weights.values()) for task, weight in weights.items()}


def mixing_shares(sizes, temperature=1.0, cap=None):
    return normed({task: min(e, cap or math.inf) ** (1 / temperature)
                   for task, e in sizes.items()})


def by_softmax(sizes, temperature=1.0, cap=None):
    """The same as a softmax of log sizes, which is why it is called a temperature."""
    return normed({task: math.exp(math.log(min(e, cap or e)) / temperature)
                   for task, e in sizes.items()})


def cap_on_the_share(sizes, temperature=1.0, cap=None):
    total = sum(sizes.values())
    return normed({task: min(e / total, (cap or math.inf) / 1e6) ** (1 / temperature)
                   for task, e in sizes.items()})


def power_of_the_share(sizes, temperature=1.0, cap=None):
    return {task: share ** (1 / temperature) for task, share in normed(sizes).items()}


def effective_by_counting(shares, labeled_tokens):
    total = sum(shares[task] * labeled_tokens[task] for task in shares)
    return {task: shares[task] * labeled_tokens[task] / total for task in labeled_tokens}


def effective_of_many_draws(shares, labeled_tokens):
    counted = mixing.counts(shares, 1_000_000)
    return normed({task: n * labeled_tokens[task] for task, n in counted.items()})


def equal_tokens_by_the_longest(labeled_tokens):
    longest = max(labeled_tokens.values())
    return normed({task: longest / n for task, n in labeled_tokens.items()})


def equal_tokens_in_a_loop(labeled_tokens):
    total, shares = sum(1 / n for n in labeled_tokens.values()), {}
    for task, n in labeled_tokens.items():
        shares[task] = 1 / n / total
    return shares


SOLUTIONS = {
    "mixing_shares": {
        "variants": [by_softmax,
                     lambda sizes, temperature=1.0, cap=None: mixing.rates(
            sizes, temperature, cap)],
        "wrong": {
            "power T": (edited(mixing_shares, "min(e, cap or math.inf) ** (1 / temperature)",
                               "(min(e, cap or 1e9) / 1e9) ** min(temperature, 9)"),
                        "the exponent is 1 / temperature"),
            "cap after the power": (edited(
                mixing_shares, "(e, cap or math.inf) ** (1 / temperature)",
                "(e ** (1 / temperature), cap or math.inf)"), "cap first, then take the power"),
            "cap on the share": (cap_on_the_share, "cap the sizes first"),
            "power of the share": (power_of_the_share, "after the power, not before"),
            "no cap": (lambda sizes, temperature=1.0, cap=None: mixing_shares(sizes, temperature),
                       "counts as the cap"),
            "no temperature": (
                lambda sizes, temperature=1.0, cap=None: mixing_shares(sizes, 1.0, cap),
                "temperature=2 changed nothing"),
            "sizes": (lambda sizes, temperature=1.0, cap=None: dict(sizes), "these are the sizes"),
        },
    },
    "effective_shares": {
        "variants": [effective_by_counting, effective_of_many_draws],
        "wrong": {
            "configured": (lambda shares, n: normed(shares), "that is the configured share"),
            "divided by tokens": (lambda shares, n: normed({t: shares[t] / n[t] for t in n}),
                                  "longer answers has more"),
            "not divided": (lambda shares, n: {t: shares[t] * n[t] for t in n}, "they sum to"),
            "tokens alone": (lambda shares, n: normed(n), "the configured shares are not used"),
            "root of the tokens": (lambda shares, n: normed({t: shares[t] * n[t] ** 0.5
                                                             for t in n}),
                                   "expected 99.0%"),
        },
    },
    "shares_for_equal_tokens": {
        "variants": [equal_tokens_by_the_longest, equal_tokens_in_a_loop],
        "wrong": {
            "the wrong way round": (normed, "must be drawn less often"),
            "equal shares": (lambda n: dict.fromkeys(n, 1 / len(n)), "what we had"),
            "not divided": (lambda n: {task: 1 / k for task, k in n.items()}, "the shares sum to"),
            "root": (lambda n: normed({task: k ** -0.5 for task, k in n.items()}),
                     "by the root of the tokens"),
            "longest minus tokens": (lambda n: normed({task: max(n.values()) - k + 10
                                                       for task, k in n.items()}),
                                     "the order is right"),
        },
    },
}
