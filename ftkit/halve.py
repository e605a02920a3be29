"""Successive halving: all runs of a sweep start, the worse half ends early, again and again.

Jamieson and Talwalkar 2016 (arXiv 1502.07943). Each run is a generator that is paused at its rung,
so that a run that goes on to its end is the run it would have been alone.
"""

from __future__ import annotations

import math

from ftkit import machine, words


class _Entrant:
    """A run that can be paused: its generator, its own random state, and the verdict on it."""

    def __init__(self, job, i: int):
        self.i, self.job, self.verdict, self.random = i, job, None, None
        self.run = job.done.get(i)  # from the store: whole, and never ended
        self.over = self.run is not None
        if not self.over:
            start, row = job.listen(i)
            self.steps = job.lab._steps(job.configs[i], start, row, lambda: self.verdict, False)

    def go(self, share: float):
        """Train until an evaluation at or after this share of the steps, or to the end."""
        import torch

        cuda = list(range(torch.cuda.device_count()))
        with torch.random.fork_rng(devices=cuda):
            if self.random:
                torch.set_rng_state(self.random[0])
                torch.cuda.set_rng_state_all(self.random[1])
            while not self.over:
                try:
                    self.run = next(self.steps)
                except StopIteration:
                    self.over, self.job.done[self.i] = True, self.run
                    break
                rows, at = self.run.rows, self.step(share)
                if rows and share < 1 and rows[-1]["step"] >= at and self.verdict is None:
                    break
            self.random = torch.get_rng_state(), torch.cuda.get_rng_state_all()
        if (self.run.stopped or "").startswith("interrupted") and self.verdict is None:
            raise KeyboardInterrupt

    def step(self, share: float) -> int:
        """The step of the first evaluation at or after this share of the run."""
        total = self.run.total_steps
        every = self.run.config.eval_steps or max(1, total // 10)
        return min(total, math.ceil(math.ceil(share * total) / every) * every)

    def loss(self, share: float) -> float:
        """val_loss there; the last one of a run that ended before; inf once it has diverged."""
        seen = [row["val_loss"] for row in self.run.rows
                if "val_loss" in row and row["step"] <= self.step(share)]
        gone = "diverged" in (self.run.stopped or "") and self.run.rows[-1]["step"] <= self.step(
            share)
        return seen[-1] if seen and math.isfinite(seen[-1]) and not gone else math.inf

    def end(self, why: str):
        """End the run here; it keeps its rows and its weights."""
        if not self.over:
            self.verdict = why
            self.go(1)


def rounds(job):
    """All start, the worse half ends early, again and again, until one is left."""
    entrants = [_Entrant(job, i) for i in range(len(job.configs))]
    groups: dict[str, list[_Entrant]] = {}
    for entrant in entrants:
        groups.setdefault(str(job.configs[entrant.i].but(seed=0)), []).append(entrant)
    rivals = list(groups.values())
    if len(rivals) < 2:
        raise ValueError("halving needs at least two configs that differ in more than their seed")
    _room_for(job)
    rungs = math.ceil(math.log2(len(rivals)))
    job.notes.append("successive halving")
    try:
        for share in (0.5 ** (rungs - k) for k in range(rungs)):
            for group in rivals:
                for entrant in group:
                    entrant.go(share)
                    _check_rung(entrant, share)
            rivals.sort(key=lambda group: sum(e.loss(share) for e in group) / len(group))
            keep = math.ceil(len(rivals) / 2)
            for place, group in enumerate(rivals[keep:], keep + 1):
                for e in group:
                    e.end(f"ended early by halving at step {e.step(share)} of "
                          f"{e.run.total_steps}: val_loss {words.number(e.loss(share))} was "
                          f"number {place} of {len(rivals)}")
            rivals = rivals[:keep]
        for entrant in rivals[0]:
            entrant.go(1)
    except KeyboardInterrupt:
        for e in entrants:
            if e.run and e.run.rows:
                e.end(f"interrupted after step {len(e.run.rows)} of {e.run.total_steps}")
        raise
    ended = sum((r.stopped or "").startswith("ended early") for r in job.done.values())
    job.notes.append(f"{ended} ended early")


def _check_rung(entrant: _Entrant, share: float):
    if entrant.over or entrant.step(share) < entrant.run.total_steps:
        return
    raise ValueError("halving needs a val_loss on the way, and this run is evaluated at its end "
                     "only; give a smaller eval_steps")


def _room_for(job):
    """ValueError where the paused models would not fit."""
    model, _ = job.lab._fresh(job.configs[0])
    every = sum(p.nbytes for p in model.parameters())
    need = sum(every * (3 if config.method == "full" else 1) for config in job.configs)
    if need > 0.7 * machine.free_memory():
        raise ValueError(f"halving keeps all {len(job.configs)} models in memory, about "
                         f"{need / 2**30:.1f} GiB, and {machine.free_memory() / 2**30:.1f} GiB are "
                         "free; sweep without it or with fewer values")
