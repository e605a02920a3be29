"""Convert records from the formats of other tools.

Supported: other tools' field names, ShareGPT (from, value), OpenAI's chat (weight, text parts),
TRL's prompt and completion (texts or messages), preference pairs of messages, Alpaca with system
and history, hh-rlhf's dialogs; and tables of pandas, polars, Arrow and datasets. Anything else is
returned unchanged, and `schema.problems_in` explains what is wrong with it.

    to_record({"prompt": "Hi", "completion": "Hello"})      {"instruction": "Hi", "output": "Hello"}
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from ftkit.base.errors import UserError

FIELDS = {  # kind → its fields
    "chat": ("messages",),
    "preference": ("chosen", "rejected", "instruction", "input"),
    "instruction": ("output", "instruction", "input"),
    "text": ("text",),
}
NAMES = {  # field names of other tools → ftkit's
    "prompt": "instruction", "question": "instruction", "query": "instruction",
    "user": "instruction", "completion": "output", "response": "output", "answer": "output",
    "target": "output", "assistant": "output", "context": "input", "conversations": "messages",
    "conversation": "messages", "content": "text", "system_prompt": "system",
}
KNOWN = {"chat": {"messages", "tools"}, "text": {"text"},
         "instruction": {"instruction", "input", "output", "text"},
         "preference": {"instruction", "input", "chosen", "rejected", "history"}}
LABELS = {"task", "domain", "ability", "id", "source", "category"}  # metadata, not trained on
WHOLE = ({"messages"}, {"instruction", "output"}, {"instruction", "chosen", "rejected"}, {"text"},
         {"chosen", "rejected"})
ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
         "model": "assistant", "developer": "system", "observation": "tool", "function": "tool",
         "function_response": "tool", "function_call": "assistant"}
# Flags of a message: OpenAI's weight; train and training of axolotl; loss of XTuner and ms-swift.
FLAGS = ("weight", "train", "training", "loss")
REASONING = ("reasoning_content", "thinking", "reasoning")  # names of a thought before an answer
# The fields of a message that ftkit always uses.
READ = {"role", "content", "weight", "tool_calls", "tool_call_id"}
TEXT_PARTS = (None, "text", "input_text", "output_text")  # types of parts of a content
TURN = re.compile(r"\n\n(Human|Assistant): ?")  # begins a turn in hh-rlhf


def our_name(name) -> str | None:
    """Translate another tool's field name, ignoring case and outer spaces; None if unknown."""
    plain = str(name).strip().lower()
    known = {field for fields in FIELDS.values() for field in fields}
    return NAMES.get(plain, plain if plain in known else None)


def to_record(record: Any) -> Any:
    """Convert a record to ftkit's form. Returns `record` itself if it needs no change."""
    if not isinstance(record, dict):
        return record
    ours = _renamed(record)
    if "chosen" in ours and "rejected" in ours:
        ours = _pair(ours)
    elif is_talk(ours.get("instruction")):  # TRL: prompt and completion are lists of messages
        answer = ours.get("output")
        answer = answer if isinstance(answer, list) else [answer]
        ours = _without(ours, "instruction", "output") | {
            "messages": _unweighted(ours["instruction"]) + answer}
    elif "output" in ours and (ours.get("system") or ours.get("history")):
        ours = _with_history(ours)
    if isinstance(ours.get("messages"), list):
        ours = ours | {"messages": [to_message(message) for message in ours["messages"]]}
        if isinstance(ours.get("tools"), str) and is_talk(tools := parsed(ours["tools"])):
            ours["tools"] = tools
        ours = _with_system(ours)
    if "input" in ours and ours["input"] is None:
        ours = ours | {"input": ""}
    return ours


def to_message(message: Any) -> Any:
    """Convert a message to role, content and thought, and weight 0 if it is not trained on."""
    if not isinstance(message, dict):
        return message
    ours = dict(message)
    for theirs, field in (("from", "role"), ("value", "content")):
        if theirs in ours and field not in ours:
            ours[field] = ours.pop(theirs)
    role = ours.get("role")
    if isinstance(role, str):
        ours["role"] = ROLES.get(role.lower(), role)
        if role == "function_call" and "tool_calls" not in ours:
            ours |= {"content": None, "tool_calls": [ours.get("content")]}
    calls = calls_of(ours)
    if calls and ours.get("role") == "assistant":
        ours = _without(ours, "function_call") | {"tool_calls": calls,
                                                  "content": ours.get("content") or ""}
    content = ours.get("content")
    if is_talk(content):
        thoughts = [part.get("thinking") for part in content if part.get("type") == "thinking"]
        if thoughts and all(isinstance(thought, str) for thought in thoughts):
            ours["reasoning_content"] = "".join(map(str, thoughts))
            content = [part for part in content if part.get("type") != "thinking"]
        if content and all(part.get("type") in TEXT_PARTS and isinstance(part.get("text"), str)
                           for part in content):
            ours["content"] = "".join(str(part["text"]) for part in content)
    if ours.get("content") is None and ours.get("role") == "system" and "content" in ours:
        ours["content"] = ""
    for name in FLAGS[1:]:
        flag = ours.get(name)
        if flag in (False, True) and not (flag and ours.get("role") != "assistant"):
            if not ours.pop(name):  # of a question that is to be trained on, `schema` complains
                ours["weight"] = 0
    # OpenAI and Parquet write null for an optional field that is not given.
    ours = {k: v for k, v in ours.items() if v is not None or k in ("role", "content")}
    return message if ours == message else ours


