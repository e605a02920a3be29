"""Read a user's JSON Lines file row by row, and say exactly what is wrong with a bad row.

In: a path. Out: (line number, dict, None) for a good line, (line number, None, Problem) for a bad
one; `file_formats.rows` reads the other formats. One line is in memory at a time. A UTF-8 byte
order mark, CRLF line ends and blank lines are accepted; nothing is guessed or repaired.

    for line, record, problem in rows("my.jsonl"): ...
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ftkit.base.errors import UserError

PIPE_SECONDS = 2  # until somebody writes into a pipe


class Problem(NamedTuple):
    """One thing wrong with one row."""

    row: int  # line number in the file, or position in a list, from 1; 0: the file as a whole
    field: str | None  # None: the row as a whole
    problem: str  # what was found; what is expected; what to do, with OLD and NEW for file names


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
        text += (": " if text else "") + with_names(first.problem, self.path)
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


def with_names(problem: str, path: str | Path | None) -> str:
    """`problem` with the path for OLD, and a new one next to it for NEW, in its `commands`."""
    if path is None:
        return problem.replace("`ftkit convert OLD NEW.jsonl --tools text`",
                               "`convert.convert(records, tools='text')` of ftkit.data")
    path = Path(path)
    name, _, endings = path.name.rpartition(".jsonl") if ".jsonl" in path.name else (
        path.stem, "", "")
    ending = ".jsonl" + endings if ".jsonl" in path.name else path.suffix

    def new(match):
        return shlex.quote(str(path.with_name(f"{name}-new{match[1] or ending}")))

    def filled(match):
        command = re.sub(r"\bNEW(\.[a-z.]+)?", new, match[0])
        return re.sub(r"\bOLD\b", lambda _: shlex.quote(str(path)), command)

    return _printable(re.sub(r"`[^`]*\b(?:OLD|NEW)\b[^`]*`", filled, problem))


@contextlib.contextmanager
def opening(path: Path):
    """The file, opened to be read as bytes; DataError where that cannot be."""
    try:
        if path.is_dir() or path.is_char_device():
            raise DataError(path, [Problem(0, None, _no_file(path))])
        with open(_open_pipe(path) if path.is_fifo() else path, "rb") as file:
            yield file
    except OSError as error:
        what = "no such file; expected a data file" + _on_the_hub(path) if isinstance(
            error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"
        raise DataError(path, [Problem(0, None, what)]) from None


def _open_pipe(path: Path) -> int:
    """The handle of a pipe such as that of `<(command)`; DataError where nobody writes into it,
    since reading would wait for ever."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not select.select([handle], [], [], PIPE_SECONDS)[0]:
        with contextlib.suppress(BlockingIOError):  # of a writer that takes its time
            os.read(handle, 1)
            os.close(handle)
            raise DataError(path, [Problem(0, None, "a pipe into which nothing is written; "
                                           "expected a data file")])
    os.set_blocking(handle, True)
    return handle


def _no_file(path: Path) -> str:
    if path.is_char_device():
        return "a device; expected a data file"
    if (path / "dataset_info.json").exists():
        return ("a data set that was saved to disk; write it to a file: `python -c \"from datasets "
                f"import load_from_disk; load_from_disk({str(path)!r}).to_json("
                f"{path.name + '.jsonl'!r})\"`")
    inside = sorted({file.suffix for file in path.iterdir() if file.suffix})
    name = shlex.quote(f"{path}/*{inside[0] if inside else '.jsonl'}")
    return f"a folder; expected a data file, or several by a pattern: {name}"


