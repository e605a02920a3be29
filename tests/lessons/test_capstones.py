"""The worked capstones: their tables repeat, and what the text computes from them is right."""

import importlib.util
import re
import statistics

import pytest
from helpers import ROOT

FOLDER = ROOT / "docs" / "capstones"


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make_capstones", FOLDER / "make.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def text(name):
    return (FOLDER / f"{name}.md").read_text("utf-8")


def row(name, condition):
    """The cells of a row, each as a list of numbers."""
    lines = text(name).partition("| condition | exact match, test")[2].splitlines()
    found, = (line for line in lines[:5] if line.startswith(f"| {condition} |"))
    return [[float(word) for word in cell.split()] for cell in found.split("|")[2:-1]]


def rise(values):
    return statistics.fmean(values) - 0.852


def again(study, cells, **settings):
    """Compare a run with the first seed of a row: exact match, general_loss, sentences kept."""
    run = study.run(10, **settings)
    right = study.right(run.model)
    seen = sum(right) / len(right), run.after["general_loss"], study.kept(run.model)
    assert seen == pytest.approx([cell[0] for cell in cells], abs=0.03), seen


def test_the_rows_of_the_visitors_and_a_run_repeat(make, home):
    study, leaked, left_out = make.visitors()
    assert (left_out, len(study.train), len(study.val), len(leaked)) == (148, 677, 75, 18)
    again(study, row("visitors", "no replay, a third of the learning rate"), learning_rate=1e-4)


def test_the_verdict_on_the_claim_follows_from_the_table_of_the_visitors():
    without, replay, slow = (row("visitors", name) for name in (
        "no replay", "replay", "no replay, a third of the learning rate"))
    said = text("visitors")
    assert f"rises by {rise(replay[1]):.3f} with replay and by {rise(without[1]):.3f}" in said
    assert f"without: {rise(replay[1]) / rise(without[1]):.2f} of" in said
    lower = statistics.fmean(without[0]) - statistics.fmean(replay[0])
    assert f"Exact match is {lower:.3f} lower" in said and lower > 0.02
    assert f"rises by {rise(slow[1]):.3f}, and" in " ".join(said.split())
    _, tests = said.split("p of McNemar")
    p, = re.findall(r"a third of the learning rate \| ([\d. ]+) \|", tests.partition("**")[0])
    assert min(map(float, p.split())) > 0.05


def test_the_verdict_on_the_characters_follows_from_their_table():
    full, lora = (statistics.fmean(row("characters", name)[0]) for name in ("full", "lora"))
    said = " ".join(text("characters").split())
    assert f"right on {full:.3f} of the new names and LoRA on {lora:.3f}" in said
    assert max(full, lora) < 0.781 + 0.05


def test_the_rule_and_a_run_on_the_characters_repeat(make, home):
    train, test = make.characters()
    right = sum(make.rule(record) == record["output"] for record in test) / len(test)
    assert f"| a rule of ten lines | {right:.3f} |" in text("characters")
    known, new = ({record["input"].split()[0] for record in part} for part in (train, test))
    assert not known & new, "a family is in both"
    study = make.Study(train, test, max_steps=60, eval_steps=60)
    again(study, row("characters", "full"), method="full", learning_rate=float(re.search(
        r"full: .*?, chosen ([\d.]+)", text("characters"))[1]))


@pytest.mark.parametrize("name", ["visitors", "characters"])
def test_the_points_of_the_grade_add_up(name):
    points = [int(n) for n in re.findall(r"^\| \d+\. [^|]+\| (\d) \|", text(name), re.M)]
    assert len(points) == 10 and f"| sum | {sum(points)} |" in text(name)
