"""pytest tests/data/test_schema.py: what data.py accepts, refuses, and says about a file."""

import hashlib
import itertools
import json
import pickle
import random
import re
import statistics
import subprocess
import sys

import malformed
import pytest

from ftkit.data import audit, mixing, schema, split_and_corrupt
from ftkit.experiment.experiment import Experiment

pytestmark = pytest.mark.quick

GOOD = malformed.GOOD
CHAT = {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "Hi"},
                     {"role": "assistant", "content": "Hello"}]}


def write(path, rows, end="\n"):
    text = "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)
    path.write_bytes(text.encode())
    return path


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("case", malformed.CASES, ids=lambda case: case.name)
def test_a_malformed_file_is_refused_in_one_sentence_with_file_and_line(case, tmp_path):
    path = case.write(tmp_path)
    with pytest.raises(schema.DataError) as caught:
        schema.records(path)
    text = str(caught.value)
    where = f"{path} line {case.line}" + (f", field '{case.field}'" if case.field else "") + ": "
    assert text.startswith(where)
    assert [word for word in case.words if word not in text] == []
    assert text.isprintable() and len(text.replace(str(path.parent), "")) < len(where) + 330
    assert caught.value.path == path and caught.value.problems[0].row == case.line
    report = json.loads(json.dumps(audit.check(path)))
    assert report["errors"] == [p._asdict() for p in caught.value.problems]


def test_every_bad_record_is_in_problems_and_the_sentence_counts_the_others(tmp_path):
    rows = [GOOD, GOOD | {"output": ""}, GOOD, GOOD | {"output": 3}, GOOD | {"instruction": None}]
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(schema.DataError) as caught:
        schema.records(path)
    found = [(p.row, p.field) for p in caught.value.problems]
    assert found == [(2, "output"), (4, "output"), (5, "instruction")]
    assert str(caught.value).endswith(f"(and 2 more problems; run `ftkit check {path}`)")
    assert caught.value.message(advice=False).endswith("(and 2 more problems)")


@pytest.mark.parametrize("value", ["\x1b[2J\x07" * 300, "𝓍" * 3000, ["<script>" * 500], 10**300,
                                   {"a\u202eb": "\x00" * 999}])
def test_a_message_shows_little_of_the_data_and_nothing_unprintable(value, tmp_path):
    for row in ({"output": "x", "instruction": [value]}, {str(value): 1}, {"messages": [value]},
                {"messages": [{"role": value, "content": value}]}, [value], value):
        path = tmp_path / "a.jsonl"
        path.write_text(json.dumps(row) + "\n")
        with pytest.raises(schema.DataError) as caught:
            schema.records(path)
        text = str(caught.value).removeprefix(str(path))
        assert text.isprintable() and len(text) < 700
        plain = re.sub(r"\\(x..|u....|.)", "·", text)  # an escape stands for one character
        assert not re.search(r"(𝓍|\[2J··|<script>|·|0){81}", plain)


def test_a_file_name_with_control_characters_is_shown_escaped(tmp_path):
    path = tmp_path / "a\nb\x1b.jsonl"
    path.write_text("oops\n")
    with pytest.raises(schema.DataError) as caught:
        schema.records(path)
    assert "a\\nb\\x1b.jsonl line 1" in str(caught.value) and str(caught.value).isprintable()


def test_paths_that_are_no_files_are_reported(tmp_path):
    with pytest.raises(schema.DataError, match="no such file"):
        schema.records(tmp_path / "missing.jsonl")
    with pytest.raises(schema.DataError, match=r"a folder; .*/\*\.jsonl"):
        schema.records(tmp_path)
    with pytest.raises(schema.DataError, match="no such file"):
        audit.check(tmp_path / "missing.jsonl")


def test_sources_of_another_type_and_bad_lists_are_reported():
    with pytest.raises(ValueError, match="data is dict; expected the name of a sample"):
        schema.records(GOOD)
    with pytest.raises(schema.DataError, match="^record 2, field 'output': empty"):
        schema.records([GOOD, GOOD | {"output": ""}])
    with pytest.raises(schema.DataError, match="^record 1: str 'Paris'; expected a dict"):
        schema.records(["Paris"])
    with pytest.raises(schema.DataError, match="there are no records"):
        schema.records([])


