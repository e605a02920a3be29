"""Solutions of lesson 08, right variants, and the mistakes that people make."""

import math

import torch
from shown_solutions import edited, shown

accumulate = shown("accumulate")


def labeled(batch):
    return (batch["labels"][:, 1:] != -100).sum()


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


def accumulate_in_reverse(model, batches):
    return accumulate(model, batches[::-1])


def accumulate_token_by_token(model, batches):
    counts = [labeled(batch) for batch in batches]
    model.zero_grad()
    sums = [model(**batch).loss * n for batch, n in zip(batches, counts, strict=True)]
    loss = sum(sums) / sum(counts)
    loss.backward()
    return loss.item()


def accumulate_joined(model, batches):
    loss = model(**{name: torch.cat([b[name] for b in batches]) for name in batches[0]}).loss
    loss.backward()
    return loss.item()


def accumulate_then_divide(model, batches):
    total = 0
    loss = 0.0
    for batch in batches:
        n = labeled(batch)
        if not n:
            continue
        part = model(**batch).loss * n
        part.backward()
        total, loss = total + n, loss + part.item()
    for parameter in model.parameters():
        parameter.grad /= total
    return loss / total


def accumulate_half(model, batches):
    accumulate(model, batches)
    return model(**batches[0]).loss


def accumulate_twice(model, batches):
    accumulate(model, batches)
    return accumulate(model, batches)


def accumulate_without_backward(model, batches):
    total = sum(map(labeled, batches))
    return sum(model(**batch).loss * labeled(batch) / total for batch in batches)


def steps_by_floor(records, micro, accumulation, gpus, epochs, drop_last=False):
    full, rest = divmod(records, micro * accumulation * gpus)
    return epochs * (full + (rest > 0 and not drop_last))


def steps_by_range(records, micro, accumulation, gpus, epochs, drop_last=False):
    batch = micro * accumulation * gpus
    starts = range(0, records, batch)
    if drop_last:
        return epochs * sum(start + batch <= records for start in starts)
    return epochs * len(starts)


def norm_of(gradients):
    return sum((g**2).sum() for g in gradients).sqrt()


def clip_by_global_norm(gradients, max_norm):
    factor = min(1.0, max_norm / (float(norm_of(gradients)) + 1e-6))
    return [g * factor for g in gradients]


def clip_by_torch(gradients, max_norm):
    import torch
    copies = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for copy, g in zip(copies, gradients, strict=True):
        copy.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(copies, max_norm)
    return [copy.grad for copy in copies]


def clip_by_cat(gradients, max_norm):
    import torch
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return gradients if norm <= max_norm else [max_norm * g / norm for g in gradients]


def clip_in_place(gradients, max_norm):
    factor = min(1.0, max_norm / float(norm_of(gradients)))
    for g in gradients:
        g.mul_(factor)
    return gradients


SOLUTIONS = {
    "optimizer_steps": {
        "variants": [steps_by_floor, steps_by_range],
        "wrong": {
            "no GPUs, no accumulation": (
                lambda n, m, a, g, e, drop_last=False: math.ceil(n / m) * e,
                "make one step see"),
            "no GPUs": (lambda n, m, a, g, e, drop_last=False: math.ceil(n / m / a) * e,
                        "the 8 GPUs"),
            "rounded once at the end": (
                lambda n, m, a, g, e, drop_last=False: math.ceil(n * e / m / a / g),
                "in each"),
            "always dropped": (lambda n, m, a, g, e, drop_last=False: n // (m * a * g) * e,
                               "is a step, too"),
            "the slip of the text": (lambda n, m, a, g, e, drop_last=False: n // m * e,
                                     "4 · 4 · 8"),
            "dropped once at the end": (
                lambda n, m, a, g, e, drop_last=False: n * e // (m * a * g) if drop_last else
                math.ceil(n / (m * a * g)) * e, "round down before"),
            "a fraction": (lambda n, m, a, g, e, drop_last=False: n * e / (m * a * g),
                           "cannot be a fraction"),
            "one epoch": (lambda n, m, a, g, e, drop_last=False: math.ceil(n / (m * a * g)),
                          "one epoch"),
            "drop_last ignored": (
                lambda n, m, a, g, e, drop_last=False: math.ceil(n / (m * a * g)) * e,
                "drop_last is ignored"),
        },
    },
    "accumulate": {
        "variants": [accumulate_in_reverse, accumulate_then_divide],
        "wrong": {
            "mean of means": (accumulate_means, "mean of means"),
            "sum of means": (accumulate_sums, "sum of the means"),
            "cleared in between": (accumulate_the_last, "only the last micro-batch"),
            "labels not shifted": (accumulate_unshifted, "never predicted"),
            "no backward": (accumulate_without_backward, "no gradient was left"),
            "loss of one part": (accumulate_half, "the gradient is right; the loss"),
            "added twice": (accumulate_twice, "added twice"),
            "not divided": (edited("accumulate", "* count / total", "* count"), "divide once"),
            "one big batch": (accumulate_joined, "were joined"),
            "one backward pass": (accumulate_token_by_token, "3 micro-batches were in memory"),
            "nan without labels": (edited("accumulate", "if count == 0:", "if False:"),
                                   "without a single label"),
        },
    },
    "clip_by_global_norm": {
        "variants": [clip_by_torch, clip_by_cat],
        "wrong": {
            "each tensor": (lambda gs, m: [g * min(1, m / float(g.norm())) for g in gs],
                            "on its own"),
            "each value": (lambda gs, m: [g.clamp(-m, m) for g in gs], "each value"),
            "squared": (lambda gs, m: [g * min(1, m / float(norm_of(gs)) ** 2) for g in gs],
                        "squared norm"),
            "sum of norms": (lambda gs, m: [g * min(1, m / float(sum(h.norm() for h in gs)))
                                            for g in gs],
                             "were added"),
            "largest value": (lambda gs, m: [g * min(1, m / max(float(h.abs().max()) for h in gs))
                                             for g in gs], "the largest value"),
            "nothing": (lambda gs, m: [g.clone() for g in gs], "nothing was scaled"),
            "always": (lambda gs, m: [m * g / norm_of(gs) for g in gs], "below the limit"),
            "in place": (clip_in_place, "were changed; return new"),
            "zeros divided": (edited(clip_by_global_norm, "(float(norm_of(gradients)) + 1e-6)",
                                     "float(norm_of(gradients))"), "divided by their norm"),
            "max_norm forgotten": (lambda gs, m: gs if norm_of(gs) < m else
                                   [g / norm_of(gs) for g in gs],
                                   "is max_norm"),
        },
    },
}
