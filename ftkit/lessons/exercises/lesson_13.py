"""Lesson 13, ZeRO and FSDP."""

from __future__ import annotations

from ftkit.lessons.claims import exercise, near


@exercise("reduce_scatter")
def _(reduce_scatter):
    import torch

    given = [torch.arange(6.0) * (rank + 1) for rank in range(3)]
    made = reduce_scatter([g.clone() for g in given])
    total = torch.stack(given).sum(0)
    if torch.is_tensor(made) or len(made) != 3:
        return "three ranks must get three parts, one for each: return a list"
    if all(torch.is_tensor(part) and part.shape == total.shape for part in made):
        return "every rank got the whole sum: that is an all-reduce; keep each rank's part only"
    for rank, part in enumerate(made):
        own = slice(2 * rank, 2 * rank + 2)
        if tuple(part.shape) != (2,):
            return f"rank {rank} got {tuple(part.shape)}; 6 elements on 3 ranks are 2 for each"
        if torch.equal(part, given[rank][own]) and not torch.equal(part, total[own]):
            return f"rank {rank} got a part of its own gradient alone: sum over the ranks first"
        if not torch.allclose(part, total[own]):
            return f"rank {rank}: {part.tolist()}; expected {total[own].tolist()}"


@exercise("zero_gigabytes")
def _(zero_gigabytes):
    wanted = {0: 120.0, 1: 31.40625, 2: 16.640625, 3: 1.875}
    made = {stage: zero_gigabytes(7.5e9, 64, stage) for stage in wanted}
    if near(made[0], 120.0) and near(made[2], 7.5 * (14 + 2 / 64)):
        return "stage 2 divides the gradients and the optimizer states: the stages add up"
    if near(made[3], 7.5 * (14 + 2 / 64)):
        return "stage 3 divides everything, not the parameters alone: the stages add up"
    if near(made[1], 7.5 * (4 + 8 / 64)):
        return "stage 1: the optimizer's 12 bytes are AdamW's 8 and the fp32 master copy's 4"
    for stage, value in wanted.items():
        if not near(made[stage], value):
            return (f"7.5B on 64 GPUs at stage {stage}: {made[stage]:.4g} GB; expected "
                    f"{value:.4g}")


@exercise("lowest_stage")
def _(lowest_stage):
    cases = [(6.738e9, 8, 120e9, 0), (6.738e9, 8, 40e9, 1), (6.738e9, 8, 30e9, 2),
             (6.738e9, 8, 20e9, 3), (70e9, 8, 80e9, "none"), (6.738e9, 1, 80e9, "none")]
    made = [lowest_stage(n, gpus, free) for n, gpus, free, _ in cases]
    if made[:3] == [3, 3, 3]:
        return "stage 3 fits where any does, but it moves half as much again: the lowest is asked"
    for (n, gpus, free, wanted), stage in zip(cases, made, strict=True):
        if stage is False or stage != wanted:
            one = " (with one GPU there is nothing to divide)" if gpus == 1 else ""
            return (f"{n / 1e9:.3g}B on {gpus} GPUs with {free / 1e9:.0f} GB free: {stage!r}; "
                    f"expected {wanted!r}{one}")
