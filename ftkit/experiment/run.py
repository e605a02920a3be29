"""`Run`: what happened in one training run, as plain data. `store` keeps runs on disk.

No torch here: a run that is read back from disk has everything but its model.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Required, Self, TypedDict

from ftkit.base import machine, run_end
from ftkit.base.config import Config
from ftkit.base.formatting import clean, to_html
from ftkit.base.run_end import End
from ftkit.experiment import shelf

Row = dict[str, float]  # column → number, of one optimizer step
TRAINERS_DATA = "Trainer's data"  # the name of data that only the script of a Trainer knows


class DataInfo(TypedDict, total=False):
    """What a run was trained on: counts of records, the hash of the training records, how many
    were cut (truncated), left out (skipped), or added from general data (replayed).

    held_still: `Experiment.fixed_settings`, what two runs must share to be compared.
    """

    name: Required[str]
    rows: int
    sha256: str
    validation_rows: int
    truncated: int
    skipped: int
    replayed: int
    held_still: dict[str, Any]


@dataclasses.dataclass
class Prepared:
    """What a run reads, as tokens.

    units: what a batch is counted in, each a list of examples (one, or those of a packed row); an
    objective may count in other things (`ftkit.experiment.preferences`). evaluations: name of the
    measure, such as val_loss → examples. about: counts and hashes, as the Run has them.
    """

    units: Any
    evaluations: dict[str, Any]
    about: DataInfo


@dataclasses.dataclass
class Run:
    """What happened: one row per optimizer step, and the measures before and after.

    `rows` are dicts with step, epoch, loss (mean over the labeled tokens of the step, nats),
    learning_rate, grad_norm (before clipping), tokens, seconds (since the first step began) and,
    where the run was evaluated, val_loss and `<probe>_loss`. `before` and `after` have the keys
    val_loss and `<probe>_loss`. `end` says how it ended; `stopped` is the reason
    as a sentence, None for a run that reached its last step.
    `activity` says what it is measuring at this moment, for who waits.
    `samples`, where asked for, are dicts of step, prompt, reference and answer: what the model
    answered to some validation records at each evaluation.
    `model` and `tokenizer` are the tuned ones and `experiment` is where the run was made; they
    last as long as the process, None for a run from the store. Models of older runs rest in a
    temporary file when all together are large, and are read back when asked for (`shelf`).
    """

    id: str
    config: Config
    model_name: str
    data: DataInfo
    total_steps: int = 0
    trainable_parameters: int = 0
    total_parameters: int = 0
    rows: list[Row] = dataclasses.field(default_factory=list)
    before: Row = dataclasses.field(default_factory=dict)
    after: Row = dataclasses.field(default_factory=dict)
    end: End = End.UNFINISHED
    stopped: str | None = None
    seconds: float = 0.0
    tokens: int = 0
    supervised_tokens: int = 0
    peak_memory_bytes: int | None = None
    predicted_memory_bytes: int | None = None
    machine: dict = dataclasses.field(default_factory=dict)
    versions: dict = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    samples: list[dict] = dataclasses.field(default_factory=list)
    saved_to: str | None = None
    activity: str = dataclasses.field(default="", repr=False, compare=False)
    model: Any = dataclasses.field(default=shelf.Slot(), repr=False, compare=False)
    tokenizer: Any = dataclasses.field(default=None, repr=False, compare=False)
    experiment: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def is_finished(self) -> bool:
        """Whether it ended where a second run of the same Config would end, with all its rows."""
        return self.end.is_reproducible and (
            self.end is not End.FINISHED or len(self.rows) == self.total_steps)

    @property
    def last_step(self) -> int:
        """The step of the last row; a Trainer's run (`LiveCallback`) has no row for each step."""
        step = self.rows[-1].get("step") if self.rows else 0
        return int(step) if isinstance(step, int | float) and step == step else len(self.rows)

    def is_of(self, fixed_settings: dict) -> bool:
        """Whether it was made by this version of ftkit in an experiment of these settings, given
        as `plain(lab.fixed_settings())`."""
        return (self.data.get("held_still") == fixed_settings
                and self.versions.get("ftkit") == machine.versions()["ftkit"])

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
                     "peak_memory_bytes", "predicted_memory_bytes", "end", "stopped", "machine",
                     "versions", "data", "total_steps", "notes", "samples", "saved_to"):
            out[name] = getattr(self, name)
        return plain(out)

    @classmethod
    def from_dict(cls, saved: dict) -> Self:
        """The Run that `to_dict` described (without its model)."""
        known = {f.name for f in dataclasses.fields(cls)}
        kept = {name: value for name, value in saved.items() if name in known}
        for name in ("before", "after"):
            kept[name] = numbers(saved.get(name))
        kept["rows"] = [numbers(row) for row in saved.get("history", [])]
        for name, kind in PLAIN.items():  # what was damaged is left out, the rest is kept
            if not isinstance(kept.get(name), kind):
                kept.pop(name, None)
        kept["end"] = run_end.read(saved)
        if not (isinstance(saved.get("data"), dict) and isinstance(saved["model"], str)):
            raise TypeError("no description of a run")
        return cls(**{**kept, "config": Config.from_dict(saved["config"]),
                      "model_name": saved["model"], "model": None})

    def __repr__(self) -> str:
        end = f", stopped: {self.stopped}" if self.stopped else ""
        losses = ", ".join(f"{k} {self.before[k]:.2f} → {self.after[k]:.2f}"
                           for k in self.after if k in self.before)
        return clean(f"Run({self.id}, {self.model_name}, {len(self.rows)} steps, {losses}{end})")

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{to_html(k)}</td><td>{self.before[k]:.3f}</td>"
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
        return (f"<b>{to_html(title)}</b><table><tr><th></th><th>before</th><th>after</th>"
                f"<th>change</th></tr>{cells}</table>{to_html('; '.join(facts))}")


# Fields whose kind is checked when a run is read back from disk.
PLAIN: dict[str, Any] = {
    "total_steps": int, "trainable_parameters": int, "total_parameters": int,
    "stopped": str, "seconds": int | float, "tokens": int, "supervised_tokens": int,
    "peak_memory_bytes": int, "predicted_memory_bytes": int, "machine": dict, "versions": dict,
    "notes": list, "samples": list, "saved_to": str}


def numbers(row) -> Row:
    """Column → number of a row that was read back; nan for what JSON has no number for."""
    if not isinstance(row, dict):
        return {}
    return {name: value if isinstance(value, int | float) else math.nan
            for name, value in row.items()}


def plain(value: Any) -> Any:
    """`value` with nan and infinities as None, which JSON does not have."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
