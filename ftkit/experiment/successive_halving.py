"""Successive halving: all runs of a sweep start, and the worse half is repeatedly ended early.

Jamieson and Talwalkar 2016 (arXiv 1502.07943). Runs are paused at the evaluation at which they are
compared. A run that continues is identical to a run of its own.
"""

import math

from ftkit.base import formatting, free_memory
from ftkit.base.errors import UserError
from ftkit.base.run_end import End
from ftkit.experiment import side_by_side
from ftkit.experiment.side_by_side import PausableRun


def run_rounds(sweep, runs: list[PausableRun], parallel):
    """Start all runs and halve them until one config is left; its seeds are kept together."""
    groups: dict[str, list[PausableRun]] = {}
    for run in runs:
        groups.setdefault(str(sweep.configs[run.index].but(seed=0)), []).append(run)
    rivals = list(groups.values())
    if len(rivals) < 2:
        raise UserError("halving was given one config, or one with several seeds; expected at "
                        "least two different configs")
    _check_memory(sweep)
    rounds = math.ceil(math.log2(len(rivals)))
    sweep.notes.append("successive halving")
    _check_evaluations(runs[0], 0.5**rounds)
    workers = side_by_side.choose_workers(sweep, [r for r in runs if not r.done], parallel)
    for fraction in (0.5 ** (rounds - k) for k in range(rounds)):
        side_by_side.advance_all([r for group in rivals for r in group], workers,
                                 lambda run, fraction=fraction: _is_due(run, fraction))
        for run in (r for group in rivals for r in group):
            _check_evaluations(run, fraction)
        rivals.sort(key=lambda group: sum(_loss_at(r, fraction) for r in group) / len(group))
        survivors = math.ceil(len(rivals) / 2)
        for rank, group in enumerate(rivals[survivors:], survivors + 1):
            for run in group:
                run.finish(End.ENDED_EARLY, (
                    f"ended early by halving at step {_comparison_step(run, fraction)} of "
                    f"{run.begin().total_steps}: val_loss "
                    f"{formatting.number(_loss_at(run, fraction))} was number {rank} of "
                    f"{len(rivals)}"))
        rivals = rivals[:survivors]
    side_by_side.advance_all(rivals[0], min(workers, len(rivals[0])))
    ended = sum(run.end is End.ENDED_EARLY for run in sweep.done.values())
    sweep.notes.append(f"{ended} ended early")


def _comparison_step(paused: PausableRun, fraction: float) -> int:
    """Step of the first evaluation at or after this fraction of the run."""
    run = paused.begin()
    every = run.config.eval_steps or max(1, run.total_steps // 10)
    return min(run.total_steps, math.ceil(math.ceil(fraction * run.total_steps) / every) * every)


def _is_due(paused: PausableRun, fraction: float) -> bool:
    rows = paused.begin().rows
    return bool(rows) and rows[-1]["step"] >= _comparison_step(paused, fraction)


def _loss_at(paused: PausableRun, fraction: float) -> float:
    """val_loss at the comparison step, or the last one before it; inf if the run diverged."""
    run, step = paused.begin(), _comparison_step(paused, fraction)
    losses = [row["val_loss"] for row in run.rows if "val_loss" in row and row["step"] <= step]
    diverged = run.end is End.DIVERGED and run.rows[-1]["step"] <= step
    return losses[-1] if losses and math.isfinite(losses[-1]) and not diverged else math.inf


def _check_evaluations(paused: PausableRun, fraction: float):
    run = paused.begin()
    if not paused.done and _comparison_step(paused, fraction) >= run.total_steps:
        raise UserError("halving compares val_loss during the run, but this run is evaluated only "
                        "at its end. Set a smaller eval_steps.")


def _check_memory(sweep):
    model, _ = sweep.lab.fresh_model(sweep.configs[0])
    weights = sum(p.nbytes for p in model.parameters())
    needed = sum(weights * (3 if config.method == "full" else 1) for config in sweep.configs)
    if needed > 0.7 * free_memory.available():
        raise UserError(f"halving keeps all {len(sweep.configs)} models in memory, which needs "
                        f"about {formatting.gb(needed)}, but "
                        f"{formatting.gb(free_memory.available())} are free. Sweep without "
                        "halving, or with fewer values.")
