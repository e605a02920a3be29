"""Successive halving: all runs of a sweep start, the worse half ends early, again and again.

Jamieson and Talwalkar 2016 (arXiv 1502.07943). Each run is paused at its rung, so that one that
goes on to its end is the run it would have been alone.
"""

from __future__ import annotations

import math

from ftkit.base import formatting, machine
from ftkit.base.errors import UserError
from ftkit.experiment import side_by_side


def rounds(job, flights: list[side_by_side.Flight], parallel):
    """All start, the worse half ends early, again and again, until one is left."""
    groups: dict[str, list[side_by_side.Flight]] = {}
    for flight in flights:
        groups.setdefault(str(job.configs[flight.i].but(seed=0)), []).append(flight)
    rivals = list(groups.values())
    if len(rivals) < 2:
        raise UserError("halving needs at least two configs that differ in more than their seed")
    _room_for(job)
    rungs = math.ceil(math.log2(len(rivals)))
    job.notes.append("successive halving")
    _check_rung(flights[0], 0.5**rungs)
    workers = side_by_side.at_a_time(job, [f for f in flights if not f.over], parallel)
    for share in (0.5 ** (rungs - k) for k in range(rungs)):
        side_by_side.go_on([f for group in rivals for f in group], workers, _rung(share))
        for group in rivals:
            for flight in group:
                _check_rung(flight, share)
        rivals.sort(key=lambda group: sum(_loss(f, share) for f in group) / len(group))
        keep = math.ceil(len(rivals) / 2)
        for place, group in enumerate(rivals[keep:], keep + 1):
            for f in group:
                f.end(f"ended early by halving at step {_step(f, share)} of {f.run.total_steps}: "
                      f"val_loss {formatting.number(_loss(f, share))} was number {place} of "
                      f"{len(rivals)}")
        rivals = rivals[:keep]
    side_by_side.go_on(rivals[0], min(workers, len(rivals[0])))
    ended = sum((r.stopped or "").startswith("ended early") for r in job.done.values())
    job.notes.append(f"{ended} ended early")


def _step(flight, share: float) -> int:
    """The step of the first evaluation at or after this share of the run."""
    total = flight.run.total_steps
    every = flight.run.config.eval_steps or max(1, total // 10)
    return min(total, math.ceil(math.ceil(share * total) / every) * every)


def _rung(share: float):
    """Whether a run has come to the evaluation at which it waits for the others."""
    def reached(flight) -> bool:
        rows = flight.run.rows
        return bool(rows) and rows[-1]["step"] >= _step(flight, share)

    return reached


def _loss(flight, share: float) -> float:
    """val_loss there; the last one of a run that ended before; inf once it has diverged."""
    rows, at = flight.run.rows, _step(flight, share)
    seen = [row["val_loss"] for row in rows if "val_loss" in row and row["step"] <= at]
    gone = "diverged" in (flight.run.stopped or "") and rows[-1]["step"] <= at
    return seen[-1] if seen and math.isfinite(seen[-1]) and not gone else math.inf


def _check_rung(flight, share: float):
    """ValueError for a run that would be evaluated at its end only."""
    flight.begin()
    if flight.over or _step(flight, share) < flight.run.total_steps:
        return
    raise UserError("halving needs a val_loss on the way, and this run is evaluated at its end "
                    "only; give a smaller eval_steps")


def _room_for(job):
    """ValueError where the paused models would not fit."""
    model, _ = job.lab.fresh_model(job.configs[0])
    every = sum(p.nbytes for p in model.parameters())
    need = sum(every * (3 if config.method == "full" else 1) for config in job.configs)
    if need > 0.7 * machine.free_memory():
        raise UserError(f"halving keeps all {len(job.configs)} models in memory, about "
                        f"{need / 2**30:.1f} GiB, and {machine.free_memory() / 2**30:.1f} GiB are "
                        "free; sweep without it or with fewer values")
