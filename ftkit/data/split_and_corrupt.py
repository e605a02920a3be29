"""Split records into training and validation sets, or damage a fraction of them.

    train, validation = split(records, 0.1, seed=0)
    worse = corrupt(records, "wrong", 0.2, seed=0)
"""

import random
from array import array
from collections import Counter
from collections.abc import Sequence

from ftkit.base.errors import UserError
from ftkit.data import schema
from ftkit.data.record_list import LargeFile, RecordList, Records


def split(records: Sequence[dict], fraction: float, seed: int) -> tuple[RecordList, RecordList]:
    """Split into (train, validation), with about `fraction` of the records in validation.

    Records with the same prompt (instruction and input) stay together, so nothing leaks. Raises
    UserError if all records have the same prompt.
    """
    import numpy as np

    if not 0 < fraction < 1:
        raise UserError(f"fraction is {fraction!r}; expected a number between 0 and 1")
    # Hashes, because the prompts themselves would take as much memory as the file.
    keys = array("Q", (schema.short_hash(schema.group_key(record)) for record in records))
    first = schema.first_of(keys)
    sizes = np.bincount(first)
    order = array("L", np.flatnonzero(sizes).astype("L").tobytes())
    if len(order) < 2:
        raise UserError(f"all {len(records)} record(s) have the same prompt, so they cannot be "
                        "split. Add records with other prompts, or pass a separate validation "
                        "file.")
    random.Random(seed).shuffle(order)
    held_out, taken, wanted = np.zeros(len(sizes), bool), 0, fraction * len(records)
    while len(order) > 1 and (not taken or taken + sizes[order[-1]] / 2 <= wanted):
        last = order.pop()
        held_out[last] = True
        taken += sizes[last]
    in_validation = held_out[first]
    return (_pick(records, np.flatnonzero(~in_validation), "train"),
            _pick(records, np.flatnonzero(in_validation), "validation"))


def _pick(source, indices, name: str) -> RecordList:
    lines = getattr(source, "lines", range(1, len(source) + 1))
    title = f"{getattr(source, 'name', 'records')} ({name})"
    path, lines = getattr(source, "path", None), array("L", (lines[i] for i in indices))
    if isinstance(source, LargeFile):
        return source.select(lines, title)
    return Records([source[i] for i in indices], title, path, lines)


def _cut(text: str, rng) -> str:
    words = text.split(" ")
    return text[: max(1, len(text) // 2)] if len(words) < 2 else " ".join(words[: len(words) // 2])


def _typos(text: str, rng) -> str:
    """Swap about one letter in ten, at least one, with its neighbor."""
    letters = list(text)
    pairs = [i for i in range(len(text) - 1)
             if text[i : i + 2].isalpha() and text[i] != text[i + 1]]
    for i in rng.sample(pairs, min(len(pairs), 1 + len(pairs) // 10)):
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


DAMAGE = {"wrong": None, "duplicate": None, "cut": _cut, "typos": _typos}


def corrupt(records: list, kind: str, share: float, seed: int) -> Records:
    """Copy instruction records, with a fraction `share` of them damaged.

    kind: "wrong" permutes the answers so that no record keeps its own, if possible;
    "duplicate" replaces the records by copies of one of them; "cut" drops the second half of each
    answer; "typos" swaps neighboring letters of the answer.
    """
    if kind not in DAMAGE:
        raise UserError(f"kind is {kind!r}; expected one of {', '.join(DAMAGE)}")
    if not 0 <= share <= 1:
        raise UserError(f"share is {share!r}; expected a number from 0 to 1")
    if any("output" not in record for record in records):
        raise UserError("a record has no output; expected instruction records")
    rng = random.Random(seed)
    chosen = sorted(rng.sample(range(len(records)), round(share * len(records))))
    worse = list(records)
    if kind == "wrong":
        # Sort by answer and shift by the count of the commonest one, so that each answer changes.
        rng.shuffle(chosen)
        chosen.sort(key=lambda i: records[i]["output"])
        outputs = [records[i]["output"] for i in chosen]
        shift = max(Counter(outputs).values(), default=0)
        for rank, i in enumerate(chosen):
            worse[i] = records[i] | {"output": outputs[(rank + shift) % len(outputs)]}
    elif kind == "duplicate":
        for i in chosen:
            worse[i] = dict(records[chosen[0]])
    else:
        for i in chosen:
            worse[i] = records[i] | {"output": DAMAGE[kind](records[i]["output"], rng)}
    return Records(worse, f"{getattr(records, 'name', 'records')}, {share:.0%} {kind}")
