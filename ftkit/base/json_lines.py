"""Read the JSON Lines files that ftkit itself writes or ships.

`ftkit.data.jsonl` reads the user's files and explains what is wrong with them.
"""

import json
from pathlib import Path


def read(path: str | Path, damaged: str = "skip") -> list[dict]:
    """The JSON objects in a file, one per line; blank lines are skipped.

    damaged: what to do with a line that is not a JSON object, such as one cut off by a crash:
    "skip" it, or "raise" ValueError. Raises OSError if the file cannot be read.
    """
    objects = parse(Path(path).read_bytes())
    if damaged == "raise" and None in objects:
        raise ValueError(f"{path}: not every line is a JSON object")
    return [item for item in objects if item is not None]


def parse(content: bytes) -> list[dict | None]:
    """The JSON object on each non-blank line, None for a damaged line."""
    return [_object(line) for line in content.split(b"\n") if line.strip()]


def _object(line: bytes) -> dict | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
