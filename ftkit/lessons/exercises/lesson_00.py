"""Lesson 00, start here."""

import math

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import check_number


@exercise("answer_loss")
def _(answer_loss):
    import torch

    draw = torch.Generator().manual_seed(0)
    log_probabilities = torch.randn(6, 9, generator=draw).log_softmax(-1)
    labels = torch.tensor([-100, -100, 4, 7, -100, 2])
    before = labels.clone()
    try:
        result = float(answer_loss(log_probabilities, labels))
    except IndexError as error:
        if "-100" in str(error):
            return "-100 was looked up as a token; leave out the positions labeled -100"
        return (f"an index is out of range ({error}); the last row of log_probabilities has no "
                "label: row t - 1 belongs to labels[t], for t from 1 on")
    if not torch.equal(labels, before):
        return "the labels were changed; work on a copy"
    pairs = [(1, 4), (2, 7), (4, 2)]
    terms = [-log_probabilities[row, token].item() for row, token in pairs]
    unshifted = [-log_probabilities[row + 1, token].item() for row, token in pairs]
    after = [-log_probabilities[row + 2, token].item() for row, token in pairs[:2]]
    everything = terms + [-log_probabilities[row, -100 % 9].item() for row in (0, 3)]
    mistakes = {
        sum(unshifted) / 3: "the prediction of labels[t] is in row t - 1, not in row t",
        sum(after) / 2: "the shift goes the wrong way: labels[t] is predicted by row t - 1",
        -sum(terms) / 3: "the sign: the loss is minus the mean log-probability",
        sum(terms): "this is the sum; divide by the number of labels that count",
        sum(terms) / 6: "divided by all positions; divide by the labels that are not -100",
        sum(terms) / 5: "divided by all positions; divide by the labels that are not -100",
        sum(everything) / 5: "positions labeled -100 must not count",
        sum(terms[:2]) / 2: "the last label, the end of the answer, is left out; without it a "
                            "model never learns to stop",
        terms[0]: "this is the loss of the first token that counts; take the mean over all",
        sum(terms) / 3 / math.log(2): "this is in bits; use the natural logarithm as it is given",
        math.exp(sum(terms) / 3): "this is e to the loss, the perplexity; return its exponent",
        **{sign * sum(map(math.exp, (-x for x in terms))) / 3:
           "this is the mean probability; take the mean of the log-probabilities, with a minus"
           for sign in (1, -1)},
    }
    if message := check_number("an example with 3 labels that count", result, sum(terms) / 3,
                               mistakes, 1e-4):
        return message
    labels[0] = 5
    first = -log_probabilities[-1, 5].item()
    why = "labels[0] is predicted by no row, so it does not count"
    return check_number("where labels[0] is a token, too", float(answer_loss(
        log_probabilities, labels)), sum(terms) / 3, {sum(terms) / 4: why,
                                                      (sum(terms) + first) / 4: why}, 1e-4)


@exercise("training_cost")
def _(training_cost):
    expected = 2.0 / 3600 * 6 * 6.7e9 * 1e9 / (312e12 * 0.4)
    return check_number("training_cost(6.7e9, 1e9)", training_cost(6.7e9, 1e9), expected, {
        expected * 3600: "FLOPs are per second, the price is per hour",
        expected * 60: "FLOPs are per second, the price is per hour: an hour has 3,600 seconds",
        expected / 2: "these are hours; multiply by the price of an hour",
        expected * 0.4: "only the fraction `utilization` of the FLOPs is reached",
        expected * 0.4 ** 2: "divide by the utilization: a lower one makes it more expensive",
        expected / 3: "2 FLOPs are the forward pass; with the backward pass it is 6",
        expected / 6: "a token costs 6 FLOPs per parameter",
        expected * 2 / 3: "4 FLOPs are the backward pass; with the forward pass it is 6",
    }) or _other_settings(training_cost, expected)


def _other_settings(training_cost, expected: float) -> str | None:
    """The mistake of a function that is right with the defaults only."""
    for name, value, factor in (("dollars_per_hour", 4.0, 2), ("flops_per_second", 624e12, 0.5),
                                ("utilization", 0.2, 2)):
        given = training_cost(6.7e9, 1e9, **{name: value})
        if message := check_number(f"training_cost(6.7e9, 1e9, {name}={value:g})", given,
                                   factor * expected, {
                expected: f"the argument {name} changes nothing; use it instead of a constant"}):
            return message
