"""Solutions of lesson 19, and the mistakes that people make."""

import math


def normed(weights):
    return {task: weight / sum(weights.values()) for task, weight in weights.items()}


def mixing_shares(sizes, T=1.0, K=None):
    return normed({task: min(e, K or math.inf) ** (1 / T) for task, e in sizes.items()})


def upside_down(sizes, T=1.0, K=None):
    return normed({task: (min(e, K or 1e9) / 1e9) ** min(T, 9) for task, e in sizes.items()})


def cap_after_the_root(sizes, T=1.0, K=None):
    return normed({task: min(e ** (1 / T), K or math.inf) for task, e in sizes.items()})


def cap_on_the_share(sizes, T=1.0, K=None):
    total = sum(sizes.values())
    return normed({task: min(e / total, (K or math.inf) / 1e6) ** (1 / T)
                   for task, e in sizes.items()})


def not_normed(sizes, T=1.0, K=None):
    total = sum(sizes.values())
    return {task: (min(e, K or math.inf) / total) ** (1 / T) * 2 for task, e in sizes.items()}


def warmest(sizes, draws, passes):
    smallest, low, high = min(sizes, key=sizes.get), 0.01, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        weights = normed({t: (e / max(sizes.values())) ** (1 / middle) for t, e in sizes.items()})
        seen = weights[smallest] * draws / sizes[smallest]
        low, high = (middle, high) if seen <= passes else (low, middle)
    return low


def shares_for_equal_tokens(labelled_tokens):
    return normed({task: 1 / n for task, n in labelled_tokens.items()})


SOLUTIONS = {
    "mixing_shares": {
        "right": mixing_shares,
        "wrong": {
            "power T": (upside_down, "the exponent is 1 / T"),
            "cap after the root": (cap_after_the_root, "cap first"),
            "cap on the share": (cap_on_the_share, "before you divide"),
            "not divided": (not_normed, "divide by the total"),
        },
    },
    "warmest": {
        "right": warmest,
        "wrong": {
            "T = 2": (lambda sizes, draws, passes: 2.0, "is seen 11.3 times"),
            "proportional": (lambda sizes, draws, passes: 1.0, "may be warmer"),
            "equal": (lambda sizes, draws, passes: math.inf, "74 times"),
        },
    },
    "shares_for_equal_tokens": {
        "right": shares_for_equal_tokens,
        "wrong": {
            "the wrong way round": (normed, "must be drawn less often"),
            "equal shares": (lambda n: dict.fromkeys(n, 1 / len(n)), "what we had"),
            "not divided": (lambda n: {task: 1 / k for task, k in n.items()}, "the shares sum to"),
        },
    },
}
