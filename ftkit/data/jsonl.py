"""Read a user's JSON Lines file and explain what is wrong with each bad line.

    for line, record, problem in lines(file): ...     record or problem is None

Only one line is in memory at a time. A UTF-8 byte order mark, CRLF line ends and blank lines are
accepted; nothing else is repaired. `file_formats.rows` reads the other formats.
"""

import contextlib
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ftkit.base.errors import UserError
from ftkit.base.formatting import printable_name, show


class Problem(NamedTuple):
    """One problem with one row of a data set."""

    row: int  # line number in the file or index in a list, from 1; 0: the whole file
    field: str | None  # None: the whole row
    problem: str  # what was found, what is expected, what to do; OLD and NEW stand for file names


class DataError(UserError):
    """Invalid data. `problems` lists every problem; the message gives the first."""

    def __init__(self, path: str | Path | None, problems: list[Problem]):
        self.path, self.problems = path, problems
        super().__init__(path, problems)

    def message(self, advice: bool = True) -> str:
        """The first problem and how many more there are; `advice` adds how to list them all."""
        first, more = self.problems[0], len(self.problems) - 1
        file = None if self.path is None else printable_name(self.path)
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
        """IPython's traceback: only the message, since the fault is in the data."""
        return [f"DataError: {self}"]


def with_names(problem: str, path: str | Path | None) -> str:
    """Replace OLD by the path and NEW by a new name next to it, in the `commands` of `problem`."""
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

    return printable_name(re.sub(r"`[^`]*\b(?:OLD|NEW)\b[^`]*`", filled, problem))


