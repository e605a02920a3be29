"""Changes of a Config that reduce a run's memory; the smallest changes come first.

    families(config, "cuda")        lists of changes, each list from the smallest to the largest
    learns_the_same({"batch_size": 2, "gradient_accumulation_steps": 8})    True
"""

import bisect
import math
from collections.abc import Callable, Iterator

from ftkit.base.config import Config
from ftkit.base.config_fields import SCHEDULE, START, TOKENS, UPDATES, changing


def families(config, device: str, accumulates: bool = True,
             quantizes: bool = True) -> Iterator[list[dict]]:
    """Yield lists of changes; within a list, each change needs less memory than the previous one.

    accumulates, quantizes: whether the run supports gradient accumulation and a base in 4 bits.
    """
    split, size = [{}], config.batch_size
    while size > 1:
        size = _part(config.batch_size, -(-size // 2))
        split.append({"batch_size": size})
        if accumulates:
            split[-1]["gradient_accumulation_steps"] = (
                config.batch_size // size * config.gradient_accumulation_steps)
    checkpointing = {} if config.gradient_checkpointing else {"gradient_checkpointing": True}
    lora = {"method": "lora"} | ({"l2_sp": 0.0} if config.l2_sp else {})
    yield split[1:]
    if checkpointing:
        yield [change | checkpointing for change in split]
    if device == "cpu" and config.precision != "fp32":
        yield [change | checkpointing | {"precision": "fp32"} for change in split]
    smallest = split[-1] | checkpointing
    if config.method == "full" and config.optim == "adamw_torch":
        yield [smallest | {"optim": "adamw_bnb_8bit"}]
    if config.method == "full":
        yield [change | checkpointing | lora for change in split]
    if config.method in ("full", "lora") and quantizes:
        yield [smallest | lora | {"method": "qlora"}]
    if config.load_in_8bit:
        yield [smallest | {"load_in_8bit": False}]
    if config.max_length > 128:
        shorter = {"max_length": config.max_length // 4}
        yield [smallest | (lora if config.method == "full" else {}) | shorter]


def _part(batch_size: int, most: int) -> int:
    """Largest divisor of `batch_size` that is at most `most`, so that a step keeps its records."""
    small = [n for n in range(1, math.isqrt(batch_size) + 1) if batch_size % n == 0]
    return max(n for d in small for n in (d, batch_size // d) if n <= most)


def smallest(family: list[dict], fits: Callable[[dict], bool]) -> dict | None:
    """Find the first change of a family that fits; None if not even the last one does."""
    if not family or not fits(family[-1]):
        return None
    return family[bisect.bisect_left(family, True, hi=len(family) - 1, key=fits)]


def learns_the_same(change: dict) -> bool:
    """Whether the updates of a run stay the same after a change, except for rounding: each step has
    the same records, and the change only trades time for memory."""
    batch = {"batch_size", "gradient_accumulation_steps"}
    others = change.keys() - batch
    return (batch & change.keys() in (set(), batch)
            and others.isdisjoint(changing(Config, START, TOKENS, SCHEDULE, UPDATES)))
