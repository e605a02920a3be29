"""Records: JSONL on disk, a shipped sample or a list of dicts → checked records.

A record is a plain dict of one of four kinds: instruction (instruction, input, output), chat
(messages), text (text), preference (instruction, input, chosen, rejected). Everything is checked
before anything is returned, so a bad record is told by line and field and never reaches training.

    train = records("translation"); mine = records("my.jsonl"); train, val = split(mine, 0.1, 0)
"""

from __future__ import annotations

import difflib
import hashlib
import html
import json
import random
import re
from array import array
from collections import Counter
from pathlib import Path

from ftkit import machine
from ftkit.jsonl import DataError, Problem, rows, show

__all__ = ["DataError", "Problem", "Records", "check", "corrupt", "kind_of", "mix", "problems_in",
           "prompt_of", "records", "response_of", "sample_names", "split"]

FIELDS = {  # the fields of each kind; the first that is present decides the kind
    "chat": ("messages",),
    "preference": ("chosen", "rejected", "instruction", "input"),
    "instruction": ("output", "instruction", "input"),
    "text": ("text",),
}
DECIDES = {"messages": "chat", "chosen": "preference", "rejected": "preference",
           "output": "instruction", "instruction": "instruction", "text": "text"}
ROLES = ("system", "user", "assistant")
EXPECTED = "expected instruction and output, or messages, or text, or instruction, chosen, rejected"
FOREIGN = {  # names other tools use → ours
    "prompt": "instruction", "question": "instruction", "query": "instruction",
    "completion": "output", "response": "output", "answer": "output", "target": "output",
    "context": "input", "conversations": "messages", "content": "text",
}


class Records(list):
    """A list of dicts that knows where it came from; slices know it too.

    name: for titles. path: the file, or None. kind: instruction, chat, text, preference, or mixed.
    lines: the line number of each record, from 1. sha256: of the file's bytes, else of the
    records as JSON.
    """

    def __init__(self, items=(), name="records", path=None, lines=None, sha256=None):
        super().__init__(items)
        self.name, self.path, self._sha256 = name, path, sha256
        self.lines = range(1, len(self) + 1) if lines is None else lines
        kinds = {kind_of(record) for record in self}
        self.kind = kinds.pop() if len(kinds) == 1 else "mixed"  # replay mixes kinds

    @property
    def sha256(self) -> str:
        if self._sha256 is None:
            digest = hashlib.sha256()
            for record in self:
                digest.update(json.dumps(record, sort_keys=True).encode() + b"\n")
            self._sha256 = digest.hexdigest()
        return self._sha256

    def __getitem__(self, at):
        if not isinstance(at, slice):
            return super().__getitem__(at)
        return Records(super().__getitem__(at), self.name, self.path, self.lines[at])

    def __repr__(self) -> str:
        return f"Records({self.name}: {len(self):,} {self.kind} records)"

    def _repr_html_(self) -> str:
        names = list(dict.fromkeys(name for record in self[:5] for name in record))
        head = "".join(f"<th style='text-align:left'>{html.escape(str(name))}</th>"
                       for name in names)
        left = "<td style='text-align:left'>"
        body = "".join("<tr>" + "".join(f"{left}{_cell(record.get(n))}</td>" for n in names)
                       + "</tr>" for record in self[:5])
        return (f"<b>{html.escape(self.name)}</b>: {len(self):,} {self.kind} records, the first "
                f"{min(5, len(self))}<table><tr>{head}</tr>{body}</table>")


def _cell(value) -> str:
    if isinstance(value, list):  # messages
        value = "\n".join(f"{m.get('role')}: {m.get('content')}" for m in value)
    text = "" if value is None else str(value)
    return html.escape(text if len(text) <= 240 else text[:240] + " …").replace("\n", "<br>")


# ------------------------------------------------------------------------------------- reading


