"""What happened (`Run`), and where runs are kept on disk.

No torch here: a run read back from disk is plain data.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
import secrets
import sys
import time
from pathlib import Path

from ftkit.base import files, json_lines, machine
from ftkit.base.config import Config
from ftkit.base.errors import UserError


@dataclasses.dataclass
class Run:
    """What happened: one row per optimizer step, and the measures before and after.

    `rows` are dicts with step, epoch, loss (mean over the labelled tokens of the step, nats),
    learning_rate, grad_norm (before clipping), tokens, seconds (since the first step began) and,
    where the run was evaluated, val_loss and `<probe>_loss`. `before` and `after` have the keys
    val_loss and `<probe>_loss`. `stopped` is None for a run that reached its end, else why not.
    `model` and `tokenizer` are the tuned ones and `experiment` is where the run was made; they
    are in memory only, None for a run from the store.
    """

    id: str
    config: Config
    model_name: str
    data: dict
    total_steps: int = 0
    trainable_parameters: int = 0
    total_parameters: int = 0
    rows: list[dict] = dataclasses.field(default_factory=list)
    before: dict = dataclasses.field(default_factory=dict)
    after: dict = dataclasses.field(default_factory=dict)
    stopped: str | None = None
    seconds: float = 0.0
    tokens: int = 0
    supervised_tokens: int = 0
    peak_memory_bytes: int | None = None
    predicted_memory_bytes: int | None = None
    machine: dict = dataclasses.field(default_factory=dict)
    versions: dict = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    saved_to: str | None = None
    model: object = dataclasses.field(default=None, repr=False, compare=False)
    tokenizer: object = dataclasses.field(default=None, repr=False, compare=False)
    experiment: object = dataclasses.field(default=None, repr=False, compare=False)

    def change(self, key: str) -> float:
        """`after - before` of one measure, for example `run.change("general_loss")`."""
        return self.after[key] - self.before[key]

    @property
    def tokens_per_second(self) -> float:
        """Tokens read in training, padding not counted, per second of training."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def plot(self, *keys):
        """The curves of this run."""
        from ftkit.report import plots

        return plots.curves(self, *keys)

    def summary(self) -> str:
        """One sentence: what rose, what fell, by how much."""
        from ftkit.report import series

        return series.summary(self)

    def to_dict(self) -> dict:
        """The JSON of `ftkit run --json`; numbers that are not finite become null."""
        out = {"id": self.id, "model": self.model_name, "config": self.config.to_dict()}
        for name in ("trainable_parameters", "total_parameters", "before", "after"):
            out[name] = getattr(self, name)
        out["history"] = self.rows
        for name in ("tokens", "supervised_tokens", "seconds", "tokens_per_second",
                     "peak_memory_bytes", "predicted_memory_bytes", "stopped", "machine",
                     "versions", "data", "total_steps", "notes", "saved_to"):
            out[name] = getattr(self, name)
        return plain(out)

    @classmethod
    def from_dict(cls, saved: dict) -> Run:
        """The Run that `to_dict` described (without its model)."""
        known = {f.name for f in dataclasses.fields(cls)}
        kept = {name: value for name, value in saved.items() if name in known}
        kept["rows"] = [{k: math.nan if v is None else v for k, v in row.items()}
                        for row in saved.get("history", [])]
        return cls(**{**kept, "config": Config.from_dict(saved["config"]),
                      "model_name": saved["model"], "model": None})

    def __repr__(self) -> str:
        end = f", stopped: {self.stopped}" if self.stopped else ""
        losses = ", ".join(f"{k} {self.before[k]:.2f} → {self.after[k]:.2f}"
                           for k in self.after if k in self.before)
        return f"Run({self.id}, {self.model_name}, {len(self.rows)} steps, {losses}{end})"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{html.escape(k)}</td><td>{self.before[k]:.3f}</td>"
            f"<td>{self.after[k]:.3f}</td><td>{self.change(k):+.3f}</td></tr>"
            for k in self.after if k in self.before
        )
        share = self.trainable_parameters / max(1, self.total_parameters)
        facts = [f"{len(self.rows)} steps in {self.seconds:.1f} s",
                 f"{self.tokens_per_second:,.0f} tokens/s",
                 f"{self.trainable_parameters:,} of {self.total_parameters:,} parameters "
                 f"trained ({share:.1%})"] + ([f"stopped: {self.stopped}"] if self.stopped else [])
        facts += self.notes
        title = f"{self.model_name} · {self.data.get('name', '')} · {self.config}"
        return (f"<b>{html.escape(title)}</b><table><tr><th></th><th>before</th><th>after</th>"
                f"<th>change</th></tr>{cells}</table>{html.escape('; '.join(facts))}")


