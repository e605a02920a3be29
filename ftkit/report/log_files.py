"""Read the training log of another program as rows with ftkit's column names.

    log = read("trainer_state.json"); log.rows[0]["loss"]; log.notes

Reads trainer_state.json of transformers and TRL, JSON Lines, rows that a program printed, CSV
(W&B, trackio, TensorBoard exports), Parquet, and event files of TensorBoard. A log is read piece by
piece and thinned to some thousand rows, so its size does not matter.
"""

import ast
import csv
import json
import math
import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.base.formatting import show, to_float

ROWS = 4096  # rows kept; with more, every second row without an evaluation is dropped
NAMES = {  # our name → the last parts of others' names, in lower case
    "step": ("step", "global_step", "iteration", "iter", "_step"), "epoch": ("epoch",),
    "loss": ("loss", "train_loss", "training_loss", "actor_loss"),
    "val_loss": ("eval_loss", "val_loss", "valid_loss", "validation_loss", "test_loss"),
    "learning_rate": ("learning_rate", "lr", "lr-adamw"),
    "grad_norm": ("grad_norm", "gradient_norm", "total_norm"),
    "reward": ("reward", "reward_mean", "rewards_mean"), "reward_std": ("reward_std",),
    "dead": ("frac_reward_zero_std", "dead"), "cut": ("clipped_ratio", "cut"),
    "kl": ("kl", "approx_kl"), "length": ("completion_length", "mean_length", "length"),
    "chosen": ("rewards_chosen", "chosen"), "margin": ("rewards_margins", "margin")}
OURS = {theirs: ours for ours, names in NAMES.items() for theirs in names}
OBJECT = re.compile(rb"\{[^{}]*\}")  # a row without objects inside


class Log(NamedTuple):
    """rows: in order, {our name: number}. unread: columns that are not used. notes: on the file.
    before, after: first and last values of the evaluations, as a Run has them."""

    rows: list[dict]
    unread: list[str]
    notes: list[str]
    before: dict
    after: dict
    stopped: None = None

    def values(self, name: str) -> list[float]:
        """The values of a column in order, without those that are not numbers."""
        return [value for value in self.all(name) if math.isfinite(value)]

    def all(self, name: str) -> list[float]:
        return [row[name] for row in self.rows if name in row]


def read(path: str | Path) -> Log:
    """Read a log. Raises UserError if it cannot be read or has no column that ftkit knows."""
    path = at_home(path)
    if not path.exists():
        raise UserError(f"{show(str(path))} does not exist; give the log of a run, such as "
                        "trainer_state.json, a CSV export or a file of TensorBoard")
    notes: list[str] = []
    unread: dict[str, None] = {}
    rows = _thinned(_named(_raw(path, notes), unread))
    if not any(row.keys() - {"step", "epoch"} for row in rows):
        seen = f"its columns are {show(list(unread), 200)}" if unread else "it has no rows"
        raise UserError(f"{show(str(path))} is no training log that ftkit can read: {seen}; "
                        "expected a column such as loss, eval_loss, learning_rate or reward")
    for number, row in enumerate(rows, 1):
        row.setdefault("step", number)
    evaluations = {key for row in rows for key in row if key.endswith("_loss")}
    column = {key: [row[key] for row in rows if key in row] for key in evaluations}
    return Log(rows, list(unread), notes, {k: v[0] for k, v in column.items()},
               {k: v[-1] for k, v in column.items()})


def _raw(path: Path, notes: list[str]) -> Iterator[dict]:
    """The rows of a file as it has them. Appends to `notes` what a reader should know."""
    if path.is_dir() or ".tfevents." in path.name:
        return _events(path)
    if path.suffix == ".parquet":
        import pandas

        return iter(pandas.read_parquet(path).to_dict("records"))
    if path.stat().st_size == 0:
        raise UserError(f"{show(str(path))} is empty; give the log of a run")
    if path.suffix in (".csv", ".tsv"):
        return _table(path)
    return _objects(path, notes)


