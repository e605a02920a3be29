"""Convert records of other tools to ftkit's JSON Lines (`ftkit convert`).

    convert("calls.json", tools="text")       records, with tools and calls written as text
    write("old.csv", "new.jsonl", skip=True)  write only the valid ones to a new file
"""

import json
import shlex
from array import array
from pathlib import Path

from ftkit.base import files
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.base.formatting import show
from ftkit.data import audit, file_formats, foreign, schema
from ftkit.data import suspect as suspicious
from ftkit.data.jsonl import DataError, Problem

INTRODUCTION = ("You may call these functions. Answer with one <tool_call> for each call, a JSON "
                "object with the name of the function and its arguments.\n<tools>\n{}\n</tools>")


def convert(source, tools: str | None = None, skip: bool = False, dedup: bool = False,
            suspect: bool = False, against=None) -> tuple[schema.Records, int]:
    """Convert a file, the files of a pattern or rows in memory; returns (records, rows skipped).

    tools: "text" writes function calls as text, in the format of Hermes and Qwen models: <tools> in
    the system message, <tool_call> and <tool_response> in the turns. skip: leave out invalid rows
    instead of raising DataError. dedup: leave out rows that repeat an earlier one, nearly or
    exactly. suspect: leave out personal data, keys, and empty or truncated answers. against: leave
    out rows whose prompt occurs in these files.
    """
    if tools not in (None, "text"):
        raise UserError(f"tools is {tools!r}; expected 'text' or None")
    if isinstance(source, str | Path) and at_home(source).is_file():
        path = at_home(source)
        rows = file_formats.rows(path)
    else:
        path, several = None, schema.several(source)
        rows = (row for file in several for row in file_formats.rows(file)) if several else (
            (n, row, None) for n, row in enumerate(
                schema.records(source) if isinstance(source, str | Path) else
                foreign.listed(source, "train"), 1))
    kept, lines, problems, left_out, kind = [], array("L"), [], 0, None
    for line, given, problem in rows:
        record = foreign.to_record(given)
        found = [problem] if problem else []
        if tools and isinstance(record, dict):
            try:
                record = with_tools_as_text(record)
            except UserError as error:
                found = [Problem(line, "tools", str(error))]
        found = found or schema.problems_in(record, line, kind)
        if found:
            left_out += 1
            problems += found
            continue
        kind = kind or schema.kind_of(record)
        kept.append(record)
        lines.append(line)
    if problems and not skip:
        raise DataError(path, problems)
    if not kept:
        raise DataError(path, problems or [Problem(0, None, "there are no records")])
    places = _wanted(kept, dedup, suspect, against)
    left_out += len(kept) - len(places)
    return schema.Records([kept[i] for i in places], path.name if path else "records", path,
                          array("L", [lines[i] for i in places])), left_out


def mend(path, found: dict, against=None) -> dict | None:
    """The one command that mends what `audit.check` found, and how many rows it loses.

    None if nothing was found, or no row would be left.
    """
    tools = any("--tools text" in problem["problem"] for problem in found["errors"])
    options = {"skip": bool(found["errors"]),
               "dedup": bool(found["duplicates"] + found["near_duplicates"]),
               "suspect": bool(found["suspected"]), "against": against if found["leaks"] else None}
    if not any(options.values()):
        return None
    try:
        _, lost = convert(path, "text" if tools else None, **options | {"skip": True})
    except DataError:  # no row is left
        return None
    others = [against] if isinstance(against, str | Path) else against or []
    words = ["--tools text"] * tools + [f"--{name}" for name in ("skip", "dedup", "suspect")
                                        if options[name]]
    if options["against"]:
        words += [f"--against {shlex.quote(str(file))}" for file in others]
    return {"command": f"ftkit convert OLD NEW.jsonl {' '.join(words)}", "lost": lost}


