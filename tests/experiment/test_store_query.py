"""Runs are found and sorted by what they are; names and notes are kept; a deletion is undone."""

import time

import pytest

from ftkit.base.config import Config
from ftkit.experiment import annotations, store, store_query
from ftkit.experiment.run import Run

pytestmark = pytest.mark.usefixtures("home")
VALUES = (0.9, 0.3, float("nan"), 0.5)


def made(number: int, **config) -> Run:
    return Run(f"run-{number}", Config(**config), "tiny", {"name": "tasks"}, total_steps=1,
               rows=[{"step": 1, "loss": 1.0}], after={"val_loss": VALUES[number]})


RUNS = [made(0), made(1, method="lora", learning_rate=1e-3), made(2, seed=1), made(3, seed=2)]
FACTS = [store_query.facts(run) for run in RUNS]


@pytest.mark.parametrize("text, found", [
    ("", "0123"), ("method=lora", "1"), ("method!=lora", "023"), ("val_loss<0.6", "13"),
    ("val_loss<=0.5 seed=2", "3"), ("seed>0", "23"), ("learning_rate=0.001", "1"), ("LORA", "1"),
    ("tasks tiny", "0123"), ("learning_rate=None", "023"), ("nothing", "")])
def test_terms_that_all_hold_choose_the_runs(text, found):
    assert "".join(f["id"][-1] for f in store_query.matching(text, FACTS)) == found


def test_a_limit_that_is_no_number_and_an_unknown_name_are_reported():
    with pytest.raises(ValueError, match="expected a number, such as val_loss<0.5"):
        store_query.matching("val_loss<low", FACTS)
    with pytest.raises(ValueError, match="no run has 'los'; expected one of .*val_loss"):
        store_query.matching("los<1", FACTS)
    with pytest.raises(ValueError, match="no run has 'los'"):
        store_query.ordered(FACTS, "los")


def test_runs_are_sorted_both_ways_and_those_without_a_value_are_last():
    def order(by):
        return "".join(f["id"][-1] for f in store_query.ordered(FACTS, by))

    assert order("val_loss") == "1302" and order("-val_loss") == "0312"
    assert order("-id") == "3210" and order("learning_rate") == "1023"


def test_a_name_and_a_note_are_kept_and_empty_ones_leave_nothing(home):
    annotations.change("run-1", name="best <b>", note="try r=16")
    annotations.change("run-1", hidden=True)
    assert annotations.read() == {"run-1": {"name": "best <b>", "note": "try r=16", "hidden": True}}
    assert store_query.matching("best", [store_query.facts(RUNS[1], annotations.read()["run-1"])])
    annotations.change("run-1", name="", note="", hidden=False)
    assert annotations.read() == {}
    with pytest.raises(ValueError, match="at most 200"):
        annotations.change("run-1", note="x" * 201)
    (home / "run_notes.json").write_text("{")
    assert annotations.read() == {}


def test_a_deleted_run_leaves_the_store_and_comes_back_whole():
    for run in RUNS[:2]:
        store.add(run)
    assert store.delete(["run-0", "run-9", "../run-1"]) == ["run-0"]
    assert store.ids() == ["run-1"]
    assert store.restore(["run-0", "run-9"]) == ["run-0"]
    assert store.ids() == ["run-0", "run-1"] and store.load_run("run-0").rows == RUNS[0].rows


def test_the_ids_of_runs_begun_within_a_second_sort_by_time():
    ids = []
    for _ in range(20):
        ids.append(store.new_id())
        time.sleep(0.008)
    assert ids == sorted(ids)
