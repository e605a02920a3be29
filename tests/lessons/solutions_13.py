"""Solutions of lesson 13, right variants, and the mistakes that people make."""

import torch
from shown_solutions import shown

reduce_scatter = shown("reduce_scatter")
zero_gigabytes = shown("zero_gigabytes")


def by_slices(gradients):
    size = len(gradients[0]) // len(gradients)
    return [sum(g[rank * size:(rank + 1) * size] for g in gradients)
            for rank in range(len(gradients))]


def in_turns(gradients):
    total = sum(gradients)
    return [total[rank :: len(gradients)] for rank in range(len(gradients))]


def in_place(gradients):
    for g in gradients[1:]:
        gradients[0] += g
    return list(gradients[0].chunk(len(gradients)))


def per_parameter(gpus, stage, optimizer=12):
    return 2 / (gpus if stage > 2 else 1) + 2 / (gpus if stage > 1 else 1) + optimizer / (
        gpus if stage else 1)


def by_a_table(parameters, gpus, stage):
    whole = (16, 4, 2, 0)[stage]
    return parameters * (whole + (16 - whole) / gpus) / 1e9


def by_steps(parameters, gpus, stage):
    sizes = [12, 2, 2]
    for i in range(stage):
        sizes[i] /= gpus
    return sum(sizes) * parameters * 1e-9


def alternatives(parameters, gpus, stage):
    parts = [12, 2, 2]
    return parameters * sum(part / (gpus if stage == i + 1 else 1)
                            for i, part in enumerate(parts)) / 1e9


SOLUTIONS = {
    "reduce_scatter": {
        "variants": [
            by_slices,
            lambda parts: tuple(torch.stack(parts).sum(0).view(len(parts), -1).unbind())],
        "wrong": {
            "all-reduce": (lambda gradients: [sum(gradients) for _ in gradients],
                           "that is an all-reduce"),
            "not summed": (
                lambda gradients: (
                    [g.chunk(len(gradients))[rank] for rank, g in enumerate(gradients)]),
                "its own gradient alone"),
            "every third element": (in_turns, "a part is contiguous"),
            "the mean": (
                lambda gradients: [part / len(gradients) for part in reduce_scatter(gradients)],
                "the mean over the ranks"),
            "in place": (in_place, "was changed"),
            "one tensor": (lambda gradients: sum(gradients), "return a list"),
        },
    },
    "zero_gigabytes": {
        "variants": [by_a_table, by_steps],
        "wrong": {
            "stages as alternatives": (alternatives, "each stage includes the last"),
            "no master weights": (
                lambda parameters, gpus, stage: (
                    parameters * per_parameter(gpus, stage, optimizer=8) / 1e9),
                "the fp32 master weights"),
            "all divided at once": (
                lambda parameters, gpus, stage: parameters * (16 / gpus if stage else 16) / 1e9,
                "the optimizer states alone"),
            "each stage halves": (lambda parameters, gpus, stage: 16 * parameters / 2**stage / 1e9,
                                  "at stage 1"),
            "GiB": (lambda n, gpus, stage: zero_gigabytes(n, gpus, stage) * 1e9 / 2**30, "in GiB"),
            "bytes": (lambda n, gpus, stage: zero_gigabytes(n, gpus, stage) * 1e9, "in bytes"),
            "fp32 weights and gradients": (
                lambda n, gpus, stage: n * (16 if stage == 0 else 8 + 8 / gpus) / 1e9,
                "4 bytes; with 16-bit ones"),
        },
    },
}
