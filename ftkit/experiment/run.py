"""`Run`: the record of one training run, as plain data. `store` keeps runs on disk.

This module does not need torch. A run that is loaded from disk lacks only its model.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Required, Self, TypedDict

from ftkit.base import machine, run_end
from ftkit.base.config import Config
from ftkit.base.formatting import clean, to_html
from ftkit.base.run_end import End, Stop
from ftkit.experiment import shelf
from ftkit.report import plots, series

Row = dict[str, float]  # column → number, of one optimizer step
TRAINERS_DATA = "Trainer's data"  # the name of data that only a Trainer's script knows


@dataclasses.dataclass(frozen=True)
class Watch:
    """The arguments of `Experiment.run`, without its Config: what its caller displays, decides and
    stores during training.

    store: whether to store the run on disk; a cluster's worker returns it instead.
    """

    on_start: Callable | None = None
    on_row: Callable | None = None
    stop: Callable[[], bool | str | Stop | None] | None = None
    live: bool | None = None
    save_steps: int | None = None
    sample: int | list[str] = 0
    log: str | None = None
    store: bool = True


class DataInfo(TypedDict, total=False):
    """The data of a run: record counts and the hash of the training records.

    truncated, skipped, replayed: records that were cut, left out, or added from general data.
    held_still: `Experiment.fixed_settings`, which two runs must share to be compared.
    made_of: further facts that must be equal for a stored run to replace a new one, see
    `Experiment.identity`.
    """

    name: Required[str]
    rows: int
    sha256: str
    validation_rows: int
    truncated: int
    skipped: int
    replayed: int
    held_still: dict[str, Any]
    made_of: dict[str, Any]


@dataclasses.dataclass
class Prepared:
    """The encoded data of a run.

    units: what batches are drawn from: lists of examples (a single example, or a packed row); pairs
    or prompts for preference objectives. evaluations: measure, such as val_loss → examples.
    about: `Run.data`. random: the run's `random_state.RandomState`, added when it begins.
    """

    units: Any
    evaluations: dict[str, Any]
    about: DataInfo
    random: Any = dataclasses.field(default=None, kw_only=True)


@dataclasses.dataclass
class Run:
    """One training run: a row per optimizer step, and the measures before and after.

    `rows` are dicts with step, epoch, loss (mean over the labeled tokens of the step, nats),
    learning_rate, grad_norm (before clipping), tokens, seconds (since the first step began) and,
    at evaluations, val_loss and `<probe>_loss`;
    `before` and `after` have these keys too. `end` says how the run ended; `stopped` is the reason
    as a sentence, or None if the run reached its last step.
    `changes` are peak learning rates set while it trained (`set_learning_rate`): dicts of step, the
    last one before the change, and learning_rate.
    `activity` is the measurement in progress, for progress displays.
    `samples` are dicts of step, prompt, reference and answer: validation records answered at each
    evaluation, if `sample` asked for it.
    `model`, `tokenizer` and `experiment` exist only in the process that trained the run, and are
    None in a stored run. Large models of older runs are moved to temporary files (`shelf`).
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
    changes: list[dict] = dataclasses.field(default_factory=list)
    activity: str = dataclasses.field(default="", repr=False, compare=False)
    model: Any = dataclasses.field(default=shelf.Slot(), repr=False, compare=False)
    tokenizer: Any = dataclasses.field(default=None, repr=False, compare=False)
    experiment: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def is_finished(self) -> bool:
        """Whether the run is complete, and another run of the same Config would end here too."""
        return not self.changes and self.end.is_reproducible and (
            self.end is not End.FINISHED or len(self.rows) == self.total_steps)

    @property
    def last_step(self) -> int:
        """Step number of the last row. A Trainer's run (`LiveCallback`) has rows for some steps."""
        step = self.rows[-1].get("step") if self.rows else 0
        return int(step) if isinstance(step, int | float) and step == step else len(self.rows)

    def set_learning_rate(self, value: float):
        """Change the peak learning rate from the next step on, with a note. Call it between steps,
        in the thread that trains."""
        step = self.last_step
        old = self.peak_learning_rate(step + 1)
        self.changes.append({"step": step, "learning_rate": value})
        self.notes.append(f"learning_rate was changed from {old:g} to {value:g} after step {step}, "
                          "while the run trained")

    def peak_learning_rate(self, step: int) -> float:
        """The peak learning rate of a step: the Config's, or the one that was set last before."""
        return next((change["learning_rate"] for change in reversed(self.changes)
                     if change["step"] < step), self.config.learning_rate or 0.0)

    def differing(self, identity: dict) -> list[str]:
        """Names of the facts in which this run differs from `lab.identity()`."""
        shared: dict = {}
        for part in (self.data.get("held_still"), self.data.get("made_of"),
                     {"ftkit": self.versions.get("ftkit")}):
            shared |= part if isinstance(part, dict) else {}
        return [name for name, value in identity.items() if shared.get(name) != value]

    def note_versions(self):
        """Add a note if the run was made with other versions of the libraries."""
        def release(version):  # without the build, such as +cpu
            return str(version).partition("+")[0]

        other = [f"{name} {self.versions.get(name)} (here {version})"
                 for name, version in machine.versions().items()
                 if name != "ftkit" and release(self.versions.get(name)) != release(version)]
        if other:
            self.notes.append(f"made with {', '.join(other)}; results may differ in digits")

    def change(self, key: str) -> float:
        """Return `after - before` of a measure, such as `run.change("general_loss")`."""
        return self.after[key] - self.before[key]

    @property
    def tokens_per_second(self) -> float:
        """Training tokens per second, without padding."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def plot(self, *keys):
        """Plot the curves of this run."""
        return plots.curves(self, *keys)

    def summary(self) -> str:
        """Describe in one sentence which measures rose or fell, and by how much."""
        return series.summary(self)

    def to_dict(self) -> dict:
        """Return the output of `ftkit run --json`; numbers that are not finite become null."""
        out = {"id": self.id, "model": self.model_name, "config": self.config.to_dict()}
        for name in ("trainable_parameters", "total_parameters", "before", "after"):
            out[name] = getattr(self, name)
        out["history"] = self.rows
        for name in ("tokens", "supervised_tokens", "seconds", "tokens_per_second",
                     "peak_memory_bytes", "predicted_memory_bytes", "end", "stopped", "machine",
                     "versions", "data", "total_steps", "notes", "samples", "saved_to"):
            out[name] = getattr(self, name)
        return plain(out | ({"changes": self.changes} if self.changes else {}))

    @classmethod
    def from_dict(cls, saved: dict) -> Self:
        """Restore a Run, without its model, from `to_dict`. Damaged optional fields are dropped."""
        known = {f.name for f in dataclasses.fields(cls)}
        kept = {name: value for name, value in saved.items() if name in known}
        for name in ("before", "after"):
            kept[name] = numbers(saved.get(name))
        kept["rows"] = [numbers(row) for row in saved.get("history", [])]
        for name, kind in PLAIN.items():
            if not isinstance(kept.get(name), kind):
                kept.pop(name, None)
        kept["end"] = run_end.read(saved)
        if not (isinstance(saved.get("data"), dict) and isinstance(saved["model"], str)):
            raise TypeError("not the JSON of a run")
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
        fraction = self.trainable_parameters / max(1, self.total_parameters)
        facts = [f"{len(self.rows)} steps in {self.seconds:.1f} s",
                 f"{self.tokens_per_second:,.0f} tokens/s",
                 f"{self.trainable_parameters:,} of {self.total_parameters:,} parameters "
                 f"trained ({fraction:.1%})"]
        facts += [f"stopped: {self.stopped}"] * bool(self.stopped) + self.notes
        title = f"{self.model_name} · {self.data.get('name', '')} · {self.config}"
        return (f"<b>{to_html(title)}</b><table><tr><td></td><th>before</th><th>after</th>"
                f"<th>change</th></tr>{cells}</table>{to_html('; '.join(facts))}")


# Fields whose kind is checked when a run is read back from disk.
PLAIN: dict[str, Any] = {
    "total_steps": int, "trainable_parameters": int, "total_parameters": int,
    "stopped": str, "seconds": int | float, "tokens": int, "supervised_tokens": int,
    "peak_memory_bytes": int, "predicted_memory_bytes": int, "machine": dict, "versions": dict,
    "notes": list, "samples": list, "saved_to": str, "changes": list}


def numbers(row) -> Row:
    """Convert a stored row to column → number; other values become nan."""
    if not isinstance(row, dict):
        return {}
    return {name: value if isinstance(value, int | float) else math.nan
            for name, value in row.items()}


def plain(value: Any) -> Any:
    """Convert `value` for JSON: nan and infinities become None."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
