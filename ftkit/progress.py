"""What the learner guessed and solved: `home()/progress.jsonl`, append-only JSON lines.

    progress.add("check", name="lora_params", state="solved"); progress.entries()
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path

from ftkit import machine

_told = False  # a home that cannot be written is told once, not in every cell


def add(kind: str, **facts):
    """Append one line and wait until it is on the disk; a failure is told once, never raised."""
    global _told
    facts = {k: None if isinstance(v, float) and not math.isfinite(v) else v
             for k, v in facts.items()}
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "kind": kind, **facts}
    line = json.dumps(entry, default=str) + "\n"
    try:
        path = machine.home() / "progress.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        append(path, line)
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home folder
        if not _told:
            _told = True
            print(f"ftkit: your progress is not being kept ({error}); "
                  "set FTKIT_HOME to a folder that can be written", file=sys.stderr)


def append(path: Path, line: str):
    """Append a line that ends in a newline and wait until it is on the disk. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        lock(file)  # two kernels may append at the same time; closing lets go of it
        # A line cut off by a crash must not swallow this one.
        end = os.lseek(file, 0, os.SEEK_END)
        cut = end > 0 and os.lseek(file, -1, os.SEEK_END) >= 0 and os.read(file, 1) != b"\n"
        whole = (b"\n" if cut else b"") + line.encode()
        while whole:
            whole = whole[os.write(file, whole):]
        os.fsync(file)
    finally:
        os.close(file)


def lock(file: int):
    """Wait until nobody else has this open file; closing it lets go."""
    try:
        import fcntl
    except ImportError:  # Windows: the worst that comes of it is an empty line
        return
    fcntl.flock(file, fcntl.LOCK_EX)


def entries() -> list[dict]:
    """Everything kept so far, oldest first; lines that are damaged are left out."""
    try:
        lines = (machine.home() / "progress.jsonl").read_bytes().split(b"\n")
    except (OSError, RuntimeError):
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [entry for entry in found if isinstance(entry, dict)]
