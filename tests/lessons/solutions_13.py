"""Solutions of lesson 13, and the mistakes that people make."""


def reduce_scatter(gradients):
    return list(sum(gradients).chunk(len(gradients)))


def all_reduce(gradients):
    return [sum(gradients) for _ in gradients]


def own_parts(gradients):
    return [g.chunk(len(gradients))[rank] for rank, g in enumerate(gradients)]


def in_turns(gradients):
    total = sum(gradients)
    return [total[rank :: len(gradients)] for rank in range(len(gradients))]


def zero_gigabytes(parameters, gpus, stage):
    per = 2 / (gpus if stage > 2 else 1) + 2 / (gpus if stage > 1 else 1) + 12 / (
        gpus if stage else 1)
    return parameters * per / 1e9


def alternatives(parameters, gpus, stage):
    parts = [12, 2, 2]
    return parameters * sum(part / (gpus if stage == i + 1 else 1)
                            for i, part in enumerate(parts)) / 1e9


def no_master_copy(parameters, gpus, stage):
    per = 2 / (gpus if stage > 2 else 1) + 2 / (gpus if stage > 1 else 1) + 8 / (
        gpus if stage else 1)
    return parameters * per / 1e9


def halves(parameters, gpus, stage):
    return 16 * parameters / 2**stage / 1e9


def lowest_stage(parameters, gpus, free):
    for stage in (0, 1, 2, 3):
        if zero_gigabytes(parameters, gpus, stage) * 1e9 <= free:
            return stage
    return "none"


def always_three(parameters, gpus, free):
    return 3 if zero_gigabytes(parameters, gpus, 3) * 1e9 <= free else "none"


def one_gpu_divides(parameters, gpus, free):
    return lowest_stage(parameters, max(2, gpus), free)


SOLUTIONS = {
    "reduce_scatter": {
        "right": reduce_scatter,
        "wrong": {
            "all-reduce": (all_reduce, "that is an all-reduce"),
            "not summed": (own_parts, "its own gradient alone"),
            "every third element": (in_turns, "rank 0: "),
        },
    },
    "zero_gigabytes": {
        "right": zero_gigabytes,
        "wrong": {
            "stages as alternatives": (alternatives, "stage 2 divides the gradients and"),
            "no master copy": (no_master_copy, "the fp32 master copy"),
            "each stage halves": (halves, "at stage 1"),
        },
    },
    "lowest_stage": {
        "right": lowest_stage,
        "wrong": {
            "always stage 3": (always_three, "the lowest is asked"),
            "one GPU divides": (one_gpu_divides, "nothing to divide"),
        },
    },
}
