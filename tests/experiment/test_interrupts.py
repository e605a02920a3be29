"""The store of runs keeps what it acknowledged: under kill -9, a full disk, two writers at once."""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT

from ftkit.base.config import Config
from ftkit.experiment import run, store

KILLED = """
import os, random, signal, struct, sys, time
from ftkit.experiment import run, store
from ftkit.base.config import Config

def write(pipe, seed):
    # What a training run does, as fast as it can; each row is acknowledged once it is written.
    made = run.Run(id=f"run-{seed}", config=Config(), model_name="tiny", data={"name": "x"})
    writer = store.Writer(made)
    for step in range(1, 10_000):
        writer.row({"step": step, "loss": step / 7, "note": "x" * (step * 37 % 400)})
        os.write(pipe, struct.pack("i", step))

def kill_one(seed):
    read, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(pipe, seed)
        finally:
            os._exit(0)
    os.close(pipe)
    said = os.read(read, 4)
    time.sleep(random.Random(seed).random() * 0.006)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while part := os.read(read, 65536):
        said += part
    os.close(read)
    return len(said) // 4

lost = torn = rows = 0
for seed in range(int(sys.argv[1])):
    acknowledged = kill_one(seed)
    kept = store.load_run(f"run-{seed}").rows
    lost += [row["step"] for row in kept[:acknowledged]] != list(range(1, acknowledged + 1))
    torn += any(row["loss"] != row["step"] / 7 for row in kept) or len(kept) > acknowledged + 1
    rows += acknowledged
print(lost, torn, rows)
"""


def test_200_kills_at_random_moments_lose_no_row_that_was_acknowledged(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, "200"], cwd=ROOT, text=True,
                          capture_output=True, env=os.environ | {"FTKIT_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    lost, torn, rows = map(int, done.stdout.split())
    assert (lost, torn) == (0, 0) and rows > 200  # each of them waits for the disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk],
                          capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"this user cannot mount a small disk: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_costs_a_sentence_and_none_of_the_rows_so_far(small_disk, monkeypatch, capsys):
    monkeypatch.setenv("FTKIT_HOME", str(small_disk))
    made = run.Run(id="full", config=Config(), model_name="tiny", data={"name": "x"})
    writer, kept = store.Writer(made), 0
    for step in range(1, 2001):
        row = {"step": step, "loss": 1 / step, "note": "x" * 100}
        made.rows.append(row)
        writer.row(row)
        kept += writer.rows_file is not None
    writer.finish()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "No space left" in said and "FTKIT_HOME" in said
    assert len(made.rows) == 2000 and 100 < kept < 1000
    found = store.load_run("full")
    assert [r["step"] for r in found.rows[:kept]] == list(range(1, kept + 1))
    assert found.stopped == "not finished"


def test_a_training_run_on_a_full_disk_ends_with_its_result(small_disk, monkeypatch, ftkit):
    (small_disk / "filler").write_bytes(b"x" * 60_000)
    monkeypatch.setenv("FTKIT_HOME", str(small_disk))
    status, out, err = ftkit("run", "--max-steps", 3, "--eval-steps", 9, "--json", "--quiet")
    assert status == 0 and len(json.loads(out)["history"]) == 3
    assert err.count("the run is not being stored: No space left") == 1
    assert "Traceback" not in err


def test_weights_that_find_no_room_are_told_and_the_run_is_kept(small_disk, home, ftkit):
    status, _, err = ftkit("run", "--max-steps", 2, "--eval-steps", 9, "--out", small_disk / "out",
                           "--quiet")
    assert status == 2 and "No space left" in err
    assert "Traceback" not in err and err.count("\n") == 1
    (folder,) = (home / "runs").iterdir()
    assert (folder / "result.json").exists() and folder.name in err


def test_two_processes_writing_at_once_keep_both_their_runs(tmp_path):
    code = ("import sys; from ftkit.experiment import run, store\n"
            "from ftkit.base.config import Config\n"
            "made = run.Run(id=store.new_id(), config=Config(), model_name='tiny', data={})\n"
            "writer = store.Writer(made)\n"
            "for step in range(1, 301):\n"
            "    made.rows.append({'step': step, 'loss': 1.0}); writer.row(made.rows[-1])\n"
            "writer.finish()")
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT,
                             env=os.environ | {"FTKIT_HOME": str(tmp_path)}) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    os.environ["FTKIT_HOME"], before = str(tmp_path), os.environ["FTKIT_HOME"]
    try:
        assert [len(one.rows) for one in store.list_runs()] == [300, 300]
    finally:
        os.environ["FTKIT_HOME"] = before


def test_a_store_of_an_older_version_is_read(tmp_path, monkeypatch):
    """Fields that are gone are left out, fields that are new get their default."""
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path))
    made = run.Run(id="old", config=Config(), model_name="tiny", data={"name": "x"})
    writer = store.Writer(made)
    writer.row({"step": 1, "loss": 2.0})
    writer.finish()
    path = tmp_path / "runs" / "old" / "result.json"
    old = json.loads(path.read_text())
    old["color"], old["config"]["momentum"] = "blue", 0.9
    for name in ("optim", "l2_sp", "eval_steps"):
        old["config"].pop(name, None)
    del old["notes"], old["predicted_memory_bytes"]
    path.write_text(json.dumps(old))
    found = store.load_run("old")
    assert found.config == Config() and found.rows == [{"step": 1, "loss": 2.0}]


def test_folders_that_make_no_sense_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path))
    for name, text in {"a": "", "b": "[]", "c": "null", "d": '{"id": 1}', "e": "\x00\xff",
                       "f": '{"config": {"method": "magic"}, "model": "x", "id": "f"}',
                       "g": "[" * 100_000}.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(text, encoding="latin-1")
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
def test_a_damaged_run_hides_no_other(tmp_path, monkeypatch, ftkit, changes):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path))
    for name in ("a", "b", "c"):
        stored(name, **(changes if name == "b" else {}))
    (tmp_path / "runs" / "b" / "rows.jsonl").open("a").write('7\n"x"\n{"step": "one"}\n')
    ids = [one.id for one in store.list_runs()]
    assert {"a", "c"} <= set(ids)
    for words in (("runs",), ("runs", "--json"), ("runs", "a"), ("runs", "c", "--json")):
        status, out, err = ftkit(*words)
        assert status == 0 and "Traceback" not in err, (words, err)
        assert "a" in out
    for one in store.list_runs():
        repr(one), one._repr_html_(), one.summary(), one.to_dict()
    assert ftkit("runs", "b")[0] in (0, 2)


def test_a_pipe_in_the_store_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path))
    for name in ("a", "b"):
        stored(name)
    (store.folder_of("b") / "result.json").unlink()
    os.mkfifo(store.folder_of("b") / "result.json")
    assert [one.id for one in store.list_runs()] == ["a"]


def test_only_the_newest_runs_are_listed_where_a_limit_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path))
    for name in "abcd":
        stored(name)
    (tmp_path / "runs" / "e").mkdir()  # cannot be read, so it does not count
    assert [one.id for one in store.list_runs(2)] == ["c", "d"]
    assert [one.id for one in store.list_runs()] == list("abcd")
