"""Solutions of lesson 13, right variants, and the mistakes that people make."""

import torch
from shown_solutions import edited, shown

reduce_scatter = shown("reduce_scatter")
zero_gigabytes = shown("zero_gigabytes")
find_culprit = shown("find_culprit")


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


def by_zip(parameters, gpus, stage, weights=2, gradients=2, optimizer=12):
    parts = zip((3, 2, 1), (weights, gradients, optimizer), strict=True)
    return sum(size / (gpus if stage >= first else 1) for first, size in parts) * parameters / 1e9


def by_steps(parameters, gpus, stage, weights=2, gradients=2, optimizer=12):
    sizes = [optimizer, gradients, weights]
    for i in range(stage):
        sizes[i] /= gpus
    return sum(sizes) * parameters * 1e-9


def columns(entered):
    from itertools import zip_longest

    for i, names in enumerate(zip_longest(*entered.values(), fillvalue="")):
        usual = max(names, key=names.count)
        if odd := [rank for rank, name in zip(entered, names, strict=True) if name != usual]:
            return i, odd


def by_prefixes(entered):
    for i in range(max(map(len, entered.values())) + 1):
        starts = {rank: tuple(names[: i + 1]) for rank, names in entered.items()}
        values = list(starts.values())
        usual = max(values, key=values.count)
        if any(start != usual for start in values):
            return [i, [rank for rank in entered if starts[rank] != usual]]
    return None


def against_rank_0(entered):
    for i in range(max(map(len, entered.values()))):
        at = {rank: names[i:i + 1] for rank, names in entered.items()}
        culprits = [rank for rank in at if at[rank] != at[0]]
        if culprits:
            return i, culprits


def by_length(entered):
    lengths = {rank: len(names) for rank, names in entered.items()}
    short = [rank for rank, n in lengths.items() if n < max(lengths.values())]
    return (min(lengths.values()), short) if short else None


def alternatives(parameters, gpus, stage, *sizes, **named):
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
        "variants": [by_zip, by_steps],
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
            "weights before gradients": (
                edited("zero_gigabytes", "stage >= 2:\n        gradients = gradients",
                       "stage >= 2:\n        weights = weights",
                       "stage >= 3:\n        weights = weights",
                       "stage >= 3:\n        gradients = gradients"), "not the weights"),
            "fixed bytes": (lambda n, gpus, stage, weights=2, gradients=2, optimizer=12:
                            zero_gigabytes(n, gpus, stage), "are ignored"),
        },
    },
    "find_culprit": {
        "variants": [columns, by_prefixes],
        "wrong": {
            "rank 0 is right": (against_rank_0, "not with rank 0"),
            "the lengths": (by_length, "compare the names"),
            "who waits": (edited("find_culprit", "name != usual", "name == usual and "
                                 "len(set(at.values())) > 1"), "the ranks that wait"),
            "one rank": (edited("find_culprit", "return i, culprits", "return i, culprits[0]"),
                         "a list of ranks"),
            "the least frequent alone": (
                edited("find_culprit", "return i, culprits", "return i, culprits[:1]"),
                "both are culprits"),
            "counted from 1": (edited("find_culprit", "return i, culprits",
                                      "return i + 1, culprits"), "at index 4 the others wait"),
            "an empty list": (edited("find_culprit", "return None", "return 0, []"),
                              "nobody hangs"),
            "the shortest list ends the search": (
                edited("find_culprit", "max(len", "min(len"), "(4, [2]): at index"),
            "the longest is right": (
                lambda entered: find_culprit(entered) and (
                    find_culprit(entered)[0], [r for r in entered if entered[r] != max(
                        entered.values(), key=len)]), "the majority decides"),
        },
    },
}
