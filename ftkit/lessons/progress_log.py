"""The learner's progress file, `home()/progress.jsonl`: guesses, exercises, hints, cards.

    progress_log.add("check", name="lora_params", state="solved"); progress_log.entries()
"""

import json
import math
import time

from ftkit.base import append_log, json_lines, machine, messages

_warned = False  # a home that cannot be written is reported once, not in every cell


def add(kind: str, **fields):
    """Append an entry and wait until it is on disk. A failure is reported once, never raised."""
    global _warned
    fields = {k: None if isinstance(v, float) and not math.isfinite(v) else v
              for k, v in fields.items()}
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "kind": kind, **fields}
    try:
        path = machine.home() / "progress.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        append_log.append(path, json.dumps(entry, default=str) + "\n")
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home folder
        if not _warned:
            _warned = True
            messages.say(f"your progress is not being kept ({error}); set FTKIT_HOME to a folder "
                         "that can be written")


def entries() -> list[dict]:
    """All entries, oldest first, without damaged lines."""
    try:
        return json_lines.read(machine.home() / "progress.jsonl")
    except (OSError, RuntimeError):
        return []
