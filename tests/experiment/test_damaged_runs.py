"""What is damaged in a stored run is said in a sentence, and no run has two writers."""

import itertools
import json
import re
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT
from safetensors.torch import load_file, save_file

import ftkit as ft
from ftkit.base.config import DistillConfig, GRPOConfig
from ftkit.base.errors import UserError
from ftkit.experiment import checkpoints, store

RECORDS = [{"instruction": f"Name {n}.", "input": "", "output": f"number {n}"} for n in range(20)]
SHORT = dict(max_steps=4, batch_size=2, eval_steps=2, max_length=64)


def interrupt(row):
    if row["step"] == 3:
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(home, id of a whole run, id of the same run interrupted after step 3)"""
    home = tmp_path_factory.mktemp("home")
    data = home / "data.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTKIT_HOME", str(home))
        lab = ft.Experiment(data=str(data), probes=())
        whole = lab.run(**SHORT, sample=1)
        part = lab.run(**SHORT, sample=1, save_steps=0, on_row=interrupt)
    return home, whole.id, part.id


@pytest.fixture
def part(made, tmp_path, monkeypatch):
    """The folder of the interrupted run in a home of its own, and the losses of the whole run."""
    shutil.copytree(made[0], tmp_path / "home")
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    return store.folder_of(made[2]), [row["loss"] for row in store.load_run(made[1]).rows]


def tensors(change):
    def damage(folder):
        path = folder / "checkpoint-3" / "state.safetensors"
        loaded = load_file(path)
        change(loaded)
        save_file(loaded, path)
    return damage


def first(loaded, start):
    return next(name for name in loaded if name.startswith(start) and loaded[name].ndim)


def facts(**changes):
    def damage(folder):
        path = folder / "checkpoint-3" / "state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return damage


def flip(folder):
    path = folder / "checkpoint-3" / "state.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)


def replaced(name, text):
    return lambda folder: (folder / name).write_text(text)


DAMAGE = {  # name → (what is done to the folder, what is said; the run ends as if it were whole)
    "bit": (flip, "checkpoint-3 is damaged"),
    "no facts": (replaced("checkpoint-3/state.json", "{}"), "checkpoint-3 is damaged"),
    "a list": (replaced("checkpoint-3/state.json", "[]"), "checkpoint-3 is damaged"),
    "cut": (replaced("checkpoint-3/state.safetensors", ""), "checkpoint-3 is damaged"),
    "no optimizer": (tensors(lambda t: [t.pop(n) for n in list(t) if n.startswith("optimizer.")]),
                     "checkpoint-3 is damaged"),
    "shape": (tensors(lambda t: t.update({first(t, "optimizer."): t[first(t, "optimizer.")][:1]})),
              "checkpoint-3 is damaged"),
    "no random": (tensors(lambda t: t.pop("random.cpu")), "checkpoint-3 is damaged"),
    "short random": (tensors(lambda t: t.update({"random.cpu": t["random.cpu"][:9]})),
                     "checkpoint-3 is damaged"),
    "step": (facts(start={"step": -3}), "checkpoint-3 is damaged"),
    "samples": (facts(samples=[{}]), "checkpoint-3 is damaged"),
    "name": (lambda folder: (folder / "checkpoint-abc").mkdir(), ""),
    "newer": (lambda folder: (folder / "checkpoint-9").mkdir(), "continued from checkpoint-3"),
    "list": (replaced("source.json", "[1]"), "source.json in its folder is damaged"),
    "unknown": (replaced("source.json", '{"model": "tiny", "color": 1}'), "unknown arguments"),
    "wrong": (replaced("source.json", '{"model": 5}'), "wrong arguments"),
    "other": (replaced("source.json", '{"model": "tiny"}'), "another model, other records"),
    "rows": (replaced("rows.jsonl", '{"step": 2}\n'), "rows of run .* are damaged"),
    "no rows": (lambda folder: (folder / "rows.jsonl").unlink(), "rows of run .* are damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_run_continues_as_if_it_were_whole_or_says_why_not(part, case, ftkit):
    folder, losses = part
    damage, said = DAMAGE[case]
    damage(folder)
    status, out, err = ftkit("run", "--resume", folder.name, "--sample", 1, "--quiet")
    assert re.search(said, err) and "Error" not in err
    assert status == (0 if "checkpoint" in said or not said else 2)
    if status == 0:
        assert [row["loss"] for row in store.load_run(folder.name).rows] == losses


@pytest.mark.parametrize("first", ["reward", "teacher"])
@pytest.mark.parametrize("change", [None, 5, [], "module:"])
def test_what_a_kind_of_run_needs_is_missing_or_wrong(part, ftkit, first, change):
    folder, _ = part
    kind = {"reward": GRPOConfig, "teacher": DistillConfig}[first]
    run = store.load_run(folder.name)
    run.config = kind(max_steps=4)
    (folder / "rows.jsonl").unlink()  # else the rows are not those of its objective
    store.Writer(run, resumed=True).close()
    source = json.loads((folder / "source.json").read_text())
    source |= {} if change is None else {first: change}
    (folder / "source.json").write_text(json.dumps(source))
    status, out, err = ftkit("run", "--resume", folder.name)
    assert status == 2 and "Error" not in err, err


def test_a_state_of_another_shape_is_refused_even_with_its_checksum(part):
    folder, _ = part
    saved = checkpoints.latest(folder.name)
    name = next(n for n in saved["tensors"] if n.endswith("/exp_avg"))
    saved["tensors"][name] = saved["tensors"][name][:1]
    lab = ft.Experiment(**checkpoints.source_of(folder.name))
    run, prepared = lab.begin(store.load_run(folder.name).config)
    with pytest.raises(UserError, match="exp_avg of .* in the checkpoint has shape"):
        *_, last = lab.train_steps(run, prepared, ft_watch(), checkpoints.Checkpoints(
            run, 0, saved, resumed=True))


def ft_watch():
    from ftkit.experiment.run import Watch

    return Watch(live=False, store=False)


FILES = {"result.json": None, "run.json": None, "source.json": None, "rows.jsonl": 1}
VALUES = (..., None, "x", [], {}, -3, True, float("inf"))


def fields(folder):
    for name, line in FILES.items():
        text = (folder / name).read_text()
        for key, value in itertools.product(json.loads(text.split("\n")[0] if line else text),
                                            VALUES):
            yield name, text, line, key, value


@pytest.mark.parametrize("every", [41, pytest.param(1, marks=[
    pytest.mark.seeds, pytest.mark.timeout(1800)])])
def test_each_field_of_a_stored_run_missing_or_wrong_gives_no_traceback(part, ftkit, every):
    folder, _ = part
    original = shutil.copytree(folder, folder.parent.parent / "original")
    for name, text, line, key, value in list(fields(folder))[::every]:
        saved = json.loads(text.split("\n")[0] if line else text)
        saved.pop(key) if value is ... else saved.update({key: value})
        rest = "\n" + text.partition("\n")[2] if line else ""
        (folder / name).write_text(json.dumps(saved) + rest)
        if name == "run.json":  # read where there is no result yet
            (folder / "result.json").unlink()
        for words in (("runs",), ("runs", folder.name), ("run", "--resume", folder.name)):
            status, out, err = ftkit(*words)
            assert status in (0, 2), (name, key, value, words, err)
        shutil.rmtree(folder), shutil.copytree(original, folder)
        for other in set(store.ids()) - {folder.name}:
            shutil.rmtree(store.folder_of(other))


# ------------------------------------------------------------------------------ one writer


def test_a_run_that_is_being_written_is_not_continued(part, ftkit):
    folder, losses = part
    with store.locked(folder.name):
        status, out, err = ftkit("run", "--resume", folder.name)
        assert status == 2 and "is being trained at this moment" in err
    assert ftkit("run", "--resume", folder.name, "--quiet")[0] == 0
    assert [row["loss"] for row in store.load_run(folder.name).rows] == losses
    lab, seen, before = ft.Experiment(data=RECORDS, probes=()), [], set(store.ids())

    def new() -> str:
        """The id of the run that was stored last; ids of one second have no order."""
        (id,) = set(store.ids()) - before
        return id

    def resume(row):
        with pytest.raises(UserError, match="is being trained"):
            lab.resume(new())
        seen.append(row)

    lab.run(**SHORT, on_row=resume)
    before |= set(store.ids())
    with pytest.raises(ZeroDivisionError):
        lab.run(**SHORT, on_row=lambda row: 1 / 0)
    assert len(seen) == 4 and len(lab.resume(new()).rows) == 4


def test_the_lock_of_a_dead_process_is_free(part):
    code = ("import os, sys; from ftkit.experiment import store\n"
            "with store.locked(sys.argv[1]): os._exit(9)")
    assert subprocess.run([sys.executable, "-c", code, part[0].name], cwd=ROOT).returncode == 9
    with store.locked(part[0].name):
        pass


def test_no_id_leads_out_of_the_store(part):
    folder, _ = part
    for id in ("../../evil", "..", "a/b", folder.name, ""):
        run = store.load_run(folder.name)
        run.id = id
        store.add(run)
        assert store.folder_of(run.id).parent == folder.parent and run.id != folder.name
    assert not (folder.parent.parent.parent / "evil").exists()