def calls_of(message: dict) -> list[dict]:
    """The calls of a message, each {"type", "function": {"name", "arguments"}} and its id if it has
    one, with the arguments as a dict; [] if there are none or one has another form."""
    given = parsed(message.get("tool_calls")) or (
        [message["function_call"]] if message.get("function_call") else [])
    calls = []
    for call in map(parsed, given if isinstance(given, list) else [given]):
        inner = call.get("function", call) if isinstance(call, dict) else None
        inner = inner if isinstance(inner, dict) else {}
        arguments = parsed(inner.get("arguments", {}))
        if not isinstance(inner.get("name"), str) or not isinstance(arguments, dict):
            return []
        calls.append({"type": "function"} | ({"id": call["id"]} if "id" in call else {}) | {
            "function": {"name": inner["name"], "arguments": arguments}})
    return calls


def text_of(message: dict) -> str:
    """The text of a message; calls are written as Hermes and Qwen models write them."""
    calls = [f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"
             for call in message.get("tool_calls") or ()]
    return "\n".join([*([message["content"]] if message["content"] else []), *calls])


def uses_tools(record: dict) -> bool:
    """Whether a valid record names functions or calls some."""
    return bool(record.get("tools")) or any(
        message.get("tool_calls") for message in record.get("messages") or ())


def unread_fields(record: dict, kind: str, thoughts: bool = False) -> list[str]:
    """Fields of a valid record that ftkit ignores, in their order, except LABELS. thoughts: whether
    the chat template writes them."""
    read = READ | {*REASONING} if thoughts else READ
    talk = record.get("messages" if kind == "chat" else "history") if kind != "text" else None
    talk = talk if is_talk(talk) else ()
    inside = (f"messages.{name}" for message in talk for name in message if name not in read
              and (name, message.get("role")) != ("name", "tool"))
    return list(dict.fromkeys((*(name for name, value in record.items() if name not in KNOWN[kind]
                                 and name not in LABELS and value not in (None, "", [])), *inside)))


def _with_system(record: dict) -> dict:
    """Put the system prompt that stands beside messages into them, as LLaMA-Factory does."""
    name = next((name for name in ("system", "system_prompt") if name in record), "")
    text, first = record.get(name), (record["messages"] or [None])[0]
    given = first.get("content") if isinstance(first, dict) and first.get("role") == "system" else (
        None)
    if not isinstance(text, str | None) or (text and given not in (None, text)):
        return record  # `schema` explains
    talk = record["messages"]
    if text and given is None:
        talk = [{"role": "system", "content": text}, *talk]
    return _without(record, name) | {"messages": talk} if name else record


def _renamed(record: dict) -> dict:
    """Rename the fields if the result is a record of a known kind."""
    pair = "chosen" in record and "rejected" in record  # some pairs also have messages
    if any(kind <= record.keys() for kind in (WHOLE[2:3] if pair else WHOLE[:4])):
        return record if "system_prompt" not in record or "system" in record else (
            _without(record, "system_prompt") | {"system": record["system_prompt"]})
    ours = {name: our_name(name) or name for name in record}
    if not {"output", "text"} & {*ours.values()} and "content" in record:
        ours["content"] = "text"
    if len({*ours.values()}) < len(ours) or not any(kind <= {*ours.values()} for kind in WHOLE):
        return record
    return {ours[name]: value for name, value in record.items()}


def _without(record: dict, *names: str) -> dict:
    return {name: value for name, value in record.items() if name not in names}


def is_talk(value) -> TypeGuard[list[dict]]:
    """Whether a value is a list of dicts, and not empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(m, dict) for m in value)


def _unweighted(talk: list) -> list:
    """Convert a prompt's messages. Assistant turns get weight 0, as TRL does not train on them."""
    talk = [to_message(message) for message in talk]
    return [m | {"weight": 0} if isinstance(m, dict) and m.get("role") == "assistant" else m
            for m in talk]


