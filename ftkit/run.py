"""What was asked (`Config`), what happened (`Run`), and where both are kept on disk.

No torch here: a run read back from disk is plain data.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
import os
import secrets
import sys
import time
from pathlib import Path

from ftkit import machine

# The rate that works is a property of the model's size and of the method: LoRA wants about ten
# times the full rate, a model of a few million parameters about twenty times that of a real one.
LEARNING_RATES = {
    "tiny": {"full": 1e-3, "lora": 5e-3, "qlora": 5e-3},
    "other": {"full": 2e-5, "lora": 2e-4, "qlora": 2e-4},
}
METHODS = ("full", "lora", "qlora")
PRECISIONS = ("fp32", "bf16", "fp16", "pure-bf16")
SCHEDULES = ("cosine", "linear", "constant")


def _option(default, help, choices=None, low=None, high=None):
    return dataclasses.field(
        default=default, metadata={"help": help, "choices": choices, "low": low, "high": high}
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that may vary between two runs; names and units as in transformers and peft.

    `None` means "choose for me": `resolved` fills in what this model and machine call for, and
    the Run stores the filled-in values. Raises ValueError naming the field, the value given and
    what is accepted.
    """

    method: str = _option("full", "what is trained", METHODS)
    learning_rate: float | None = _option(
        None, "peak learning rate; default depends on the model and the method", low=0.0
    )
    batch_size: int = _option(16, "records in one forward pass", low=1)
    gradient_accumulation_steps: int = _option(
        1, "batches added up before one optimizer step", low=1
    )
    epochs: float = _option(1.0, "passes over the training records", low=0.0)
    max_steps: int | None = _option(
        None, "optimizer steps; overrides epochs, repeats the data if needed", low=1
    )
    warmup_steps: float = _option(
        0.06, "steps of linear warm-up; below 1 it is a share of all steps", low=0.0
    )
    lr_scheduler_type: str = _option("cosine", "learning rate after the warm-up", SCHEDULES)
    weight_decay: float = _option(0.0, "AdamW weight decay, on matrices only", low=0.0)
    max_grad_norm: float = _option(1.0, "clip the gradient to this norm; 0 turns it off", low=0.0)
    precision: str | None = _option(
        None, "arithmetic; bf16 and fp16 mean autocast over fp32 weights", PRECISIONS
    )
    gradient_checkpointing: bool = _option(
        False, "recompute activations in the backward pass: less memory, more time"
    )
    r: int = _option(8, "LoRA rank", low=1)
    lora_alpha: float = _option(16, "LoRA scale: the update is multiplied by alpha / r", low=0.0)
    lora_dropout: float = _option(0.0, "dropout before the LoRA matrices", low=0.0, high=0.99)
    target_modules: str = _option(
        "all-linear", "layers that get LoRA: all-linear, or names like q_proj,v_proj"
    )
    max_length: int | None = _option(
        None, "tokens in one record; default: the model's context, at most 512", low=2
    )
    packing: bool = _option(
        False, "fill rows of max_length with several records that do not see each other"
    )
    loss_on: str = _option("response", "which tokens carry loss", ("response", "all"))
    replay: float = _option(
        0.0, "share of general data mixed into the training records", low=0.0, high=0.95
    )
    early_stopping_patience: int | None = _option(
        None, "stop after this many evaluations without a better val_loss", low=1
    )
    eval_steps: int | None = _option(
        None, "steps between evaluations; default: ten in a run", low=1
    )
    seed: int = _option(0, "order of the data, LoRA's random start, dropout", low=0)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _accept(field, getattr(self, field.name)))

    def but(self, **changes) -> Config:
        """The same Config with some fields changed: `base.but(learning_rate=1e-2)`."""
        unknown = [name for name in changes if name not in _FIELDS]
        if unknown:
            raise ValueError(_unknown_field(unknown[0]))
        return dataclasses.replace(self, **changes)

    def resolved(self, model: str, precision: str, context: int) -> Config:
        """This Config without a None that matters: `model` is the tier, `context` its tokens."""
        rates = LEARNING_RATES.get(model, LEARNING_RATES["other"])
        rate = rates[self.method] if self.learning_rate is None else self.learning_rate
        length = min(context, 512) if self.max_length is None else self.max_length
        if length > context:
            raise ValueError(
                f"max_length {length} is longer than the {context} tokens this model can read; "
                f"give {context} or less"
            )
        return self.but(
            learning_rate=rate, precision=self.precision or precision, max_length=length
        )

    def to_dict(self) -> dict:
        """All fields, ready for JSON."""
        return dataclasses.asdict(self)

    def differs(self) -> dict:
        """Only the fields that are not at their default."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
                if getattr(self, f.name) != f.default}

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.differs().items())

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{k}={v!r}' for k, v in self.differs().items())})"

    @classmethod
    def from_string(cls, text: str) -> Config:
        """The Config that `str(config)` wrote: `"method=lora learning_rate=0.001"`."""
        values = {}
        for word in text.split():
            name, equals, value = word.partition("=")
            if not equals:
                raise ValueError(f"{word!r} in a Config string; expected name=value pairs")
            if name not in _FIELDS:
                raise ValueError(_unknown_field(name))
            values[name] = None if value == "None" else value
        return cls(**values)

    def training_arguments(self) -> dict:
        """The same request in the words of `transformers.TrainingArguments`."""
        share = 0 < self.warmup_steps < 1
        given = {
            "per_device_train_batch_size": self.batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "num_train_epochs": self.epochs,
            "max_steps": -1 if self.max_steps is None else self.max_steps,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": self.lr_scheduler_type,
            "warmup_steps": self.warmup_steps if share else int(self.warmup_steps),
            "weight_decay": self.weight_decay,
            "max_grad_norm": self.max_grad_norm,
            "bf16": self.precision == "bf16",
            "fp16": self.precision == "fp16",
            "gradient_checkpointing": self.gradient_checkpointing,
            "seed": self.seed,
        }
        return {name: value for name, value in given.items() if value is not None}


_FIELDS = {field.name: field for field in dataclasses.fields(Config)}


def _unknown_field(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _FIELDS, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(_FIELDS)}"
    return f"Config has no field {name!r}; {hint}"


def _accept(field, value):
    """`value` in the field's type and range, or a ValueError that says what is accepted."""
    kind, meta = str(field.type), field.metadata
    optional = "None" in kind
    if value is None:
        if optional:
            return None
        raise ValueError(f"{field.name} is None; expected {_wanted(field)}")
    try:
        if kind.startswith("bool"):
            value = {"true": True, "false": False}[str(value).lower()]
        elif kind.startswith("int"):
            number = float(value)
            if isinstance(value, bool) or number != int(number):
                raise ValueError
            value = int(number)
        elif kind.startswith("float"):
            if isinstance(value, bool):
                raise ValueError
            value = float(value)
            if not math.isfinite(value):
                raise ValueError
        elif field.name == "target_modules" and isinstance(value, list | tuple | set):
            value = ",".join(map(str, value))
        elif not isinstance(value, str):
            raise ValueError
    except (ValueError, TypeError, KeyError, OverflowError):
        raise ValueError(f"{field.name} is {value!r}; expected {_wanted(field)}") from None
    low, high, choices = meta["low"], meta["high"], meta["choices"]
    out = (low is not None and value < low) or (high is not None and value > high)
    if out or (choices and value not in choices) or value == "":
        raise ValueError(f"{field.name} is {value!r}; expected {_wanted(field)}")
    if field.name in ("learning_rate", "epochs") and value == 0:
        raise ValueError(f"{field.name} is 0, so nothing would be trained; give a positive number")
    return value


