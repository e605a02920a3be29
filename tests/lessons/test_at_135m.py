"""The box At 135M: its verdict follows from the recorded numbers, and no text says another."""

from __future__ import annotations

import json
import re

import pytest
import recorded_files
from helpers import ROOT
from recorded_files import write

from ftkit.experiment import recorded
from ftkit.lessons import at_135m as box
from ftkit.lessons.at_135m import at_135m

LESSONS = sorted((ROOT / "notebooks" / "src").glob("*.py"))
LOW, HIGH = [3.30, 3.31, 3.32], [3.60, 3.62, 3.64]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "folder", lambda: tmp_path)
    return tmp_path


# ---------------------------------------------------------------------------------- the rule


@pytest.mark.parametrize("ends, state", [
    ({"low": LOW, "high": HIGH}, "same"),
    ({"low": HIGH, "high": LOW}, "different"),
    ({"low": [3.3, 3.6, 3.4], "high": [3.5, 3.4, 3.6]}, "not settled"),
    ({"low": [3.3], "high": [3.6]}, "not settled"),  # one seed has no spread
    ({"low": [3.3, float("nan"), 3.3], "high": HIGH}, "not settled"),
])
def test_the_verdict_follows_from_the_numbers(folder, ends, state):
    write(folder, ends=ends)
    assert at_135m("sample").state == state
    assert f"At 135M: {state}." in repr(at_135m("sample"))


@pytest.mark.parametrize("claim, state", [
    ({"left": "high", "right": "low", "op": ">"}, "same"),
    ({"left": "high", "right": 3.0, "op": ">"}, "same"),
    ({"left": "high", "right": "base", "op": "<"}, "different"),
    ({"op": "==", "within": 0.5}, "same"),
    ({"op": "==", "within": 0.1}, "different"),
    ({"op": "==", "within": 0.31}, "not settled"),
    ({"right": "low", "right_measure": "val_loss"}, "different"),
])
def test_other_claims(folder, claim, state):
    write(folder, ends={"low": LOW, "high": HIGH}, claim=claim)
    assert at_135m("sample").state == state


@pytest.mark.parametrize("measure, measured", [("english_loss", True), ("val_loss", False)])
def test_the_untouched_model_has_a_line_only_where_it_was_measured(folder, measure, measured):
    write(folder, claim={"measure": measure, "beside": []})
    table = repr(box.arms_table(recorded.read("sample")))
    assert "low" in table and ("untouched model" in table) == measured


@pytest.mark.parametrize("name, measured", [("full_finetune", True), ("qlora", False)])
def test_the_untouched_model_has_a_validation_loss_where_all_settings_begin_with_it(name, measured):
    first = box.arms_table(recorded.read(name)).rows[0]
    assert first["setting"] == "untouched model"
    assert (first["validation loss, nats"] is not None) == measured


@pytest.mark.parametrize("without", [0, -1])
def test_the_untouched_model_has_no_validation_loss_where_a_run_did_not_measure_it(folder, without):
    made = recorded_files.content()
    del made["runs"][without]["before"]["val_loss"]
    (folder / "sample.json").write_text(json.dumps(made))
    assert box.arms_table(recorded.read("sample")).rows[0]["validation loss, nats"] is None


def test_the_best_arm_is_chosen_by_its_validation_loss_on_common_seeds(folder):
    made = recorded_files.content(ends={"LoRA 1": LOW, "LoRA 2": HIGH[:1], "full 1": HIGH},
                                  claim={"left": "best LoRA", "right": "best full"})
    for saved in made["runs"]:
        saved["after"]["val_loss"] = 1.2 if saved["arm"] == "LoRA 2" else 1.5
    runs = recorded.Recorded(made)
    assert box.best(runs, "LoRA") == "LoRA 2" and box.best(runs, "full") == "full 1"
    made["runs"][3]["after"]["val_loss"] = 1.6
    assert box.best(recorded.Recorded(made), "LoRA") == "LoRA 1"
    assert box.best(runs, "none") is None


