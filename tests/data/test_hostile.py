"""Hostile records and files: each is refused in a sentence, is in the notes, or changes nothing."""

import itertools
import json

import pytest

from ftkit.base.errors import UserError
from ftkit.data import encoding, schema

pytestmark = pytest.mark.heavy
U, A = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
PAIR = {"instruction": "u", "chosen": "a", "rejected": "b"}
ASKED = {"instruction": "u", "output": "a"}
ODD = [0, 7, 0.5, True, "x", "\ud800", [], ["x"], {}, {"a": 1}, [[]], [None]]
PLACES = {  # where an odd value stands; a field of another meaning has to be refused or noted
    "system": lambda v: {"messages": [U, A], "system": v},
    "system of a pair": lambda v: PAIR | {"system": v},
    "system of an instruction": lambda v: ASKED | {"system": v},
    "tools": lambda v: {"messages": [U, A], "tools": v},
    "functions": lambda v: {"messages": [U, A], "functions": v},
    "thought": lambda v: {"messages": [U, A | {"reasoning_content": v}]},
    "train": lambda v: {"messages": [U, A | {"train": v}]},
    "loss": lambda v: {"messages": [U, A | {"loss": v}]},
    "loss of a question": lambda v: {"messages": [U | {"loss": v}, A]},
    "weight": lambda v: {"messages": [U, A | {"weight": v}]},
    "train_detail": lambda v: {"messages": [U, A | {"train_detail": v}]},
    "calls": lambda v: {"messages": [U, A | {"tool_calls": v}]},
    "type of a part": lambda v: {"messages": [U, A | {"content": [{"type": v, "text": "a"}]}]},
    "field of a message": lambda v: {"messages": [U, A | {"images": v}]},
    "field of a record": lambda v: ASKED | {"images": v},
}
EMPTY = (0, [], "", {}, None, True)  # nothing is lost where such a value is not read
GOOD = json.dumps(ASKED)
FILES = {
    "two arrays": ("a.json", f"[{GOOD}][{GOOD}]"), "array, object": ("a.json", f"[{GOOD}]{GOOD}"),
    "array, word": ("a.json", f"[{GOOD}] end"), "array, comma": ("a.json", f"[{GOOD}],"),
    "array, bracket": ("a.json", f"[{GOOD}]]"), "open array": ("a.json", f"[{GOOD},"),
    "two wrapped": ("a.json", f'{{"data": [{GOOD}]}}{{"data": [{GOOD}]}}'),
    "wrapped twice": ("a.json", f'{{"data": [{GOOD}], "more": [{GOOD}]}}'),
    "name twice": ("a.json", f'{{"data": [{GOOD}], "data": [{GOOD}]}}'),
    "wrapped, array": ("a.json", f'{{"data": [{GOOD}]}}[{GOOD}]'),
    "object, array": ("a.json", f"{GOOD}[{GOOD}]"), "NaN": ("a.json", '[{"text": NaN}]'),
    "lines, array": ("a.jsonl", f"{GOOD}\n[{GOOD}]\n"), "two on a line": ("a.jsonl", GOOD * 2),
    **{f"{kind} {code}": (f"a.{kind}", GOOD.encode(code))
       for kind in ("json", "jsonl", "txt", "csv") for code in (
           "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")},
}


def outcome(read) -> str:
    """refused or noted; else "" for a record that was read without a word."""
    try:
        return "noted" if read().notes else ""
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return "refused"


@pytest.fixture(scope="module")
def tokenizer():
    from test_encoding import CHATML, byte_tokenizer

    return byte_tokenizer(CHATML)


@pytest.mark.parametrize("place, value", [*itertools.product(PLACES, ODD)])
def test_an_odd_value_is_refused_or_noted_unless_it_changes_nothing(place, value, tokenizer,
                                                                   tmp_path):
    path, record = tmp_path / "a.jsonl", PLACES[place](value)
    path.write_text(json.dumps(record) + "\n")
    found = outcome(lambda: encoding.encode_all(schema.records(path), tokenizer))
    if found or value in EMPTY or value is False:
        return
    text = tokenizer.decode(encoding.encode(schema.records(path)[0], tokenizer)["input_ids"])
    assert value == "x" and "x" in text, text  # it was used


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_which_a_part_would_be_lost_is_refused(name, tokenizer, tmp_path):
    file, content = FILES[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert outcome(lambda: encoding.encode_all(
        schema.records(tmp_path / file), tokenizer)) == "refused"