def _wanted(field) -> str:
    meta, kind = field.metadata, str(field.type).split(" ")[0]
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    name = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
    bounds = [f"at least {meta['low']:g}" if meta["low"] is not None else "",
              f"at most {meta['high']:g}" if meta["high"] is not None else ""]
    return " ".join([name[kind], " and ".join(b for b in bounds if b)]).strip()


@dataclasses.dataclass
class Run:
    """What happened: one row per optimizer step, and the measures before and after.

    `rows` are dicts with step, epoch, loss (mean over the labelled tokens of the step, nats),
    learning_rate, grad_norm (before clipping), tokens, seconds (since the first step began) and,
    where the run was evaluated, val_loss and `<probe>_loss`. `before` and `after` have the keys
    val_loss and `<probe>_loss`. `stopped` is None for a run that reached its end, else why not.
    `model` and `tokenizer` are the tuned ones, in memory only.
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

    def change(self, key: str) -> float:
        """`after - before` of one measure, for example `run.change("general_loss")`."""
        return self.after[key] - self.before[key]

    @property
    def tokens_per_second(self) -> float:
        """Tokens read in training, padding not counted, per second of training."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def plot(self, *keys):
        """The curves of this run."""
        from ftkit import plots

        return plots.curves(self, *keys)

    def summary(self) -> str:
        """One sentence: what rose, what fell, by how much."""
        from ftkit import plots

        return plots.summary(self)

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
        return _finite(out)

    to_json = to_dict

    @classmethod
    def from_dict(cls, saved: dict) -> Run:
        """The Run that `to_dict` described (without its model)."""
        known = {f.name for f in dataclasses.fields(cls)}
        kept = {name: value for name, value in saved.items() if name in known}
        kept["rows"] = [{k: math.nan if v is None else v for k, v in row.items()}
                        for row in saved.get("history", [])]
        fields = {k: v for k, v in saved["config"].items() if k in _FIELDS}
        return cls(**{**kept, "config": Config(**fields), "model_name": saved["model"],
                      "model": None})

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
        title = f"{self.model_name} · {self.data.get('name', '')} · {self.config}"
        return (f"<b>{html.escape(title)}</b><table><tr><th></th><th>before</th><th>after</th>"
                f"<th>change</th></tr>{cells}</table>{html.escape('; '.join(facts))}")


