"""The stored runs: a folder for each, `home()/runs/<id>`, with plain JSON.

    run.json      the Run without its rows, written at the start
    rows.jsonl    a line per step; survives a killed process once `Writer.row` returns, and a power
                  failure half a second later
    result.json   the Run without its rows, written at the end
    checkpoint-*  of an interrupted run, see `checkpoints`; weights, if `out` could not be written
    lock          locked by the process that writes the run
"""

import contextlib
import itertools
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ftkit.base import append_log, files, json_lines, machine, messages
from ftkit.base.errors import UserError
from ftkit.base.run_end import End
from ftkit.experiment.run import Row, Run, plain

SYNC_SECONDS = 0.5  # a power failure loses at most the rows of this time


def new_id() -> str:
    """A fresh run id; ids sort by time, to a 256th of a second."""
    now = time.time()
    return (time.strftime("%Y%m%d-%H%M%S-", time.localtime(now))
            + f"{int(now % 1 * 256):02x}" + secrets.token_hex(2))


class Writer:
    """Writes a Run to disk while it trains, so that a killed process loses no row.

    If the disk is full or read-only, the first failure is reported on stderr, nothing more is
    written, and the run continues in memory. resumed: append to a run that is stored already, whose
    lock the caller has.
    """

    def __init__(self, run: Run, store: bool = True, resumed: bool = False):
        self.run, self.rows_file, self.lock, self.resumed = run, None, None, resumed
        self.synced = time.monotonic()
        self.folder = folder_of(run.id)
        if store:
            self._try(self._start)

    def _start(self):
        self.folder.mkdir(parents=True, exist_ok=self.resumed)
        if not self.resumed:
            self.lock = _lock(self.folder)
        self._write("run.json", {"end": End.UNFINISHED, "stopped": "not finished"})
        rows = "".join(json.dumps(plain(row)) + "\n" for row in self.run.rows)
        files.write_whole(self.folder / "rows.jsonl", rows)
        (self.folder / "result.json").unlink(missing_ok=True)
        self.rows_file = open(self.folder / "rows.jsonl", "a", encoding="utf-8")

    def _write(self, name: str, changes: dict):
        content = self.run.to_dict() | {"history": []} | changes
        files.write_whole(self.folder / name, json.dumps(content, indent=1))

    def row(self, row: Row):
        """Append a row. Once this returns, the row survives a killed process. fsync takes up to 10
        ms and a step of a small model 40 ms, so fsync is called only every SYNC_SECONDS."""
        if self.rows_file:
            self._try(lambda: self._append(self.rows_file, json.dumps(plain(row))))

    def _append(self, file, line: str):
        file.write(line + "\n")
        file.flush()
        if time.monotonic() - self.synced >= SYNC_SECONDS:
            os.fsync(file.fileno())
            self.synced = time.monotonic()

    def finish(self):
        """Write result.json."""
        if file := self.rows_file:
            self._try(lambda: (os.fsync(file.fileno()), self._write("result.json", {})))
            self.close()

    def discard(self):
        """Remove a run that never started."""
        if self.rows_file:
            self.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self):
        """Close the file and give the lock back; calling it again does nothing."""
        opened, self.rows_file, self.lock = (self.rows_file, self.lock), None, None
        for file in filter(None, opened):  # what is in them was flushed
            with contextlib.suppress(OSError):
                file.close()

    def _try(self, work):
        try:
            work()
        except OSError as error:
            self.close()
            note = (f"the run is not being stored: {error.strerror or error} ({self.folder}). "
                    "It continues in memory. Set FTKIT_HOME to a folder with free space.")
            self.run.notes.append(note)
            messages.say(note)


def _lock(folder: Path):
    """Open and lock a run's lock file. Raises UserError if another writer has it."""
    file = open(folder / "lock", "ab")
    if not append_log.try_lock(file.fileno()):
        file.close()
        raise UserError(f"run {folder.name} is being trained at this moment, by another process or "
                        "cell. Wait until that has ended.")
    return file


@contextlib.contextmanager
def locked(id: str):
    """Hold the lock of a stored run, so that no one else writes it. Raises UserError if it is
    being written. The lock of a process that has ended is free."""
    file = None
    with contextlib.suppress(OSError):  # a store that cannot be written
        file = _lock(folder_of(id))
    with file or contextlib.nullcontext():
        yield


