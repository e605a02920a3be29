"""Data files that must be refused, each with the line to name and words the sentence must have.

    for case in CASES: path = case.write(folder); ...

Used by the tests of `data` and by the test of the command line.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """One bad file: `line` is the line that the message must name, `words` what it must say."""

    name: str
    content: bytes
    line: int
    words: tuple[str, ...]
    field: str | None = None

    def write(self, folder: Path) -> Path:
        path = folder / f"{self.name}.jsonl"
        path.write_bytes(self.content)
        return path


GOOD = {"instruction": "Name the capital of France.", "input": "", "output": "Paris"}


def _lines(*rows) -> bytes:
    """JSONL of rows that are objects, text or bytes already."""
    parts = [row if isinstance(row, bytes) else
             (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows]
    return b"\n".join(parts) + b"\n"


def _with(**changes) -> dict:
    return GOOD | changes


def _without(name: str) -> dict:
    return {key: value for key, value in GOOD.items() if key != name}


def _chat(*turns) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


_DEEP = '{"instruction": "a", "output": "b", "x": ' + "[" * 200_000 + "]" * 200_000 + "}"
_TALK = _chat(("user", "Hi"), ("assistant", "Hello"))

CASES = [
    # not JSON Lines at all
    Case("empty", b"", 1, ("no records", "one JSON object")),
    Case("blank_lines", b"\n\n  \n\t\n", 1, ("no records",)),
    Case("bom_only", b"\xef\xbb\xbf", 1, ("no records",)),
    Case("json_array", json.dumps([GOOD, GOOD]).encode(), 1, ("JSON array", "mv ")),
    Case("json_array_pretty", json.dumps([GOOD, GOOD], indent=2).encode(), 1, ("JSON array",)),
    Case("pretty_object", json.dumps(GOOD, indent=2).encode(), 1, ("one line", "mv ")),
    Case("csv", b"instruction,input,output\nName it,,Paris\n", 1, ("CSV",)),
    Case("tsv", b"instruction\toutput\nName it\tParis\n", 1, ("CSV",)),
    Case("csv_quoted", b'"instruction","output"\n"Name it","Paris"\n', 1, ("CSV",)),
    Case("event_stream", b"data: " + _lines(GOOD), 1, ("not JSON (", "data: {")),
    Case("tar", b"data.jsonl" + b"\0" * 90 + b"0000644,0000000" + b"\0" * 400, 1,
         ("not JSON",)),
    Case("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xd8", 1, ("a picture",)),
    Case("seven_zip", b"7z\xbc\xaf\x27\x1c\x00\x04", 1, ("the file is binary",)),
    Case("pickle", b"\x80\x04\x95\x1a\0\0\0\x8c\x05Paris\x94.", 1, ("the file is binary",)),
    Case("not_written_to_its_end", _lines(GOOD, GOOD) + b"\0" * 512, 3, ("not JSON (",)),
    Case("merge_conflict", _lines(GOOD, "<<<<<<< HEAD", GOOD), 2, ("not JSON (", "<<<<<<<")),
    Case("prose", b"Paris is the capital of France\n", 1, ("not JSON",)),
    Case("html", b"<!DOCTYPE html>\n<html><body>Log in</body></html>\n", 1, ("HTML",)),
    Case("gzip", gzip.compress(_lines(GOOD), mtime=0), 1, ("gzip", "mv ")),
    Case("zip", b"PK\x03\x04" + b"\x14\0\0\0\x08\0" * 20, 1, ("zip",)),
    Case("parquet", b"PAR1\x15\x04\x15\x10" * 8 + b"PAR1", 1, ("Parquet",)),
    # encoding and line ends
    Case("utf16", _lines(GOOD).decode().encode("utf-16"), 1, ("UTF-16", "iconv")),
    *(Case(f"utf32_{end}_{bool(mark)}", mark + _lines(GOOD).decode().encode(f"utf-32-{end}"), 1,
           ("UTF-32", "iconv", f"-f UTF-32{'' if mark else end.upper()} "))
      for end, mark in (("le", b"\xff\xfe\0\0"), ("be", b"\0\0\xfe\xff"), ("le", b""),
                        ("be", b""))),
    Case("utf16_be", b"\xfe\xff" + _lines(GOOD).decode().encode("utf-16-be"), 1, ("UTF-16",)),
    Case("utf16_without_bom", _lines(GOOD).decode().encode("utf-16-le"), 1, ("UTF-16",)),
    Case("latin1", _lines(GOOD, '{"instruction": "Say", "output": "café"}'.encode("latin-1")), 2,
         ("not UTF-8", "byte 38", "0xE9", "iconv")),
    Case("windows1252", _lines(GOOD, GOOD, b'{"instruction": "Say", "output": "\x93hi\x94"}'), 3,
         ("not UTF-8", "byte 35", "0x93")),
    Case("half_a_character", _lines(GOOD)[:-3] + b"\xc3", 1, ("not UTF-8", "0xC3")),
    Case("old_mac_line_ends", _lines(GOOD, GOOD).replace(b"\n", b"\r"), 1,
         ("more text after the end of the object", "one object on each line")),
    Case("second_bom", _lines(GOOD, b"\xef\xbb\xbf" + json.dumps(GOOD).encode()), 2, ("BOM",)),
    # a line that is not one JSON object
    Case("cut_off", _lines(GOOD, GOOD) + b'{"instruction": "Name the cap', 3, ("cut off",)),
    Case("cut_off_after_value", _lines(GOOD) + b'{"instruction": "a", "output": "b"', 2,
         ("cut off",)),
    Case("trailing_comma_in_object", _lines(GOOD, '{"instruction": "a", "output": "b",}'), 2,
         ("comma",)),
    Case("missing_colon", _lines(GOOD, '{"instruction" "a"}'), 2, ("Expecting ':' delimiter",)),
    Case("form_feed_after_object", _lines(json.dumps(GOOD) + "\f"), 1, ("'\\x0c'",)),
    Case("comma_after_object", _lines(json.dumps(GOOD) + ",", GOOD), 1,
         ("more text after", "comma")),
    Case("two_objects", _lines(GOOD, json.dumps(GOOD) * 2), 2, ("more text after",)),
    Case("single_quotes", _lines(GOOD, str(GOOD)), 2, ("double quotes",)),
    Case("comment", _lines("// my data", GOOD), 1, ("not JSON",)),
    Case("nan", _lines(GOOD, '{"instruction": "a", "output": "b", "score": NaN}'), 2, ("NaN",)),
    Case("infinity", _lines('{"instruction": "a", "output": "b", "score": -Infinity}'), 1,
         ("-Infinity",)),
    Case("repeated_name", _lines(GOOD, '{"instruction": "a", "output": "b", "output": "c"}'), 2,
         ("output", "twice")),
    Case("raw_control_character", _lines(b'{"instruction": "a\x01b", "output": "c"}'), 1,
         ("control character",)),
    Case("raw_nul", _lines(GOOD, b'{"instruction": "ab", "output": "c\0"}'), 2,
         ("control character",)),
    Case("too_deep", _DEEP.encode(), 1, ("too deeply",)),
    Case("huge_number", _lines('{"instruction": "a", "output": ' + "7" * 5000 + "}"), 1,
         ("digits",)),
    Case("array_row", _lines(GOOD, '["a", "b"]'), 2, ("is not an object",)),
    Case("string_row", _lines(GOOD, '"Paris"'), 2, ("is not an object",)),
    Case("number_row", _lines("42"), 1, ("42 is not an object",)),
    Case("null_row", _lines(GOOD, "null"), 2, ("null is not an object",)),
    # instruction records
    Case("missing_output", _lines(GOOD, GOOD, _without("output")), 3, ("missing",), "output"),
    Case("misnamed_output", _lines(_without("output") | {"response": "a", "answer": "b"}), 1,
         ("missing", "rename response to output"), "output"),
    Case("empty_output", _lines(GOOD, _with(output="")), 2, ("empty",), "output"),
    Case("blank_output", _lines(GOOD, _with(output=" \n\t")), 2, ("white space",), "output"),
    Case("zero_width_output", _lines(GOOD, _with(output="\u200b\ufeff")), 2, ("white space",),
         "output"),
    Case("long_zero_width_output", _lines(GOOD, _with(output="\u200b" * 40)), 2, ("white space",),
         "output"),
    Case("filler_output", _lines(GOOD, _with(output="\u3164\u2800")), 2, ("white space",),
         "output"),
    Case("surrogate_halves_alone", _lines('{"instruction": "a", "output": "\\udc00\\ud83d"}'), 1,
         ("surrogate",), "output"),
    Case("number_output", _lines(_with(output=7)), 1, ("7; expected a", "string"), "output"),
    Case("null_output", _lines(GOOD, _with(output=None)), 2, ("null",), "output"),
    Case("list_output", _lines(GOOD, _with(output=["Paris"])), 2, ('["Paris"]',), "output"),
    Case("bool_output", _lines(GOOD, _with(output=True)), 2, ("true",), "output"),
    Case("missing_instruction", _lines(_without("instruction")), 1, ("missing",), "instruction"),
    Case("empty_instruction", _lines(_with(instruction="")), 1, ("empty",), "instruction"),
    Case("number_input", _lines(GOOD, _with(input=7)), 2, ("7; expected", '""'), "input"),
    Case("nul_in_output", _lines(_with(output="Pa\0ris")), 1, ("NUL",), "output"),
    Case("half_surrogate", _lines(GOOD, '{"instruction": "a", "output": "b \\ud83d c"}'), 2,
         ("surrogate", "character 3", "d83d"), "output"),
    Case("unknown_shape", _lines({"foo": "a", "bar": "b"}), 1, ("'foo'", "instruction and output")),
    Case("two_names_of_one", _lines({"prompt": "a", "query": "c", "completion": "b"}), 1,
         ("prompt to instruction", "completion to output")),
    Case("sharegpt", _lines({"conversations": [{"from": "human", "value": "Hi"}]}), 1,
         ("no assistant turn",), "messages"),
    Case("empty_object", _lines(GOOD, "{}"), 2, ("none",)),
    Case("mixed_kinds", _lines(GOOD, {"text": "a story"}), 2, ("text", "instruction", "one kind")),
    Case("late_error_after_crlf", _lines(GOOD, GOOD).replace(b"\n", b"\r\n") + _lines("{]"), 3,
         ("not JSON",)),
    Case("error_after_blank_lines", b"\xef\xbb\xbf\n\n" + _lines(GOOD, "oops"), 4, ("not JSON",)),
    # other kinds
    Case("empty_text", _lines({"text": "a story"}, {"text": ""}), 2, ("empty",), "text"),
    Case("null_text", _lines({"text": None}), 1, ("null",), "text"),
    Case("missing_rejected", _lines({"instruction": "a", "chosen": "b"}), 1, ("missing",),
         "rejected"),
    Case("messages_text", _lines({"messages": "Hi"}), 1, ("list",), "messages"),
    Case("messages_empty", _lines(_TALK, {"messages": []}), 2, ("[]; expected",), "messages"),
    Case("message_text", _lines({"messages": ["Hi", "Hello"]}), 1, ("object",), "messages[0]"),
    Case("unknown_role", _lines(_TALK, _chat(("narrator", "Hi"), ("assistant", "Hello"))), 2,
         ("'narrator'", "assistant"), "messages[0].role"),
    Case("missing_role", _lines({"messages": [{"content": "Hi"}]}), 1, ("missing",),
         "messages[0].role"),
    Case("null_content", _lines(_chat(("user", "Hi"), ("assistant", None))), 1, ("null",),
         "messages[1].content"),
    Case("list_content", _lines(_chat(("user", [{"type": "image_url", "image_url": "a.png"}]),
                                      ("assistant", "Hello"))), 1, ('[{"type"', "--skip"),
         "messages[0].content"),
    Case("missing_content", _lines({"messages": [{"role": "user", "said": "Hi"}]}), 1,
         ("missing",), "messages[0].content"),
    Case("no_assistant", _lines(_TALK, _chat(("user", "Hi"))), 2, ("no assistant turn",),
         "messages"),
    Case("empty_assistant", _lines(_chat(("user", "Hi"), ("assistant", " "))), 1, ("white space",),
         "messages[1].content"),
    Case("assistant_first", _lines(_chat(("assistant", "Hello"), ("user", "Hi"))), 1,
         ("before any user",), "messages[0].role"),
    Case("late_system", _lines(_chat(("user", "Hi"), ("system", "Be kind"), ("assistant", "Hey"))),
         1, ("first",), "messages[1].role"),
]

# Only a tokenizer can tell: no token of the response is left within any model's max_length of 512.
TOO_LONG = Case("prompt_too_long", _lines(GOOD, _with(input="once upon a time " * 3000)), 2,
                ("max_length", "no token of the response"))
