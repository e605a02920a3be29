"""Lesson 00, start here."""

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
        return (f"an index is out of range ({error}); the last row of log_probabilities has no "
                "label: row t - 1 belongs to labels[t], for t from 1 on")
    if not torch.equal(labels, before):
        return "the labels were changed; work on a copy"
    pairs = [(1, 4), (2, 7), (4, 2)]
    terms = [-log_probabilities[row, token].item() for row, token in pairs]
    unshifted = [-log_probabilities[row + 1, token].item() for row, token in pairs]
    everything = terms + [-log_probabilities[row, -100 % 9].item() for row in (0, 3)]
    mistakes = {
        sum(unshifted) / 3: "the prediction of labels[t] is in row t - 1, not in row t",
        -sum(terms) / 3: "the sign: the loss is minus the mean log-probability",
        sum(terms): "this is the sum; divide by the number of labels that count",
        sum(terms) / 6: "divided by all positions; divide by the labels that are not -100",
        sum(terms) / 5: "divided by all positions; divide by the labels that are not -100",
        sum(everything) / 5: "positions labeled -100 must not count",
        sum(terms[:2]) / 2: "the last label, the end of the answer, is left out; without it a "
                            "model never learns to stop",
    }
    return check_number("an example with 3 labels that count", result, sum(terms) / 3, mistakes,
                        1e-4)


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
    }) or check_number("twice the price per hour, training_cost(6.7e9, 1e9, dollars_per_hour=4.0),",
                       training_cost(6.7e9, 1e9, dollars_per_hour=4.0), 2 * expected)
