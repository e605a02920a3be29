"""Read and validate records from a file, a shipped sample, a list of dicts or a table.

A record is a dict of one of four kinds: instruction (instruction, input, output), chat (messages;
a message of weight 0 is not trained on), text (text), preference (instruction, input, chosen,
rejected, and history, the earlier messages). `foreign` converts the formats of other tools. All
records are validated before any is returned; an error names the line and the field.

    train = records("translation"); mine = records("my.jsonl")
"""

import difflib
import glob
import hashlib
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.base.formatting import show
from ftkit.data import file_formats, foreign
from ftkit.data.foreign import FIELDS
from ftkit.data.jsonl import DataError, Problem
from ftkit.data.record_list import LargeFile, RecordList, Records, kind_of

__all__ = ["DataError", "Problem", "Records", "kind_of", "problems_in", "prompt_of", "records",
           "response_of", "sample_names"]

ROLES = ("system", "user", "assistant")
INVISIBLE = "\u115f\u1160\u2800\u3164\uffa0"  # Hangul fillers, the empty braille cell
LARGE = 4_000_000  # bytes; a larger file is kept as bytes
MOST_MESSAGES = 1000  # per record; its mask takes quadratic time
EXPECTED = "expected instruction and output, or messages, or text, or instruction, chosen, rejected"
TOOLS = ("these tools or calls cannot be written: that needs a chat template that knows them, and "
         "OpenAI's form of a function and of a call; "
         "`ftkit convert OLD NEW.jsonl --tools text` turns them into text")
FLAGS = dict.fromkeys(foreign.FLAGS[1:], "expected true or false, and true for answers only, since "
                      "no other turn is trained on") | {
    "train_detail": "answers are trained on as a whole. Leave it out, or set train to false."}
SKIP = "`ftkit convert OLD NEW.jsonl --skip` leaves such records out"


# ------------------------------------------------------------------------------------- reading


def records(source, split: str = "train") -> Records:
    """Read and validate the records of a sample, of files, or of rows in memory.

    source: the name of a sample; a path, a pattern such as "data/*.jsonl" or a list of paths
    (formats: see `file_formats`); a list of dicts, a DataFrame, a datasets.Dataset or another
    iterable of dicts. split: train, validation or test, for samples and DatasetDicts; ignored for
    other sources (`ft.split` divides them). Raises DataError, with every problem, if a record is
    invalid, or UserError if the name is unknown.
    """
    digest = None
    paths = several(source)
    if paths is not None:
        return _joined(paths, str(source) if isinstance(source, str | Path) else "")
    if isinstance(source, list | tuple | LargeFile):
        path, name = getattr(source, "path", None), getattr(source, "name", "")
        numbers = getattr(source, "lines", range(1, len(source) + 1))
        numbered = ((n, record, None) for n, record in zip(numbers, source, strict=True))
    elif isinstance(source, str | Path):
        if isinstance(source, str) and re.fullmatch(r"[A-Za-z0-9_-]+", source):
            path, name = sample_path(source, split), source
        else:
            path, name = at_home(source), Path(source).name
        digest = hashlib.sha256()
        numbered = file_formats.rows(path, digest)
    else:
        path, name = None, ""
        numbered = ((n, record, None)
                    for n, record in enumerate(foreign.listed(source, split), 1))
    kept, lines = [], array("L")
    for line, record in _valid(numbered, path):
        kept.append(record)
        lines.append(line)
    # Dicts get no hash yet, since they may have been changed after a file was read.
    return Records(kept, name or f"{len(kept)} records", path, lines,
                   digest and digest.hexdigest())


def several(source) -> list[Path] | None:
    """List the files named by a pattern or a list of paths; None for any other source."""
    if isinstance(source, list | tuple) and source:
        are_paths = all(isinstance(path, Path) or (isinstance(path, str) and Path(path).is_file())
                        for path in source)
        return [at_home(path) for path in source] if are_paths else None
    if not isinstance(source, str | Path) or not glob.has_magic(str(source)):
        return None
    path = at_home(source)
    if path.exists():  # a file whose name has brackets
        return None
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not found:
        raise UserError(f"data is {show(str(source))}, a pattern that matches no file; expected at "
                        "least one file")
    return found