@contextlib.contextmanager
def opening(path: Path):
    """Open a file for reading bytes. Raises DataError if that fails."""
    try:
        if path.is_dir() or path.is_char_device():
            raise DataError(path, [Problem(0, None, _no_file(path))])
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        what = "no such file; expected a data file" + _on_the_hub(path) if isinstance(
            error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"
        raise DataError(path, [Problem(0, None, what)]) from None


def _no_file(path: Path) -> str:
    if path.is_char_device():
        return "this is a device; expected a data file"
    if (path / "dataset_info.json").exists():
        return ("this is a dataset written by save_to_disk. Convert it to a file: `python -c \""
                f"from datasets import load_from_disk; load_from_disk({str(path)!r}).to_json("
                f"{path.name + '.jsonl'!r})\"`")
    inside = sorted({file.suffix for file in path.iterdir() if file.suffix})
    name = shlex.quote(f"{path}/*{inside[0] if inside else '.jsonl'}")
    return f"this is a folder; expected a data file, or a pattern for several: {name}"


def _on_the_hub(path: Path) -> str:
    """How to download a data set if the path looks like a hub id; else ""."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(path)) or path.suffix in (
            ".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz"):
        return ""
    file = f"{path.name}.jsonl"
    install = "" if find_spec("datasets") else "python -m pip install datasets && "
    return (f". To download it from the Hugging Face hub, run `{install}python -c \"from datasets "
            f"import load_dataset; load_dataset('{path}', split='train').to_json('{file}')\"`, "
            f"then pass {file}")


PACKED = {  # first bytes → what the file is, and what to do
    b"\x1f\x8b": "the file is compressed by gzip. Rename it: `mv OLD NEW.jsonl.gz`",
    b"BZh": "the file is compressed by bzip2. Rename it: `mv OLD NEW.jsonl.bz2`",
    b"\xfd7zX": "the file is compressed by xz. Rename it: `mv OLD NEW.jsonl.xz`",
    b"\x28\xb5\x2f\xfd": "the file is compressed by Zstandard. Unpack it: "
                         "`zstd -d OLD -o NEW.jsonl`",
    b"\x89PNG": "the file is a picture; expected records, such as JSON Lines",
    b"PAR1": "the file is Parquet. Rename it: `mv OLD NEW.parquet`",
    b"PK\x03\x04": "the file is a zip archive or a spreadsheet. Unpack it (`unzip OLD`), or save "
                   "the sheet as CSV.",
}


MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16",
         b"\xfe\xff": "UTF-16"}  # byte order marks


def not_text(head: bytes) -> str | None:
    """Name a file's format if its first four bytes show that it is not UTF-8 text; else None."""
    for start, what in PACKED.items():
        if head.startswith(start):
            return what
    kind = next((kind for start, kind in MARKS.items() if head.startswith(start)), None)
    if kind is None and b"\0" in head and head.strip(b"\0"):  # no mark: the zeros tell
        kind = ("UTF-32" if head.count(0) > 2 else "UTF-16") + (
            "BE" if head.startswith(b"\0") else "LE")
    return kind and (f"the file is {kind[:6]}; expected UTF-8. Convert it: "
                     f"`iconv -f {kind} -t UTF-8 OLD > NEW`")


def lines(file, digest=None) -> Iterator[tuple[int, dict | None, Problem | None]]:
    """Yield (line, record, problem) for every non-blank line of an open, buffered file.

    If the file is empty or not text, yields line 0 with one problem. digest: a hashlib object that
    is updated with every byte.
    """
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
            return  # every further line of the array would be an error
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
    """Build a dict with interned keys. Raises _Repeated if a key is repeated."""
    record = {sys.intern(name): value for name, value in pairs}
    if len(record) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _Repeated(f"the name {show(twice, 40)} occurs twice; expected each name once")
    return record


def _constant(word: str):
    raise _Repeated(f"{word} is not JSON; expected a number, a string or null")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _parse(line: bytes) -> dict:
    """Parse the JSON object on one line. Raises ValueError with a readable message on failure."""
    try:
        text = line.decode("utf-8").strip(" \t\r\n")
    except UnicodeDecodeError as error:
        if _BINARY.search(line):
            raise UserError("the file is binary; expected JSON Lines in UTF-8") from None
        byte = line[error.start]
        raise UserError(f"not UTF-8: byte {error.start + 1} of the line is 0x{byte:02X}. If the "
                        "file is Latin-1, convert it: `iconv -f LATIN1 -t UTF-8 OLD > "
                        "NEW`") from None
    try:
        record = DECODER.decode(text)
    except _Repeated:
        raise
    except json.JSONDecodeError as error:
        raise UserError(_not_json(text, error, line.endswith(b"\n"))) from None
    except RecursionError:
        raise UserError("nested too deeply; expected a flat JSON object") from None
    except ValueError:  # Python refuses to convert integers of thousands of digits
        raise UserError("a number has too many digits. If it is text, put it in quotes.") from None
    if not isinstance(record, dict):
        raise UserError(f"{show(record)} is not an object; expected one JSON object on each line")
    return record


_BINARY = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")  # control characters that text never has
_CSV = "not JSON, perhaps CSV"
_ARRAY = "the file is one JSON array, not JSON Lines. Rename it: `mv OLD NEW.json`"


def _not_json(text: str, error: json.JSONDecodeError, ended: bool) -> str:
    """Explain why a line is not JSON (the most likely reason). ended: it ends in a newline."""
    if text.startswith("\ufeff"):
        return ("a byte order mark (BOM) in the middle of the file, perhaps from joining files; "
                "remove it")
    if text.startswith(("<!", "<?", "<html")):
        return f"HTML or XML, not JSON ({show(text, 30)}); expected one JSON object on each line"
    if text.startswith(("{'", "{ '")):
        return "names have single quotes; expected double quotes. Write the file with json.dumps."
    rest = text[error.pos :]
    if text[: error.pos].rstrip().endswith(",") and rest[:1] in ("}", "]"):
        return f"a comma before the closing {rest[0]} (at character {error.pos}); remove it"
    if error.msg == "Extra data" and text.startswith("{"):
        return (f"more text after the end of the object ({show(rest, 40)}); expected one object "
                "on each line, without commas between them")
    # An error at the very end, or an unterminated string, means that the record was cut off.
    if text.startswith("{") and (not rest or error.msg.startswith("Unterminated")):
        if ended and text[-1] not in "{[,":
            return ("the record is cut off at the end of this line; write it again, or leave it "
                    "out: `ftkit convert OLD NEW.jsonl --skip`")
        if ended:
            return ("the object does not end on this line; JSON Lines needs each object on one "
                    "line; if this is pretty-printed JSON, rename it: `mv OLD NEW.json`")
        return "the file is cut off in the middle of this record; download it again"
    if "{" not in text and ("," in text or "\t" in text):
        return f"{_CSV} ({show(text, 40)}); if so, rename it: `mv OLD NEW.csv`"
    reason = error.msg.removesuffix(" at")
    return (f"not JSON ({reason} at character {error.pos + 1}: {show(rest, 40)}); expected one "
            "JSON object")
