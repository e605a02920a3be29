"""Runs in numbers and words: series, groups of seeds, `summary`, `table`. Nothing is drawn here.

    summary(run)   "val_loss fell from 4.10 to 0.52 (best 0.50 at step 120); loss fell from ..."
"""

from __future__ import annotations

import html
import math
import unicodedata

from ftkit.base.errors import UserError


def summary(run, keys=None) -> str:
    """One sentence about one run: what rose, what fell, by how much, where it was best.

    keys: what it is about; by default the losses."""
    keys = keys or [key for key in loss_keys([run]) if key != "loss"] + ["loss"]
    said = []
    for key in keys:
        points = series(run, key)
        if run.rows and points and key in run.after:
            points = points + [(run.rows[-1].get("step", 0), to_float(run.after[key]))]
        if points:
            said.append(_told(key, points, best=key == "val_loss"))
    if not run.rows:
        said.insert(0, "no step was taken")
    stopped = clean(getattr(run, "stopped", None) or "")
    if stopped and not ("diverged" in stopped and any("diverged" in s for s in said)):
        said.append(f"stopped: {stopped}")
    return "; ".join(said) + "."


def compared(groups, keys) -> str:
    """One sentence about several runs: for each key, where it ended lowest and highest."""
    said = []
    for key in keys:
        ends = {name: mean_sd([value(run, key) for run in members])[0]
                for name, members in groups if value(members[0], key) is not None}
        fine = {name: end for name, end in ends.items() if math.isfinite(end)}
        parts = []
        if fine:
            low, high = min(fine, key=fine.get), max(fine, key=fine.get)
            same = len(fine) > 1 and fine[low] == fine[high]
            apart = fine[low] != fine[high]
            parts.append(f"ended {'lowest ' * apart}at {number(fine[low])}" + (
                f" ({'all' if same else low})" if len(groups) > 1 else ""))
            if apart:
                parts.append(f"highest at {number(fine[high])} ({high})")
        parts += [f"diverged: {', '.join(n for n in ends if n not in fine)}"] * (ends != fine)
        said.append(f"{clean(key)} " + (", ".join(parts) or "was not measured"))
    return "; ".join(said) + "."


class Table:
    """Rows of cells that draw themselves; `.rows` are the dicts it was made of."""

    def __init__(self, rows: list[dict]):
        self.rows = rows
        self._columns = columns = list(dict.fromkeys(key for row in rows for key in row))
        self._lines = [[clean(c) for c in columns]]
        self._lines += [[clean(cell(row.get(c))) for c in columns] for row in rows]

    def _repr_html_(self):
        # Text reads from the left, numbers line up at the right (as the notebook does by itself).
        styles = [" style='text-align:left'" * any(isinstance(row.get(c), str) for row in self.rows)
                  for c in self._columns]
        lines = "".join(
            "<tr>" + "".join(f"<{tag}{style}>{html.escape(text)}</{tag}>"
                             for text, style in zip(line, styles, strict=True)) + "</tr>"
            for tag, line in zip(["th"] + ["td"] * len(self.rows), self._lines, strict=True))
        return f"<table>{lines}</table>"

    def __repr__(self):
        widths = [max(map(len, column)) for column in zip(*self._lines, strict=True)]
        return "\n".join(
            "  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip()
            for line in self._lines)


def table(rows) -> Table:
    """A table of dicts, or of Runs: one line for each config with the number of its seeds.

    A list of numbers in a cell, and a measure over several seeds, is shown as mean ± sample
    standard deviation.
    """
    if isinstance(rows, list | tuple) and all(isinstance(row, dict) for row in rows):
        return Table(list(rows))
    lines = []
    for name, members in grouped(rows):
        keys = dict.fromkeys(key for run in members for key in run.after)
        lines.append({"run": name, "seeds": len(members)} | {
            key: [to_float(run.after[key]) for run in members if key in run.after]
            for key in keys})
    return Table(lines)


# ------------------------------------------------------------------------- runs as numbers


def series(run, key: str, x: str = "step") -> list[tuple[float, float]]:
    """(x, value) of every row that has both; the value before training stands at x = 0.

    A run that was stopped between two evaluations ends in what was measured after it, one that
    diverged there in nan.
    """
    points = [(0.0, to_float(run.before[key]))] if key in run.before else []
    points += [(to_float(row[x]), to_float(row[key])) for row in run.rows
               if key in row and x in row]
    last = run.rows[-1] if run.rows else {}
    if points and x in last and key not in last:
        if not math.isfinite(to_float(last.get("loss"))):
            points.append((to_float(last[x]), math.nan))
        elif getattr(run, "stopped", None) and key in run.after:
            points.append((to_float(last[x]), to_float(run.after[key])))
    return points


def loss_keys(runs) -> list[str]:
    """loss, val_loss, then every other `..._loss` in the order it was first seen."""
    seen = dict.fromkeys(["loss", "val_loss"])
    for run in runs:
        for source in (run.before, *run.rows):
            seen.update(dict.fromkeys(k for k in source if str(k).endswith("_loss")))
    return [key for key in seen if any(series(run, key) for run in runs)]


