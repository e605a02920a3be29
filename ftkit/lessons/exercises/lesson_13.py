"""Lesson 13, ZeRO and FSDP."""

from ftkit.lessons.checks import exercise, near


@exercise("reduce_scatter")
def _(reduce_scatter):
    import torch

    given = [torch.arange(6.0) * (rank + 1) for rank in range(3)]
    copies = [g.clone() for g in given]
    made = reduce_scatter(copies)
    if any(not torch.equal(copy, g) for copy, g in zip(copies, given, strict=True)):
        return "one of the inputs was changed; add into a new tensor"
    total = torch.stack(given).sum(0)
    if torch.is_tensor(made) or not isinstance(made, list | tuple) or len(made) != 3:
        return "three ranks must get three parts, one for each: return a list"
    if all(torch.is_tensor(part) and part.shape == total.shape for part in made):
        return "every rank got the whole sum: that is an all-reduce; keep each rank's part only"
    for rank, part in enumerate(made):
        own = slice(2 * rank, 2 * rank + 2)
        if not torch.is_tensor(part) or tuple(part.shape) != (2,):
            return f"rank {rank} got {part!r:.60}; 6 elements on 3 ranks are 2 for each"
        if torch.equal(part, given[rank][own]) and not torch.equal(part, total[own]):
            return f"rank {rank} got a part of its own gradient alone: sum over the ranks first"
        if torch.allclose(part, total[own] / 3) and not torch.equal(part, total[own]):
            return f"rank {rank} got the mean over the ranks; the sum is asked"
        if torch.equal(part, total[rank::3]) and not torch.equal(part, total[own]):
            return f"rank {rank} got every third element; a part is contiguous"
        if not torch.allclose(part, total[own]):
            return f"rank {rank}: {part.tolist()}; expected {total[own].tolist()}"


@exercise("zero_gigabytes")
def _(zero_gigabytes):
    wanted = {0: 120.0, 1: 31.40625, 2: 16.640625, 3: 1.875}
    made = {stage: zero_gigabytes(7.5e9, 64, stage) for stage in wanted}
    if near(made[0], 120e9):
        return "that is in bytes; gigabytes are asked, 1e9 bytes each"
    if near(made[0], 120e9 / 2**30):
        return "that is in GiB, 2**30 bytes; gigabytes of 1e9 bytes are asked"
    if near(made[0], 120.0) and near(made[2], 7.5 * (14 + 2 / 64)):
        return ("stage 2 divides the gradients and the optimizer states: each stage includes the "
                "last")
    if near(made[3], 7.5 * (14 + 2 / 64)):
        return "stage 3 divides everything, not the parameters alone"
    if near(made[1], 7.5 * (4 + 8 / 64)):
        return "stage 1: the optimizer's 12 bytes are AdamW's 8 and the fp32 master weights' 4"
    if near(made[1], 7.5 * (8 + 8 / 64)):
        return ("stage 1: these are fp32 weights and gradients of 4 bytes; with 16-bit ones 2 + 2 "
                "bytes stay, and the optimizer's 12 are divided")
    if near(made[1], 1.875):
        return "stage 1 divides the optimizer states alone; weights and gradients stay whole"
    for stage, value in wanted.items():
        if not near(made[stage], value):
            return (f"7.5B on 64 GPUs at stage {stage}: {made[stage]:.4g} GB; expected "
                    f"{value:.4g}")
