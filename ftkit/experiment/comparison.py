"""`compare` lists the differences between runs and their effect, and guards against false causes.

    ft.compare(a, b)              lists what differs, and its effect if that is a single cause
    ft.compare(a, b).repeat(3)    runs both with more seeds, for the band of seed noise
"""

from __future__ import annotations

import dataclasses
import itertools
import math

from ftkit.base import formatting, significance
from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.base.formatting import with_code
from ftkit.experiment import fingerprint, store
from ftkit.report import series
from ftkit.report import style as fig
from ftkit.report.table import Table


@dataclasses.dataclass(frozen=True)
class Effect:
    """The effect of one change on one measure, with the noise between seeds.

    a, b: a value per seed. difference: mean of b minus mean of a. band: half the width of its 95 %
    confidence interval (`ftkit.base.significance`), nan if a side has fewer than two seeds.
    clear: whether the interval excludes zero; None without an interval.
    """

    measure: str
    a: list[float]
    b: list[float]
    difference: float
    band: float

    @property
    def clear(self) -> bool | None:
        if math.isnan(self.band):
            return None
        return abs(self.difference) > self.band

    def __str__(self) -> str:
        if not math.isfinite(self.difference):
            return f"{self.measure}: not finite in every run"
        if self.difference == 0 and not self.band > 0:
            return f"{self.measure} is the same"
        way = "rose" if self.difference > 0 else "fell"
        size = formatting.number(abs(self.difference))
        if self.clear is None:
            runs = ("one run of each" if len(self.a) == len(self.b) == 1
                    else f"{len(self.a)} against {len(self.b)} runs")
            return f"{self.measure} {way} by {size} in {runs}"
        band = formatting.number(self.band)
        if self.clear:
            return f"{self.measure} {way} by {size} ± {band}"
        return f"{self.measure}: {size} is within the noise of the seeds (± {band})"


class Comparison:
    """The differences between two or more groups of runs, and their effect if there is one cause.

    `.differs`: name → one value per group, for everything that differs. `.cause`: the only field
    that differs, or None. `.effects`: measure → Effect, empty without a cause. `.separating`:
    Config strings of runs that would separate several causes. `.pairs`: a Pair for each group
    after the first. `.added`: for each group, the stored runs added to the caller's. Displayed as
    a figure in notebooks; `.text` is the verdict.
    """

    def __init__(self, groups, names, added=()):
        self.groups, self.names, self.added = groups, names, added
        self.pairs = [Pair(groups, names, index) for index in range(1, len(groups))]
        facts = [fingerprint.facts_of(group) for group in groups]
        self.differs = {name: [fact.get(name) for fact in facts]
                        for name in dict.fromkeys(n for pair in self.pairs for n in pair.differs)}
        first = self.pairs[0]
        self.cause, self.effects, self.separating = first.cause, first.effects, first.separating
        self.text = " ".join(pair.text for pair in self.pairs)
        self.text += _what_was_added(names, added)
        self.text += series.captions([run for group in groups for run in group])

    def repeat(self, seeds=3, lab=None) -> Comparison:
        """Repeat the comparison with more seeds: a number of seeds per side, or a list of seeds.

        Seeds that a side already has are not run again. lab: the Experiment of stored runs. Raises
        UserError if the runs belong to another Experiment.
        """
        return Comparison([group + _repeats(group, seeds, lab) for group in self.groups],
                          self.names, self.added)

    def table(self) -> Table:
        """A table of the differences and effects."""
        rows = [{"": f"differs: {name}"} | dict(zip(self.names, map(_shown, values), strict=True))
                for name, values in self.differs.items()]
        for pair in self.pairs:
            a, b = self.names[pair.base], self.names[pair.index]
            for e in pair.effects.values():
                rows.append({"": e.measure, a: formatting.cell(e.a), b: formatting.cell(e.b),
                             f"{b} - {a}": _with_band(e)})
        return Table(rows or [{"": "nothing differs"}])

    def picture(self):
        """Draw a panel per measure, with a dot per seed and each group's mean and spread."""
        shown = sorted({index for pair in self.pairs if pair.effects
                        for index in (pair.base, pair.index)})
        keys = list(dict.fromkeys(k for pair in self.pairs for k in pair.effects))
        if not keys:
            return None
        wide, high = 2.5 * min(3, len(keys)), (0.75 + 0.36 * len(shown)) * math.ceil(len(keys) / 3)
        values = list(self.differs.values())[:2]
        names = [fig.short(f"{self.names[index]}: {', '.join(_shown(v[index]) for v in values)}",
                           24) for index in shown]
        left = 0.25 + 0.07 * max(map(len, names))
        with fig.style():
            figure = fig.new_figure(left + wide, high + 0.1)
            axes = figure.subplots(math.ceil(len(keys) / 3), min(3, len(keys)), sharey=True,
                                   squeeze=False).flat
            for ax, key in zip(axes, keys, strict=False):
                fig.draw_seeds(ax, [[formatting.to_float(r.after.get(key)) for r in self.groups[p]]
                                    for p in shown], shown)
                ax.set_xlabel(formatting.clean(key), parse_math=False)
                ax.set_yticks(range(len(shown)), names, parse_math=False)
            for ax in list(axes)[len(keys):]:
                ax.set_visible(False)
            figure.subplots_adjust(left=left / (left + wide), right=0.97, top=0.98,
                                   bottom=0.45 / (high + 0.1), hspace=0.6, wspace=0.12)
        return fig.Picture(figure, self.text)

    def __repr__(self) -> str:
        return formatting.clean(self.text)

    def _repr_mimebundle_(self, include=None, exclude=None):
        page, picture = self.table()._repr_html_(), self.picture()
        if picture is None:
            return {"text/plain": self.text,
                    "text/html": f"{page}<div>{with_code(formatting.clean(self.text))}</div>"}
        bundle = picture._repr_mimebundle_()
        return bundle | {"text/html": page + bundle["text/html"]}


