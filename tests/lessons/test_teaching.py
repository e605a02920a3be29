"""What a teacher uses: plans computed from the course, and the page about a class."""

import json
import re

import pytest
from helpers import ROOT
from lesson_files import module

from ftkit.base.errors import UserError
from ftkit.interview import paths

maker = module("make_class")
PAGE = ROOT / "docs" / "TEACHING.md"
PLAN = re.compile(r"<!-- plan (\w+) (\d+) (\w+) -->\n(.*?)<!-- end -->", re.S)


def learner(folder, name, *entries):
    folder = folder / name
    folder.mkdir()
    lines = [json.dumps({"time": "2026-10-01T10:00:00+0000"} | entry) for entry in entries]
    (folder / "progress.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def check(name, state="solved"):
    return {"kind": "check", "name": name, "state": state}


def test_the_plans_on_the_page_are_those_of_the_course():
    plans = PLAN.findall(PAGE.read_text("utf-8"))
    assert {(name, parts) for name, parts, _, _ in plans} == {
        ("everything", "7"), ("everything", "5"), ("ship", "2")}
    for name, parts, called, table in plans:
        assert table.strip() == maker.plan(name, int(parts), called)


@pytest.mark.parametrize("name, parts", [("everything", 7), ("everything", 1), ("ship", 2),
                                         ("ship", 6), ("tour", 1)])
def test_parts_are_the_path_in_order_and_no_cut_makes_the_longest_shorter(name, parts):
    found, lessons = maker.parts_of(name, parts), paths.lessons_of(name)
    assert [step for part in found for step in part] == lessons and len(found) == parts
    assert all(found)
    longest = max(sum(step.minutes for step in part) for part in found)
    needed, filled = 1, 0  # parts needed if each may hold one minute less than the longest
    for step in lessons:
        needed, filled = (needed, filled + step.minutes) if (
            filled + step.minutes < longest) else (needed + 1, step.minutes)
    assert needed > parts or any(step.minutes == longest for step in lessons)


def test_more_parts_than_lessons_and_an_unknown_path_are_refused(capsys):
    for words in (["plan", "--parts", "70"], ["plan", "--path", "fast"]):
        with pytest.raises(SystemExit):
            maker.main(words)
    said = capsys.readouterr().err
    assert "parts is 70; expected 1 to 26" in said and "path is 'fast'; expected one" in said


def test_a_class_page_counts_each_learner_and_names_the_hardest_exercise(tmp_path, home):
    score = {"kind": "score", "topic": "02_lora", "right": True}
    learner(tmp_path, "anna", check("merge_weight"), score | {"question": "a"},
            score | {"question": "b", "right": False})
    learner(tmp_path, "<b>ben", check("merge_weight", "wrong"), {"kind": "hint"},
            {"kind": "solution", "name": "merge_weight"}, check("lora_parameters"))
    people, tried = maker.rows_of(maker.read(tmp_path)[0])
    anna, = (row for row in people if row["learner"] == "anna")
    assert (anna["exercises solved"], anna["guesses right"]) == (1, "1 of 2")
    assert tried[0] == {"exercise": "merge_weight", "solved by": 1, "not yet": 1,
                        "asked for a hint": 0, "saw the solution": 1}
    page = maker.page(tmp_path)
    assert "2 learners" in page and "<b>ben" not in page and "&lt;b&gt;ben" in page


def test_files_of_another_version_or_kind_are_said_and_do_not_count(tmp_path, home):
    learner(tmp_path, "old", {"version": 9}, check("an_exercise_of_2031"))
    learner(tmp_path, "mixed", check("merge_weight"), check(["merge_weight"]), {"kind": 3})
    (tmp_path / "mixed.jsonl").write_text(json.dumps(check("merge_weight")), "utf-8")
    (tmp_path / "data.jsonl").write_bytes(b'{"instruction": "x"}\n\xff\xfe{')
    learners, left_out = maker.read(tmp_path)
    assert learners.keys() == {"mixed"} and len(learners["mixed"]) == 1
    said = "\n".join(left_out)
    assert "old/progress.jsonl holds nothing that this version of ftkit wrote" in said
    assert "data.jsonl holds nothing" in said and "is a second file of mixed" in said
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="has no progress files; expected NAME/progress.jsonl"):
        maker.read(empty)
