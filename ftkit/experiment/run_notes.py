"""What a learner writes about stored runs: a name, a note, hidden or not; and runs deleted.

    notes = read(); change(run.id, name="best so far"); delete([run.id]); restore()

Names and notes are in one file, `home()/run_notes.json`, so that a run's own files stay as they
were written. Deleted runs are moved to `home()/deleted_runs`; `restore` brings them back.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from ftkit.base import files, machine
from ftkit.base.errors import UserError

FIELDS = {"name": "", "note": "", "hidden": False}
LONGEST = 200  # letters of a name or a note
_lock = threading.Lock()


def read() -> dict[str, dict]:
    """id → {name, note, hidden}, for the runs that have any; a damaged file counts as empty."""
    try:
        saved = json.loads(_file().read_text("utf-8"))
        return {str(id): {key: value for key, value in entry.items() if key in FIELDS}
                for id, entry in saved.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def change(id: str, **values):
    """Set name, note or hidden of one run. Raises UserError for text of more than 200 letters."""
    for key, value in values.items():
        if isinstance(value, str) and len(value) > LONGEST:
            raise UserError(f"the {key} has {len(value)} letters; at most {LONGEST} are kept")
    with _lock:
        notes = read()
        entry = {**FIELDS, **notes.get(id, {}), **values}
        notes[id] = {key: value for key, value in entry.items() if value != FIELDS[key]}
        _file().parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(_file(), json.dumps({k: v for k, v in notes.items() if v}, indent=1))


def delete(ids: list[str]) -> list[str]:
    """Move the folders of these runs out of the store; returns the ids that were there."""
    moved = []
    for id in ids:
        folder, target = _runs() / id, _deleted() / id
        if id and folder.is_dir() and Path(id).name == id:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.replace(target)
            moved.append(id)
    return moved


def restore(ids: list[str]) -> list[str]:
    """Move deleted runs back into the store; returns the ids that could be."""
    back = []
    for id in ids:
        folder = _deleted() / id
        if folder.is_dir() and not (_runs() / id).exists():
            _runs().mkdir(parents=True, exist_ok=True)
            folder.replace(_runs() / id)
            back.append(id)
    return back


def _file() -> Path:
    return machine.home() / "run_notes.json"


def _runs() -> Path:
    return machine.home() / "runs"


def _deleted() -> Path:
    return machine.home() / "deleted_runs"