class Pair:
    """A comparison of group `index` with the first group. If these differ in several ways, it is
    compared with another group that differs in only one way, if possible."""

    def __init__(self, groups, names, index):
        self.index, self.base = index, 0
        self.differs = fingerprint.differences(groups[0], groups[index])
        rest = [i for i in range(1, len(groups)) if i != index
                and len(fingerprint.differences(groups[i], groups[index])) == 1]
        refusal = ""
        if len(self.differs) > 1:
            self.separating = fingerprint.separating(groups[0], groups[index], self.differs)
            refusal = _refusal(names[0], names[index], self.differs, self.separating)
            self.base = rest[0] if rest else 0
        else:
            self.separating = []
        cause = fingerprint.differences(groups[self.base], groups[index])
        self.cause = next(iter(cause)) if len(cause) == 1 else None
        a, b = groups[self.base], groups[index]
        self.effects = {} if self.cause is None else {
            key: _effect(key, a, b) for key in a[0].after if key in b[0].after}
        verdict = "" if len(cause) > 1 else _verdict(
            names[self.base], names[index], self.cause, cause, self.effects, a, b)
        self.text = " ".join(part for part in (refusal, verdict) if part)


def compare(a, b, *more, repeat: int | None = None, lab=None) -> Comparison:
    """Compare runs: list their differences, and the effect if there is exactly one.

    a, b, more: a Run, or a list of Runs that differ only in their seed; each is compared with
    `a`. Stored runs of the same config with other seeds are added to a single Run if every side
    then has at least two seeds; the text lists them. repeat: run each config until it has this many
    seeds. lab: the Experiment of runs from the store.
    Raises UserError if a list is empty or mixes configs.
    """
    groups, names = [], []
    for index, given in enumerate((a, b, *more)):
        group = series.as_runs(given)
        name = chr(ord("a") + index) if index < 26 else f"run {index + 1}"
        if not group:
            raise UserError(f"{name} is empty; expected a Run or a list of Runs")
        for other in group[1:]:
            mixed = [n for n in fingerprint.differences([group[0]], [other]) if n != "seed"]
            if mixed:
                raise UserError(f"the runs of {name} differ in {', '.join(mixed)}; expected runs "
                                "of one config with several seeds. Pass the others as separate "
                                "arguments.")
        groups.append(group)
        names.append(name)
    added = [_stored_seeds(group) if len(group) == 1 else [] for group in groups]
    if any(len(group) + len(more) < 2 for group, more in zip(groups, added, strict=True)):
        added = [[] for _ in groups]  # without a band, other seeds would only shift the difference
    groups = [group + more for group, more in zip(groups, added, strict=True)]
    comparison = Comparison(groups, names, added)
    return comparison.repeat(repeat, lab) if repeat else comparison


