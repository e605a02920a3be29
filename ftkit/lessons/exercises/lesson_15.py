"""Lesson 15, task metrics."""

import math

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import check_number


@exercise("mcnemar_p")
def _(mcnemar_p):
    def tail(n, ks):
        return sum(math.comb(n, k) for k in ks) / 2**n

    mistakes = {
        tail(26, range(11)): "one direction only; double it",
        2 * tail(26, range(10)): "the smaller count itself is left out; range ends before its end",
        2 * tail(26, [10]): "only the outcome itself; add the more uneven ones",
        2 * tail(26, range(17)): "this sums up to the larger count; take the smaller one",
        min(1.0, 2 * tail(26, range(17))): "this sums up to the larger count; take the smaller one",
        math.erfc(6 / math.sqrt(26) / math.sqrt(2)): "this is the normal approximation; here the "
                                                     "exact sum is wanted",
    }
    return (check_number("mcnemar_p(16, 10)", mcnemar_p(16, 10), 2 * tail(26, range(11)), mistakes)
            or check_number("mcnemar_p(0, 6)", mcnemar_p(0, 6), 2 / 64, {
                math.erfc(5 / math.sqrt(6) / math.sqrt(2)):
                    "this is the chi-square test with the correction of 1, which is close for many "
                    "cases; sum the exact probabilities"})
            or check_number("mcnemar_p(3, 3)", mcnemar_p(3, 3), 1.0,
                            {2 * tail(6, range(4)): "a probability is at most 1; cap it"}))


@exercise("squad_normalizer")
def _(normalize):
    expected = {"The Eiffel  Tower.": "eiffel tower", "C++": "c", "an apple, a day": "apple day",
                "theatre": "theatre", "5.0": "50", "the U.S.A.": "usa"}
    for text, wanted in expected.items():
        result = normalize(text)
        if not isinstance(result, str):
            return f"{text!r} gave {result!r}; expected a string"
        if result == wanted:
            continue
        if text == "theatre":
            return "'theatre' lost its beginning: only the whole word 'the' is an article"
        if result == "us":
            return ("'the U.S.A.' gave 'us': remove punctuation first, so that 'a.' is not an "
                    "article")
        if result == text:
            return f"{text!r} is unchanged; expected {wanted!r}"
        if result != result.lower():
            return f"{text!r} gave {result!r}: some letters are still capitals"
        if set(result.split()) & {"the", "a", "an"}:
            return f"{text!r} gave {result!r}: the articles are still there"
        if " ".join(result.split()) == wanted:
            return f"{text!r} gave {result!r}: collapse spaces and trim both ends, as the last step"
        if any(not c.isalnum() and c != " " for c in result):
            return f"{text!r} gave {result!r}: punctuation is still there"
        if result.split() == ["5", "0"]:
            return "'5.0' gave '5 0': SQuAD deletes punctuation, it puts no space in its place"
        return f"{text!r} gave {result!r}; expected {wanted!r}"


@exercise("pass_at_k")
def _(pass_at_k):
    return check_number("pass_at_k(10, 3, 5)", pass_at_k(10, 3, 5), 1 - 21 / 252, {
        1 - 0.7**5: "that draws with replacement; count draws with math.comb",
        21 / 252: "that is the probability that all five fail; take one minus it",
        0.3: "that is pass@1, c / n",
        1 - math.comb(3, 3) / 252: "the draws that fail come from the n - c failing programs",
        0.0: "math.comb(c, k) counts draws of passing programs only; at least one must pass",
        3 * math.comb(7, 4) / 252: "that is exactly one that passes; at least one must",
        1.0: "use n - c failing programs, not c: math.comb(3, 5) is 0",
        1.5: "c · k / n is not a probability; one minus the probability that all fail",
    }) or check_number("pass_at_k(10, 8, 5)", pass_at_k(10, 8, 5), 1.0) or check_number(
        "pass_at_k(20, 1, 1)", pass_at_k(20, 1, 1), 0.05)
