"""Read the rows of a data file; its extension decides the format.

    for row, record, problem in rows("my.csv"): ...

JSON Lines suits large data, since it is read line by line; .json, .csv, .tsv, .txt and .parquet
files are read whole. Each may be compressed (.gz, .bz2, .xz). In a .txt file each paragraph is a
record, or each line if there are no blank lines.
"""

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from ftkit.base.errors import UserError
from ftkit.base.formatting import show
from ftkit.data import foreign, jsonl
from ftkit.data.jsonl import Problem

OPEN = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
Rows = Iterator[tuple[int, dict | None, Problem | None]]


def is_plain_jsonl(path: Path) -> bool:
    return path.suffix.lower() not in {*OPEN, *READ}


def rows(path: str | Path, digest=None) -> Rows:
    """Yield (line, record, problem) for every record, in every format; record or problem is None.

    line: the record's first line (in Parquet, its row); 0 for a problem of the whole file.
    digest: a hashlib object that is updated with the uncompressed bytes. Raises DataError if the
    file cannot be opened.
    """
    path = Path(path)
    unpack = OPEN.get(path.suffix.lower())
    inner = Path(path.stem if unpack else path.name)
    with jsonl.opening(path) as raw:
        try:
            file = unpack(raw) if unpack else raw
            if inner.suffix.lower() not in READ:
                yield from jsonl.lines(file, digest)
                return
            content = file.read()
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            yield 0, None, Problem(0, None, f"the compressed file is damaged ({error}). Download "
                                            "it again")
            return
    if digest is not None:
        digest.update(content)
    is_empty, kind = True, inner.suffix.lower()
    try:
        for row in READ[kind](content if kind == ".parquet" else _decoded(content)):
            is_empty = False
            yield row
    except UserError as error:
        yield 0, None, Problem(1, None, str(error))
        return
    if is_empty:
        yield 0, None, Problem(1, None, "the file holds no records; expected at least one")


def _decoded(content: bytes) -> str:
    """Decode UTF-8. Raises UserError, with a command that converts the file, if that fails."""
    wrong = jsonl.not_text(content[:4])
    if wrong:
        raise UserError(wrong)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"line {line} is not UTF-8 (0x{content[error.start]:02X}). If the file is "
                        "Latin-1, convert it: `iconv -f LATIN1 -t UTF-8 OLD > NEW`") from None


def _csv(text: str) -> Rows:
    """Yield the rows of a table whose first line has the field names."""
    head = text.partition("\n")[0]
    separator = max(",;\t|", key=head.count)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not names:
                names = cells
                if len({*names}) < len(names):
                    yield line, None, Problem(line, None, "two columns have the same name in "
                                              f"{show(', '.join(names))}; rename one")
                    return
            elif len(cells) > len(names):
                yield line, None, Problem(line, None, f"{len(cells)} cells in {len(names)} "
                                          "columns; put a text that contains the separator "
                                          f"{show(separator)} in double quotes")
            elif cells:
                given = dict(zip(names, cells, strict=False))
                yield line, foreign.from_cells(given), None
            line = reader.line_num + 1
    except csv.Error as error:
        yield line, None, Problem(line, None, f"not CSV ({error})")


def _json(text: str) -> Rows:
    """Read an array of objects, an object that contains one such array, or a series of objects."""
    start = re.match(r"\s*", text)
    at = start.end() if start else 0
    if not text[at:]:
        return
    if text[at] == "[":
        yield from _values(text, at + 1, ",")
        return
    found = list(_values(text, at, ""))
    if len(found) == 1 and isinstance(found[0][1], dict):
        arrays = [name for name, value in found[0][1].items() if isinstance(value, list)
                  and value and all(isinstance(row, dict) for row in value)]
        one = foreign.to_record(found[0][1])
        if len(arrays) == 1 and not any(fields <= one.keys() for fields in foreign.WHOLE):
            at = _place(text, arrays[0], found[0][1][arrays[0]])
            if at is not None:
                yield from _values(text, at, ",", is_whole=False)
                return
    if any(problem for *_, problem in found):  # `jsonl` explains a bad line better
        found = list(jsonl.lines(io.BufferedReader(io.BytesIO(text.encode()))))
    yield from found


def _place(text: str, name: str, array: list) -> int | None:
    """Index after the bracket that opens `array`, the value of `name`; an object inside may have an
    array of the same name."""
    for opening in re.finditer(re.escape(json.dumps(name)) + r"\s*:\s*\[", text):
        with contextlib.suppress(ValueError):
            if jsonl.DECODER.raw_decode(text, opening.end() - 1)[0] == array:
                return opening.end()
    return None


def _values(text: str, at: int, separator: str, is_whole: bool = True) -> Rows:
    """Yield the JSON values from index `at` to the end or the closing bracket, as rows. is_whole:
    nothing may follow the bracket."""
    counted, line = 0, 1
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]" if separator else at == len(text):
            rest = text[at + 1 :].strip()
            if rest and separator and is_whole:
                yield line, None, Problem(line, None, f"{show(rest[:40])} after the end of the "
                                          "array; expected one array, with all records in it")
            return
        try:
            value, end = jsonl.DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            why = error if not isinstance(error, json.JSONDecodeError) else error.msg
            yield line, None, Problem(line, None, f"not JSON ({why}: {show(text[at : at + 40])})")
            return
        if isinstance(value, dict):
            yield line, value, None
        else:
            yield line, None, Problem(line, None, f"{show(value)} is not an object; expected a "
                                      "list of objects")
        while end < len(text) and text[end].isspace():
            end += 1
        if separator and text[end : end + 1] == separator:
            end += 1
        elif separator and text[end : end + 1] != "]":
            yield line, None, Problem(line, None, "the array is cut off after this record; "
                                      "download the file again" if end == len(text) else
                                      f"{show(text[end : end + 20])} after this record; expected "
                                      "a comma or ]")
            return
        at = end


def _txt(text: str) -> Rows:
    """Yield a text record per paragraph, or per line if there are no blank lines."""
    text = text.strip().replace("\r\n", "\n")
    parts = re.split(r"(\n\s*\n)" if re.search(r"\n\s*\n", text) else r"(\n)", text)
    line = 1
    for part, gap in zip(parts[::2], [*parts[1::2], ""], strict=True):
        if part.strip():
            yield line, {"text": part}, None
        line += part.count("\n") + gap.count("\n")


def _parquet(content: bytes) -> Rows:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        yield 0, None, Problem(0, None, "reading Parquet needs pyarrow, which is not installed. "
                               "Run `pip install pyarrow`")
        return
    try:
        found = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # ValueError: no UTF-8
        why = str(error).partition("\n")[0]
        yield 0, None, Problem(0, None, f"not a complete Parquet file ({why:.80}). Download it "
                                        "again")
        return
    for number, row in enumerate(found, 1):
        yield number, foreign.from_cells(row), None


READ = {".csv": _csv, ".tsv": _csv, ".json": _json, ".txt": _txt, ".parquet": _parquet}