def value(run, key: str) -> float | None:
    """What `key` came to: measured after the run, asked in its config, or in its last row."""
    for source in (run.after, config_of(run), vars(run), *reversed(run.rows)):
        if key in source:
            return to_float(source[key])
    found = getattr(run, key, None)  # a property, like tokens_per_second
    return None if found is None else to_float(found)


def grouped(runs, label=None) -> list[tuple[str, list]]:
    """(label, members): runs that differ only in their seed are one group, in order of arrival.

    runs: a Run, several, or a dict label → Run or several. label: a field of Config or a function
    of a run; by default the fields in which the groups differ. Raises ValueError for no runs.
    """
    if isinstance(runs, dict):
        groups = [(clean(k), list(v) if isinstance(v, list | tuple) else [v])
                  for k, v in runs.items()]
    else:
        members, facts = {}, {}
        for run in _listed(runs):
            about = {"model": getattr(run, "model_name", None),
                     "data": (getattr(run, "data", None) or {}).get("name"),
                     **{k: v for k, v in config_of(run).items() if k != "seed"}}
            members.setdefault(str(about), []).append(run)
            facts[str(about)] = about
        differ = [name for name in dict.fromkeys(k for about in facts.values() for k in about)
                  if len({str(about.get(name)) for about in facts.values()}) > 1]
        groups = [(_named(label, runs[0], facts[key], differ), runs)
                  for key, runs in members.items()]
    if not groups or not all(members for _, members in groups):
        raise UserError("no runs were given; expected a Run or a list of Runs")
    return [(name + " (ended early)" * all(map(_early, members)), members)
            for name, members in groups]


def _early(run) -> bool:
    """Whether successive halving ended this run, so that its end is not what it would come to."""
    return str(getattr(run, "stopped", None) or "").startswith("ended early")


def config_of(run) -> dict:
    config = getattr(run, "config", None)
    return config.to_dict() if hasattr(config, "to_dict") else dict(vars(config)) if config else {}


def _listed(runs) -> list:
    runs = [runs] if hasattr(runs, "rows") else list(runs)
    for run in runs:
        if not (hasattr(run, "rows") and hasattr(run, "after")):
            raise UserError(f"{run!r:.80} is not a Run; give a Run or a list of Runs, as "
                            "`Experiment.run`, `Experiment.sweep` and `load_run` return")
    return runs


def _named(label, run, about, differ) -> str:
    if callable(label):
        return clean(label(run))
    if label is not None and label not in about:
        raise UserError(f"label is {label!r}; expected a field of Config or a function of a run")
    names = [label] if label is not None else differ
    if not names:
        return clean(getattr(run, "id", "run"))
    return clean(", ".join(f"{name}={_plain(about.get(name))}" for name in names))


def _plain(v) -> str:
    return f"{v:g}" if isinstance(v, float) else str(v)


def to_float(v) -> float:
    """A number, or nan for what is none: JSON keeps nan as null."""
    try:
        return float(v)
    except (TypeError, ValueError, OverflowError):
        return math.nan


# ----------------------------------------------------------------------- numbers as words


def number(v) -> str:
    """A number in about three digits, as it is printed everywhere."""
    if isinstance(v, bool) or not isinstance(v, int | float):
        return str(v)
    if isinstance(v, int):
        return f"{v:,}"
    return f"{v:.3g}" if _decimals(v) is None else f"{v:,.{_decimals(v)}f}"


def _decimals(v) -> int | None:
    """Digits after the point; None where three significant digits read better."""
    size = abs(v)
    if v == 0 or not math.isfinite(v) or size >= 1e5 or size < 0.1:
        return None
    return 0 if size >= 1000 else 1 if size >= 100 else 2


def mean_sd(values) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); the deviation of equal values is 0."""
    values = [float(v) for v in values]
    if len(set(values)) == 1:
        return values[0], 0.0
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def cell(v) -> str:
    """One value, or several as mean ± standard deviation."""
    if not isinstance(v, list | tuple):
        return "" if v is None else number(v)
    if not v or not all(isinstance(x, int | float) for x in v):
        return ", ".join(map(str, v))
    if len(v) == 1:
        return number(v[0])
    mean, sd = mean_sd(v)
    places = _decimals(mean)
    return f"{number(mean)} ± {f'{sd:.2g}' if places is None else f'{sd:.{places}f}'}"


def clean(text) -> str:
    """Text on one line, without characters that hide, reverse or break what is read."""
    text = " ".join(str(text).split())
    return "".join("\ufffd" if unicodedata.category(c)[0] == "C" else c for c in text)


def _told(key, points, best: bool) -> str:
    key, fine = clean(key), [p for p in points if math.isfinite(p[1])]
    bad = next((x for x, y in points if not math.isfinite(y)), None)
    if not fine:
        return f"{key} diverged at step {bad:g}"
    first, last = fine[0][1], fine[-1][1]
    change = f"{number(first)} to {number(last)}"
    if len(points) == 1:
        text = f"{key} was {number(first)}"
    elif number(first) == number(last):
        text = f"{key} stayed at {number(first)}"
    else:
        text = f"{key} {'rose' if last > first else 'fell'} from {change}"
    if best and len(fine) > 2:
        step, low = min(fine, key=lambda p: p[1])
        text += f" (best {number(low)} at step {step:g})"
    return text if bad is None else f"{text} and diverged at step {bad:g}"
