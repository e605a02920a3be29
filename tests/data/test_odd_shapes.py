"""Records that are nearly those of another tool: each is read, or refused with its line."""

import json
import os
import threading

import pytest

from ftkit.base.errors import UserError
from ftkit.data import audit, convert, file_formats, schema
from ftkit.data.jsonl import DataError

pytestmark = pytest.mark.quick

USER, BOT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
ODD = [None, 5, True, "x", "", [], {}, [1], ["x"], [[1, 2]], [{}], {"a": 1}, [None], "[" * 99_999]


def called(**fields):
    return lambda v: {"messages": [USER, {"role": "assistant", "content": None} | {
        name: make(v) for name, make in fields.items()}, BOT]}


SHAPES = {
    "system": lambda v: {"instruction": "q", "output": "a", "system": v},
    "history": lambda v: {"instruction": "q", "output": "a", "history": v},
    "a turn of the history": lambda v: {"instruction": "q", "output": "a", "history": [[v, v]]},
    "instruction": lambda v: {"instruction": v, "output": "a", "system": "s"},
    "input": lambda v: {"instruction": "q", "input": v, "output": "a", "system": "s"},
    "history of a text": lambda v: {"text": "a", "history": v},
    "prompt": lambda v: {"prompt": v, "completion": "a"},
    "completion": lambda v: {"prompt": [USER], "completion": v},
    "from": lambda v: {"conversations": [{"from": v, "value": "x"}, {"from": "gpt", "value": "y"}]},
    "value": lambda v: {"conversations": [{"from": "human", "value": v}, BOT]},
    "value of a call": lambda v: {"messages": [USER, {"from": "function_call", "value": v}, BOT]},
    "call without value": lambda v: {"messages": [USER, {"from": "function_call", "x": v}, BOT]},
    "weight": lambda v: {"messages": [USER, BOT | {"weight": v}]},
    "train": lambda v: {"messages": [USER, BOT | {"train": v}]},
    "tools": lambda v: {"messages": [USER, BOT], "tools": v},
    "functions": lambda v: {"messages": [USER, BOT], "functions": v},
    "calls": called(tool_calls=lambda v: v),
    "function of a call": called(tool_calls=lambda v: [{"function": v}]),
    "arguments": called(tool_calls=lambda v: [{"function": {"name": "f", "arguments": v}}]),
    "content of a call": called(content=lambda v: v, function_call=lambda v: {"name": "f"}),
    "tool": lambda v: {"messages": [USER, {"role": "tool", "content": v}] * 2 + [BOT]},
    "part": lambda v: {"messages": [{"role": "user", "content": [{"type": "text", "text": v}]},
                                    BOT]},
    "sides": lambda v: {"chosen": v, "rejected": v},
    "prompt of sides": lambda v: {"prompt": v, "chosen": [BOT], "rejected": [BOT]},
    "message of a side": lambda v: {"prompt": "q", "chosen": [v], "rejected": [BOT]},
    "history of a pair": lambda v: {"instruction": "q", "chosen": "a", "rejected": "b",
                                    "history": v},
    "system and tools": lambda v: {"messages": [{"role": "system", "content": v}, USER, BOT],
                                   "tools": [{"name": "f"}]},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_odd_value_is_read_or_refused_with_its_line(shape, tmp_path):
    for value in ODD:
        path = tmp_path / "odd.jsonl"
        path.write_text(json.dumps(SHAPES[shape](value)))
        errors = audit.check(path)["errors"]
        assert not errors or errors[0]["row"] == 1
        for tools in (None, "text"):
            try:
                schema.records(list(convert.convert(path, tools)[0]))  # what is written can be read
            except UserError as error:
                assert "line 1" in str(error), (value, error)


@pytest.mark.parametrize(("shape", "value", "field"), [
    ("history", "x", "history"), ("history", [{}], "history"), ("train", "false", "train"),
    ("instruction", 5, "instruction"), ("input", ["x"], "input"), ("prompt of sides", 5, "chosen"),
])
def test_what_cannot_be_trained_on_is_not_left_out_in_silence(shape, value, field, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps(SHAPES[shape](value)))
    assert field in audit.check(path)["errors"][0]["field"]


@pytest.mark.parametrize(("shape", "value", "words"), [
    ("tools", "x", "functions are 'x'"), ("tools", [1], "functions are"), ("calls", 5, "calls are"),
    ("function of a call", "f", "does not name a function"),
    ("content of a call", 5, "content is 5"),
    ("system and tools", ["x"], "content is"),
])
def test_calls_of_another_form_are_not_written_as_text(shape, value, words, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps(SHAPES[shape](value)))
    with pytest.raises(UserError, match=words):
        convert.convert(path, "text")


def test_a_cell_that_is_nested_too_deeply_is_refused(tmp_path):
    path = tmp_path / "deep.csv"
    path.write_text('messages\n"[{""a"":' + "[" * 99_999 + '"\n')
    assert audit.check(path)["errors"]


def test_a_pipe_is_read(tmp_path):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=('{"text": "a"}\n',))
    writer.start()
    assert [record for _, record, _ in file_formats.rows(pipe)] == [{"text": "a"}]
    writer.join()


def test_a_conversation_without_end_is_refused():
    with pytest.raises(DataError, match="2,000 messages; expected at most 1,000"):
        schema.records([{"messages": [USER, BOT] * 1000}])


def test_a_long_text_is_compared_in_parts_that_make_no_difference():
    whole, parts = audit.Near(), audit.Near()
    parts.WORDS = 7
    for near in (whole, parts):
        near.add(" ".join(f"word{i % 40}" for i in range(100)))
        near.sign()
    assert whole.signatures == parts.signatures
    assert len(whole.signatures) == 2 * whole.HASHES


def test_rows_compared_a_few_pairs_at_a_time_have_the_same_near_duplicates():
    whole, parts = audit.Near(), audit.Near()
    parts.PAIRS = 3
    for near in (whole, parts):
        for i in range(20):
            near.add(" ".join(f"word{k + i // 5}" for k in range(30)))
    assert whole.pairs() == parts.pairs() != {}


def test_leaks_into_a_damaged_file_are_not_counted_as_none(tmp_path):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text('{"text": "a"}\n')
    bad.write_text('{"text": "a"}\n{"text": 5}\n')
    with pytest.raises(DataError, match="bad.jsonl line 2"):
        audit.check(good, against=bad)


def test_a_home_of_nobody_is_a_folder_that_does_not_exist(ftkit):
    path = "~no-such-user/x.jsonl"
    for words in (("check", path), ("convert", path, "new.jsonl"), ("drill", "--cards", path)):
        status, _, err = ftkit(*words)
        assert status == 2 and "~no-such-user" in err


def test_text_of_a_parquet_file_that_is_not_utf_8_is_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    column = pyarrow.array([b"\xf5abc"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
    errors = audit.check(tmp_path / "a.parquet")["errors"]
    assert "not a complete Parquet file" in errors[0]["problem"]
