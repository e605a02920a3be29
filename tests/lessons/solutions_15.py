"""Solutions of lesson 15, right variants, and named wrong answers."""

import math
import re
import string

from shown_solutions import edited


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


def normalize(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def by_words(text):
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(word for word in text.split() if word not in ("a", "an", "the"))


def by_regex(text):
    text = re.sub(f"[{re.escape(string.punctuation)}]", "", text.lower())
    return re.sub(r"\s+", " ", re.sub(r"\b(an?|the)\b", "", text)).strip()


def keeps_articles(text):
    return " ".join("".join(c for c in text.lower() if c not in string.punctuation).split())


def keeps_capitals(text):
    text = "".join(c for c in text if c not in string.punctuation)
    return " ".join(re.sub(r"\b([Tt]he|[Aa]n?)\b", " ", text).split())


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
        },
    },
    "squad_normalizer": {
        "variants": [by_words, by_regex],
        "wrong": {
            "articles kept": (keeps_articles, "articles are still there"),
            "articles cut out of words": (
                lambda text: " ".join(keeps_articles(text).replace("the", "").replace("an ", "")
                                      .replace("a ", "").split()),
                "only the whole word"),
            "capitals kept": (keeps_capitals, "still capitals"),
            "nothing done": (lambda text: text, "is unchanged"),
            "spaces kept": (edited(normalize,
                                   '" ".join(re.sub(r"\\b(a|an|the)\\b", " ", text).split())',
                                   're.sub(r"\\b(a|an|the)\\b", " ", text)'), "collapse spaces"),
            "punctuation kept": (
                lambda text: " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower()).split()),
                "punctuation is still there"),
            "spaces for punctuation": (
                lambda text: by_words("".join(" " if c in string.punctuation else c for c in text)),
                "deletes punctuation"),
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
        },
    },
}
