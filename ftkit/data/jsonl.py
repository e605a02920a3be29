"""Read a user's JSON Lines file row by row, and say exactly what is wrong with a bad row.

In: a path. Out: (line number, dict, None) for a good line, (line number, None, Problem) for a bad
one. One line is in memory at a time. A UTF-8 byte order mark, CRLF line ends and blank lines are
accepted; nothing is guessed or repaired.

    for line, record, problem in rows("my.jsonl"): ...
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ftkit.base.errors import UserError


class Problem(NamedTuple):
    """One thing wrong with one row."""

    row: int  # line number in the file, or position in a list, from 1; 0: the file as a whole
    field: str | None  # None: the row as a whole
    problem: str  # what was found; what is expected; what to do


class DataError(UserError):
    """Data that cannot be trained on; `problems` has all of them, the text names the first."""

    def __init__(self, path: str | Path | None, problems: list[Problem]):
        self.path, self.problems = path, problems
        super().__init__(path, problems)

    def message(self, advice: bool = True) -> str:
        """The first problem and the number of the others; `advice` adds how to see them all."""
        first, more = self.problems[0], len(self.problems) - 1
        file = None if self.path is None else _printable(str(self.path))
        parts = [file] if file else []
        if first.row:
            parts.append(f"{'line' if file else 'record'} {first.row}")
        text = " ".join(parts)
        if first.field is not None:
            text += f", field {show(first.field, 40)}"
        text += (": " if text else "") + first.problem
        if more:
            command = f"; run `ftkit check {file}`" if file and advice else ""
            text += f" (and {more:,} more {'problem' if more == 1 else 'problems'}{command})"
        return text

    def __str__(self) -> str:
        return self.message()

    def _render_traceback_(self) -> list[str]:
        """What IPython prints: the fault is in the data, so lines of our code would not help."""
        return [f"DataError: {self}"]


def show(value, length: int = 60) -> str:
    """`value` for a message: quoted, cut to about `length` characters, nothing unprintable."""
    if isinstance(value, str):
        return repr(value) if len(value) <= length else repr(value[:length]) + "…"
    try:
        text = json.dumps(value)
    except (ValueError, TypeError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= length else text[:length] + "…"


def _printable(text: str) -> str:
    """A file name on one line, without terminal control characters."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


