"""Does a training step fit on one GPU, how far could it grow, and what would make it fit?

    card("RTX 4090"), card("24GB")
    judge(predict, config, peak, card("24GB"), context=8192)     the verdict of `ftkit memory --gpu`
"""

import difflib
import re
from collections.abc import Callable
from typing import NamedTuple

from ftkit.base.errors import UserError
from ftkit.base.formatting import gb
from ftkit.memory_use import cheaper_configs, model_shapes

UNITS = {"gb": 1e9, "g": 1e9, "gib": 2**30, "mb": 1e6, "mib": 2**20, "tb": 1e12}
LARGEST_BATCH, LENGTH_STEP, TRACES = 2**20, 64, 5


class Card(NamedTuple):
    """A GPU's name and total memory in bytes."""

    name: str
    bytes: float

    def fits(self, peak: float) -> bool:
        return model_shapes.needed(peak) <= self.bytes


def card(text) -> Card:
    """Find a GPU by its name ("RTX 4090", "A100 80GB") or size ("24GB", "24GiB").

    1 GB is 10**9 bytes, so 24GB is a safe estimate for a card sold with 24 GB.
    """
    wanted = " ".join(str(text).split()).lower()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", wanted)
    if found and found[2] in UNITS:
        size = float(found[1]) * UNITS[found[2]]
        if not 0 < size < 1e15:
            raise UserError(f"gpu is {text!r}; expected the memory of one GPU, such as 24GB")
        return Card(str(text), size)
    names = {name.lower(): name for name in model_shapes.GPUS}
    squeezed = wanted.replace(" ", "")
    hits = [name for low, name in names.items() if squeezed == low.replace(" ", "")] or [
        name for low, name in names.items() if squeezed and squeezed in low.replace(" ", "")]
    if len(hits) == 1:
        return Card(hits[0], model_shapes.GPUS[hits[0]].mib * 2**20)
    near = hits or [names[low] for low in difflib.get_close_matches(wanted, names, 3, 0.4)]
    hint = f"did you mean {' or '.join(near)}? Or" if near else "expected"
    raise UserError(f"gpu is {str(text)!r:.60}; {hint} a size such as 24GB "
                    "(`ftkit memory --models` lists the known GPUs)")


def judge(predict: Callable[[dict], float], config, peak: float, on: Card, context: int,
          device: str = "cuda", has_shape: bool = True) -> dict:
    """Judge whether a step fits, with the free memory, the largest batch and length, and the
    smallest changes that make it fit (changes that keep the updates the same come first).

    predict: returns the peak in bytes after a change of the Config ({field: value}). context: the
    longest max_length to consider. has_shape: whether the peak includes activations; without them,
    largest batch and length are None. Changes that cannot be predicted are skipped.
    """
    known: dict[str, float] = {}

    def after(change: dict) -> float:
        key = str(sorted(change.items()))
        if key not in known:
            try:
                known[key] = predict(change)
            except UserError:  # fields that do not go together, a package that is missing
                known[key] = float("inf")
        return known[key]

    fits = on.fits(peak)
    limit = (on.bytes - model_shapes.CONTEXT) / (1 + model_shapes.SLACK)
    step = min(LENGTH_STEP, config.max_length)
    batch, edge = largest(lambda n: after({"batch_size": n}), config.batch_size, peak, limit,
                          LARGEST_BATCH)
    # The same total number of tokens needs nearly the same memory.
    guess = int(edge * config.max_length / config.batch_size / step)
    length, _ = largest(lambda n: after({"max_length": n * step}), config.max_length // step, peak,
                        limit, max(1, context // step), guess)
    found = []
    if not fits:
        for family in cheaper_configs.families(config, device):
            change = cheaper_configs.smallest(family, lambda change: on.fits(after(change)))
            if change is not None:
                found.append({"change": change, "peak": round(after(change)),
                              "learns_the_same": cheaper_configs.learns_the_same(change)})
    largest_length = length * step
    if fits:
        largest_length = max(largest_length, config.max_length)
    return {"gpu": on.name, "gpu_bytes": round(on.bytes), "fits": fits,
            "headroom_bytes": round(on.bytes - model_shapes.needed(peak)),
            "largest_batch_size": batch if has_shape else None,
            "largest_max_length": largest_length if has_shape else None, "changes": found}


def largest(need: Callable[[int], float], start: int, peak: float, limit: float, highest: int,
            guess: int = 0) -> tuple[int, float]:
    """Find the largest n up to `highest` with need(n) <= limit (else 0); returns (n, extrapolated
    n). `need` must not decrease; need(start) is `peak`.

    A prediction takes seconds and is almost linear in n. Therefore the next n is where the line
    through the two points closest to the limit meets the limit; the last such value is the
    extrapolated n. After TRACES predictions, n may be a lower bound.
    """
    known = {start: peak}
    low, high, edge = (start, highest + 1, 0.0) if peak <= limit else (0, start, 0.0)
    n = guess or (2 * start if low else 1)
    for _ in range(TRACES):
        if high - low <= 1:
            break
        n = min(max(n, low + 1), high - 1)
        known[n] = need(n)
        low, high = (max(low, n), high) if known[n] <= limit else (low, min(high, n))
        if n == 1 and known[n] > limit:
            break
        one, two = sorted(known, key=lambda m: abs(known[m] - limit))[:2]
        slope = (known[two] - known[one]) / (two - one)
        if not 0 < slope < float("inf"):
            n = 4 * low if low and high > highest else (low + high) // 2
            continue
        edge = one + (limit - known[one]) / slope
        if low <= edge < low + 1:
            break
        n = int(edge)
    return low, edge or float(low)


def sentences(verdict: dict) -> list[str]:
    """Write the verdict for a terminal: whether the step fits, and what may grow or must change."""
    spare = verdict["headroom_bytes"]
    kept = f"{gb(model_shapes.CONTEXT)} for CUDA and {model_shapes.SLACK:.0%} for its allocator"
    lines = [f"Fits on {verdict['gpu']} with {gb(spare)} to spare, after {kept}."
             if verdict["fits"] else
             f"Does not fit on {verdict['gpu']}: {gb(-spare)} too much, with {kept}."]
    batch, length = verdict["largest_batch_size"], verdict["largest_max_length"]
    if batch is None:
        return [*lines, "Batch, length, LoRA and QLoRA depend on the shape of the model, which a "
                "number of parameters does not describe. Name a model (`ftkit memory --models`)."]
    room = (f"Largest batch_size at this length: {batch:,}; largest max_length at this batch "
            f"size: {length:,}.")
    if verdict["fits"]:
        return [*lines, room]
    changes = [_option(change) for change in verdict["changes"]]
    if not changes:
        return [*lines, "No change of batch, method or length makes it fit: use a smaller model, "
                "a larger GPU, or several."]
    others = [f"  or {change}" for change in changes[1:]]
    return [*lines, f"It fits with {changes[0]}", *others, *([room] if batch and length else [])]


def _option(one: dict) -> str:
    options = " ".join(f"--{name.replace('_', '-')} {value}".lower()
                       for name, value in one["change"].items())
    same = " (learns the same)" if one["learns_the_same"] else ""
    return f"{options}: peak {gb(one['peak'])}{same}"
