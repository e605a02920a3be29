"""Records in memory: a list of dicts, or a large file as JSON that is parsed on access.

Both know where they came from; `schema.records` and `schema.compact` make them.
"""

from __future__ import annotations

import hashlib
import html
import json
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

# A field that decides the kind of a record → that kind; the first one present counts.
DECIDES = {"messages": "chat", "chosen": "preference", "rejected": "preference",
           "output": "instruction", "instruction": "instruction", "text": "text"}


def kind_of(record: dict) -> str | None:
    """instruction, chat, text or preference, by its fields; None without any of them."""
    return next((kind for name, kind in DECIDES.items() if name in record), None)


class _Described:
    """Where records came from.

    name: for titles. path: the file, or None. kind: instruction, chat, text, preference, or mixed.
    lines: the line number of each record, from 1. sha256: of the file's bytes, else of the
    records as JSON.
    """

    kind: str | None

    if TYPE_CHECKING:  # what a list and a Sequence bring along

        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[dict]: ...
        def __getitem__(self, index) -> Any: ...

    def _describe(self, name, path, lines, sha256):
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
        return f"{type(self).__name__}({self.name}: {len(self):,} {self.kind} records)"

    def _repr_html_(self) -> str:
        names = list(dict.fromkeys(name for record in self[:5] for name in record))
        head = "".join(f"<th style='text-align:left'>{html.escape(str(name))}</th>"
                       for name in names)
        left = "<td style='text-align:left'>"
        body = "".join("<tr>" + "".join(f"{left}{_cell(record.get(n))}</td>" for n in names)
                       + "</tr>" for record in self[:5])
        return (f"<b>{html.escape(self.name)}</b>: {len(self):,} {self.kind} records, the first "
                f"{min(5, len(self))}<table><tr>{head}</tr>{body}</table>")


class Records(_Described, list):
    """A list of dicts that knows where it came from; slices know it too."""

    def __init__(self, items=(), name="records", path=None, lines=None, sha256=None):
        super().__init__(items)
        self._describe(name, path, lines, sha256)
        kinds = {kind_of(record) for record in self}
        self.kind = kinds.pop() if len(kinds) == 1 else "mixed"  # replay mixes kinds

    def __getitem__(self, index):
        if not isinstance(index, slice):
            return super().__getitem__(index)
        return Records(super().__getitem__(index), self.name, self.path, self.lines[index])


class Large(_Described, Sequence):
    """The records of a large file as an Experiment keeps them: JSON that is parsed on access.

    As dicts, short records would take three times the bytes of their lines. A slice is a list.
    """

    def __init__(self, stored: Stored, name, path, lines, sha256=None, indices=None):
        self._stored = stored
        self._indices = range(len(stored)) if indices is None else indices
        self._describe(name, path, lines, sha256)
        self.kind = kind_of(stored[self._indices[0]])  # a file holds one kind

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index):
        if not isinstance(index, slice):
            return self._stored[self._indices[index]]
        return Records([self._stored[i] for i in self._indices[index]], self.name, self.path,
                       self.lines[index])

    def select(self, indices, name: str, lines) -> Large:
        """The records at these indices, under another name, without a copy of their JSON."""
        chosen = array("L", (self._indices[i] for i in indices))
        return Large(self._stored, name, self.path, lines, indices=chosen)


class Stored:
    """The JSON of records, one after the other."""

    def __init__(self):
        self.text, self.ends = bytearray(), array("Q", [0])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> dict:
        return Fixed(json.loads(self.text[self.ends[i] : self.ends[i + 1]]))

    def append(self, record: dict):
        # A field that is not trained on may contain half of a surrogate pair.
        self.text += json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")
        self.ends.append(len(self.text))


class Fixed(dict):
    """A record of a large file; it cannot be changed, as the change would be lost."""

    def __reduce__(self):
        return dict, (dict(self),)


def _refuse(self, *args, **more):
    raise TypeError("a record of a large file cannot be changed in place; change a copy, "
                    "dict(record)")


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault",
              "update"):
    setattr(Fixed, _name, _refuse)


def _cell(value) -> str:
    if isinstance(value, list):  # messages
        value = "\n".join(f"{m.get('role')}: {m.get('content')}" for m in value)
    text = "" if value is None else str(value)
    return html.escape(text if len(text) <= 240 else text[:240] + " …").replace("\n", "<br>")
