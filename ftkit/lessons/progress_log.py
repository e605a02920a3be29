"""What the learner guessed and solved: `home()/progress.jsonl`, append-only JSON lines.

    progress.add("check", name="lora_params", state="solved"); progress.entries()
"""

from __future__ import annotations

import json
import math
import sys
import time

from ftkit.base import append_log, json_lines, machine

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
        append_log.append(path, line)
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home folder
        if not _told:
            _told = True
            print(f"ftkit: your progress is not being kept ({error}); "
                  "set FTKIT_HOME to a folder that can be written", file=sys.stderr)


def entries() -> list[dict]:
    """Everything kept so far, oldest first; damaged lines are left out."""
    try:
        return json_lines.read(machine.home() / "progress.jsonl")
    except (OSError, RuntimeError):
        return []
