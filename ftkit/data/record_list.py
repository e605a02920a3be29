"""Sequences of records with their origin: a list of dicts, or a large file parsed on access.

`schema.records` and `schema.compact` create them.
"""

from __future__ import annotations

import copy
import hashlib
import json
from array import array
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from ftkit.base.formatting import clean, to_html
from ftkit.data import foreign

# Field → the kind of a record that has it; the first field present decides.
DECIDES = {"messages": "chat", "chosen": "preference", "rejected": "preference",
           "output": "instruction", "instruction": "instruction", "text": "text"}


def kind_of(record: dict) -> str | None:
    """Determine a record's kind by its fields: instruction, chat, text, preference or None."""
    return next((kind for name, kind in DECIDES.items() if name in record), None)


class RecordList(Sequence):
    """Base class of record sequences that know their origin.

    name: a title. path: the file, or None. kind: instruction, chat, text, preference or mixed.
    lines: the line number of each record, from 1. sha256: hash of the file's bytes, or of the
    records as JSON if there is no file.
    """

    kind: str | None

    def describe(self, name: str, path, lines: Sequence[int] | None, sha256: str | None):
        """Set the origin. `lines` None means 1, 2, 3, ..."""
        self.name, self.path, self._sha256 = name, path, sha256
        self.lines = range(1, len(self) + 1) if lines is None else lines

    @property
    def sha256(self) -> str:
        if self._sha256 is None:
            digest = hashlib.sha256()
            for record in self:
                digest.update(json.dumps(record, sort_keys=True).encode() + b"\n")
            self._sha256 = digest.hexdigest()
        return self._sha256

    def __repr__(self) -> str:
        return f"{type(self).__name__}({clean(self.name)}: {len(self):,} {self.kind} records)"

    def _repr_html_(self) -> str:
        names = list(dict.fromkeys(name for record in self[:5] for name in record))
        head = "".join(f"<th style='text-align:left'>{to_html(str(name))}</th>"
                       for name in names)
        left = "<td style='text-align:left'>"
        body = "".join("<tr>" + "".join(f"{left}{_cell(record.get(n))}</td>" for n in names)
                       + "</tr>" for record in self[:5])
        return (f"<b>{to_html(self.name)}</b>: {len(self):,} {self.kind} records, the first "
                f"{min(5, len(self))}<table><tr>{head}</tr>{body}</table>")


class Records(list, RecordList):
    """A list of dicts with its origin, which slices keep."""

    __repr__ = RecordList.__repr__

    def __init__(self, items=(), name="records", path=None, lines=None, sha256=None):
        super().__init__(items)
        self.describe(name, path, lines, sha256)
        kinds = {kind_of(record) for record in self}
        self.kind = kinds.pop() if len(kinds) == 1 else "mixed"  # replay mixes kinds

    def __getitem__(self, index) -> Any:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        return Records(super().__getitem__(index), self.name, self.path, self.lines[index])


class LargeFile(RecordList):
    """The records of a large file, kept as bytes and parsed on each access.

    As dicts, short records would take three times the memory. A slice is a list. Changes to a
    record are lost.
    """

    def __init__(self, path: Path, lines: Sequence[int], sha256: str):
        self._bytes = path.read_bytes()
        with open(path, "rb") as file:
            self._starts = array("Q", accumulate(map(len, file), initial=0))
        self.lines = lines
        self.kind = kind_of(self[0])  # a file holds one kind
        self.describe(path.name, path, lines, sha256)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index) -> Any:
        if isinstance(index, slice):
            lines = self.lines[index]
            return Records(map(self._parse, lines), self.name, self.path, lines)
        return self._parse(self.lines[index])

    def _parse(self, line: int) -> dict:
        line_bytes = self._bytes[self._starts[line - 1] : self._starts[line]]
        return foreign.to_record(json.loads(line_bytes))

    def select(self, lines: Sequence[int], name: str) -> LargeFile:
        """Select the records on these lines, under a new name and sharing the same bytes."""
        selected = copy.copy(self)
        selected.describe(name, self.path, lines, None)
        return selected


def _cell(value) -> str:
    if isinstance(value, list):  # messages
        value = "\n".join(f"{m.get('role')}: {m.get('content')}" for m in value)
    text = "" if value is None else str(value)
    return to_html(text if len(text) <= 240 else text[:240] + " …").replace("\n", "<br>")
