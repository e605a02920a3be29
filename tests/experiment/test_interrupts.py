"""The store of runs keeps what it acknowledged: two writers at once, damaged folders."""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT

from ftkit.base.config import Config
from ftkit.experiment import run, store


def test_two_processes_writing_at_once_keep_both_their_runs(home):
    code = ("import sys; from ftkit.experiment import run, store\n"
            "from ftkit.base.config import Config\n"
            "made = run.Run(id=store.new_id(), config=Config(), model_name='tiny', data={})\n"
            "writer = store.Writer(made)\n"
            "for step in range(1, 301):\n"
            "    made.rows.append({'step': step, 'loss': 1.0}); writer.row(made.rows[-1])\n"
            "writer.finish()")
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert [len(one.rows) for one in store.list_runs()] == [300, 300]


def test_a_store_of_an_older_version_is_read(home):
    """Fields that are gone are left out, fields that are new get their default."""
    made = run.Run(id="old", config=Config(), model_name="tiny", data={"name": "x"})
    writer = store.Writer(made)
    writer.row({"step": 1, "loss": 2.0})
    writer.finish()
    path = home / "runs" / "old" / "result.json"
    old = json.loads(path.read_text())
    old["color"], old["config"]["momentum"] = "blue", 0.9
    for name in ("optim", "l2_sp", "eval_steps"):
        old["config"].pop(name, None)
    del old["notes"], old["predicted_memory_bytes"]
    path.write_text(json.dumps(old))
    found = store.load_run("old")
    assert found.config == Config() and found.rows == [{"step": 1, "loss": 2.0}]


def test_folders_that_make_no_sense_are_passed_over(home):
    for name, text in {"a": "", "b": "[]", "c": "null", "d": '{"id": 1}', "e": "\x00\xff",
                       "f": '{"config": {"method": "magic"}, "model": "x", "id": "f"}',
                       "g": "[" * 100_000}.items():
        (home / "runs" / name).mkdir(parents=True)
        (home / "runs" / name / "run.json").write_text(text, encoding="latin-1")
    assert store.list_runs() == [] and len(store.runs()) == 0


def stored(name: str, **changes):
    """A whole run in the store, then its result.json with other fields."""
    made = run.Run(id=name, config=Config(), model_name="tiny", data={"name": "x"}, total_steps=1,
                   before={"val_loss": 2.0}, after={"val_loss": 1.0}, rows=[{"step": 1}])
    store.add(made)
    path = store.folder_of(name) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = [{"before": {"val_loss": "low"}}, {"after": []}, {"before": None}, {"notes": "no"},
          {"seconds": "long"}, {"stopped": 7}, {"versions": []}, {"total_steps": None},
          {"data": "x"}, {"model": 7}, {"tokens": [1]}, {"samples": {}}, {"config": {"r": -1}},
          {"machine": "fast"}, {"saved_to": 3}, {"peak_memory_bytes": "all"},
          {"data": {"name": "x", "rows": "many"}}]


@pytest.mark.parametrize("changes", DAMAGE, ids=lambda changes: next(iter(changes)))
def test_a_damaged_run_hides_no_other(home, ftkit, changes):
    for name in ("a", "b", "c"):
        stored(name, **(changes if name == "b" else {}))
    (home / "runs" / "b" / "rows.jsonl").open("a").write('7\n"x"\n{"step": "one"}\n')
    ids = [one.id for one in store.list_runs()]
    assert {"a", "c"} <= set(ids)
    for words in (("runs",), ("runs", "--json"), ("runs", "a"), ("runs", "c", "--json")):
        status, out, err = ftkit(*words)
        assert status == 0 and "Traceback" not in err, (words, err)
        assert "a" in out
    for one in store.list_runs():
        repr(one), one._repr_html_(), one.summary(), one.to_dict()
    assert ftkit("runs", "b")[0] in (0, 2)


def test_a_pipe_in_the_store_is_passed_over(home):
    for name in ("a", "b"):
        stored(name)
    (store.folder_of("b") / "result.json").unlink()
    os.mkfifo(store.folder_of("b") / "result.json")
    assert [one.id for one in store.list_runs()] == ["a"]


def test_only_the_newest_runs_are_listed_where_a_limit_is_given(home):
    for name in "abcd":
        stored(name)
    (home / "runs" / "e").mkdir()  # cannot be read, so it does not count
    assert [one.id for one in store.list_runs(2)] == ["c", "d"]
    assert [one.id for one in store.list_runs()] == list("abcd")
