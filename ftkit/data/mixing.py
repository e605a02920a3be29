"""Mix records of several tasks, and measure what fraction of the loss each task gets.

    shares = rates({"big": 1_000_000, "small": 5_000}, temperature=2)
    mixed = draw({"big": big, "small": small}, 640, shares, seed=0)
"""

import math
import random
from collections.abc import Mapping

from ftkit.base.errors import UserError
from ftkit.data import encoding, schema


def rates(sizes: Mapping[str, int], temperature: float = 1.0, cap: float | None = None) -> dict:
    """Compute each task's probability: min(size, cap) ** (1 / temperature), normalized.

    sizes: task → number of records. The defaults give proportional mixing. `cap` is T5's artificial
    limit K. A temperature above 1 makes the tasks more equal; `math.inf` mixes them equally.
    Raffel et al. 2020 (T5), section 3.5.2.
    """
    if not sizes or any(size <= 0 for size in sizes.values()):
        raise UserError(f"sizes are {dict(sizes)!r}; expected a positive number for each task")
    if not temperature > 0:
        raise UserError(f"temperature is {temperature!r}; expected a number above 0 (1 mixes "
                        "in proportion, math.inf equally)")
    if cap is not None and not cap > 0:
        raise UserError(f"cap is {cap!r}; expected a number of records above 0, or None")
    capped = {task: min(size, math.inf if cap is None else cap) for task, size in sizes.items()}
    # Divided by the largest, so that a temperature near 0 does not overflow.
    largest = max(capped.values())
    weights = {task: (size / largest) ** (1 / temperature) for task, size in capped.items()}
    total = sum(weights.values())
    return {task: weight / total for task, weight in weights.items()}


def counts(shares: Mapping[str, float], n: int) -> dict[str, int]:
    """Divide `n` draws in proportion to `shares`, rounded (largest remainder) so they sum to n."""
    total = sum(shares.values())
    if n < 0 or any(share < 0 for share in shares.values()) or not total:
        raise UserError(f"n is {n} and shares are {dict(shares)!r}; expected no negative number, "
                        "and at least one share above 0")
    exact = {task: n * share / total for task, share in shares.items()}
    out = {task: int(draws) for task, draws in exact.items()}
    by_rest = sorted(exact, key=lambda task: out[task] - exact[task])
    for task in by_rest[: n - sum(out.values())]:
        out[task] += 1
    return out


def draw(
    sets: Mapping[str, list], n: int, shares: Mapping[str, float], seed: int
) -> schema.Records:
    """Draw `n` records from the tasks in proportion to `shares`, shuffled.

    Each task is read in random order, repeatedly if it is too small, so its records occur equally
    often, give or take one. Raises UserError if the names in `sets` and `shares` differ.
    """
    if sets.keys() != shares.keys():
        raise UserError(f"sets has the keys {', '.join(sets)} and shares has {', '.join(shares)}; "
                        "expected the same keys in both")
    rng, mixed = random.Random(seed), []
    for task, wanted in counts(shares, n).items():
        mixed += _passes(sets[task], wanted, rng, f"the task {task!r}")
    rng.shuffle(mixed)
    return schema.Records(mixed, f"{n:,} draws from {len(sets)} tasks")


def mix(a: list, b: list, share: float, seed: int) -> schema.Records:
    """Mix all of `a` with part of `b`, shuffled; `share` (a fraction) of the result is from `b`.

    If `b` is too small, its records are repeated equally often, give or take one.
    """
    if not 0 <= share < 1:
        raise UserError(f"share is {share!r}; expected a number from 0 to below 1")
    rng, wanted = random.Random(seed), round(len(a) * share / (1 - share))
    mixed = [*a, *_passes(b, wanted, rng, "the second list")]
    rng.shuffle(mixed)
    names = [getattr(part, "name", "records") for part in (a, b)]
    return schema.Records(mixed, f"{names[0]} + {share:.0%} {names[1]}")


def _passes(records: list, n: int, rng: random.Random, title: str) -> list[dict]:
    """Draw `n` records in repeated passes over all of them, each in random order."""
    if n and not len(records):
        raise UserError(f"{title} has no records; expected at least one, since {n} are to be drawn "
                        "from it")
    drawn: list[dict] = []
    while len(drawn) < n:
        drawn += rng.sample(list(records), min(len(records), n - len(drawn)))
    return drawn


def effective(records: list, tokenizer, by: str = "task") -> dict[str, float]:
    """Fraction of the trained-on tokens in each task. The gradient is the mean over all of them."""
    seen: dict[str, int] = {}
    examples = encoding.encode_all(schema.records(records), tokenizer).examples
    for record, example in zip(records, examples, strict=True):
        labeled = sum(label != encoding.NO_LOSS for label in example["labels"])
        seen[record[by]] = seen.get(record[by], 0) + labeled
    total = sum(seen.values())
    return {task: labeled / total for task, labeled in sorted(seen.items())}