def _effect(key, a, b) -> Effect:
    left, right = ([formatting.to_float(run.after.get(key)) for run in group] for group in (a, b))
    found = significance.difference(right, left)
    # Two-sided, since the direction was not predicted.
    return Effect(key, left, right, found.mean, found.margin(significance.LEVEL / 2))


def _verdict(a, b, cause, differs, effects, left, right) -> str:
    if cause is None:
        return (f"Nothing differs between {a} and {b}, so they should agree; a difference is noise "
                "of the machine.")
    old, new = map(_shown, differs[cause])
    effects = list(effects.values())
    changes = "; ".join(map(str, effects)) or "no measure is in both"
    text = f"Only {cause} differs: {a} has {old}, {b} has {new}. From {a} to {b}: {changes}."
    if cause == "seed":
        return text + " That is the noise of the seed; no effect smaller than it can be seen."
    if any(e.clear is None for e in effects):
        return text + (" Without two seeds or more of each the noise of the seed is not known, "
                       "so this may be chance: `.repeat(3)` runs both with three seeds.")
    if effects and not any(e.clear for e in effects):
        text += " None of it is larger than the noise of the seeds."
    return text


def _refusal(a, b, differs, separating) -> str:
    listed = ", ".join(f"{name} ({_shown(x)} and {_shown(y)})" for name, (x, y) in differs.items())
    other = [n for n in differs if n not in Config.__dataclass_fields__]
    runs = " and ".join(f"`{config}`" for config in separating)
    if other == ["steps done"] and separating:
        advice = f"Run {runs} to the end first."
    elif not other:
        advice = f"Run {runs}, with all else as in {a}, to tell them apart."
    elif len(other) == len(differs):
        advice = f"Change one of {' and '.join(other)} at a time."
    else:
        advice = f"Run {runs} with the {' and '.join(other)} of {b} first."
    return (f"{a} and {b} differ in {len(differs)} things, so no effect can be credited to one of "
            f"them: {listed}. {advice}")


def _shown(value):
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "…"


def _with_band(e: Effect) -> str:
    size = f"{'+' if e.difference > 0 else ''}{formatting.number(e.difference)}"
    return size if math.isnan(e.band) else f"{size} ± {formatting.number(e.band)}" + (
        "" if e.clear or not e.difference else " (noise)")


def _what_was_added(names, added) -> str:
    """List the stored runs that were added to the caller's runs, as a sentence; "" if none."""
    parts = [f"{', '.join(f'{run.id} (seed {run.config.seed})' for run in runs)} to {name}"
             for name, runs in zip(names, added, strict=False) if runs]
    return f" Added from the store: {'; '.join(parts)}." if parts else ""


def _stored_seeds(group) -> list:
    """Find stored runs that differ from a single run only in the seed, one run per seed."""
    seen, out = {group[0].config.seed}, []
    if not group[0].data.get("held_still") or fingerprint.facts_of(group)["steps done"] != "all":
        return out
    for other in store.list_runs():
        if other.config.seed not in seen and other.data.get("held_still") and not [
                n for n in fingerprint.differences(group, [other]) if n != "seed"]:
            seen.add(other.config.seed)
            out.append(other)
    return out


def _repeats(group, seeds, lab) -> list:
    present = {run.config.seed for run in group}
    if isinstance(seeds, int):
        unused = (seed for seed in itertools.count() if seed not in present)
        missing = list(itertools.islice(unused, max(0, seeds - len(present))))
    else:
        missing = [seed for seed in seeds if seed not in present]
    if not missing:
        return []
    first = group[0]
    if any(getattr(run, "changes", None) for run in group):
        raise UserError(f"the learning rate of run {first.id} was changed while it trained, so "
                        "more seeds of its config would not be the same run")
    lab = lab or next((r.experiment for r in group if getattr(r, "experiment", None)), None)
    if lab is None:
        raise UserError(f"run {first.id} comes from the store, which does not keep its experiment. "
                        "Pass it: compare(..., lab=ft.Experiment(...)).")
    made_in, now = first.data.get("held_still") or {}, lab.fixed_settings()
    other = [k for k in now if made_in and made_in.get(k) != now[k]]
    if other:
        raise UserError(f"run {first.id} was made in another experiment, which differs in "
                        f"{', '.join(other)}. Pass the experiment that made it as lab.")
    return list(lab.sweep(first.config, seed=missing))
