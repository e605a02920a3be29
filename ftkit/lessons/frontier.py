"""What was learned against what was kept: a picture that grows as the runs arrive.

    front = Frontier(measure, x="target", y="others", before=measure(base))
    front.train(lab, {"full 1e-3": config}, seeds=(0, 1, 2))
    front.blend(base, "full 1e-3", shares=(0.5, 0.7))       # WiSE-FT, without a further run
    front.gain("full 1e-3, blend 0.5", over=("full 3e-4", "full 1e-3"))
"""

from __future__ import annotations

import bisect
import dataclasses
import time
from collections.abc import Callable, Sequence

from ftkit.base import formatting
from ftkit.base.errors import UserError
from ftkit.model.interpolate import blend
from ftkit.report import live, plots
from ftkit.report import style as fig


class Frontier:
    """Arms, each with one Run per seed, as points of `x` (learned) and `y` (kept).

    measure: a function of a model that gives a dict of numbers; they join `run.after`. before:
    the same of the untouched model. joined: arms whose points a line connects, such as one method
    at several rates. Draws itself; in a notebook one picture grows while `train` works, for at
    most `SHARE` of the time.
    """

    SHARE = 0.05

    def __init__(self, measure: Callable[[object], dict], x: str, y: str, before: dict,
                 joined: Sequence[str] = ()):
        self.measure, self.x, self.y = measure, x, y
        self.before, self.joined, self.arms = dict(before), tuple(joined), {}

    def train(self, lab, arms: dict, seeds: Sequence[int]) -> Frontier:
        """Run every arm (name → Config) once per seed and put its point into the picture."""
        show, began, spent = live.notebook_display(), time.perf_counter(), 0.0
        for name, config in arms.items():
            self.arms[name] = []
            for seed in seeds:
                run = lab.run(config, seed=seed, live=False)
                self._add(name, run, run.model)
                now = time.perf_counter()
                if show and (spent <= self.SHARE * (now - began) or seed == seeds[-1]):
                    show(self.picture()._repr_mimebundle_())
                    spent += time.perf_counter() - now
                if (run.stopped or "").startswith("interrupted"):
                    return self
        return self

    def blend(self, base_model, arm: str, shares: Sequence[float]) -> Frontier:
        """Points between the base and the models of an arm; see `ftkit.model.interpolate`."""
        for share in shares:
            self.arms[f"{arm}, blend {share:g}"] = []
            for run in self.arms[arm]:
                self._add(f"{arm}, blend {share:g}", run, blend(base_model, run.model, share))
        return self

    def _add(self, name, run, model):
        self.arms[name].append(dataclasses.replace(
            run, model=model, before=run.before | self.before,
            after=run.after | self.measure(model)))

    def values(self, arm: str, key: str) -> list[float]:
        """One number per seed; ValueError names the arms there are."""
        if arm not in self.arms:
            raise UserError(f"no arm {arm!r}; there is {', '.join(self.arms) or 'none yet'}")
        return [formatting.to_float(formatting.value(run, key)) for run in self.arms[arm]]

    def gain(self, arm: str, over: Sequence[str] | None = None) -> list[float]:
        """How much more of `y` each run of the arm keeps than the line through the means of the
        arms `over` (by default the joined ones) does at the same `x`: a comparison at equal
        learning. Beyond the ends of the line its last point counts."""
        line = sorted((formatting.mean_sd(self.values(name, self.x))[0],
                       formatting.mean_sd(self.values(name, self.y))[0])
                      for name in over or self.joined)
        pairs = zip(self.values(arm, self.x), self.values(arm, self.y), strict=True)
        return [y - along(line, x) for x, y in pairs]

    def picture(self) -> fig.Picture:
        """The scatter, with the joined arms connected."""
        picture = plots.scatter({name: runs for name, runs in self.arms.items() if runs},
                                self.x, self.y, frontier=False)
        line = sorted((formatting.mean_sd(self.values(name, self.x))[0],
                       formatting.mean_sd(self.values(name, self.y))[0])
                      for name in self.joined if self.arms.get(name))
        if len(line) > 1:
            picture.axes[0].plot(*zip(*line, strict=True), color=fig.QUIET, linewidth=1, zorder=1)
        return picture

    def table(self, *keys: str) -> formatting.Table:
        """A line for each arm, mean ± standard deviation over the seeds."""
        return formatting.table([{"arm": "before"} | {k: self.before[k] for k in keys}] + [
            {"arm": name} | {k: self.values(name, k) for k in keys} for name in self.arms])

    def _repr_mimebundle_(self, include=None, exclude=None):
        return self.picture()._repr_mimebundle_()

    def __repr__(self):
        return self.picture().text


def along(line: list[tuple[float, float]], x: float) -> float:
    """The height at `x` of the line through points sorted by x; its ends are held."""
    at = bisect.bisect_left(line, (x,))
    if at == 0 or at == len(line):
        return line[min(at, len(line) - 1)][1]
    (x0, y0), (x1, y1) = line[at - 1], line[at]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0) if x1 > x0 else y1