def records(source: str | Path | list, split: str = "train") -> Records:
    """Records of a sample (by name), of a JSONL file, or of a list of dicts, all checked.

    split: train, validation or test; it chooses the file of a sample and means nothing otherwise.
    Raises DataError with every problem found, or ValueError for an unknown name.
    """
    if isinstance(source, list | tuple):
        lines = getattr(source, "lines", range(1, len(source) + 1))
        path = getattr(source, "path", None)
        kept, _ = _checked(((n, r, None) for n, r in zip(lines, source, strict=True)), path)
        # No hash is handed on: the dicts may have been changed since the file was read.
        return Records(kept, getattr(source, "name", f"{len(kept)} records"), path, lines)
    if not isinstance(source, str | Path):
        raise ValueError(f"data is {type(source).__name__}; expected the name of a sample, a path "
                         "of a JSONL file, or a list of dicts")
    named = isinstance(source, str) and re.fullmatch(r"[A-Za-z0-9_-]+", source)
    path = sample_path(source, split) if named else Path(source).expanduser()
    digest = hashlib.sha256()
    kept, lines = _checked(rows(path, digest), path)
    return Records(kept, source if named else path.name, path, lines, digest.hexdigest())


def _checked(found, path) -> tuple[list[dict], array | None]:
    """The records and their line numbers (None: 1, 2, 3, ...) if all are good, else DataError."""
    kept, lines, problems, first = [], array("L"), [], None
    for line, record, problem in found:
        problems += [problem] if problem else problems_in(record, line, first)
        if first is None and isinstance(record, dict):
            first = kind_of(record)
        if not problems:  # after a problem the rest is only looked at
            kept.append(record)
            lines.append(line)
    if not kept and not problems:
        problems = [Problem(0, None, "there are no records; expected at least one")]
    if problems:
        raise DataError(path, problems)
    return kept, None if lines[-1] == len(lines) else lines


def sample_names() -> list[str]:
    """Names of the shipped samples, which `records` takes."""
    folder = machine.share("data_samples")
    return sorted({path.name.split(".")[0] for path in folder.glob("*.*.jsonl")})


def sample_path(name: str, split: str = "train") -> Path:
    """The file of a sample; ValueError with the nearest names, or the splits that exist."""
    folder = machine.share("data_samples")
    path = folder / f"{name}.{split}.jsonl"
    if path.is_file():
        return path
    names = sample_names()
    if name in names:
        has = ", ".join(sorted(p.name.split(".")[1] for p in folder.glob(f"{name}.*.jsonl")))
        raise ValueError(f"the sample {name!r} has no split {split!r}; it has {has}")
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"samples: {', '.join(names)}"
    raise ValueError(f"no sample is named {name!r}; {hint} (a file of your own needs its ending, "
                     "such as my.jsonl)")


# ------------------------------------------------------------------------------------ checking


def kind_of(record: dict) -> str | None:
    """instruction, chat, text or preference, by the fields that are there; None if by none."""
    return next((kind for name, kind in DECIDES.items() if name in record), None)


def problems_in(record, row: int, expect: str | None = None) -> list[Problem]:
    """Everything that keeps one record from being trained on; [] for a good one.

    expect: the kind of the first record of the file, since a file holds one kind.
    """
    if not isinstance(record, dict):
        return [Problem(row, None, f"{type(record).__name__} {show(record)}; expected a dict")]
    kind = kind_of(record)
    if kind is None:
        renames = [f"{n} to {FOREIGN[n]}" for n in record if n in FOREIGN]
        hint = f" (rename {', '.join(renames)})" if renames else ""
        return [Problem(row, None, f"no known field (the record has {_names(record)}); "
                                   f"{EXPECTED}{hint}")]
    if expect is not None and kind != expect:
        return [Problem(row, None, f"this record is {kind}, the first of the file is {expect}; "
                                   "expected one kind in a file")]
    if kind == "chat":
        return _chat_problems(record["messages"], row)
    found = []
    for name in FIELDS[kind]:
        what = _text_problem(record, name, optional=name == "input")
        if what:
            found.append(Problem(row, name, what))
    return found


def _text_problem(record: dict, name: str, optional: bool = False) -> str | None:
    """What is wrong with a text field. optional: it may be missing or empty."""
    expected = 'expected a string ("" if there is none)' if optional else (
        "expected a non-empty string")
    if name not in record:
        if optional:
            return None
        other = next((n for n in record if FOREIGN.get(n) == name), None)
        return f"missing; {expected}" + (f" (rename {other} to {name})" if other else "")
    value = record[name]
    if not isinstance(value, str):
        return f"{_type_name(value)}; {expected}"
    if not optional and _blank(value):
        return (f"only white space ({show(value, 20)})" if value else "empty") + f"; {expected}"
    if "\0" in value:
        return "contains the NUL character (\\u0000); expected text"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return (f"character {error.start + 1} is half of a surrogate pair "
                    f"(\\u{ord(value[error.start]):04x}); expected valid Unicode")
    return None


