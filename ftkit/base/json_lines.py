"""Read the JSON Lines files that ftkit itself writes or ships.

A file that a user brings goes through `ftkit.data.jsonl`, which explains what is wrong with it.
"""

from __future__ import annotations

import json
from pathlib import Path


def read(path: str | Path, damaged: str = "skip") -> list[dict]:
    """The objects in a file of one JSON object per line, in order; blank lines do not count.

    damaged: what happens to a line that is not a JSON object, such as one that a crash cut off:
    "skip" leaves it out, "raise" raises ValueError. OSError if the file cannot be read.
    """
    objects = parse(Path(path).read_bytes())
    if damaged == "raise" and None in objects:
        raise ValueError(f"{path}: not every line is a JSON object")
    return [item for item in objects if item is not None]


def parse(content: bytes) -> list[dict | None]:
    """The content of each line that is not blank: a JSON object, or None for a damaged line."""
    return [_object(line) for line in content.split(b"\n") if line.strip()]


def _object(line: bytes) -> dict | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