def _wanted(records: list[dict], dedup: bool, suspect: bool, against) -> list[int]:
    """Indexes of the records that pass the checks asked for, each as in `audit`."""
    if not (dedup or suspect or against):
        return list(range(len(records)))
    others, near, whole = audit.questions(against), audit.Near(), array("Q")
    wanted = []
    with suspicious.searching() as private:
        for i, record in enumerate(records):
            kind = schema.kind_of(record)
            texts = list(audit.texts_of(record, kind or "text"))
            whole.append(schema.short_hash(json.dumps([text for _, text in texts])))
            near.add(f"{schema.prompt_of(record)}\n{schema.response_of(record)}")
            found = suspect and list(suspicious.suspicions(texts, schema.response_of(record),
                                                           private))
            if not found and schema.short_hash(schema.group_key(record)) not in others:
                wanted.append(i)
    same, alike = schema.first_of(whole), near.pairs()
    return [i for i in wanted if not dedup or (same[i] == i and i not in alike)]


def write(source, out: str | Path, tools: str | None = None, skip: bool = False,
          **checks) -> tuple[int, int]:
    """Write the result of `convert` to a new file; returns (records written, rows skipped).

    Raises UserError if `out` exists or cannot be written.
    """
    out = at_home(out)
    if "\0" in str(out):
        raise UserError(f"{show(str(out))} contains a zero byte. Choose another file name.")
    if out.exists():
        raise UserError(f"{show(str(out))} exists already. Choose another file name.")
    if out.suffix != ".jsonl":
        raise UserError(f"{show(str(out))} does not end in .jsonl. Choose a name that does.")
    records, left_out = convert(source, tools, skip, **checks)
    lines = (json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)
    try:
        files.write_whole(out, "".join(lines))
    except OSError as error:
        raise UserError(f"{show(str(out))} cannot be written ({error.strerror}). Choose another "
                        "file name.") from None
    return len(records), left_out


def with_tools_as_text(record: dict) -> dict:
    """Write the functions, calls and results of a chat as text; other records are unchanged.

    Raises UserError if functions or calls are not in OpenAI's format.
    """
    talk = record.get("messages")
    if not isinstance(talk, list) or not all(isinstance(message, dict) for message in talk):
        return record
    tools = record.get("tools") or record.get("functions") or []
    tools = _listed(foreign.parsed(tools), "functions")
    said: list[dict] = []
    for message in talk:
        calls = foreign.parsed(message.get("tool_calls")) or (
            [message["function_call"]] if message.get("function_call") else [])
        kept = {name: value for name, value in message.items()
                if name not in ("tool_calls", "function_call", "tool_call_id", "name")}
        if message.get("role") == "tool":
            content = message.get("content")
            content = content if isinstance(content, str) else json.dumps(content)
            text = f"<tool_response>\n{content}\n</tool_response>"
            if said and str(said[-1].get("content")).startswith("<tool_response>"):
                said[-1]["content"] += f"\n{text}"  # results of parallel calls share a turn
                continue
            kept = {"role": "user", "content": text}
        elif calls:
            texts = [f"<tool_call>\n{json.dumps(_call(call))}\n</tool_call>"
                     for call in _listed(calls, "calls")]
            kept["content"] = "\n".join([*_content(message), *texts])
        said.append(kept)
    if tools:
        listed = "\n".join(json.dumps(tool) for tool in tools)
        text = INTRODUCTION.format(listed)
        if said and said[0].get("role") == "system":
            said[0]["content"] = "\n\n".join([*_content(said[0]), text])
        else:
            said.insert(0, {"role": "system", "content": text})
    rest = {name: value for name, value in record.items() if name not in ("tools", "functions")}
    return rest | {"messages": said}


def _call(call) -> dict:
    inner = call.get("function", call)
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise UserError(f"the call {show(call, 40)} does not name a function; expected an object "
                        "with name and arguments")
    return {"name": inner["name"], "arguments": foreign.parsed(inner.get("arguments", {}))}


def _listed(values, what: str) -> list[dict]:
    """Parse a list of objects or JSON strings of objects. Raises UserError if it is not one."""
    found = [foreign.parsed(value) for value in values] if isinstance(values, list) else []
    objects = [value for value in found if isinstance(value, dict)]
    if not isinstance(values, list) or len(objects) < len(found):
        raise UserError(f"{what} are {show(values, 40)}; expected a list of objects")
    return objects


def _content(message: dict) -> list[str]:
    """Return [content] of a message, or [] if it is empty. Raises UserError if it is not text."""
    content = message.get("content") or ""
    if not isinstance(content, str):
        raise UserError(f"content is {show(content, 40)}; expected text")
    return [content] if content else []
