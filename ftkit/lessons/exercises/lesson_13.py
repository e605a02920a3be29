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
    for stage, right, why in (
            (1, 6.0, "stage 1 divides the optimizer's bytes"),
            (2, 4.5, "stage 2 divides the gradients, not the weights"),
            (3, 3.75, "stage 3 divides all three")):
        made = zero_gigabytes(1e9, 4, stage, weights=1, gradients=2, optimizer=12)
        if near(made, zero_gigabytes(1e9, 4, stage)) and not near(made, right):
            return ("the three numbers of bytes are ignored: with weights=1 a parameter has 15 "
                    "bytes, not 16")
        if not near(made, right):
            return (f"1 + 2 + 12 bytes, 1e9 parameters, 4 GPUs, stage {stage}: {made:.4g} GB; "
                    f"expected {right:.4g}: {why}")


@exercise("find_culprit")
def _(find_culprit):
    step = ["gather 0", "gather 1", "scatter 1", "scatter 0"]
    branch = [*step, "gather 0", "reduce metrics", "gather 1"]
    cases = [
        ("rank 2 made one step, the others two",
         {rank: step * (1 if rank == 2 else 2) for rank in range(4)}, (4, [2]),
         "at index 4 the others wait in 'gather 0', and rank 2 entered nothing more"),
        ("rank 0 made one step, the others two",
         {rank: step * (1 if rank == 0 else 2) for rank in range(4)}, (4, [0]),
         "rank 0 may be the culprit too: compare with the majority, not with rank 0"),
        ("rank 1 takes another branch in the second step",
         {rank: branch if rank == 1 else step * 2 for rank in range(4)}, (5, [1]),
         "all lists but one may be of one length; compare the names"),
        ("rank 3 enters one more collective than the others",
         {rank: step + ["gather 0"] * (rank == 3) for rank in range(4)}, (4, [3]),
         "the others entered nothing at index 4, and the majority decides"),
        ("ranks 1 and 4 of 5 enter another collective at index 2",
         {rank: ["gather 0", "gather 1", "reduce loss"] if rank in (1, 4) else step
          for rank in range(5)}, (2, [1, 4]), "both are culprits, at the first difference"),
        ("all entered the same", dict.fromkeys(range(3), step), None, "nobody hangs"),
    ]
    for case, entered, right, why in cases:
        made = find_culprit({rank: list(names) for rank, names in entered.items()})
        if isinstance(made, tuple | list) and ... in made:
            raise NotImplementedError
        if right is None or made is None:
            same = made is right
        else:
            same = len(made) == 2 and made[0] == right[0] and _sorted(made[1]) == right[1]
        if not same and made is not None and right is not None and isinstance(made[1], int):
            return f"{case}: {made!r}; expected a list of ranks, {right!r}"
        if not same and right is not None and made is not None and made[0] == right[0] and (
                _sorted(made[1]) == sorted(set(entered) - set(right[1]))):
            return f"{case}: {made!r} are the ranks that wait; expected {right!r}: {why}"
        if not same:
            return f"{case}: {made!r}; expected {right!r}: {why}"


def _sorted(ranks):
    return sorted(ranks) if isinstance(ranks, list | tuple | set) else ranks
