"""Solutions of lesson 15, right variants, and named wrong answers."""

import math

from shown_solutions import shown

from ftkit.evaluate import metrics


def by_both_tails(only_a, only_b):
    n, larger = only_a + only_b, max(only_a, only_b)
    upper = sum(math.comb(n, k) * 0.5**n for k in range(larger, n + 1))
    return 1.0 if only_a == only_b else 2 * upper


def by_recursion(only_a, only_b):
    n, term, total = only_a + only_b, 0.5 ** (only_a + only_b), 0.0
    for k in range(min(only_a, only_b) + 1):
        total += term
        term *= (n - k) / (k + 1)
    return min(1.0, 2 * total)


def tail(only_a, only_b, last):
    n = only_a + only_b
    return sum(math.comb(n, k) for k in range(last + 1)) / 2**n


judge_report = shown("judge_report")


def by_index(old_first, new_first, people):
    names = [("old" if a == "first" else "new", "old" if b == "second" else "new")
             for a, b in zip(old_first, new_first, strict=True)]
    flips = sum(len(set(pair)) == 2 for pair in names) / len(names)
    return [flips, kappa_of([a if a == b else "tie" for a, b in names], people)]


def kappa_of(a, b):
    n = len(a)
    agreement = sum(x == y for x, y in zip(a, b, strict=True)) / n
    chance = sum(a.count(kind) * b.count(kind) for kind in set(a)) / n**2
    return (agreement - chance) / (1 - chance)


def by_equal_positions(old_first, new_first, people):
    wins = {("first", "second"): "old", ("second", "first"): "new"}
    verdicts = [wins.get(pair, "tie") for pair in zip(old_first, new_first, strict=True)]
    return verdicts.count("tie") / len(people), metrics.kappa(verdicts, people)


def verdicts_of(old_first, new_first, tie="tie"):
    wins = {("first", "second"): "old", ("second", "first"): "new"}
    return [wins.get(pair, tie) for pair in zip(old_first, new_first, strict=True)]


def with_kappa(score):
    """A solution with the right flips and kappa = score(old_first, new_first, people)."""
    return lambda a, b, people: (judge_report(a, b, people)[0], score(a, b, people))


def one_order(a, b, people):
    return metrics.kappa(["old" if choice == "first" else "new" for choice in a], people)


def without_ties(a, b, people):
    pairs = [(v, p) for v, p in zip(verdicts_of(a, b), people, strict=True) if v != "tie"]
    return metrics.kappa(*map(list, zip(*pairs, strict=True)))


def plain_agreement(a, b, people):
    return metrics.accuracy(verdicts_of(a, b), people)


def exchanged(a, b, people):
    names = {"old": "new", "new": "old", "tie": "tie"}
    return metrics.kappa([names[v] for v in verdicts_of(a, b)], people)


def positions(a, b, people):
    """Compares the positions, so "first" twice counts as no flip."""
    flips = sum(x != y for x, y in zip(a, b, strict=True)) / len(a)
    return flips, judge_report(a, b, people)[1]


SOLUTIONS = {
    "mcnemar_p": {
        "variants": [by_both_tails, by_recursion],
        "wrong": {
            "one-sided": (lambda a, b: tail(a, b, min(a, b)), "one direction only"),
            "off by one": (lambda a, b: 2 * tail(a, b, min(a, b) - 1), "smaller count itself"),
            "only the outcome": (lambda a, b: 2 * math.comb(a + b, b) / 2 ** (a + b),
                                 "only the outcome itself"),
            "larger count": (lambda a, b: 2 * tail(a, b, max(a, b)), "larger count"),
            "not capped": (lambda a, b: 2 * tail(a, b, min(a, b)), "cap it"),
            "normal": (lambda a, b: math.erfc(abs(a - b) / math.sqrt(2 * (a + b))),
                       "normal approximation"),
            "chi-square, corrected": (
                lambda b, c: math.erfc((abs(b - c) - 1) / math.sqrt(b + c) / math.sqrt(2)),
                "correction of 1"),
            "the complement": (lambda a, b: 1 - by_both_tails(a, b), "one minus the p-value"),
            "in percent": (lambda a, b: 100 * by_both_tails(a, b), "not a percentage"),
            "all questions are coins": (
                lambda a, b: min(1, 2 * sum(math.comb(200, k) for k in range(min(a, b) + 1))
                                 / 2**200), "not all 200 questions"),
        },
    },
    "judge_report": {
        "variants": [by_index, by_equal_positions],
        "wrong": {
            "positions": (positions, "positions, not models"),
            "a count": (lambda a, b, p: (3, judge_report(a, b, p)[1]), "fraction of all pairs"),
            "of the rest": (lambda a, b, p: (3 / 5, judge_report(a, b, p)[1]), "not of the 5"),
            "plain agreement": (with_kappa(plain_agreement), "plain agreement"),
            "one order": (with_kappa(one_order), "one order only"),
            "ties left out": (with_kappa(without_ties), "they count, as ties"),
            "chance of a third": (with_kappa(lambda *a: (plain_agreement(*a) - 1 / 3) * 3 / 2),
                                  "chance is not 1/3"),
            "exchanged": (with_kappa(exchanged), "are exchanged"),
            "flips to old": (with_kappa(lambda a, b, p: metrics.kappa(verdicts_of(a, b, "old"), p)),
                             "win of the old model"),
            "flips to new": (with_kappa(lambda a, b, p: metrics.kappa(verdicts_of(a, b, "new"), p)),
                             "win of the new model"),
            "kappa alone": (lambda *a: judge_report(*a)[1], "return two numbers"),
            "kappa first": (lambda *a: judge_report(*a)[::-1], "first the fraction of flips"),
            "in percent": (lambda *a: (100 * judge_report(*a)[0], judge_report(*a)[1]),
                           "is a percentage"),
        },
    },
    "pass_at_k": {
        "variants": [lambda n, c, k: 1 - math.prod((n - c - i) / (n - i) for i in range(k)),
                     lambda n, c, k: 1.0 if n - c < k else 1 - math.prod(
                         1 - k / i for i in range(n - c + 1, n + 1))],
        "wrong": {
            "with replacement": (lambda n, c, k: 1 - (1 - c / n) ** k, "with replacement"),
            "all fail": (lambda n, c, k: math.comb(n - c, k) / math.comb(n, k), "one minus"),
            "pass@1": (lambda n, c, k: c / n, "pass@1"),
            "all pass": (lambda n, c, k: math.comb(c, k) / math.comb(n, k),
                         "passing programs only"),
            "c for n - c": (lambda n, c, k: 1 - math.comb(c, k) / math.comb(n, k),
                            "n - c failing programs, not c"),
            "k times": (lambda n, c, k: k * c / n, "not a probability"),
            "exactly one": (lambda n, c, k: c * math.comb(n - c, k - 1) / math.comb(n, k),
                            "exactly one that passes"),
            "all of k": (lambda n, c, k: (c / n) ** k, "that all five pass"),
            "in percent": (lambda n, c, k: 100 * (1 - math.comb(n - c, k) / math.comb(n, k)),
                           "not a percentage"),
        },
    },
}
