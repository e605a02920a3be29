"""`ftkit grade`: verdicts of good, wrong, looping, greedy and cheating notebooks."""

import json
import sys

import pytest
from helpers import write_notebook

from ftkit.base.errors import UserError
from ftkit.interview import grading

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="alarms")

IMPORT = "import ftkit as ft\nimport missing_package\n"
RIGHT = "def lora_parameters(layers, r):\n    return sum(r * (a + b) for a, b in layers)\n"
CHECK = 'ft.check("lora_parameters", lora_parameters)'
TRAINS = 'open("trained", "w").write("x"); lab = ft.Experiment(); lab.run()'


def notebook(folder, *cells):
    folder.mkdir(parents=True, exist_ok=True)
    write_notebook(folder / "02_lora.ipynb", ["import ftkit as ft", *cells])


def test_a_class_of_notebooks_gets_a_row_each(tmp_path):
    submitted = tmp_path / "submitted"
    notebook(submitted / "anna" / "02", TRAINS, RIGHT, CHECK, "%matplotlib inline")
    notebook(submitted / "ben" / "02", RIGHT.replace("r *", "2 * r *"), CHECK,
             "def merge_weight(W, A, B, r, lora_alpha):\n    ...",
             'ft.check("merge_weight", merge_weight)')
    rows = {row["learner"]: row for row in grading.grade(tmp_path)}
    assert rows["anna"]["solved"] == ["lora_parameters"] and not rows["anna"]["error"]
    assert rows["ben"]["wrong"] == ["lora_parameters"]
    assert rows["ben"]["unsolved"] == ["merge_weight"]
    assert not list(tmp_path.rglob("trained")), "a run of the notebook was executed"


def test_loops_and_too_much_memory_end_and_the_exercise_counts_as_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "PER_CHECK", 1)
    write_notebook(tmp_path / "loops.ipynb", [
        "def lora_parameters(layers, r):\n    while True:\n        pass", CHECK])
    assert grading.states_of(tmp_path / "loops.ipynb") == {"lora_parameters": "wrong"}
    (tmp_path / "loops.ipynb").unlink()
    write_notebook(tmp_path / "never.ipynb", ["import ftkit as ft", RIGHT, CHECK, (
        "def merge_weight(*args):\n    while True:\n        try:\n            while True:\n"
        "                pass\n        except BaseException:\n            pass"),
        'ft.check("merge_weight", merge_weight)'])
    write_notebook(tmp_path / "greedy.ipynb", ["import ftkit as ft", (
        "def lora_parameters(layers, r):\n    return len(bytearray(60 * 2**30))"), CHECK])
    rows = {row["file"]: row for row in grading.grade(tmp_path, seconds=40)}
    assert rows["never.ipynb"]["error"] == "took more than 40 s, and was ended"
    assert rows["never.ipynb"]["solved"] == ["lora_parameters"]
    assert rows["greedy.ipynb"]["wrong"] == ["lora_parameters"]


def test_a_notebook_cannot_write_its_own_verdict(tmp_path):
    write_notebook(tmp_path / "cheats.ipynb", [
        "import ftkit as ft", "ft.check = lambda *args: None",
        'from ftkit.lessons import progress_log\nprogress_log.add("check", name="merge_weight", '
        'state="solved")', RIGHT.replace("r *", "2 *"), CHECK])
    assert grading.states_of(tmp_path / "cheats.ipynb") == {"lora_parameters": "wrong"}


def test_a_file_that_is_no_notebook_and_an_empty_folder_are_reported(tmp_path):
    with pytest.raises(UserError, match="has no notebooks; expected files that end in .ipynb"):
        grading.grade(tmp_path)
    (tmp_path / "broken.ipynb").write_text(json.dumps([1]))
    (row,) = grading.grade(tmp_path)
    assert "TypeError" in row["error"] and row["solved"] == []