def _blank(text: str) -> bool:
    """Nothing to read: white space, zero-width characters."""
    if not text.strip():
        return True
    return len(text) <= 16 and not any(c.isprintable() and not c.isspace() for c in text)


def _names(record: dict) -> str:
    """The first fields of a record, for a message."""
    return ", ".join(show(str(name), 20) for name in list(record)[:4]) or "none"


def _type_name(value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = {int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}
    return f"{kind.get(type(value), type(value).__name__)} ({show(value, 40)})"


def _chat_problems(messages, row: int) -> list[Problem]:
    want = 'expected a list of {"role": ..., "content": ...}'
    if not isinstance(messages, list):
        return [Problem(row, "messages", f"{_type_name(messages)}; {want}")]
    if not messages:
        return [Problem(row, "messages", f"an empty list; {want}")]
    found, roles = [], []
    for i, message in enumerate(messages):
        at = f"messages[{i}]"
        if not isinstance(message, dict):
            found.append(Problem(row, at, f"{_type_name(message)}; expected an object with role "
                                          "and content"))
            roles.append(None)
            continue
        role = message.get("role")
        if role not in ROLES:
            what = show(role, 30) if "role" in message else (
                f"missing (the message has {_names(message)})")
            found.append(Problem(row, f"{at}.role", f"{what}; expected system, user or assistant"))
        elif role == "system" and i:
            found.append(Problem(row, f"{at}.role", "system after other turns; expected it first "
                                                    "and only once"))
        elif role == "assistant" and not {"user", None} & set(roles):
            found.append(Problem(row, f"{at}.role", "assistant before any user turn; expected a "
                                                    "user turn to answer"))
        roles.append(role if role in ROLES else None)
        what = _text_problem(message, "content", optional=role == "system" and "content" in message)
        if what:
            found.append(Problem(row, f"{at}.content", what))
    if not found and "assistant" not in roles:
        found = [Problem(row, "messages", "no assistant turn, so nothing to learn; expected at "
                                          "least one")]
    return found


def check(path, tokenizer=None, max_length=None, against=None) -> dict:
    """Everything about a file worth knowing before training; see `audit.check`."""
    from ftkit import audit  # the audit also counts tokens, so it stands above this module

    return audit.check(path, tokenizer=tokenizer, max_length=max_length, against=against)


# -------------------------------------------------------------------------- parts of a record


def prompt_of(record: dict) -> str:
    """What the model is given: instruction and input, or the turns before the last answer."""
    if "messages" in record:
        turns = record["messages"]
        last = max((i for i, m in enumerate(turns) if m["role"] == "assistant"), default=len(turns))
        return "\n".join(m["content"] for m in turns[:last])
    if kind_of(record) == "text":
        return ""
    return "\n".join(part for part in (record["instruction"], record.get("input")) if part)


def response_of(record: dict) -> str:
    """What the model should write: output, chosen, the last assistant turn, or the text."""
    if "messages" in record:
        said = [m["content"] for m in record["messages"] if m["role"] == "assistant"]
        return said[-1] if said else ""
    return next((record[n] for n in ("chosen", "output", "text") if n in record), "")


def short_hash(text: str) -> int:
    """64 bits; two of a million different texts meet with probability 3e-8."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def group_key(record: dict) -> str:
    """Records with the same key ask the same thing; case and white space do not count."""
    text = prompt_of(record) or response_of(record)
    return " ".join(text.lower().split())


# ------------------------------------------------------------------- split, mix, make them worse


def split(records: list, fraction: float, seed: int) -> tuple[Records, Records]:
    """(train, validation) with about `fraction` of the records in validation.

    Records that ask the same (instruction and input) stay on one side, so nothing leaks.
    Raises ValueError if they all ask the same.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction!r}; expected a number between 0 and 1")
    # Numbers and hashes: lists and the texts themselves would take as much memory as the file.
    known: dict[int, int] = {}
    group_of = array("L", (known.setdefault(short_hash(group_key(record)), len(known))
                           for record in records))
    sizes = array("L", bytes(array("L").itemsize * len(known)))
    for group in group_of:
        sizes[group] += 1
    known.clear()
    if len(sizes) < 2:
        raise ValueError(f"{len(records)} record(s) that all ask the same cannot be split; give "
                         "more records, or a validation file of its own")
    order = array("L", range(len(sizes)))
    random.Random(seed).shuffle(order)
    held, taken, wanted = set(), 0, fraction * len(records)
    while len(order) > 1 and (not held or taken + sizes[order[-1]] / 2 <= wanted):
        last = order.pop()
        held.add(last)
        taken += sizes[last]
    sides = [[i for i, group in enumerate(group_of) if (group in held) == side]
             for side in (False, True)]
    return _pick(records, sides[0], "train"), _pick(records, sides[1], "validation")