def holds(run: Run) -> bool:
    """Whether the store has this run as it is, with all its rows."""
    found = read(run.id)
    return found is not None and (found.end, len(found.rows)) == (run.end, len(run.rows))


def add(run: Run):
    """Store a complete Run from another machine, with a new id if its id is in use."""
    if Path(run.id).name != run.id or run.id == "..":
        run.id = new_id()
    while (_folder() / run.id).exists():
        run.id = new_id()
    Writer(run).finish()


def ids() -> list[str]:
    """The ids of all stored runs, oldest first."""
    return sorted(path.name for path in _folder().iterdir()) if _folder().is_dir() else []


def has_ended(id: str) -> bool:
    """Whether the run has its result.json."""
    return (_folder() / id / "result.json").exists()


def list_runs(limit: int | None = None) -> list[Run]:
    """Load all stored runs, or the newest `limit`, oldest first. Skips unreadable folders."""
    found = (run for run in map(read, reversed(ids())) if run is not None)
    return list(itertools.islice(found, limit))[::-1]


def load_run(id: str) -> Run:
    """Load a stored run by its id or a unique prefix. Raises UserError if there is none."""
    matches = [name for name in ids() if name == id] or [
        name for name in ids() if id and name.startswith(id)]
    if len(matches) != 1:
        what = "matches several runs: " + ", ".join(matches[:5]) if matches else "names no run"
        raise UserError(f"{id!r} {what}. Run `ftkit runs` to list all runs.")
    run = read(matches[0])
    if run is None:
        raise UserError(f"the run in {_folder() / matches[0]} cannot be read. Delete the folder.")
    return run


def runs():
    """Return the stored runs as a pandas DataFrame, newest last."""
    import pandas as pd

    lines = []
    for run in list_runs():
        line = {"id": run.id, "model": run.model_name, "data": run.data.get("name"),
                **run.config.differs(), "steps": run.last_step, "seconds": run.seconds,
                "end": str(run.end), "stopped": run.stopped}
        line |= {f"{k} before": v for k, v in run.before.items()}
        line |= {f"{k} after": v for k, v in run.after.items()}
        lines.append(line)
    return pd.DataFrame(lines)


def finished(identity: dict) -> list[Run]:
    """Finished runs of this `Experiment.identity`, oldest first."""
    runs = (read(id, lambda run: not run.differing(identity)) for id in ids())
    found = [run for run in runs if run is not None and run.is_finished]
    for run in found:
        run.note_versions()
    return found


def read(id: str, wanted: Callable[[Run], bool] | None = None) -> Run | None:
    """Load the stored run `id` without its model. Returns None if its folder is unreadable, or if
    `wanted`, called before the rows are read, returns False."""
    folder = _folder() / id
    try:
        path = folder / ("result.json" if has_ended(id) else "run.json")
        rows = folder / "rows.jsonl"
        if path.is_fifo() or rows.is_fifo():  # reading would wait
            return None
        saved = json.loads(path.read_text("utf-8")) | {"id": id}  # whatever the file says
        if wanted and not wanted(Run.from_dict(saved | {"history": []})):
            return None
        # A killed process may leave an incomplete last line, which is skipped.
        saved["history"] = json_lines.read(rows) if rows.exists() else []
        return Run.from_dict(saved)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def delete(ids: list[str]) -> list[str]:
    """Move runs to `home()/deleted_runs`; returns the ids of those that existed."""
    return [id for id in ids if id and Path(id).name == id
            and _move(_folder() / id, machine.home() / "deleted_runs" / id)]


def restore(ids: list[str]) -> list[str]:
    """Move deleted runs back into the store; returns the ids of those restored."""
    return [id for id in ids if not folder_of(id).exists()
            and _move(machine.home() / "deleted_runs" / id, folder_of(id))]


def _move(folder: Path, target: Path) -> bool:
    if not folder.is_dir():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.replace(target)
    return True


def folder_of(id: str) -> Path:
    """The folder of a run, which may not exist."""
    return _folder() / id


def _folder() -> Path:
    return machine.home() / "runs"
