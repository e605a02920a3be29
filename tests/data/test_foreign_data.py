"""Data of other tools is read as what it is, or the message names a command that makes it work."""

import json
import os
import re
import shlex
import subprocess
import sys

import foreign_data
import pytest
from foreign_data import ASKED, BOT, PAIR, SHORT, SYSTEM, TALK, TEXT, USER

from ftkit.data import audit, convert, encoding, file_formats, foreign, schema

pytestmark = pytest.mark.quick
NEEDS = {"parquet": "pyarrow", "named.jsonl": "pyarrow"}


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Runs the command that a message names, word for word, in an empty folder; the new files."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, words in (("python", ""), ("ftkit", " -m ftkit")):
        shim = bin_folder / name
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{words} "$@"\n')
        shim.chmod(0o755)

    def run(message, folder):
        command = re.search(r"`([^`]+)`", message)
        assert command, message
        before = {*folder.iterdir()}
        done = subprocess.run(command[1], shell=True, cwd=folder, capture_output=True, text=True,
                              env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}",
                                                "HF_HUB_OFFLINE": "1"})
        assert done.returncode == 0, done.stderr
        return sorted({*folder.iterdir()} - before)

    return run


def same(found: dict, wanted: dict) -> bool:
    """Whether a record has what is wanted, whatever else it has."""
    return {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("case", foreign_data.CASES, ids=lambda case: case.name)
def test_a_foreign_file_is_read_or_its_message_followed_makes_it_work(case, tmp_path, follow):
    if any(word in case.name for word in NEEDS):
        pytest.importorskip("pyarrow")
    folder = tmp_path / "data"
    path = case.write(folder)
    if case.is_refused:
        with pytest.raises(schema.DataError) as caught:
            schema.records(path)
        made = follow(str(caught.value), folder)
        assert len(made) == 1 and made[0] != path
        path = made[0]
    records = schema.records(path)
    assert len(records) == case.count
    assert same(records[0], case.first), records[0]
    assert not {"conversations", "completion"} & records[0].keys()
    assert audit.check(path)["errors"] == []
    if file_formats.is_plain_jsonl(path):
        assert schema.LargeFile(path, records.lines, "")[0] == records[0]


def test_what_is_ours_already_is_the_same_object():
    for record in (ASKED, SHORT, TALK, TEXT, PAIR):
        assert foreign.to_record(record) is record or foreign.to_record(record) == record
    assert foreign.to_record(ASKED) is ASKED


# ------------------------------------------------------------------------- rows in memory


def tables():
    import datasets
    import pandas
    import pyarrow

    rows = [ASKED, ASKED | {"input": None}]
    data = datasets.Dataset.from_list(rows)
    return {"pandas": pandas.DataFrame(rows), "datasets": data,
            "a dict of data sets": datasets.DatasetDict(train=data, validation=data),
            "streamed": data.to_iterable_dataset(), "Arrow": pyarrow.Table.from_pylist(rows),
            "a generator": (row for row in rows), "a tuple": tuple(rows),
            "columns": {name: [row[name] for row in rows] for name in ASKED}}


@pytest.mark.heavy
def test_tables_of_pandas_datasets_and_arrow_are_read():
    pytest.importorskip("datasets")
    for name, source in tables().items():
        assert schema.records(source) == [ASKED, ASKED], name


@pytest.mark.heavy
def test_messages_of_pandas_and_of_parquet_are_lists_again(tmp_path):
    pandas, numpy = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    talk = numpy.array(TALK["messages"], dtype=object)
    frame = pandas.DataFrame({"messages": [talk, talk], "source": [float("nan"), "web"]})
    assert schema.records(frame)[0] == TALK | {"source": None}
    json.dumps(schema.records(frame))  # all plain values


@pytest.mark.heavy
def test_a_dict_of_data_sets_without_the_split_says_which_it_has():
    datasets = pytest.importorskip("datasets")
    data = datasets.DatasetDict(test=datasets.Dataset.from_list([ASKED]))
    with pytest.raises(ValueError, match=r"expected one of them. Pass it, such as data\['test'\]"):
        schema.records(data)


@pytest.mark.heavy
def test_an_experiment_takes_a_dict_of_data_sets_with_its_validation():
    datasets = pytest.importorskip("datasets")
    from ftkit.experiment.experiment import Experiment

    rows = [ASKED | {"instruction": f"Say {n}."} for n in range(12)]
    data = datasets.DatasetDict(train=datasets.Dataset.from_list(rows),
                                validation=datasets.Dataset.from_list(rows[:3]))
    lab = Experiment(data=data, probes=())
    assert (len(lab.train), len(lab.val)) == (12, 3)


# ----------------------------------------------------------------------- several files, folders


def test_a_pattern_and_a_list_of_paths_are_read_in_order(tmp_path):
    for n in range(3):
        (tmp_path / f"part-{n}.jsonl").write_bytes(foreign_data.lines(TEXT | {"text": f"{n}"}))
    wanted = ["0", "1", "2"]
    assert [r["text"] for r in schema.records(tmp_path / "part-*.jsonl")] == wanted
    assert [r["text"] for r in schema.records(str(tmp_path / "*.jsonl"))] == wanted
    assert [r["text"] for r in schema.records(sorted(tmp_path.glob("*.jsonl")))] == wanted
    (tmp_path / "part-3.jsonl").write_bytes(foreign_data.lines(ASKED))
    with pytest.raises(schema.DataError, match="but those in part-0.jsonl are text"):
        schema.records(tmp_path / "part-*.jsonl")
    with pytest.raises(ValueError, match="a pattern that matches no file"):
        schema.records(tmp_path / "x*.jsonl")
    odd = tmp_path / "odd[1].jsonl"
    odd.write_bytes(foreign_data.lines(TEXT))
    assert schema.records(odd) == [TEXT]


def test_the_pattern_that_is_advised_for_a_folder_works(tmp_path):
    folder = tmp_path / "my data"
    folder.mkdir()
    (folder / "a.csv").write_bytes(foreign_data.CSV)
    with pytest.raises(schema.DataError, match="a folder; .* a pattern") as caught:
        schema.records(folder)
    advised = shlex.split(str(caught.value).rpartition("for several: ")[2])
    assert len(schema.records(*advised)) == 2


@pytest.mark.heavy
def test_a_data_set_of_the_hub_or_saved_to_disk_becomes_a_file_as_advised(tmp_path, follow,
                                                                         monkeypatch):
    datasets = pytest.importorskip("datasets")
    # Without a network the hub is a folder of this name below the place where the command is run.
    place = tmp_path / "elsewhere"
    (place / "me" / "seas").mkdir(parents=True)
    (place / "me" / "seas" / "train.jsonl").write_bytes(foreign_data.twice(ASKED))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(schema.DataError, match="no such file; .* hub") as caught:
        schema.records("me/seas")
    assert follow(str(caught.value), place) == [place / "seas.jsonl"]
    assert schema.records(place / "seas.jsonl") == [ASKED, ASKED]
    assert str(caught.value).endswith("then pass seas.jsonl")

    datasets.Dataset.from_list([ASKED]).save_to_disk(str(place / "kept"))
    with pytest.raises(schema.DataError, match="written by save_to_disk") as caught:
        schema.records(place / "kept")
    assert follow(str(caught.value), place) == [place / "kept.jsonl"]
    assert schema.records(place / "kept.jsonl") == [ASKED]


def test_without_pyarrow_the_command_that_installs_it_is_said(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(schema.DataError, match="`pip install pyarrow`"):
        schema.records(tmp_path / "a.parquet")


# ------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("name, content, words", [
    ("a.csv", b"instruction,output\nHi,Hello,more\n", "line 2: 3 cells in 2 columns"),
    ("a.csv", b"instruction,output\nHi,\n", "line 2, field 'output': empty"),
    ("a.csv", b"text,text\na,b\n", "two columns have the same name"),
    ("a.csv", b"", "no records"), ("a.json", b"[]", "no records"),
    ("a.txt", b"\n \n", "no records"),
    ("a.json", b'[{"text": "a"},\n{"text": ""}]', "line 2, field 'text': empty"),
    ("a.json", b'[{"text": "a"},\n{"text": "b"', "line 2: not JSON"),
    ("a.json", b'[{"text": "a"}\n{"text": "b"}]', "expected a comma or ]"),
    ("a.json", b'[{"text": "a"}, 7]', "7 is not an object"),
    ("a.json", b'[{"text": "a", "text": "b"}]', "occurs twice"),
    ("a.json", b'[{"text": "a"}]\n[{"text": "b"}]', "after the end of the array; expected one"),
    ("a.json", b'[{"text": "a"}] x', "'x' after the end of the array"),
    ("a.json", b"nonsense", "line 1: not JSON"),
    ("a.jsonl.gz", b"\x1f\x8bgarbage", "damaged"),
    ("a.csv.gz", b"plain", "damaged"),
    ("a.parquet", b"PAR1garbage", "not a complete Parquet file"),
    ("a.jsonl", foreign_data.lines({"messages": [USER, BOT | {"weight": 0.5}]}),
     "messages[1].weight': 0.5; expected 0"),
    ("a.jsonl", foreign_data.lines({"messages": [USER, BOT | {"weight": 0}]}), "have weight 0"),
    ("a.jsonl", foreign_data.lines({"prompt": [SYSTEM | {"content": 3}, USER], "chosen": [BOT],
                                    "rejected": [BOT]}), "history[0].content': 3; expected"),
])
def test_a_damaged_foreign_file_is_reported_by_line_or_field(name, content, words, tmp_path):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(schema.DataError) as caught:
        schema.records(path)
    assert words in str(caught.value)
    assert audit.check(path)["errors"]


