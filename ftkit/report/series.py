"""The numbers of runs: the points of a curve, groups of seeds, and sentences about both.

    points(run, "val_loss")   [(0.0, 4.1), (120.0, 0.5), ...]
    summary(run)              "val_loss fell from 4.10 to 0.52 (best 0.50 at step 120); ..."

A run is any object with the `rows`, `before` and `after` of a `Run`.
"""

import math

from ftkit.base import significance
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, mean_sd, number, to_float
from ftkit.base.run_end import End


def points(run, key: str, x: str = "step") -> list[tuple[float, float]]:
    """(x, value) of every row that has both; the value before training is at x = 0.

    If the last row has no value, a stopped run ends with the final evaluation, a diverged one with
    nan.
    """
    pairs = [(0.0, to_float(run.before[key]))] if key in run.before else []
    pairs += [(to_float(row[x]), to_float(row[key])) for row in run.rows
              if key in row and x in row]
    last = run.rows[-1] if run.rows else {}
    if pairs and x in last and key not in last:
        if not math.isfinite(to_float(last.get("loss"))):
            pairs.append((to_float(last[x]), math.nan))
        elif getattr(run, "stopped", None) and key in run.after:
            pairs.append((to_float(last[x]), to_float(run.after[key])))
    return pairs


def loss_keys(runs) -> list[str]:
    """loss, val_loss, then every other `..._loss` in order of appearance."""
    keys = dict.fromkeys(["loss", "val_loss"])
    for run in runs:
        for source in (run.before, *run.rows):
            keys.update(dict.fromkeys(key for key in source if str(key).endswith("_loss")))
    return [key for key in keys if any(points(run, key) for run in runs)]


def probe_keys(runs) -> list[str]:
    """The probes' losses: `loss_keys` without loss and val_loss."""
    return [key for key in loss_keys(runs) if key not in ("loss", "val_loss")]


def value(run, key: str) -> float | None:
    """The final value of a measure, else a field of the config, an attribute, or the last row with
    that key."""
    for source in (run.after, config_of(run), vars(run), *reversed(run.rows)):
        if key in source:
            return to_float(source[key])
    attribute = getattr(run, key, None)  # a property, such as tokens_per_second
    return None if attribute is None else to_float(attribute)


def config_of(run) -> dict:
    """The config of a run as a dict; empty if it has none. A learning rate that was changed
    while the run trained is a text with each value."""
    config = getattr(run, "config", None)
    if config is None:
        return {}
    found = config.to_dict() if hasattr(config, "to_dict") else dict(vars(config))
    if changes := getattr(run, "changes", None):
        found["learning_rate"] = ", ".join([f"{config.learning_rate:g}", *(
            f"{one['learning_rate']:g} after step {one['step']}" for one in changes)])
    return found


def settings_of(run) -> dict:
    """Model, data and config of a run, in one dict."""
    return {"model": getattr(run, "model_name", None),
            "data": (getattr(run, "data", None) or {}).get("name"), **config_of(run)}


SCALE = ("model", "validation", "template", "eval_records")  # what the size of a val_loss rests on


def on_same_scale(held: dict | None, other: dict | None) -> bool:
    """Whether losses of two runs can be compared, by the `held_still` of their data: the same
    model and validation records. A run that does not know them counts as comparable."""
    return not held or not other or all(
        str(held.get(name)) == str(other.get(name)) for name in SCALE)