# ----------------------------------------------------------------------------- what is accepted


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", " \r\n\t\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_bom_crlf_and_blank_lines_are_read_as_what_they_are(start, end, tmp_path):
    rows = [GOOD | {"output": f"Åé {i}\u2028\x85"} for i in range(3)]
    path = write(tmp_path / "a.jsonl", rows, end)
    path.write_bytes(start + path.read_bytes())
    got = schema.records(path)
    assert list(got) == rows
    assert list(got.lines) == ([1, 2, 3] if end.count("\n") == 1 else [1, 3, 5])
    assert list(got[1:].lines) == list(got.lines)[1:]


def test_a_last_line_without_line_end_is_a_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(GOOD))
    assert list(schema.records(path)) == [GOOD]


def test_the_hash_is_that_of_the_file(tmp_path):
    path = write(tmp_path / "a.jsonl", [GOOD] * 3, "\r\n")
    assert schema.records(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_changed_record_changes_the_hash(tmp_path):
    got = schema.records([dict(GOOD), dict(GOOD)])
    before = got.sha256
    got[0]["output"] = "Lyon"
    assert schema.records(got).sha256 != before == schema.records([GOOD, GOOD]).sha256


@pytest.mark.parametrize("record, kind", [
    (GOOD, "instruction"),
    ({"instruction": "a", "output": "b"}, "instruction"),
    (GOOD | {"text": "the whole prompt, as in Stanford's file", "id": 3, "x": None}, "instruction"),
    ({"text": "a story", "domain": "general"}, "text"),
    (CHAT, "chat"),
    ({"instruction": "a", "input": "", "chosen": "b", "rejected": "c"}, "preference"),
])
def test_the_kind_of_a_file_is_that_of_its_records(record, kind, tmp_path):
    got = schema.records(write(tmp_path / "a.jsonl", [record, record]))
    assert got.kind == kind and list(got) == [record, record]
    assert repr(got) == f"Records(a.jsonl: 2 {kind} records)"


def test_a_sample_is_found_by_name_and_a_misspelled_one_is_corrected(tmp_path, monkeypatch):
    for name in ("translation.train", "translation.test", "capital.train"):
        write(tmp_path / f"{name}.jsonl", [GOOD])
    (tmp_path / "probes.jsonl").write_text("{}\n")
    monkeypatch.setattr(schema.machine, "share", lambda name: tmp_path)
    assert schema.sample_names() == ["capital", "translation"]
    assert schema.records("translation", "test").name == "translation"
    with pytest.raises(ValueError, match="no sample is named 'translatoin'; did you mean transla"):
        schema.records("translatoin")
    with pytest.raises(ValueError, match="no split 'validation'; expected one of test, train"):
        schema.records("translation", "validation")
    with pytest.raises(ValueError, match="samples: capital, translation .*its extension"):
        schema.records("mydata")


def test_records_draw_themselves_without_running_what_is_in_them():
    evil = "<img src=x onerror=alert(1)>"
    for record in ({"instruction": evil, "output": evil, evil: evil},
                   {"messages": [{"role": "user", "content": evil},
                                 {"role": "assistant", "content": evil}]}):
        drawn = schema.Records([record], name=evil)._repr_html_()
        assert "<img" not in drawn and "&lt;img" in drawn


def test_importing_data_loads_no_torch_transformers_or_pandas():
    code = "import sys, ftkit.data.schema, ftkit.data.encoding; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            check=True).stdout.split()
    assert not {"torch", "transformers", "pandas", "numpy"} & set(loaded)


@pytest.mark.heavy
def test_reading_a_file_takes_less_than_twice_its_size(tmp_path):
    path = tmp_path / "big.jsonl"
    rng = random.Random(0)
    words = ["alpha", "beta", "gamma", "delta"]
    with open(path, "w") as file:
        for i in range(60_000):  # as long as Alpaca's records are on average
            record = {"instruction": f"{i} " + " ".join(rng.choices(words, k=28)), "input": "",
                      "output": " ".join(rng.choices(words, k=36)), "task": "copy"}
            file.write(json.dumps(record) + "\n")
    code = f"""
import resource, sys
from ftkit.data import schema
unit = 1 if sys.platform == "darwin" else 1024  # bytes in one of ru_maxrss
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kept = schema.records({str(path)!r})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""
    used = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              check=True).stdout)
    assert used < 2 * path.stat().st_size


# ------------------------------------------------------------------------------------- check


def test_check_has_exactly_the_promised_fields(tmp_path):
    report = audit.check(write(tmp_path / "a.jsonl", [GOOD]))
    assert len(report.pop("notes")) <= 1  # without the packages of ftkit[privacy]
    assert report == {
        "rows": 1, "errors": [], "warnings": [], "duplicates": 0, "near_duplicates": 0,
        "lengths": {"prompt": dict.fromkeys(("min", "median", "p95", "max"), 27),
                    "response": dict.fromkeys(("min", "median", "p95", "max"), 5)},
        "leaks": 0, "suspected": 0,
    }


def test_check_of_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"")
    report = audit.check(tmp_path / "a.jsonl")
    assert report["rows"] == 0 and len(report["errors"]) == 1


def test_check_counts_good_and_bad_rows_by_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f"\n{json.dumps(GOOD)}\noops\n\n{json.dumps(GOOD | {'output': ''})}\n")
    report = audit.check(path)
    assert report["rows"] == 3
    assert [(e["row"], e["field"]) for e in report["errors"]] == [(3, None), (5, "output")]


def test_check_counts_duplicates_and_questions_with_two_answers(tmp_path):
    rows = [GOOD, GOOD | {"output": "Lyon"}, GOOD | {"task": "city"}, GOOD | {"input": "!"}, GOOD]
    report = audit.check(write(tmp_path / "a.jsonl", rows))
    assert report["duplicates"] == 2 and report["errors"] == []
    told = {(w["row"], w["problem"]) for w in report["warnings"]}
    assert (3, "is the same as line 1") in told and (5, "is the same as line 1") in told
    assert (2, "has the same prompt as line 1 and has another answer") in told
    spaced = [GOOD, GOOD | {"instruction": f"  {GOOD['instruction']}\n"}]
    [warning] = [w for w in audit.check(write(tmp_path / "b.jsonl", spaced))["warnings"]
                 if "same prompt" in w["problem"]]
    assert warning["problem"] == "has the same prompt as line 1 and differs only in white space"
    assert schema.records(tmp_path / "a.jsonl")  # a warning, never an error


def test_check_finds_the_pairs_that_a_comparison_of_all_pairs_finds(tmp_path):
    rng = random.Random(3)
    vocabulary = [f"w{i}" for i in range(300)]
    texts = []
    for _ in range(60):
        words = rng.choices(vocabulary, k=80)
        texts.append(words)
        for changed in (1, 12):
            copy = list(words)
            for i in rng.sample(range(80), changed):
                copy[i] = rng.choice(vocabulary)
            texts.append(copy)
    rng.shuffle(texts)
    report = audit.check(write(tmp_path / "a.jsonl", [{"text": " ".join(t)} for t in texts]))

    sets = [{tuple(t[i : i + 3]) for i in range(len(t) - 2)} for t in texts]
    near = {j for i, j in itertools.combinations(range(len(sets)), 2)
            if len(sets[i] & sets[j]) >= 0.8 * len(sets[i] | sets[j])}
    assert len(near) == 60
    assert abs(report["near_duplicates"] - 60) <= 2


def test_case_punctuation_and_spaces_do_not_tell_two_rows_apart_a_word_does(tmp_path):
    texts = ["What is the capital of France?", "what is the  Capital of France",
             "What is the capital of Spain?"]
    report = audit.check(write(tmp_path / "a.jsonl", [{"text": t} for t in texts]))
    assert (report["duplicates"], report["near_duplicates"]) == (0, 1)
    assert report["warnings"] == [
        {"row": 2, "field": None, "problem": "is nearly the same as line 1"}]


def test_an_exact_duplicate_is_not_counted_as_a_near_one_too(tmp_path):
    report = audit.check(write(tmp_path / "a.jsonl", [GOOD] * 3))
    assert (report["duplicates"], report["near_duplicates"], len(report["warnings"])) == (2, 0, 2)


def test_all_but_the_first_of_many_like_rows_are_near_duplicates():
    near = audit.Near()
    for i in range(4000):
        near.add("the same few words again and again and again in a long row" + " x" * (i % 2))
    assert sorted(near.pairs()) == list(range(1, 4000))


def test_check_counts_leaks_into_other_files_by_what_is_asked(tmp_path):
    rows = [GOOD | {"instruction": f"Question {i}?"} for i in range(5)]
    path = write(tmp_path / "train.jsonl", rows)
    test = write(tmp_path / "test.jsonl", [rows[3] | {"output": "else"}, GOOD])
    more = write(tmp_path / "more.jsonl", [rows[0] | {"instruction": " question  0?"}])
    assert audit.check(path)["leaks"] == 0
    assert audit.check(path, against=test)["leaks"] == 1
    report = audit.check(path, against=[test, str(more)])
    assert report["leaks"] == 2
    assert [(w["row"], w["problem"]) for w in report["warnings"] if "has the same prompt as" in
            w["problem"] and "jsonl" in w["problem"]] == [
        (1, "has the same prompt as more.jsonl line 1"),
        (4, "has the same prompt as test.jsonl line 1")]


def test_lengths_are_the_order_statistics_of_the_texts(tmp_path):
    sizes = [random.Random(1).randint(1, 200) for _ in range(101)]
    report = audit.check(write(tmp_path / "a.jsonl", [GOOD | {"output": "x" * n} for n in sizes]))
    assert report["lengths"]["response"] == {
        "min": min(sizes), "median": statistics.median(sizes),
        "p95": statistics.quantiles(sizes, n=20, method="inclusive")[-1], "max": max(sizes)}


def test_check_warns_of_what_is_allowed_but_odd(tmp_path):
    rows = [GOOD | {"note": 1}, GOOD | {"output": "Par\u001bis"},
            GOOD | {"output": "Ã©tÃ©", "note": 2}, GOOD | {"output": "caf\ufffd"}]
    warnings = audit.check(write(tmp_path / "a.jsonl", rows))["warnings"]
    told = [(w["row"], w["field"]) for w in warnings if w["field"]]
    assert sorted(told) == [(1, "note"), (2, "output"), (3, "output"), (4, "output")]
    chat = {"messages": CHAT["messages"] + [{"role": "user", "content": "Bye"}]}
    warnings = audit.check(write(tmp_path / "b.jsonl", [chat]))["warnings"]
    assert "ends before the assistant answers" in warnings[0]["problem"]


# ----------------------------------------------------------------------- split, mix, corrupt


def numbered(n, offset=0):
    return [{"instruction": f"Question {i % 37}?", "input": f"{i % 5}", "output": f"{i + offset}"}
            for i in range(n)]


def test_a_split_shares_no_question_and_loses_no_record():
    rows = numbered(500) + [r | {"instruction": r["instruction"].upper()} for r in numbered(100)]
    train, validation = split_and_corrupt.split(schema.records(rows), 0.2, seed=1)
    assert sorted(r["output"] for r in train + validation) == sorted(r["output"] for r in rows)
    asked = [{(r["instruction"].lower(), r["input"]) for r in part} for part in (train, validation)]
    assert not asked[0] & asked[1]
    assert 0.15 < len(validation) / len(rows) < 0.25
    again, other = (split_and_corrupt.split(rows, 0.2, seed)[0] for seed in (1, 2))
    assert list(again) == list(train) != list(other)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_split_of_few_records_leaves_none_empty(n):
    rows = [GOOD | {"input": str(i)} for i in range(n)]
    for fraction in (0.01, 0.5, 0.99):
        assert all(len(part) for part in split_and_corrupt.split(rows, fraction, 0))


def test_a_split_that_must_leak_is_refused():
    with pytest.raises(ValueError, match="have the same prompt, so they cannot be split"):
        split_and_corrupt.split([GOOD, GOOD | {"output": "Lyon"}], 0.5, 0)
    with pytest.raises(ValueError, match="fraction is 1"):
        split_and_corrupt.split(numbered(9), 1, 0)


@pytest.mark.parametrize("share, size", [(0.0, 100), (0.25, 5), (0.5, 1000), (0.9, 100)])
def test_a_mix_has_all_of_the_first_and_the_asked_share_of_the_second(share, size):
    a, b = numbered(100), [{"text": f"story {i}"} for i in range(size)]
    mixed = mixing.mix(a, b, share, seed=0)
    from_b = [r["text"] for r in mixed if "text" in r]
    assert sorted(r["output"] for r in mixed if "output" in r) == sorted(r["output"] for r in a)
    assert len(from_b) / len(mixed) == pytest.approx(share, abs=0.005)
    counts = [from_b.count(text) for text in {r["text"] for r in b}]
    assert max(counts) - min(counts) <= 1
    assert list(mixed) == list(mixing.mix(a, b, share, seed=0)) and mixed.sha256


@pytest.mark.parametrize("kind", sorted(split_and_corrupt.DAMAGE))
def test_corrupt_changes_the_asked_share_and_nothing_else(kind):
    rows = [GOOD | {"input": str(i), "output": f"answer number {i} of many in a long row"}
            for i in range(200)]
    worse = split_and_corrupt.corrupt(rows, kind, 0.3, seed=0)
    changed = [i for i in range(200) if worse[i] != rows[i]]
    assert len(changed) == (59 if kind == "duplicate" else 60)  # the copied one stays as it was
    assert all(schema.problems_in(r, 1) == [] for r in worse)
    assert rows[0] == GOOD | {"input": "0", "output": "answer number 0 of many in a long row"}
    if kind != "duplicate":
        assert all(worse[i] | {"output": ""} == rows[i] | {"output": ""} for i in range(200))


def test_wrong_answers_are_wrong_even_where_few_answers_exist():
    rows = [GOOD | {"input": str(i), "output": "yes" if i % 5 < 2 else "no"} for i in range(100)]
    worse = split_and_corrupt.corrupt(rows, "wrong", 0.5, seed=0)
    wrong = sum(a["output"] != b["output"] for a, b in zip(rows, worse, strict=True))
    assert wrong >= 30  # at most twice the rarer answer can change places


# ---------------------------------------------------------------------- the records of a large file


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file counted as large, with a blank line, an emoji and half of a surrogate pair."""
    monkeypatch.setattr(schema, "LARGE", 100)
    path = tmp_path / "large.jsonl"
    lines = [json.dumps({"instruction": f"Say {i % 20}.", "input": "", "output": f"{i} 😀",
                         "note": "\ud800"}) for i in range(50)]
    path.write_text("\n\n".join(lines), "utf-8")
    return path


def test_an_experiment_keeps_a_large_file_as_bytes_that_read_as_the_same_records(large):
    whole, kept = schema.records(large), schema.compact(large)
    assert isinstance(whole, list) and isinstance(kept, schema.LargeFile)
    assert list(kept) == whole and (kept[-1], kept[3:9:2]) == (whole[-1], whole[3:9:2])
    assert kept[3:9:2].lines == whole[3:9:2].lines and isinstance(kept[:2], schema.Records)
    parts = ((one, *split_and_corrupt.split(one, 0.1, 0)) for one in (kept, whole))
    for a, b in zip(*parts, strict=True):
        assert (list(a), list(a.lines), a.name, a.kind, a.path, a.sha256) == (
            b, list(b.lines), b.name, b.kind, b.path, b.sha256)
        assert a._repr_html_() == b._repr_html_() and "50" in repr(kept)
    assert schema.compact(kept) is kept and schema.records(kept) == whole
    assert list(pickle.loads(pickle.dumps(kept))) == whole, "a sweep sends it to its processes"


@pytest.mark.heavy
def test_a_large_file_trains_exactly_as_a_small_one(large, home, monkeypatch):
    losses = []
    for limit in (10**9, 100):
        monkeypatch.setattr(schema, "LARGE", limit)
        lab = Experiment(data=large, probes={"own": large})
        losses.append(lab.run(max_steps=2, batch_size=4, seed=3).rows[-1]["loss"])
    assert isinstance(lab.train, schema.LargeFile) and losses[0] == losses[1]


def test_a_record_with_a_question_alone_is_said_to_have_no_answer():
    (problem,) = schema.problems_in({"question": "Where is Oslo?"}, 2)
    assert problem.problem.endswith("this record has no answer")
    (problem,) = schema.problems_in({"question": "Where is Oslo?", "reply": "In Norway."}, 2)
    assert "no answer" not in problem.problem