def test_the_box_says_what_is_missing_and_what_the_lesson_saw(folder):
    assert "not recorded yet" in at_135m("sample").text
    write(folder, ends={"low": LOW})
    assert "not all recorded yet" in repr(at_135m("sample"))
    write(folder)

    class Verdict:
        state = "opposite"

    found = at_135m("sample", Verdict())
    assert "In this lesson, on the small model: the opposite was seen." in found.text
    assert "3 seeds, paired" in found.text and "recorded on 2026-11-26" in found.text
    page = found._repr_html_()
    assert "<div style='overflow-x:auto;margin:6px 0'><table>" in page
    assert "aria-label='At 135M'" in page and "<caption" in page and "3.31 ± 0.01" in page
    assert "<code>make recorded sample</code>" in page and "`make" in found.text
    assert not re.search(r"(?:background|[^-]color):\s*#", page)  # the theme's own colors


# --------------------------------------------------------------------------------- the picture


def test_the_picture_has_each_recorded_value_and_a_line_at_the_untouched_model(folder):
    made = recorded_files.content(claim={"measure": "exact_match", "beside": []})
    for saved in made["runs"]:
        saved["after"]["exact_match"] = saved["after"]["english_loss"] / 10
    (folder / "sample.json").write_text(json.dumps(made))
    box = at_135m("sample")
    ax, = box.picture.axes
    drawn = {round(x, 6) for line in ax.lines for x in line.get_xdata()}
    assert drawn >= {round(value / 10, 6) for value in LOW + HIGH} | {0.0}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["low", "high"]
    assert "dashed: the untouched model" in box.picture.text
    assert f'<img alt="{box.picture.text}"' in box._repr_html_()


@pytest.mark.parametrize("name, labels", [
    ("lr_valley", ["validation loss, nats", "loss on plain English, nats"]),  # two valleys
    ("forgetting", ["loss on plain English, nats"]),  # learned against kept
    ("overfitting", ["validation loss, nats", "exact match"]),  # curves
    ("qlora", [""]),  # dots: the arms are on this axis
])
def test_each_kind_of_claim_has_its_kind_of_picture(name, labels):
    picture = at_135m(name).picture
    assert [ax.get_ylabel() for ax in picture.axes] == labels


# ----------------------------------------------------------- what the texts of the lessons say

STATED = re.compile(  # "At 135M: same", "the verdict is different", "**not settled**"
    r"(?:at\s+135M\W{1,4}(?:it\s+is\s+)?|verdict\b[^.\n]{0,40}?\b(?:is|was)\W{1,4}|\*\*)"
    r"(same|different|not\s+settled)\b", re.IGNORECASE)


def stated(source: str) -> list[tuple[str, str]]:
    """(experiment, verdict) of each verdict that the markdown of a lesson states about a box."""
    said, name = [], re.search(r"at_135m\(\s*[\"'](\w+)[\"']", source)
    section = re.search(r"^# ## At 135M.*?(?=^# ## (?!At 135M)|\Z)", source,
                        re.MULTILINE | re.DOTALL)
    if name and section:
        prose = "\n".join(line[2:] for line in section.group().splitlines()
                          if line.startswith("# ") and "## At 135M" not in line)
        said = [(name.group(1), " ".join(found.lower().split())) for found in STATED.findall(prose)]
    return said


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem.partition("_")[0])
def test_no_lesson_states_another_verdict_than_the_file(path):
    for name, said in stated(path.read_text("utf-8")):
        assert said == at_135m(name).state, f"{path.name} says {said} about {name}"


def test_every_shipped_claim_is_judged_or_says_what_is_missing():
    for path in (ROOT / "data_samples" / "recorded").glob("*.json"):
        state = at_135m(json.loads(path.read_text("utf-8"))["name"]).state
        assert state in ("same", "different", "not settled", "not recorded")