def as_pairs(settings: dict) -> str:
    """Settings as text: `method=lora, learning_rate=0.001`."""
    return clean(", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                           for name, value in settings.items()))


def as_runs(runs) -> list:
    """A list of Runs, given one or several. Raises UserError for anything else."""
    runs = [runs] if hasattr(runs, "rows") else list(runs)
    for run in runs:
        if not (hasattr(run, "rows") and hasattr(run, "after")):
            raise UserError(f"{run!r:.80} is not a Run; expected a Run or a list of Runs, as "
                            "`Experiment.run`, `Experiment.sweep` and `load_run` return")
    return runs


def grouped(runs, label=None) -> list[tuple[str, list]]:
    """(label, members): runs that differ only in their seed form one group, in order of arrival.

    runs: a Run, several, or a dict label → Run or several. label: a field of Config or a function
    of a run; by default the fields in which the groups differ. Raises UserError for no runs.
    """
    runs = getattr(runs, "arms", runs)  # a recorded experiment names its groups
    if isinstance(runs, dict):
        groups = [(clean(name), list(members) if isinstance(members, list | tuple) else [members])
                  for name, members in runs.items()]
    else:
        members_by_key, settings_by_key = {}, {}
        for run in as_runs(runs):
            settings = {k: v for k, v in settings_of(run).items() if k != "seed"}
            members_by_key.setdefault(str(settings), []).append(run)
            settings_by_key[str(settings)] = settings
        names = dict.fromkeys(name for settings in settings_by_key.values() for name in settings)
        differing = [name for name in names
                     if len({str(settings.get(name)) for settings in settings_by_key.values()}) > 1]
        groups = [(_label(label, members[0], settings_by_key[key], differing), members)
                  for key, members in members_by_key.items()]
    if not groups or not all(members for _, members in groups):
        raise UserError("no runs were given; expected a Run or a list of Runs")
    # A run that was ended from outside: its last value is not its final one.
    return [(f"{name} (ended early)" if all(
        getattr(run, "end", None) is End.ENDED_EARLY for run in members) else name, members)
        for name, members in groups]


def _label(label, run, settings: dict, differing: list[str]) -> str:
    if callable(label):
        return clean(label(run))
    if label is not None and label not in settings:
        raise UserError(f"label is {label!r}; expected a field of Config or a function of a run")
    names = [label] if label is not None else differing
    return (as_pairs({name: settings.get(name) for name in names})
            or clean(getattr(run, "id", "run")))


def captions(runs) -> str:
    """The captions of recorded runs, as sentences to append."""
    found = dict.fromkeys(getattr(run, "caption", None) for run in runs)
    return "".join(f" {caption}." for caption in found if caption)


def summary(run, keys=None) -> str:
    """A sentence about a run: what rose, what fell, by how much, and the best value.

    keys: the measures to describe; by default the losses."""
    keys = keys or [key for key in loss_keys([run]) if key != "loss"] + ["loss"]
    clauses, diverged = [], False
    for key in keys:
        pairs = points(run, key)
        if run.rows and pairs and key in run.after:
            pairs = pairs + [(run.rows[-1].get("step", 0), to_float(run.after[key]))]
        if pairs:
            clauses.append(_course(key, pairs, best=key == "val_loss"))
            diverged |= not all(math.isfinite(value) for _, value in pairs)
    if not run.rows:
        clauses.insert(0, "no step was taken")
    stopped = getattr(run, "stopped", None)
    if stopped and not (diverged and getattr(run, "end", None) is End.DIVERGED):
        clauses.append(f"stopped: {clean(stopped)}")
    return "; ".join(clauses) + "."


def compared(groups, keys) -> str:
    """A sentence about several runs: the lowest and the highest final value of each key."""
    return "; ".join(f"{clean(key)} {_extremes(groups, key)}" for key in keys) + "."


def _extremes(groups, key) -> str:
    ends = {name: mean_sd([to_float(value(run, key)) for run in members])[0]
            for name, members in groups if value(members[0], key) is not None}
    finite = {name: end for name, end in ends.items() if math.isfinite(end)}
    clauses = []
    if finite:
        low, high = min(finite, key=finite.__getitem__), max(finite, key=finite.__getitem__)
        if finite[low] != finite[high]:
            clauses = [f"ended lowest at {number(finite[low])} ({low})",
                       f"highest at {number(finite[high])} ({high})"]
            a, b = ([to_float(value(run, key)) for run in members]
                    for name, members in groups if name in (low, high))
            if min(len(a), len(b)) > 1 and not significance.difference(a, b).seen():
                clauses.append("a difference within the noise of the seeds")
        elif len(groups) > 1:
            who = "all" if len(finite) > 1 else low
            clauses = [f"ended at {number(finite[low])} ({who})"]
        else:
            clauses = [f"ended at {number(finite[low])}"]
    if len(finite) < len(ends):
        clauses.append(f"diverged: {', '.join(name for name in ends if name not in finite)}")
    return ", ".join(clauses) or "was not measured"


def _course(key, pairs, best: bool) -> str:
    """How a measure moved, from its (x, value) pairs. best: add where it was lowest."""
    key, finite = clean(key), [pair for pair in pairs if math.isfinite(pair[1])]
    diverged_at = next((x for x, y in pairs if not math.isfinite(y)), None)
    if not finite:
        return f"{key} diverged at step {diverged_at:g}"
    first, last = finite[0][1], finite[-1][1]
    if len(pairs) == 1:
        text = f"{key} was {number(first)}"
    elif number(first) == number(last):
        text = f"{key} stayed at {number(first)}"
    else:
        verb = "rose" if last > first else "fell"
        text = f"{key} {verb} from {number(first)} to {number(last)}"
    if best and len(finite) > 2:
        step, low = min(finite, key=lambda pair: pair[1])
        text += f" (best {number(low)} at step {step:g})"
    return text if diverged_at is None else f"{text} and diverged at step {diverged_at:g}"
