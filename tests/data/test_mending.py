"""`ftkit check` ends in one command that mends what it found, and says what that loses."""

import json
import re
import shlex

import pytest

from ftkit.data import audit, convert, file_formats, schema, suspect

pytestmark = pytest.mark.quick
CALL = {"functions": [{"name": "weather"}], "messages": [
    {"role": "user", "content": "Weather in Rome?"},
    {"role": "assistant", "content": None, "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]}]}


def chat(question, answer):
    return {"messages": [{"role": "user", "content": question},
                         {"role": "assistant", "content": answer}]}


def write(path, rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n"
                            for row in rows), encoding="utf-8")
    return path


def test_following_the_last_line_leaves_a_clean_file_and_loses_the_rows_it_said(ftkit, tmp_path):
    rows = [chat(f"What is {n} plus {n}?", f"It is {2 * n}, as {n} and {n} make it.")
            for n in range(40)]
    rows += [rows[3], rows[5], chat("Who is she?", "N/A"), chat("Call?", "Mail a.b@corp.org."),
             chat("Is it secret?", "It is known."), CALL, json.dumps(rows[0])[:40] + "\n"]
    path = write(tmp_path / "my data.jsonl", rows)
    test = write(tmp_path / "test.jsonl", [chat("Is it secret?", "Yes.")])
    status, out, _ = ftkit("check", path, "--against", test)
    last = out.strip().splitlines()[-1]
    command = shlex.split(re.findall("`([^`]+)`", " ".join(out.split()))[-1])
    assert status == 2 and "leaving out 6 rows of 47" in " ".join(out.split()), last
    assert {"--skip", "--dedup", "--suspect", "--against", "--tools"} <= set(command)
    status, said, _ = ftkit(*command[1:])
    assert status == 0 and "41 records; 6 rows left out" in said
    status, out, _ = ftkit("check", command[3], "--against", test)
    assert status == 0 and "To mend" not in out
    assert "0 errors" in out and "0 duplicates, 0 near-duplicates, 0 leaks" in out


def test_a_truncated_line_is_not_taken_for_pretty_printed_json(tmp_path):
    good = json.dumps(chat("a", "b")) + "\n"
    for cut in ('{"messages": [{"role": "us\n', '{"instruction": "a", "output": "half\n'):
        path = write(tmp_path / "cut.jsonl", [good, cut])
        problems = [p for *_, p in file_formats.rows(path) if p]
        assert "is cut off" in problems[0].problem and "mv OLD" not in problems[0].problem
    pretty = write(tmp_path / "pretty.jsonl", [json.dumps(chat("a", "b"), indent=1)])
    assert "pretty-printed" in next(p for *_, p in file_formats.rows(pretty) if p).problem


@pytest.mark.parametrize("answer, words", [
    ("N/A", "which is none"), ("...", "which is none"), ("```python\nprint(1)", "seems cut off"),
    ("This answer goes on for quite some time and then it stops at the word and", "cut off"),
    ("Write to jane@corp.org.", "an e-mail address")])
def test_answers_that_should_not_be_trained_on_are_named(tmp_path, answer, words):
    path = write(tmp_path / "x.jsonl", [chat("a", answer), chat("b", "Fine.")])
    found = audit.check(path)
    assert words in found["warnings"][0]["problem"]
    assert convert.mend(path, found) == {
        "command": "ftkit convert OLD NEW.jsonl --suspect", "lost": 1}


def test_keys_and_telephone_numbers_are_found_by_libraries(tmp_path):
    pytest.importorskip("detect_secrets")
    pytest.importorskip("phonenumbers")
    with suspect.searching() as private:
        assert private("ghp_16C7e42F292c6912E7710c838347Ae178B4a") == "a key (GitHub Token)"
        assert private("Call +44 20 7946 0958.") == "a telephone number"
        assert private("Name the young of a cow, 12 + 30 and 5329.") is None


def test_a_check_says_what_preference_pairs_are_for():
    notes = audit.check(schema.sample_path("preferences"))["notes"]
    assert any("--objective dpo" in note for note in notes)
    assert not any("dpo" in n for n in audit.check(schema.sample_path("translation"))["notes"])


def test_the_samples_are_not_suspected():
    for name in schema.sample_names():
        found = audit.check(schema.sample_path(name))
        words = ("which is none", "seems cut off", "e-mail", "a key", "telephone")
        assert name == "dirty" or not [w for w in found["warnings"]
                                       if any(word in w["problem"] for word in words)], name


def test_calls_are_checked_in_the_template_of_a_model(ftkit, tmp_path):
    called = {"messages": [*CALL["messages"], {"role": "tool", "content": "Sun."},
                           {"role": "assistant", "content": "It is sunny."}]}
    path = write(tmp_path / "calls.jsonl", [called])
    status, out, _ = ftkit("check", path)
    assert status == 0 and "`ftkit check FILE --model MODEL` tries it" in " ".join(out.split())
    status, out, _ = ftkit("check", path, "--model", "tiny")
    assert status == 2 and "--tools text" in out.strip().splitlines()[-1]