def _on_the_hub(path: Path) -> str:
    """How a data set of the hub becomes a file, where the name may be one."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(path)) or path.suffix in (
            ".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz"):
        return ""
    file = f"{path.name}.jsonl"
    install = "" if find_spec("datasets") else "python -m pip install datasets && "
    return (f"; one of the Hugging Face hub becomes a file by `{install}python -c \"from datasets "
            f"import load_dataset; load_dataset('{path}', split='train').to_json('{file}')\"`, "
            f"then give {file}")


def rows(path: str | Path, digest=None) -> Iterator[tuple[int, dict | None, Problem | None]]:
    """Yield (line, record, problem) for every line that is not blank; one of the two is None.

    A file without lines, or that is not text, yields line 0 and a problem.

    digest: a hashlib object that is fed every byte of the file.
    Raises DataError when the file cannot be opened.
    """
    with opening(Path(path)) as file:
        yield from lines(file, digest)


PACKED = {  # first bytes → what the file is, and what to do
    b"\x1f\x8b": "the file is packed by gzip; name it so: `mv OLD NEW.jsonl.gz`",
    b"BZh": "the file is packed by bzip2; name it so: `mv OLD NEW.jsonl.bz2`",
    b"\xfd7zX": "the file is packed by xz; name it so: `mv OLD NEW.jsonl.xz`",
    b"\x28\xb5\x2f\xfd": "the file is packed by Zstandard; unpack it: `zstd -d OLD -o NEW.jsonl`",
    b"\x89PNG": "the file is a picture; expected records, such as JSON Lines",
    b"PAR1": "the file is Parquet; name it so: `mv OLD NEW.parquet`",
    b"PK\x03\x04": "the file is a zip archive or a spreadsheet; unpack it (`unzip OLD`), or save "
                   "the sheet as CSV",
}


def not_text(head: bytes) -> str | None:
    """What the file is, going by its first four bytes, if it cannot be UTF-8."""
    for start, what in PACKED.items():
        if head.startswith(start):
            return what
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (b"\0" in head and head.strip(b"\0")):
        kind = "UTF-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else (
            "UTF-16BE" if head.startswith(b"\0") else "UTF-16LE")
        return ("the file is UTF-16; expected UTF-8, convert it: "
                f"`iconv -f {kind} -t UTF-8 OLD > NEW`")
    return None


def lines(file, digest=None) -> Iterator[tuple[int, dict | None, Problem | None]]:
    """`rows` of an open file that can peek."""
    not_jsonl = not_text(file.peek(4)[:4])
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
            if is_empty and str(error).startswith(_CSV):
                return  # each line would be an error
        is_empty = False
    if is_empty:
        yield 0, None, Problem(1, None, "the file holds no records; expected one JSON object on "
                                        "each line")


class _Repeated(ValueError):
    pass


def _object(pairs: list) -> dict:
    """A dict; a name given twice is an error. Names are shared between records."""
    record = {sys.intern(name): value for name, value in pairs}
    if len(record) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _Repeated(f"the name {show(twice, 40)} is given twice; expected each name once")
    return record


def _constant(word: str):
    raise _Repeated(f"{word} is not JSON; expected a number, a string or null")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _parse(line: bytes) -> dict:
    """The object on one line; ValueError with a readable message if none exists."""
    try:
        text = line.decode("utf-8").strip(" \t\r\n")
    except UnicodeDecodeError as error:
        if _BINARY.search(line):
            raise UserError("not text but a binary file; expected JSON Lines in UTF-8") from None
        byte = line[error.start]
        raise UserError(f"not UTF-8: byte {error.start + 1} of the line is 0x{byte:02X}; if it is "
                        "Latin-1, convert it: `iconv -f LATIN1 -t UTF-8 OLD > NEW`") from None
    try:
        record = DECODER.decode(text)
    except _Repeated:
        raise
    except json.JSONDecodeError as error:
        raise UserError(_not_json(text, error, line.endswith(b"\n"))) from None
    except RecursionError:
        raise UserError("nested too deeply to be read; expected a flat JSON object") from None
    except ValueError:  # Python refuses to convert integers of thousands of digits
        raise UserError("a number with too many digits; expected text as strings") from None
    if not isinstance(record, dict):
        raise UserError(f"{show(record)} is not an object; expected one JSON object on each line")
    return record


_BINARY = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")  # no tab, line end or escape
_CSV = "not JSON but perhaps CSV"
_ARRAY = "the file is one JSON array, not JSON Lines; name it so: `mv OLD NEW.json`"


def _not_json(text: str, error: json.JSONDecodeError, ended: bool) -> str:
    """The most likely reason why this line is not JSON."""
    if text.startswith("\ufeff"):
        return "a byte order mark (BOM) in the middle of the file, as joined files have; remove it"
    if text.startswith(("<!", "<?", "<html")):
        return f"not JSON but HTML or XML ({show(text, 30)}); expected one JSON object on each line"
    if text.startswith(("{'", "{ '")):
        return "single quotes around names; JSON wants double quotes (write it with json.dumps)"
    rest = text[error.pos :]
    if text[: error.pos].rstrip().endswith(",") and rest[:1] in ("}", "]"):
        return f"a comma before the closing {rest[0]} (at character {error.pos}); remove it"
    if error.msg == "Extra data" and text.startswith("{"):
        return (f"more after the end of the object ({show(rest, 40)}); expected one object on each "
                "line, without commas between them")
    # An error at the very end, or a string that never ends, is a record that was cut.
    if text.startswith("{") and (not rest or error.msg.startswith("Unterminated")):
        if ended:
            return ("the object does not end on this line; JSON Lines has each object whole on "
                    "one line, pretty-printed JSON is named so: `mv OLD NEW.json`")
        return "the file ends in the middle of this record; it was cut off, get it again"
    if "{" not in text and ("," in text or "\t" in text):
        return (f"{_CSV} ({show(text, 40)}); name it so: `mv OLD NEW.csv`")
    reason = error.msg.removesuffix(" at")
    return (f"not JSON ({reason} at character {error.pos + 1}: {show(rest, 40)}); expected one "
            "JSON object")
