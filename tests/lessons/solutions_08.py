"""Solutions of lesson 08, and the mistakes that people make."""

import math


def optimizer_steps(records, micro, accumulation, gpus, epochs, drop_last=False):
    batch = micro * accumulation * gpus
    return epochs * (records // batch if drop_last else math.ceil(records / batch))


def labelled(batch):
    return (batch["labels"][:, 1:] != -100).sum()


def accumulate(model, batches):
    total, loss = sum(map(labelled, batches)), 0.0
    for batch in batches:
        part = model(**batch).loss * labelled(batch) / total
        part.backward()
        loss = loss + part.detach()
    return loss


def accumulate_means(model, batches):
    losses = [model(**batch).loss / len(batches) for batch in batches]
    for loss in losses:
        loss.backward()
    return sum(losses).detach()


def accumulate_sums(model, batches):
    for batch in batches:
        model(**batch).loss.backward()
    return 0.0


def accumulate_the_last(model, batches):
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
    return 0.0


def accumulate_unshifted(model, batches):
    total = sum((batch["labels"] != -100).sum() for batch in batches)
    for batch in batches:
        (model(**batch).loss * (batch["labels"] != -100).sum() / total).backward()
    return 0.0


def decay_for(shrink, learning_rate, steps):
    return -math.log(1 - shrink) / (learning_rate * steps / 2)


SOLUTIONS = {
    "optimizer_steps": {
        "right": optimizer_steps,
        "wrong": {
            "no GPUs, no accumulation": (
                lambda n, m, a, g, e, drop_last=False: math.ceil(n / m) * e, "make one step see"),
            "no GPUs": (
                lambda n, m, a, g, e, drop_last=False: math.ceil(n / m / a) * e, "the 8 GPUs"),
            "rounded once at the end": (
                lambda n, m, a, g, e, drop_last=False: math.ceil(n * e / m / a / g), "in each"),
            "always dropped": (
                lambda n, m, a, g, e, drop_last=False: n // (m * a * g) * e, "is a step, too"),
        },
    },
    "accumulate": {
        "right": accumulate,
        "wrong": {
            "mean of means": (accumulate_means, "mean of means"),
            "sum of means": (accumulate_sums, "sum of the means"),
            "cleared in between": (accumulate_the_last, "only the last micro-batch"),
            "labels not shifted": (accumulate_unshifted, "never predicted"),
        },
    },
    "decay_for": {
        "right": decay_for,
        "wrong": {
            "peak rate": (lambda s, r, n: -math.log(1 - s) / (r * n), "half of what is needed"),
            "linear": (lambda s, r, n: s / (r * n / 2), "the factors multiply"),
            "the share that is kept": (lambda s, r, n: -math.log(s) / (r * n / 2), "keep 90 %"),
        },
    },
}
