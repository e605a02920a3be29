"""Solutions of lesson 00, right variants, and the mistakes that people make."""

import math

from shown_solutions import shown

answer_loss = shown("answer_loss")
training_cost = shown("training_cost")


def by_nll_loss(log_probabilities, labels):
    from torch.nn.functional import nll_loss
    return nll_loss(log_probabilities[:-1], labels[1:])


def gathered(log_probabilities, labels):
    targets = labels[1:]
    counted = targets != -100
    picked = log_probabilities[:-1][counted].gather(1, targets[counted][:, None])
    return -picked.mean().item()


def terms(log_probabilities, labels, shift=1):
    return [-log_probabilities[t - shift, labels[t]]
            for t in range(1, len(labels)) if labels[t] != -100]


def not_shifted(log_probabilities, labels):
    losses = terms(log_probabilities, labels, 0)
    return sum(losses) / len(losses)


def everything(log_probabilities, labels):
    losses = [-log_probabilities[t - 1, labels[t] % log_probabilities.shape[1]]
              for t in range(1, len(labels))]
    return sum(losses) / len(losses)


def next_row(log_probabilities, labels):
    losses = [-log_probabilities[t + 1, labels[t]] for t in range(len(labels)) if labels[t] != -100]
    return sum(losses) / len(losses)


def first_label_counted(log_probabilities, labels):
    return sum(terms(log_probabilities, labels)) / (labels != -100).sum()


def from_row_minus_one(log_probabilities, labels):
    losses = [-log_probabilities[t - 1, label] for t, label in enumerate(labels) if label != -100]
    return sum(losses) / len(losses)


def mask_looked_up(log_probabilities, labels):
    return -log_probabilities[range(len(labels) - 1), labels[1:]].mean()


def hourly(parameters, tokens, flops_per_second=312e12, utilization=0.4, dollars_per_hour=2.0):
    per_hour = flops_per_second * utilization * 60 * 60
    return (2 + 4) * parameters * tokens / per_hour * dollars_per_hour


def per_dollar(parameters, tokens, flops_per_second=312e12, utilization=0.4, dollars_per_hour=2.0):
    flops_per_dollar = 3600 * flops_per_second * utilization / dollars_per_hour
    return 6 * parameters * tokens / flops_per_dollar


def fixed(name, value):
    def cost(parameters, tokens, **given):
        return training_cost(parameters, tokens, **given | {name: value})
    return cost


def scaled(factor):
    return lambda parameters, tokens, dollars_per_hour=2.0: (
        factor * training_cost(parameters, tokens, dollars_per_hour=dollars_per_hour))


SOLUTIONS = {
    "answer_loss": {
        "variants": [by_nll_loss, gathered],
        "wrong": {
            "not shifted": (not_shifted, "in row t - 1, not in row t"),
            "sign": (lambda lp, labels: -answer_loss(lp, labels), "the sign"),
            "sum": (lambda lp, labels: sum(terms(lp, labels)), "this is the sum"),
            "all positions": (lambda lp, labels: sum(terms(lp, labels)) / len(labels),
                              "divided by all positions"),
            "-100 counted": (everything, "must not count"),
            "next row": (next_row, "out of range"),
            "next row where there is one": (
                lambda log_p, labels: next_row(log_p[:-1], labels[:-1]), "the wrong way"),
            "minus the mean probability": (
                lambda log_p, labels: sum(-(-x).exp() for x in terms(log_p, labels)) / 3,
                "the mean probability"),
            "-100 looked up": (mask_looked_up, "looked up as a token"),
            "end left out": (lambda lp, labels: answer_loss(lp[:-1], labels[:-1]),
                             "never learns to stop"),
            "first token": (lambda lp, labels: terms(lp, labels)[0], "the first token that"),
            "bits": (lambda lp, labels: answer_loss(lp, labels) / math.log(2), "in bits"),
            "perplexity": (lambda lp, labels: math.exp(answer_loss(lp, labels)), "perplexity"),
            "mean probability": (lambda lp, labels: sum(
                math.exp(-x) for x in terms(lp, labels)) / 3, "mean probability"),
            "first label counted": (first_label_counted, "predicted by no row"),
            "labels[0] from the last row": (from_row_minus_one, "so it does not count"),
        },
    },
    "training_cost": {
        "variants": [hourly, per_dollar],
        "wrong": {
            "seconds taken for hours": (scaled(3600), "per second, the price is per hour"),
            "hours": (scaled(0.5), "these are hours"),
            "peak": (scaled(0.4), "only the fraction"),
            "multiplied by utilization": (scaled(0.16), "divide by the utilization"),
            "forward only": (scaled(1 / 3), "forward pass"),
            "one operation": (scaled(1 / 6), "6 FLOPs per parameter"),
            "backward only": (scaled(2 / 3), "are the backward pass"),
            "minutes": (scaled(60), "an hour has 3,600 seconds"),
            "a constant price": (fixed("dollars_per_hour", 2.0), "argument dollars_per_hour"),
            "a constant speed": (fixed("flops_per_second", 312e12), "argument flops_per_second"),
            "a constant utilization": (fixed("utilization", 0.4), "argument utilization"),
        },
    },
}
