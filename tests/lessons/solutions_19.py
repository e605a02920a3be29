"""Solutions of lesson 19, and the mistakes that people make."""

import math

from shown_solutions import edited, shown

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


choose_mixture = shown("choose_mixture")


def mixture_by_sorting(proxy, passes, most_passes, margin):
    allowed = sorted((large, small, share) for share, (large, small) in proxy.items()
                     if not passes[share] > most_passes)
    return min((small, share) for large, small, share in allowed
               if large - allowed[0][0] <= margin)[1]


def mixture_in_a_loop(proxy, passes, most_passes, margin):
    best, chosen = min(proxy[s][0] for s in proxy if passes[s] <= most_passes), None
    for share, (large, small) in proxy.items():
        if passes[share] <= most_passes and large <= best + margin and (
                chosen is None or small < proxy[chosen][1]):
            chosen = share
    return chosen


def best_of_all(proxy, passes, most_passes, margin):
    best = min(large for large, _ in proxy.values())
    fits = [s for s in proxy if passes[s] <= most_passes and proxy[s][0] <= best + margin]
    return min(fits, key=lambda s: proxy[s][1])


def lowest_sum(proxy, passes, most_passes, margin):
    return min((s for s in proxy if passes[s] <= most_passes), key=lambda s: sum(proxy[s]))


def largest_share(proxy, passes, most_passes, margin):
    best = min(proxy[s][0] for s in proxy if passes[s] <= most_passes)
    return max(s for s in proxy if passes[s] <= most_passes and proxy[s][0] <= best + margin)


def margin_as_a_fraction(proxy, passes, most_passes, margin):
    best = min(proxy[s][0] for s in proxy if passes[s] <= most_passes)
    return choose_mixture(proxy, passes, most_passes, best * margin)


def smallest_share_as_best(proxy, passes, most_passes, margin):
    limit = proxy[min(proxy)][0] + margin
    return min((s for s in proxy if passes[s] <= most_passes and proxy[s][0] <= limit),
               key=lambda s: proxy[s][1])


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
            "of the longest": (lambda shares, n: {t: shares[t] * n[t] / max(n.values()) for t in n},
                               "divide by the sum of the products"),
            "root of the tokens": (lambda shares, n: normed({t: shares[t] * n[t] ** 0.5
                                                             for t in n}),
                                   "expected 99.0%"),
        },
    },
    "choose_mixture": {
        "variants": [mixture_by_sorting, mixture_in_a_loop],
        "wrong": {
            "passes ignored": (lambda p, n, most, m: choose_mixture(p, n, math.inf, m),
                               "needs 10 passes"),
            "margin ignored": (lambda p, n, most, m: choose_mixture(p, n, most, math.inf),
                               "more than the margin"),
            "best of all": (best_of_all, "*allowed* share"),
            "lowest sum": (lowest_sum, "the sum of both losses"),
            "best for the large": (lambda p, n, most, m: choose_mixture(p, n, most, 0.0),
                                   "the small task decides"),
            "below the margin": (lambda p, n, most, m: choose_mixture(p, n, most, m - 1e-9),
                                 "both limits may be reached"),
            "largest share": (largest_share, "not the largest share"),
            "losses returned": (lambda *a: a[0][choose_mixture(*a)], "return the share"),
            "margin as a fraction": (margin_as_a_fraction, "it is no fraction of it"),
            "smallest share as best": (smallest_share_as_best, "the smallest share need not"),
            "below the passes": (lambda p, n, most, m: choose_mixture(p, n, most - 1e-9, m),
                                 "a limit may be reached"),
        },
    },
}