def _objects(path: Path, notes: list[str]) -> Iterator[dict]:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if text[:2] == b"[[":  # TensorBoard's JSON: [time, step, value]
            for row in json.loads(text[:]):
                yield {"step": row[1], path.stem: row[2]}
            return
        damaged = end = 0
        for match in OBJECT.finditer(text):
            end = match.end()
            row = _parsed(match[0])
            damaged += row is None
            lists = {k: v for k, v in (row or {}).items() if isinstance(v, list)}
            if lists and len(set(map(len, lists.values()))) == 1:  # a table by columns
                yield from (dict(zip(lists, values, strict=True))
                            for values in zip(*lists.values(), strict=True))
            elif row:
                yield row
        if damaged:
            notes.append(f"{damaged:,} rows cannot be read and are left out")
        if b"{" in text[end:]:
            notes.append("the file ends in the middle of a row: it was cut off, or the run goes on")
        elif path.suffix == ".json" and not text[-64:].rstrip().endswith((b"}", b"]")):
            notes.append("the file is cut off; its whole rows are read")


def _parsed(text: bytes) -> dict | None:
    """An object in JSON, or as Python prints a dict."""
    try:
        return json.loads(text)
    except ValueError:
        plain = re.sub(rb"\b(nan|inf)\b", b"1e999", text)
        plain = re.sub(rb"tensor\(([^,()]*)[^()]*\)", rb"\1", plain)
        try:
            found = ast.literal_eval(plain.decode("utf-8", "replace"))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def _table(path: Path) -> Iterator[dict]:
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        head = file.readline()
        file.seek(0)
        comma = max(",;\t", key=head.count)
        try:
            for row in csv.DictReader((line.replace("\0", "") for line in file), delimiter=comma):
                is_curve = "Wall time" in row  # TensorBoard's CSV of one curve, named after it
                yield {"step": row.get("Step"), path.stem.split("tag-")[-1]: row.get("Value")
                       } if is_curve else row
        except csv.Error as error:
            raise UserError(f"{show(str(path))} is no table ({error}); export it again") from None


def _events(path: Path) -> Iterator[dict]:
    try:
        from tensorboard.backend.event_processing import event_accumulator
    except ImportError:
        raise UserError("files of TensorBoard need tensorboard: pip install 'ftkit[tensorboard]'"
                        ) from None
    found = event_accumulator.EventAccumulator(str(path), size_guidance={"scalars": ROWS})
    found.Reload()
    rows: dict[int, dict] = {}
    for tag in found.Tags()["scalars"]:
        for event in found.Scalars(tag):
            rows.setdefault(event.step, {"step": event.step})[tag] = event.value
    return iter([rows[step] for step in sorted(rows)])


def name_of(column: str) -> str | None:
    """Our name of a column; None for one that is not used. W&B writes "run - train/loss"."""
    name = str(column).split(" - ")[-1].strip().lower()
    parts = re.split(r"[/.]", name)
    last = "_".join(parts[-2:]) if parts[-2:-1] in (["rewards"], ["eval"], ["val"]) else parts[-1]
    known = OURS.get(last) or OURS.get(name)
    if known or not last.endswith("_loss") or last.endswith(("policy_loss", "aux_loss")):
        return known
    return last.removeprefix("eval_")  # the loss on another set


def _named(rows: Iterable[dict], unread: dict[str, None]) -> Iterator[dict]:
    names: dict = {}
    for given in rows:
        row, found = given, {}
        if "train_runtime" in given or given.get("metrics"):  # the summary; a row of trackio
            row = _parsed(str(given.get("metrics") or "{}").encode()) or {}
        for column, value in row.items():
            if column not in names:
                names[column] = None if column is None else name_of(column)
                if names[column] is None:
                    unread[str(column)] = None
            if names[column] and value is not None and not isinstance(value, bool):
                number = to_float(value)
                broken = str(value).strip().lower().lstrip("+-") in ("nan", "inf", "infinity")
                if math.isfinite(number) or (broken and names[column] in ("loss", "grad_norm")):
                    found[names[column]] = number
        if found.keys() - {"step", "epoch"}:
            yield found


def _thinned(rows: Iterable[dict]) -> list[dict]:
    def is_rare(row):
        return "val_loss" in row or not math.isfinite(row.get("loss", 0.0))

    kept: list[dict] = []
    stride = 1
    for number, row in enumerate(rows):
        if number % stride and not is_rare(row):
            continue
        kept.append(row)
        if len(kept) >= 2 * ROWS:
            stride *= 2
            some = [row for i, row in enumerate(kept) if i % 2 == 0 or is_rare(row)]
            kept = some if len(some) < 1.5 * ROWS else kept[::2]
    return kept