def _pair(record: dict) -> dict:
    """Convert a preference pair whose prompt and answers may be messages or whole dialogs."""
    prompt = record.get("instruction", record.get("messages"))
    if prompt and not isinstance(prompt, str) and not is_talk(prompt):
        return record
    sides = [record["chosen"], record["rejected"]]
    if prompt is None and all(isinstance(side, str) for side in sides):
        sides = [_dialog(side) for side in sides]
    for k, side in enumerate(sides):
        if isinstance(side, dict):  # a single message
            sides[k] = [side]
    if not all(map(is_talk, sides)):
        if not (isinstance(prompt, str) and record.get("system")) and not is_talk(prompt):
            return record
        sides = [[{"role": "assistant", "content": side}] for side in sides]
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [
        to_message(message) for message in prompt or ()]
    talks = [[to_message(m) for m in side] for side in sides]
    if len(talks[0]) > 1:  # each side is the whole conversation, including the prompt
        if talks[0][:-1] != talks[1][:-1]:
            return record
        before = talks[0][:-1]
    if record.get("system") and not (before and before[0].get("role") == "system"):
        before = [{"role": "system", "content": record["system"]}, *before]
    if not before or any(t[-1].get("role") != "assistant" for t in talks):
        return record
    if before[-1].get("role") != "user":
        return record
    pair = _without(record, "instruction", "system", "messages", "history") | {
        "instruction": before[-1].get("content"),
        "chosen": talks[0][-1].get("content"), "rejected": talks[1][-1].get("content")}
    return pair | ({"history": _unweighted(before[:-1])} if before[:-1] else {})


def _dialog(text: str) -> Any:
    """Convert an hh-rlhf dialog to messages; other text is unchanged."""
    _, *parts = TURN.split(text)
    talk = [{"role": "user" if speaker == "Human" else "assistant", "content": words.strip()}
            for speaker, words in zip(parts[::2], parts[1::2], strict=True)]
    return talk or text


def _with_history(record: dict) -> dict:
    """Convert an Alpaca record with a system prompt or a history to a chat."""
    past = record.get("history") or []
    last_turn = record.get("instruction"), record.get("input")
    if not isinstance(past, list | tuple) or not all(
            isinstance(turn, list | tuple) and len(turn) == 2 for turn in past):
        return record
    if not all(part is None or isinstance(part, str) for part in last_turn):
        return record
    talk = [{"role": "system", "content": record["system"]}] if record.get("system") else []
    for question, answer in past:
        talk += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    question = "\n".join(filter(None, last_turn))
    talk += [{"role": "user", "content": question},
             {"role": "assistant", "content": record["output"]}]
    return _without(record, "instruction", "input", "output", "system", "history") | {
        "messages": talk}


EXPECTED = ("expected the name of a sample, the path of a file, a list of dicts, a DataFrame or a "
            "datasets.Dataset")


def listed(source: Any, split: str) -> list:
    """List the rows of a table, a data set or an iterator, as dicts of plain Python values.

    split: the key to use in a dict of data sets. Raises UserError if the object has no rows.
    """
    if isinstance(source, Mapping):
        if all(isinstance(column, list) for column in source.values()):  # columns
            return [dict(zip(source, row, strict=True))
                    for row in zip(*source.values(), strict=True)]
        if not all(isinstance(rows, Iterable) and not isinstance(rows, str | Mapping)
                   for rows in source.values()):
            raise UserError(f"data is {type(source).__name__}; {EXPECTED}")
        if split not in source:
            raise UserError(f"data is a {type(source).__name__} of {', '.join(map(str, source))}; "
                            "expected one of them. Pass it, such as "
                            f"data[{next(iter(source), '')!r}].")
        source = source[split]
    if hasattr(source, "to_dicts"):  # polars
        rows = source.to_dicts()
    elif hasattr(source, "to_pylist"):  # Arrow
        rows = source.to_pylist()
    elif hasattr(source, "to_dict") and hasattr(source, "iloc"):  # pandas
        rows = source.to_dict("records")
    elif isinstance(source, Iterable) and not isinstance(source, str | bytes | bytearray):
        rows = list(source)
    else:
        raise UserError(f"data is {type(source).__name__}; {EXPECTED}")
    return [_plain(row) for row in rows]


def _plain(value: Any) -> Any:
    """Convert numpy arrays to lists, and pandas' missing values to None."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    is_nan = isinstance(value, float) and value != value
    return None if is_nan or type(value).__name__ in ("NAType", "NaTType") else value


def from_cells(row: dict) -> dict:
    """Parse the cells of a table row that contain a JSON list of objects."""
    return {name: parsed(value) if isinstance(value, str)
            and value.lstrip().startswith("[{") else value
            for name, value in row.items()}


def parsed(value: Any) -> Any:
    """Parse a text that is JSON; anything else is unchanged."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
