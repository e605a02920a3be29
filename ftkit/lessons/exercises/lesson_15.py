"""Lesson 15, task metrics."""

import math

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import check_number, check_parts, told


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
        1 - 2 * tail(26, range(11)): "that is one minus the p-value",
        200 * tail(26, range(11)): "a probability, not a percentage",
        2 * sum(math.comb(200, k) for k in range(11)) / 2**200:
            "the coins are the 26 disagreements, not all 200 questions",
    }
    return (check_number("mcnemar_p(16, 10)", mcnemar_p(16, 10), 2 * tail(26, range(11)), mistakes)
            or check_number("mcnemar_p(0, 6)", mcnemar_p(0, 6), 2 / 64, {
                math.erfc(5 / math.sqrt(6) / math.sqrt(2)):
                    "this is the chi-square test with the correction of 1, which is close for many "
                    "cases; sum the exact probabilities"})
            or check_number("mcnemar_p(3, 3)", mcnemar_p(3, 3), 1.0,
                            {2 * tail(6, range(4)): "a probability is at most 1; cap it"}))


FIRST, SECOND = "first", "second"
# Chosen in both orders: old, old, new, new, then the first answer twice and the second twice.
OLD_FIRST = [FIRST, FIRST, SECOND, SECOND, FIRST, SECOND, FIRST, FIRST]
NEW_FIRST = [SECOND, SECOND, FIRST, FIRST, FIRST, SECOND, FIRST, SECOND]
PEOPLE = ["old", "old", "new", "old", "tie", "new", "old", "old"]


@exercise("judge_report")
def _(judge_report):
    from ftkit.evaluate import metrics

    verdicts = ["old", "old", "new", "new", "tie", "tie", "tie", "old"]
    once = ["old" if choice == FIRST else "new" for choice in OLD_FIRST]
    right = metrics.kappa(verdicts, PEOPLE)
    result = judge_report(list(OLD_FIRST), list(NEW_FIRST), list(PEOPLE))
    check_parts(result, 2, "return two numbers: the fraction of flips, and kappa")
    flips, kappa = map(float, result)
    if near(flips, right) and near(kappa, 3 / 8):
        return "the order of the two is wrong: first the fraction of flips, then kappa"
    if not near(flips, 3 / 8):
        return told(flips, 3 / 8, [
            (5 / 8, "you compared positions, not models: \"first\" is the old model in one list "
                    "and the new model in the other; 3 of 8 pairs flip, not 5"),
            (37.5, "37.5 is a percentage; return the fraction, 0.375"),
            (3.0, "3 pairs flip; return the fraction of all pairs, 3/8"),
            (0.6, "flips are a fraction of all 8 pairs, not of the 5 without a flip"),
        ], f"flips is {flips:g}; 3 of these 8 pairs went to different models: 0.375", near)
    kept = [i for i, verdict in enumerate(verdicts) if verdict != "tie"]
    mistakes = [
        (metrics.accuracy(verdicts, PEOPLE),
         "that is plain agreement; kappa takes off the agreement of chance"),
        (metrics.kappa(once, PEOPLE),
         "that uses the choices in one order only; a model wins a pair if both name it, else "
         "the pair is a tie"),
        (metrics.kappa([verdicts[i] for i in kept], [PEOPLE[i] for i in kept]),
         "that leaves out the pairs that flipped; they count, as ties"),
        ((metrics.accuracy(verdicts, PEOPLE) - 1 / 3) / (2 / 3),
         "chance is not 1/3: it follows from how often each side says old, new and tie"),
        (metrics.kappa(["new" if v == "old" else "old" if v == "new" else v for v in verdicts],
                       PEOPLE), "old and new are exchanged"),
        (metrics.kappa(["old" if v == "tie" else v for v in verdicts], PEOPLE),
         "a pair that flipped is a tie, not a win of the old model"),
        (metrics.kappa(["new" if v == "tie" else v for v in verdicts], PEOPLE),
         "a pair that flipped is a tie, not a win of the new model"),
    ]
    return told(kappa, right, mistakes, f"kappa is {kappa:.3f}; expected {right:.3f}, of the "
                f"verdicts {', '.join(verdicts)}", near)


@exercise("pass_at_k")
def _(pass_at_k):
    return check_number("pass_at_k(10, 3, 5)", pass_at_k(10, 3, 5), 1 - 21 / 252, {
        1 - 0.7**5: "that draws with replacement; count draws with math.comb",
        21 / 252: "that is the probability that all five fail; take one minus it",
        0.3: "that is pass@1, c / n",
        1 - math.comb(3, 3) / 252: "the draws that fail come from the n - c failing programs",
        0.0: "math.comb(c, k) counts draws of passing programs only; at least one must pass",
        3 * math.comb(7, 4) / 252: "that is exactly one that passes; at least one must",
        1.0: "use n - c failing programs, not c: math.comb(3, 5) is 0. Dividing with // or a cap "
             "of c · k / n at 1 gives 1 as well",
        0.3**5: "that is the probability that all five pass (pass^k); at least one must",
        100 * (1 - 21 / 252): "a probability, not a percentage",
        1.5: "c · k / n is not a probability; one minus the probability that all fail",
    }) or check_number("pass_at_k(10, 8, 5)", pass_at_k(10, 8, 5), 1.0) or check_number(
        "pass_at_k(20, 1, 1)", pass_at_k(20, 1, 1), 0.05)