def plain(value):
    """`value` with nan and infinities as None, since JSON has no word for them."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---------------------------------------------------------------------------------- on disk


def new_id() -> str:
    """A fresh run id; ids sort by time."""
    return time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)


class Writer:
    """Keeps a Run on disk while it happens: `run.json` at the start, a line in `rows.jsonl` after
    each step (so a killed process loses nothing that was shown), `result.json` at the end.

    A disk that is full or read-only must not cost the learner the run in memory: the first
    failure is told on stderr and nothing more is written.
    """

    def __init__(self, run: Run, store: bool = True):
        self.run, self.rows_file = run, None
        self.folder = machine.home() / "runs" / run.id
        if store:
            self._try(self._start)

    def _start(self):
        self.folder.mkdir(parents=True)
        header = self.run.to_dict() | {"history": [], "stopped": "not finished"}
        files.write_whole(self.folder / "run.json", json.dumps(header, indent=1))
        self.rows_file = open(self.folder / "rows.jsonl", "a", encoding="utf-8")

    def row(self, row: dict):
        """Append one row; it is in the operating system's hands when this returns."""
        if self.rows_file:
            self._try(lambda: (self.rows_file.write(json.dumps(plain(row)) + "\n"),
                               self.rows_file.flush()))

    def finish(self):
        """Write what is known only at the end."""
        if self.rows_file:
            result = self.run.to_dict() | {"history": []}
            self._try(lambda: files.write_whole(
                self.folder / "result.json", json.dumps(result, indent=1)))
            self.close()

    def close(self):
        """Let go of the file; calling it again does nothing."""
        file, self.rows_file = self.rows_file, None
        if file:
            self._try(file.close)

    def _try(self, work):
        try:
            work()
        except OSError as error:
            file, self.rows_file = self.rows_file, None
            note = (f"the run is not being stored: {error.strerror or error} "
                    f"({self.folder}); it goes on in memory, set FTKIT_HOME to a folder with room")
            self.run.notes.append(note)
            print(f"ftkit: {note}", file=sys.stderr)
            if file:
                try:
                    file.close()
                except OSError:
                    pass


def keep(run: Run):
    """Store a whole Run that another machine made; its id is changed where it is taken."""
    while (machine.home() / "runs" / run.id).exists():
        run.id = new_id()
    writer = Writer(run)
    for row in run.rows:
        writer.row(row)
    writer.finish()


def list_runs() -> list[Run]:
    """All stored runs, oldest first; folders that cannot be read are skipped."""
    store = machine.home() / "runs"
    found = sorted(store.iterdir()) if store.is_dir() else []
    return [run for run in map(_read, found) if run is not None]


def load_run(id: str) -> Run:
    """One stored run by its id or an unambiguous beginning of it; ValueError if there is none."""
    store = machine.home() / "runs"
    names = sorted(p.name for p in store.iterdir()) if store.is_dir() else []
    matches = [n for n in names if n == id] or [n for n in names if id and n.startswith(id)]
    if len(matches) != 1:
        what = "matches several runs: " + ", ".join(matches[:5]) if matches else "names no run"
        raise UserError(f"{id!r} {what}; `ftkit runs` lists them")
    run = _read(store / matches[0])
    if run is None:
        raise UserError(f"the run in {store / matches[0]} cannot be read; delete the folder")
    return run


def runs():
    """The history as a pandas DataFrame: one line per stored run, newest last."""
    import pandas as pd

    lines = []
    for run in list_runs():
        line = {"id": run.id, "model": run.model_name, "data": run.data.get("name"),
                **run.config.differs(), "steps": len(run.rows), "seconds": run.seconds,
                "stopped": run.stopped}
        line |= {f"{k} before": v for k, v in run.before.items()}
        line |= {f"{k} after": v for k, v in run.after.items()}
        lines.append(line)
    return pd.DataFrame(lines)


def _read(folder: Path) -> Run | None:
    try:
        path = folder / "result.json"
        saved = json.loads((path if path.exists() else folder / "run.json").read_text("utf-8"))
        rows = folder / "rows.jsonl"
        # Damaged is the line that was being written when the process died.
        saved["history"] = json_lines.read(rows) if rows.exists() else []
        return Run.from_dict(saved)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
