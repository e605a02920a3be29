"""Names, notes and the hidden flag that a learner gives to stored runs.

    annotations.change(run.id, name="best so far")
    annotations.read()      # {run.id: {"name": "best so far"}}

They are stored in `home()/run_notes.json`, so a run's own files are never changed.
"""

import json
import threading
from pathlib import Path

from ftkit.base import files, machine
from ftkit.base.errors import UserError

FIELDS = {"name": "", "note": "", "hidden": False}
LONGEST = 200  # letters of a name or a note
_lock = threading.Lock()


def read() -> dict[str, dict]:
    """Map run ids to {name, note, hidden}; a damaged file counts as empty."""
    try:
        saved = json.loads(_file().read_text("utf-8"))
        return {str(id): {key: value for key, value in entry.items() if key in FIELDS}
                for id, entry in saved.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def change(id: str, **values):
    """Set name, note or hidden of a run. Raises UserError if a text exceeds 200 characters."""
    for key, value in values.items():
        if isinstance(value, str) and len(value) > LONGEST:
            raise UserError(f"the {key} has {len(value)} letters; expected at most {LONGEST}")
    with _lock:
        notes = read()
        entry = {**FIELDS, **notes.get(id, {}), **values}
        notes[id] = {key: value for key, value in entry.items() if value != FIELDS[key]}
        _file().parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(_file(), json.dumps({k: v for k, v in notes.items() if v}, indent=1))


def _file() -> Path:
    return machine.home() / "run_notes.json"