# First bytes of files that are often handed over in place of JSONL.
SIGNATURES = (
    (b"\x1f\x8b", "gzip-compressed; unpack it first (gunzip FILE)"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet; unpack it or export it as JSONL first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first (unzstd FILE)"),
    (b"BZh", "bzip2-compressed; unpack it first (bunzip2 FILE)"),
    (b"\xfd7zXZ", "xz-compressed; unpack it first (unxz FILE)"),
    (b"PAR1", "a Parquet file; write it as JSONL first (pandas: to_json(orient='records', "
              "lines=True))"),
    (b"ARROW1", "an Arrow file; write it as JSONL first (datasets: to_json)"),
    (b"%PDF", "a PDF; expected JSONL"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data; run `git lfs pull`"),
    (b"\xff\xfe\0\0", "UTF-32, its first byte is 0xFF"),
    (b"\0\0\xfe\xff", "UTF-32, its first byte is 0x00"),
    (b"\xff\xfe", "UTF-16, its first byte is 0xFF"),
    (b"\xfe\xff", "UTF-16, its first byte is 0xFE"),
)


def rows(path: str | Path, digest=None) -> Iterator[tuple[int, dict | None, Problem | None]]:
    """Yield (line, record, problem) for every line that is not blank; one of the two is None.

    A file without lines, or that is not text, yields line 0 and a problem.

    digest: a hashlib object that is fed every byte of the file.
    Raises DataError when the file cannot be opened.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                raise DataError(path, [Problem(0, None, "a device; expected a JSONL file")])
            yield from _rows(file, digest)
    except OSError as error:
        reasons = {errno.ENOENT: "no such file", errno.EISDIR: "a folder"}
        what = reasons.get(error.errno or 0) or f"cannot be read ({error.strerror or error})"
        raise DataError(path, [Problem(0, None, f"{what}; expected a JSONL file")]) from None


def _open(path, flags) -> int:
    """A descriptor; a pipe without a writer is read as empty instead of waited for."""
    no_wait = getattr(os, "O_NONBLOCK", 0)
    file = os.open(path, flags | no_wait)
    if no_wait:
        os.set_blocking(file, True)
    return file


def _rows(file, digest):
    not_jsonl = _not_jsonl(file.peek(64)[:64])
    if not_jsonl:
        yield 0, None, Problem(1, None, not_jsonl)
        return
    is_empty = True
    for number, raw in enumerate(file, 1):
        if digest is not None:
            digest.update(raw)
        line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        if not line.strip():
            continue
        if is_empty and line.lstrip().startswith(b"["):
            yield number, None, Problem(number, None, _ARRAY)
            return  # the rest of an array would only repeat it
        try:
            yield number, _parse(line), None
        except ValueError as error:
            yield number, None, Problem(number, None, str(error))
        is_empty = False
    if is_empty:
        yield 0, None, Problem(1, None, "the file holds no records; expected one JSON object on "
                                        "each line")


def _not_jsonl(head: bytes) -> str | None:
    """What the file is, going by its first bytes, if it cannot be JSONL."""
    for signature, what in SIGNATURES:
        if head.startswith(signature):
            return f"the file is {what}" + (_as_utf8(what[:6]) if what.startswith("UTF") else "")
    if b"\0" in head[:4] and any(head[:4].replace(b"\0", b"")):
        return (f"the file is UTF-16 or UTF-32, byte {head.index(0) + 1} is 0x00"
                + _as_utf8("UTF-16"))
    return None


def _as_utf8(encoding: str) -> str:
    return f"; expected UTF-8, convert it (iconv -f {encoding} -t UTF-8 OLD > NEW)"


class _Repeated(ValueError):
    pass


def _object(pairs: list) -> dict:
    """A dict; a name given twice is an error. Names are shared between records."""
    record = {sys.intern(name): value for name, value in pairs}
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Repeated(f"the name {show(twice, 40)} is given twice; expected each name once")
    return record


def _constant(word: str):
    raise _Repeated(f"{word} is not JSON; expected a number, a string or null")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _parse(line: bytes) -> dict:
    """The object on one line; ValueError with a readable message if there is none."""
    try:
        text = line.decode("utf-8").strip(" \t\r\n")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise UserError(f"not UTF-8: byte {error.start + 1} of the line is 0x{byte:02X}"
                        + _as_utf8("ISO-8859-1") + " if it is Latin-1") from None
    try:
        record = _DECODER.decode(text)
    except _Repeated:
        raise
    except json.JSONDecodeError as error:
        raise UserError(_not_json(text, error, line.endswith(b"\n"))) from None
    except RecursionError:
        raise UserError("nested too deeply to be read; expected a flat JSON object") from None
    except ValueError:  # Python refuses to convert integers of thousands of digits
        raise UserError("a number with too many digits; expected text as strings") from None
    if not isinstance(record, dict):
        kinds = {list: "a JSON array", str: "a string", bool: "a boolean", type(None): "null"}
        what = kinds.get(type(record), "a number")
        raise UserError(f"{what} ({show(record)}); expected one JSON object on each line")
    return record


_ARRAY = ("the file is one JSON array; expected one object on each line, without brackets and "
          "commas around them (jq -c '.[]' OLD > NEW)")


def _not_json(text: str, error: json.JSONDecodeError, ended: bool) -> str:
    """The most likely reason why this line is not JSON."""
    if text.startswith("\ufeff"):
        return "a byte order mark (BOM) in the middle of the file, as joined files have; remove it"
    if text.startswith("<") and not text.startswith("<<"):
        return f"not JSON but HTML or XML ({show(text, 30)}); expected one JSON object on each line"
    if text.startswith(("{'", "{ '")):
        return "single quotes around names; JSON wants double quotes (write it with json.dumps)"
    if error.msg == "Extra data":
        rest = text[error.pos :]
        if rest.strip() == ",":
            return "a comma after the object; expected nothing but the object on each line"
        if text.startswith("{"):
            return (f"more after the end of the object ({show(rest, 40)}); expected one object on "
                    "each line")
    # An error at the very end, or a string that never ends, is a record that was cut.
    if text.startswith("{") and (error.pos >= len(text) or error.msg.startswith("Unterminated")):
        if ended:
            return ("the object does not end on this line; expected each object whole on one "
                    "line (pretty-printed JSON: jq -c . OLD > NEW)")
        return "the file ends in the middle of this record; it was cut off, get it again"
    quoted = text.startswith('"') and error.msg == "Extra data" and text[error.pos] in ",;\t"
    plain = "{" not in text and not text.startswith(("[", '"'))
    if quoted or (plain and any(mark in text for mark in ",;\t")):
        return (f"not JSON but perhaps CSV ({show(text, 40)}); expected one JSON object on each "
                "line (pandas: read_csv(...).to_json(orient='records', lines=True))")
    reason = error.msg.removesuffix(" at")
    at = f" at character {error.pos + 1}" if text.startswith("{") else ""
    return f"not JSON ({reason}{at}: {show(text[error.pos :], 40)}); expected one JSON object"
