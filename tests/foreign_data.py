"""Data files as other tools write them, each with the first record that it must be read as.

    for case in CASES: path = case.write(folder); ...

The shapes are those of published data sets and of the formats that training libraries document;
the texts are made up. A case whose file is refused has to name the command that makes it work.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Q, A = "Which sea is salty?", "The Dead Sea, very."
ASKED = {"instruction": Q, "input": "", "output": A}
SHORT = {"instruction": Q, "output": A}
TALK = {"messages": [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]}
TEXT = {"text": "Salt is a mineral."}
PAIR = {"instruction": Q, "chosen": A, "rejected": "None."}
USER, BOT = TALK["messages"]
SYSTEM = {"role": "system", "content": "Be brief."}


class Case(NamedTuple):
    """A file: its name, its bytes (or a function that writes them to a path), and the first record
    that it is read as, of which there are `count`."""

    name: str
    content: bytes | Callable[[Path], None]
    first: dict
    count: int = 2
    is_refused: bool = False  # with a command

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)
        return path


def lines(*records) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()


def twice(record) -> bytes:
    return lines(record, record)


def table(*rows, separator=",", **options) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=separator, **options)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def packed(inner: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inner.jsonl", inner)
    return file.getvalue()


def parquet(*rows):
    def write(path):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return write


def sharegpt(*turns, **more) -> dict:
    return {"conversations": [{"from": who, "value": said} for who, said in turns], **more}


def hermes(*turns) -> list:
    return [{"role": role, "content": content} for role, content in turns]


CALL = {"id": "call_1", "type": "function",
        "function": {"name": "depth", "arguments": '{"sea": "Dead Sea"}'}}
TOOL = {"type": "function", "function": {"name": "depth", "parameters": {"type": "object"}}}
CALLED = {"messages": [
    USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "298 m"},
    {"role": "assistant", "content": A}]}
PARSED = CALL | {"function": CALL["function"] | {"arguments": {"sea": "Dead Sea"}}}
AS_READ = {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [PARSED]},
                        *CALLED["messages"][2:]]}
AS_TEXT = [USER, {"role": "assistant", "content": '<tool_call>\n{"name": "depth", "arguments": '
                  '{"sea": "Dead Sea"}}\n</tool_call>'},
           {"role": "user", "content": "<tool_response>\n298 m\n</tool_response>"}, BOT]
LISTED = {"role": "system", "content": (
    "You may call these functions. Answer with one <tool_call> for each call, a JSON object with "
    "the name of the function and its arguments.\n<tools>\n" + json.dumps(TOOL) + "\n</tools>")}
UNTRAINED = BOT | {"weight": 0}
WITH_IMAGE = {"messages": [{"role": "user", "content": [
    {"type": "text", "text": Q}, {"type": "image_url", "image_url": {"url": "sea.png"}}]}, BOT]}
PARTS = {"messages": [{"role": "user", "content": [{"type": "text", "text": Q}]},
                      {"role": "assistant", "content": [{"type": "text", "text": A}]}]}
PRETTY = json.dumps(ASKED, indent=2).encode()
ARRAY = json.dumps([ASKED, ASKED], indent=4).encode()
CSV = table(ASKED, ASKED)

CASES = [
    # Stanford Alpaca and what follows it
    Case("alpaca_data.json", ARRAY, ASKED),
    Case("alpaca_one_line.json", json.dumps([ASKED, ASKED]).encode(), ASKED),
    Case("alpaca_no_input.jsonl", twice(SHORT), SHORT),
    Case("alpaca_null_input.jsonl", twice(ASKED | {"input": None}), ASKED),
    Case("alpaca_with_text.jsonl", twice(ASKED | {"text": f"### {Q}\n{A}"}), ASKED),
    Case("alpaca_upper_case.json", json.dumps([{"Instruction": Q, "Input": "", "Output": A}] * 2
                                              ).encode(), ASKED),
    Case("alpaca_history.json", json.dumps([ASKED | {"system": "Be brief.", "history": [
        ["Hi", "Hello."]]}] * 2).encode(), {"messages": [
            SYSTEM, *hermes(("user", "Hi"), ("assistant", "Hello.")), USER, BOT]}),
    Case("alpaca_empty_history.json", json.dumps([ASKED | {"system": "", "history": []}] * 2
                                                 ).encode(), ASKED),
    Case("dolly.jsonl", twice({"instruction": Q, "context": "", "response": A,
                               "category": "open_qa"}), ASKED),
    Case("orca.jsonl", twice({"id": "niv.1", "system_prompt": "Be brief.", "question": Q,
                              "response": A}), {"messages": [SYSTEM, USER, BOT]}),
    Case("orca_no_system.jsonl", twice({"system_prompt": "", "question": Q, "response": A}), SHORT),
    Case("gsm8k.jsonl", twice({"question": Q, "answer": A}), SHORT),
    Case("metamath.json", json.dumps([{"query": Q, "response": A, "type": "GSM_AnsAug"}] * 2
                                     ).encode(), SHORT),
    Case("openai_legacy.jsonl", twice({"prompt": Q, "completion": A}), SHORT),
    Case("prompt_response.jsonl", twice({"prompt": Q, "response": A}), SHORT),
    # chats
    Case("openai_chat.jsonl", twice(TALK), TALK),
    Case("openai_weight.jsonl", twice({"messages": [USER, BOT | {"weight": 0}, USER,
                                                    BOT | {"weight": 1}]}),
         {"messages": [USER, UNTRAINED, USER, BOT | {"weight": 1}]}),
    Case("openai_nulls.jsonl", twice({"messages": [
        USER | {"name": None}, BOT | {"tool_calls": None, "function_call": None, "weight": None,
                                      "refusal": None}], "tools": None}), TALK),
    Case("openai_parts.jsonl", twice(PARTS), TALK),
    Case("openai_developer.jsonl", twice({"messages": [SYSTEM | {"role": "developer"}, USER, BOT]}),
         {"messages": [SYSTEM, USER, BOT]}),
    Case("system_null.jsonl", twice({"messages": [{"role": "system", "content": None}, USER, BOT]}),
         {"messages": [{"role": "system", "content": ""}, USER, BOT]}),
    Case("ultrachat.jsonl", twice({"prompt": Q, "prompt_id": "f0e3", **TALK}), TALK),
    Case("sharegpt.json", json.dumps([sharegpt(("human", Q), ("gpt", A), id="QWJh"),
                                      sharegpt(("human", Q), ("gpt", A))]).encode(), TALK),
    Case("sharegpt_system.jsonl",
         twice(sharegpt(("system", "Be brief."), ("human", Q), ("gpt", A))),
         {"messages": [SYSTEM, USER, BOT]}),
    Case("sharegpt_chatgpt.jsonl", twice(sharegpt(("user", Q), ("chatgpt", A))), TALK),
    Case("sharegpt_weight.jsonl", twice({"conversations": [
        {"from": "human", "value": Q, "weight": None}, {"from": "gpt", "value": A, "weight": 0},
        {"from": "human", "value": Q}, {"from": "gpt", "value": A, "weight": 1}]}),
         {"messages": [USER, UNTRAINED, USER, BOT | {"weight": 1}]}),
    Case("axolotl_train.jsonl", twice({"messages": [
        USER, BOT | {"train": False}, USER, BOT | {"train": True}]}),
         {"messages": [USER, UNTRAINED, USER, BOT]}),
    Case("sharegpt_role_content.jsonl", twice({"conversations": TALK["messages"]}), TALK),
    Case("conversation_human_bot.jsonl", twice({"conversation": [
        {"role": "human", "content": Q}, {"role": "bot", "content": A}]}), TALK),
    Case("trl_prompt_completion.jsonl", twice({"prompt": [USER], "completion": [BOT]}), TALK),
    Case("trl_prompt_turns.jsonl", twice({"prompt": [USER, BOT, USER], "completion": [BOT]}),
         {"messages": [USER, UNTRAINED, USER, BOT]}),
    # preferences
    Case("dpo.jsonl", twice({"prompt": Q, "chosen": A, "rejected": "None."}), PAIR),
    Case("dpo_question.json", json.dumps([{"question": Q, "chosen": A, "rejected": "None."}] * 2
                                         ).encode(), PAIR),
    Case("orca_dpo.jsonl", twice({"system": "Be brief.", "question": Q, "chosen": A,
                                  "rejected": "None."}), PAIR | {"history": [SYSTEM]}),
    Case("dpo_messages.jsonl", twice({"prompt": [USER], "chosen": [BOT],
                                      "rejected": [BOT | {"content": "None."}]}), PAIR),
    Case("dpo_turns.jsonl", twice({"prompt": [SYSTEM, USER, BOT, USER], "chosen": [BOT],
                                   "rejected": [BOT | {"content": "None."}]}),
         PAIR | {"history": [SYSTEM, USER, UNTRAINED]}),
    Case("dpo_implicit.jsonl", twice({"chosen": [USER, BOT],
                                      "rejected": [USER, BOT | {"content": "None."}]}), PAIR),
    Case("ultrafeedback.jsonl", twice({
        "prompt": Q, "chosen": [USER, BOT], "rejected": [USER, BOT | {"content": "None."}],
        "messages": [USER, BOT], "score_chosen": 8.5, "score_rejected": 3.0}), PAIR),
    Case("dpo_sharegpt.json", json.dumps([{
        "conversations": [{"from": "human", "value": Q}], "chosen": {"from": "gpt", "value": A},
        "rejected": {"from": "gpt", "value": "None."}}] * 2).encode(), PAIR),
    Case("hh_rlhf.jsonl", twice({"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}",
                                 "rejected": f"\n\nHuman: {Q}\n\nAssistant: None."}), PAIR),
    Case("hh_rlhf_turns.jsonl.gz", gzip.compress(twice({
        "chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}\n\nHuman: {Q}\n\nAssistant: {A}",
        "rejected": f"\n\nHuman: {Q}\n\nAssistant: {A}\n\nHuman: {Q}\n\nAssistant: None."})),
         PAIR | {"history": [USER, UNTRAINED]}),
    # texts
    Case("pile.jsonl", twice(TEXT | {"meta": {"pile_set_name": "Books3"}}), TEXT),
    Case("content.jsonl", twice({"content": TEXT["text"]}), TEXT),
    Case("fineweb.parquet", parquet(TEXT | {"id": "<urn:uuid:1>"}, TEXT | {"id": "2"}), TEXT),
    Case("lines.txt", b"Salt is a mineral.\nSo is ice.\n", TEXT),
    Case("paragraphs.txt", b"Salt is a mineral.\r\n\r\nIce\r\nis one too.\r\n", TEXT),
    # tables
    Case("alpaca.csv", CSV, ASKED),
    Case("excel.csv", b"\xef\xbb\xbf" + table(ASKED, ASKED, separator=";"), ASKED),
    Case("quoted.csv", table(SHORT, SHORT, quoting=csv.QUOTE_ALL), SHORT),
    Case("newlines.csv", table(SHORT | {"output": "One,\n\"two\"."}, SHORT),
         SHORT | {"output": "One,\n\"two\"."}),
    Case("prompts.csv", table({"prompt": Q, "completion": A}, {"prompt": Q, "completion": A}),
         SHORT),
    Case("messages.csv", table({"messages": json.dumps(TALK["messages"])},
                               {"messages": json.dumps(TALK["messages"])}), TALK),
    Case("alpaca.tsv", table(SHORT, SHORT, separator="\t"), SHORT),
    Case("alpaca.csv.gz", gzip.compress(CSV), ASKED),
    Case("alpaca.parquet", parquet(ASKED, ASKED | {"input": None}), ASKED),
    Case("chat.parquet", parquet(TALK, TALK), TALK),
    Case("dpo.parquet", parquet({"chosen": [USER, BOT], "rejected": [USER, USER | BOT]},
                                {"chosen": [USER, BOT], "rejected": [USER, BOT | {"content": "-"}]}
                                ), PAIR | {"rejected": A}),
    # other ways to write JSON
    Case("pretty.json", PRETTY + b"\n" + PRETTY, ASKED),
    Case("one.json", PRETTY, ASKED, 1),
    Case("data.json", json.dumps({"version": 1, "data": [ASKED, ASKED]}).encode(), ASKED),
    Case("lines.json", twice(ASKED), ASKED),
    Case("lines.ndjson", twice(ASKED), ASKED),
    Case("bom.json", b"\xef\xbb\xbf" + ARRAY, ASKED),
    Case("alpaca.jsonl.gz", gzip.compress(twice(ASKED)), ASKED),
    Case("alpaca.jsonl.bz2", bz2.compress(twice(ASKED)), ASKED),
    Case("alpaca.json.xz", lzma.compress(ARRAY), ASKED),
    # refused, with the command that makes it work
    Case("array.jsonl", ARRAY, ASKED, is_refused=True),
    Case("pretty.jsonl", PRETTY + b"\n" + PRETTY + b"\n", ASKED, is_refused=True),
    Case("a table.jsonl", CSV, ASKED, is_refused=True),
    Case("gzip.jsonl", gzip.compress(twice(ASKED)), ASKED, is_refused=True),
    Case("utf16.jsonl", twice(ASKED).decode().encode("utf-16"), ASKED, is_refused=True),
    Case("utf16.csv", CSV.decode().encode("utf-16"), ASKED, is_refused=True),
    Case("latin1.jsonl", twice(SHORT | {"output": "café"}).decode().encode("latin-1"),
         SHORT | {"output": "café"}, is_refused=True),
    Case("named.jsonl", lambda path: parquet(ASKED, ASKED)(path), ASKED, is_refused=True),
    Case("openai_tools.jsonl", twice(CALLED | {"tools": [TOOL]}), AS_READ | {"tools": [TOOL]}),
    Case("openai_functions.jsonl", twice(CALLED | {"functions": [TOOL]}),
         {"messages": [LISTED, *AS_TEXT]}, is_refused=True),
    Case("openai_calls.jsonl", twice(CALLED), AS_READ),
    Case("llama_factory_calls.json", json.dumps([sharegpt(
        ("human", Q), ("function_call", '{"name": "depth", "arguments": {"sea": "Dead Sea"}}'),
        ("observation", "298 m"), ("gpt", A), tools=json.dumps([TOOL]))] * 2).encode(),
         {"tools": [TOOL], "messages": [
             USER, {"role": "assistant", "content": "", "tool_calls": [
                 {key: PARSED[key] for key in ("type", "function")}]},
             {"role": "tool", "content": "298 m"}, BOT]}),
    Case("openai_images.jsonl", lines(TALK, WITH_IMAGE, TALK), TALK, is_refused=True),
]