def _joined(paths: list[Path], name: str) -> Records:
    """Concatenate the records of several files, which must be of one kind."""
    parts = [records(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if part.kind != parts[0].kind:
            raise DataError(path, [Problem(0, None, f"its records are {part.kind}, but those in "
                                           f"{paths[0].name} are {parts[0].kind}; expected one "
                                           "kind")])
    return Records([record for part in parts for record in part], name or f"{len(paths)} files")


def compact(source, split: str = "train") -> RecordList:
    """Read records like `records`, but keep a JSONL file of more than LARGE bytes as a LargeFile.
    """
    if isinstance(source, LargeFile):
        return source
    path = at_home(source) if isinstance(source, str | Path) else None
    if path is None or not path.is_file() or path.stat().st_size <= LARGE or (
            not file_formats.is_plain_jsonl(path)):
        return records(source, split)
    digest = hashlib.sha256()
    lines = array("L", (line for line, _ in _valid(file_formats.rows(path, digest), path)))
    return LargeFile(path, lines, digest.hexdigest())


def _valid(numbered, path) -> Iterator[tuple[int, dict]]:
    """Yield (line, record) until the first problem; raise DataError at the end if there was one."""
    problems, first = [], None
    for line, given, problem in numbered:
        record = foreign.to_record(given)
        problems += [problem] if problem else problems_in(record, line, first)
        if first is None and isinstance(record, dict):
            first = kind_of(record)
        if not problems:  # after a problem, only validate the rest
            yield line, record
    if first is None and not problems:
        problems = [Problem(0, None, "there are no records; expected at least one")]
    if problems:
        raise DataError(path, problems)


def sample_names() -> list[str]:
    folder = machine.share("data_samples")
    return sorted({path.name.split(".")[0] for path in folder.glob("*.*.jsonl")})


def sample_path(name: str, split: str = "train") -> Path:
    """Path of a sample's file. Raises UserError, with similar names or splits, if there is none."""
    folder = machine.share("data_samples")
    path = folder / f"{name}.{split}.jsonl"
    if path.is_file():
        return path
    names = sample_names()
    if name in names:
        has = ", ".join(sorted(p.name.split(".")[1] for p in folder.glob(f"{name}.*.jsonl")))
        raise UserError(f"the sample {name!r} has no split {split!r}; expected one of {has}")
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"samples: {', '.join(names)}"
    raise UserError(f"no sample is named {name!r}; {hint} (name a file of your own with its "
                    "extension, such as my.jsonl)")


# ------------------------------------------------------------------------------------ checking


def problems_in(record, row: int, expect: str | None = None) -> list[Problem]:
    """List all problems of one record; [] if it is valid.

    expect: the kind of the file's first record, which all its records must have.
    """
    if not isinstance(record, dict):
        return [Problem(row, None, f"{type(record).__name__} {show(record)}; expected a dict")]
    kind = kind_of(record)
    if kind is None:
        renames = [f"{n} to {foreign.our_name(n)}" for n in record
                   if foreign.our_name(n) not in (None, n)]
        hint = f" (rename {', '.join(renames)})" if renames else "; rename your fields"
        if {foreign.our_name(name) or name for name in record} == {"instruction"}:
            hint += "; this record has no answer"
        return [Problem(row, None, f"no known field (the record has {_names(record)}); "
                                   f"{EXPECTED}{hint}")]
    if expect is not None and kind != expect:
        return [Problem(row, None, f"the kind of this record is {kind}, but the file's first is "
                                   f"{expect}; expected one kind in a file")]
    for name in ("tools", "functions"):  # a chat template may know tools, never functions
        if record.get(name) and not (kind == "chat" and name == "tools" and foreign.is_talk(
                record["tools"])):
            return [Problem(row, name, TOOLS)]
    if kind == "chat":
        return _chat_problems(record["messages"], row) or _system_problem(record, row)
    problems = [(name, _text_problem(record, name, optional=name == "input"))
                for name in FIELDS[kind]]
    found = [Problem(row, name, problem) for name, problem in problems if problem]
    if kind == "preference" and record.get("history"):
        found += _chat_problems(record["history"], row, "history")
    # A valid history would have made the record a chat.
    if kind == "instruction" and record.get("history") and not found:
        found.append(Problem(row, "history", f"{show(record['history'], 40)}; expected a list of "
                                             '["question", "answer"]'))
    return found or (_system_problem(record, row) if kind != "text" else [])


def _system_problem(record: dict, row: int) -> list[Problem]:
    """A system prompt that `foreign` could not put into the conversation."""
    return [Problem(row, name, f"{show(record[name], 40)}; expected a text, and no other system "
                               "message in the record")
            for name in ("system", "system_prompt") if record.get(name)]


def _text_problem(record: dict, name: str, optional: bool = False) -> str | None:
    """Describe the problem of a text field, or None. optional: it may be missing or empty."""
    expected = 'expected a string ("" if there is none)' if optional else (
        "expected a non-empty string")
    if name not in record:
        if optional:
            return None
        other = next((n for n in record if foreign.our_name(n) == name), None)
        return f"missing; {expected}" + (f" (rename {other} to {name})" if other else "")
    value = record[name]
    if isinstance(value, list) and name == "content":
        return f"{show(value, 40)}; {expected}, or a list of text parts; {SKIP}"
    if not isinstance(value, str):
        return f"{show(value, 40)}; {expected}"
    if "\0" in value:
        return "contains the NUL character (\\u0000); expected text"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return (f"character {error.start + 1} is half of a surrogate pair "
                    f"(\\u{ord(value[error.start]):04x}); expected valid Unicode")
    is_visible = any(c.isprintable() and not c.isspace() and c not in INVISIBLE for c in value)
    if not optional and not is_visible:
        return (f"only white space ({show(value, 20)})" if value else "empty") + f"; {expected}"
    return None


def _names(record: dict) -> str:
    """List the names of a record's first fields in a message."""
    return ", ".join(show(str(name), 20) for name in list(record)[:4]) or "none"


def _chat_problems(messages, row: int, field: str = "messages") -> list[Problem]:
    """List all problems of messages. In a history, no message needs to be trained on."""
    if not isinstance(messages, list) or not messages:
        return [Problem(row, field, f"{show(messages, 40)}; expected a list of "
                                         '{"role": ..., "content": ...}')]
    if len(messages) > MOST_MESSAGES:
        return [Problem(row, field, f"{len(messages):,} messages; expected at most "
                                    f"{MOST_MESSAGES:,}. Divide the conversation.")]
    problems, roles, called = [], [], False
    for i, message in enumerate(messages):
        name = f"{field}[{i}]"
        if not isinstance(message, dict):
            problems.append(Problem(row, name, f"{show(message, 40)}; expected an object with role "
                                               "and content"))
            roles.append(None)
            continue
        called = called or "tool_calls" in message
        if not _has_valid_calls(message) or (message.get("role") == "tool" and not called):
            problems.append(Problem(row, name, TOOLS))
            continue
        optional = "content" in message and (
            message.get("role") in ("system", "tool") or "tool_calls" in message)
        checks = (("role", _role_problem(message, roles)),
                  ("content", _text_problem(message, "content", optional)),
                  ("weight", None if message.get("weight", 1) in (0, 1) else  # OpenAI's field
                   f"{show(message['weight'], 20)}; expected 0 (not trained on) or 1"),
                  # `foreign` removes valid flags.
                  *((name, f"{show(message[name], 20)}; {FLAGS[name]}")
                    for name in FLAGS if name in message),
                  *((name, f"{show(message[name], 20)}; expected a text") for name in
                    foreign.REASONING if not isinstance(message.get(name, ""), str)))
        problems += [Problem(row, f"{name}.{part}", wrong) for part, wrong in checks if wrong]
        roles.append(message.get("role"))
    if problems or field != "messages":
        return problems
    if "assistant" not in roles:
        return [Problem(row, field, "no assistant turn, so nothing is trained on; expected at "
                                    "least one")]
    if not any(is_trained(m) for m in messages if m["role"] == "assistant"):
        return [Problem(row, field, "all assistant turns have weight 0, so nothing is trained on; "
                                    "expected at least one of weight 1")]
    return []


def _has_valid_calls(message: dict) -> bool:
    """Whether a message calls nothing, or is an answer whose calls are as `foreign` writes them."""
    if "tool_calls" not in message and "function_call" not in message:
        return True
    calls = foreign.calls_of(message)
    return message.get("role") == "assistant" and bool(calls) and calls == message["tool_calls"]


def is_trained(message: dict) -> bool:
    """Whether an assistant message is trained on (its weight is not 0)."""
    return message.get("weight", 1) != 0


def _role_problem(message: dict, before: list) -> str | None:
    """Describe the problem of a message's role, or None. before: roles of earlier messages."""
    role = message.get("role")
    if role not in (*ROLES, "tool"):
        what = show(role, 30) if "role" in message else (
            f"missing (the message has {_names(message)})")
        return f"{what}; expected system, user or assistant"
    if role == "system" and before:
        return "system after other turns; expected one system turn, the first"
    if role == "assistant" and all(r in ("system", "assistant") for r in before):
        return "assistant before any user turn; expected a user turn first"
    return None


# -------------------------------------------------------------------------- parts of a record


def prompt_of(record: dict) -> str:
    """Return the prompt's text: instruction and input, or the turns before the last answer."""
    if "messages" in record:
        turns = record["messages"]
        last = max((i for i, m in enumerate(turns) if m["role"] == "assistant"), default=len(turns))
        return "\n".join(foreign.text_of(m) for m in turns[:last])
    if kind_of(record) == "text":
        return ""
    before = [message["content"] for message in record.get("history") or ()]
    return "\n".join([*before, question_of(record)])


def question_of(record: dict) -> str:
    """Join instruction and input by a newline."""
    return "\n".join(part for part in (record["instruction"], record.get("input")) if part)


def response_of(record: dict) -> str:
    """Return the target: output, chosen, the last assistant turn, or text."""
    if "messages" in record:
        answers = [foreign.text_of(m) for m in record["messages"] if m["role"] == "assistant"]
        return answers[-1] if answers else ""
    return next((record[n] for n in ("chosen", "output", "text") if n in record), "")


def short_hash(text: str) -> int:
    """A 64-bit hash; among a million texts, two collide with probability 3e-8."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def group_key(record: dict) -> str:
    """Normalize the prompt to lower case and single spaces; equal keys mean the same question."""
    text = prompt_of(record) or response_of(record)
    return " ".join(text.lower().split())


def first_of(keys: array):
    """Return, for each 64-bit key, the index of its first occurrence (a numpy array)."""
    import numpy as np

    _, first, group = np.unique(np.frombuffer(keys, np.uint64), return_index=True,
                                return_inverse=True)
    return first[group]