def _pick(source, indices: list[int], name: str) -> Records:
    lines = getattr(source, "lines", range(1, len(source) + 1))
    title = f"{getattr(source, 'name', 'records')} ({name})"
    return Records([source[i] for i in indices], title, getattr(source, "path", None),
                   array("L", (lines[i] for i in indices)))


def mix(a: list, b: list, share: float, seed: int) -> Records:
    """All of `a` and so much of `b` that `share` of the result is from `b`, shuffled.

    Where `b` is too small its records are repeated, each as often as the others or once more.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is {share!r}; expected a number from 0 to below 1")
    wanted = round(len(a) * share / (1 - share))
    if wanted and not len(b):
        raise ValueError("the second list has no records to mix in")
    rng, added = random.Random(seed), []
    while len(added) < wanted:
        added += rng.sample(list(b), min(len(b), wanted - len(added)))
    mixed = list(a) + added
    rng.shuffle(mixed)
    names = [getattr(part, "name", "records") for part in (a, b)]
    return Records(mixed, f"{names[0]} + {share:.0%} {names[1]}")


def _cut(text: str, rng) -> str:
    words = text.split(" ")
    return text[: max(1, len(text) // 2)] if len(words) < 2 else " ".join(words[: len(words) // 2])


def _typos(text: str, rng) -> str:
    """About one letter in ten, at least one, changes place with its neighbour."""
    letters = list(text)
    pairs = [i for i in range(len(text) - 1)
             if text[i : i + 2].isalpha() and text[i] != text[i + 1]]
    for i in rng.sample(pairs, min(len(pairs), 1 + len(pairs) // 10)):
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


DAMAGE = {"wrong": None, "duplicate": None, "cut": _cut, "typos": _typos}


def corrupt(records: list, kind: str, share: float, seed: int) -> Records:
    """A copy with `share` of the records made worse; instruction records only.

    wrong: answers change places, each to a record with another answer, where there is one.
    duplicate: the records become copies of one of them. cut: the answer ends half-way.
    typos: letters of the answer are swapped.
    """
    if kind not in DAMAGE:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(DAMAGE)}")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share!r}; expected a number from 0 to 1")
    if any("output" not in record for record in records):
        raise ValueError("corrupt changes the output of instruction records; these have none")
    rng = random.Random(seed)
    chosen = sorted(rng.sample(range(len(records)), round(share * len(records))))
    worse = list(records)
    if kind == "wrong":
        # Sorted by answer and shifted by the commonest answer's count, no one keeps its own.
        rng.shuffle(chosen)
        chosen.sort(key=lambda i: records[i]["output"])
        outputs = [records[i]["output"] for i in chosen]
        shift = max(Counter(outputs).values(), default=0)
        for place, i in enumerate(chosen):
            worse[i] = records[i] | {"output": outputs[(place + shift) % len(outputs)]}
    elif kind == "duplicate":
        for i in chosen:
            worse[i] = dict(records[chosen[0]])
    else:
        for i in chosen:
            worse[i] = records[i] | {"output": DAMAGE[kind](records[i]["output"], rng)}
    return Records(worse, f"{getattr(records, 'name', 'records')}, {share:.0%} {kind}")