def test_of_two_arrays_of_one_name_the_outer_one_is_read_with_its_lines(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"meta": {"data": [{"text": "wrong"}]},\n"x": "\\"data\\": [",\n"data": [\n'
                    '{"text": "right"}]}')
    found = schema.records(path)
    assert found == [{"text": "right"}] and [*found.lines] == [4]


def test_check_names_fields_that_are_read_by_other_names_and_those_that_are_not_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(foreign_data.twice({"conversations": [
        {"from": "human", "value": "Hi", "name": None},
        {"from": "gpt", "value": "Hello", "reasoning_content": "Hm.", "weight": 1}], "score": 1}))
    told = {w["field"]: w["problem"] for w in audit.check(path)["warnings"] if w["field"]}
    assert told == {"conversations": "is another tool's field, read as messages (in 2 of 2 rows)",
                    "messages.reasoning_content": "is an unknown field, not used (in 2 of 2 rows)",
                    "score": "is an unknown field, not used (in 2 of 2 rows)"}


def test_check_says_one_thing_of_a_table_under_another_name_and_warns_of_equal_answers(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(foreign_data.CSV * 3)
    assert len(audit.check(path)["errors"]) == 1
    path.write_bytes(foreign_data.twice(PAIR | {"rejected": PAIR["chosen"] + " "}))
    assert "has no effect" in audit.check(path)["warnings"][0]["problem"]


def test_convert_leaves_out_what_is_bad_only_on_request_and_never_writes_over_a_file(tmp_path):
    path, out = tmp_path / "a.json", tmp_path / "b.jsonl"
    path.write_bytes(json.dumps([ASKED, ASKED | {"output": ""}, TEXT]).encode())
    with pytest.raises(schema.DataError, match="line 1, field 'output': empty.*1 more"):
        convert.write(path, out)
    assert not out.exists()
    assert convert.write(path, out, skip=True) == (1, 2)
    assert schema.records(out) == [ASKED]
    with pytest.raises(ValueError, match="exists already. Choose another file name"):
        convert.write(path, out, skip=True)
    with pytest.raises(ValueError, match="Choose a name that does"):
        convert.write(path, tmp_path / "b.csv")


def test_rows_in_memory_with_tools_name_the_function_that_writes_them_as_text():
    with pytest.raises(schema.DataError, match=r"convert.convert\(records, tools='text'\)"):
        schema.records([foreign_data.CALLED | {"functions": [foreign_data.TOOL]}])
    records, left_out = convert.convert([foreign_data.CALLED], tools="text")
    assert records[0]["messages"] == foreign_data.AS_TEXT and left_out == 0
    assert schema.records(records) == records




@pytest.mark.heavy
def test_a_pair_after_earlier_turns_is_trained_on_its_last_answer_only():
    from ftkit.experiment import preferences
    from ftkit.model import loading

    tokenizer = loading.load_tokenizer("tiny")
    record = foreign.to_record({"prompt": [USER, BOT, USER], "chosen": [BOT],
                                "rejected": [BOT | {"content": "None."}]})
    chosen, rejected = preferences.pair_examples(schema.records([record]), tokenizer)[0]
    talk = encoding.encode({"messages": [USER, BOT | {"weight": 0}, USER, BOT]}, tokenizer)
    assert chosen == talk and rejected["input_ids"] != talk["input_ids"]
    last = encoding.encode({"instruction": USER["content"], "output": BOT["content"]}, tokenizer)
    assert [t for t in chosen["labels"] if t != encoding.NO_LOSS] == [
        t for t in last["labels"] if t != encoding.NO_LOSS]