def _finite(value):
    """`value` with nan and infinities as None, since JSON has no word for them."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
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

    def __init__(self, run: Run):
        self.run, self.rows_file = run, None
        self.folder = machine.home() / "runs" / run.id
        self._try(self._start)

    def _start(self):
        self.folder.mkdir(parents=True)
        header = self.run.to_dict() | {"history": [], "stopped": "not finished"}
        _write_whole(self.folder / "run.json", header)
        self.rows_file = open(self.folder / "rows.jsonl", "a", encoding="utf-8")

    def row(self, row: dict):
        """Append one row; it is in the operating system's hands when this returns."""
        if self.rows_file:
            self._try(lambda: (self.rows_file.write(json.dumps(_finite(row)) + "\n"),
                               self.rows_file.flush()))

    def finish(self):
        """Write what is known only at the end."""
        if self.rows_file:
            result = self.run.to_dict() | {"history": []}
            self._try(lambda: _write_whole(self.folder / "result.json", result))
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


def _write_whole(path: Path, value: dict):
    """Write JSON so that a reader sees either the old file or the whole new one."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(_finite(value), indent=1), encoding="utf-8")
    os.replace(temporary, path)


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
        raise ValueError(f"{id!r} {what}; `ftkit runs` lists them")
    run = _read(store / matches[0])
    if run is None:
        raise ValueError(f"the run in {store / matches[0]} cannot be read; delete the folder")
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
        saved["history"] = []
        rows = folder / "rows.jsonl"
        for line in rows.read_text("utf-8").split("\n") if rows.exists() else []:
            try:
                saved["history"].append(json.loads(line))
            except ValueError:
                continue  # the line that was being written when the process died
        return Run.from_dict(saved)
    except (OSError, ValueError, KeyError, TypeError):
        return None
