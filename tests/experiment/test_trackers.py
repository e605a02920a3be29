"""`log=` tensorboard, trackio or wandb: other tools read the numbers of the rows of a run."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from helpers import ROOT, numbers

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.experiment import store, trackers
from ftkit.experiment.run import Run, Watch

RECORDS = numbers(20)
FAST = {"max_steps": 3, "batch_size": 4, "eval_steps": 2, "precision": "fp32"}

needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="pip install tensorboard reads event files back")


def made_run(steps=5) -> Run:
    rows = [{"step": n, "loss": 3.0 / n, "seconds": 0.1 * n} for n in range(1, steps + 1)]
    rows[-1] |= {"val_loss": 0.7}
    return Run(id=store.new_id(), config=ft.Config(max_steps=steps), model_name="tiny",
               data={"name": "mine"}, total_steps=steps, rows=rows, before={"val_loss": 4.0})


def logged_by_tensorboard(id: str) -> dict[str, list]:
    """Column → (step, value) of each point, as TensorBoard's own reader finds them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(trackers.folder() / id))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def points_of(run) -> dict[str, list]:
    """The same of a run, rounded to 32 bits as an event file rounds them."""
    points: dict[str, list] = {}
    for row in [{"step": 0} | run.before, *run.rows]:
        for name, value in row.items():
            if name != "step":
                points.setdefault(name, []).append((row["step"], float(np.float32(value))))
    return points


@needs_tensorboard
def test_tensorboard_reads_the_columns_of_every_row(home):
    run = ft.Experiment(data=RECORDS, probes=()).run(**FAST, live=False, log="tensorboard")
    assert logged_by_tensorboard(run.id) == points_of(run)
    assert {"loss", "val_loss", "learning_rate", "grad_norm", "tokens"} <= points_of(run).keys()


@needs_tensorboard
def test_a_run_that_continues_has_one_log_of_all_its_rows(home):
    lab = ft.Experiment(data=RECORDS, probes=())
    part = lab.run(**FAST, live=False, save_steps=1, log="tensorboard",
                   stop=lambda: "interrupted by the test")
    assert len(part.rows) == 1
    whole = lab.resume(part.id, live=False, log="tensorboard")
    assert len(whole.rows) == 3 and logged_by_tensorboard(whole.id) == points_of(whole)


@needs_tensorboard
def test_the_command_logs_a_stored_run_too_and_says_how_to_open_it(ftkit, tmp_path, home):
    import json

    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    words = ("run", "--data", data, "--probe", "none", "--max-steps", "2", "--batch-size", "4",
             "--quiet")
    status, _, err = ftkit(*words)
    assert status == 0, err
    status, out, err = ftkit(*words, "--log", "tensorboard")
    assert status == 0 and "nothing was trained" in err
    assert f"tensorboard --logdir {home}" in " ".join(out.split())
    run = store.list_runs()[-1]
    assert logged_by_tensorboard(run.id) == points_of(run)


@pytest.mark.skipif(find_spec("trackio") is None, reason="pip install trackio reads its log back")
def test_trackio_has_the_columns_of_every_row(tmp_path):
    """In a process of its own: trackio reads its folder from the environment when imported."""
    code = f"""
import sys
sys.path[:0] = [{os.path.dirname(__file__)!r}, {str(ROOT / 'tests')!r}]
from test_trackers import made_run
from ftkit.experiment import trackers
run = made_run()
trackers.write(run, "trackio")
from trackio.sqlite_storage import SQLiteStorage
rows = SQLiteStorage.get_logs("ftkit", run.id)
expected = [dict(step=0, **run.before), *run.rows]
assert [{{k: r[k] for k in e}} for r, e in zip(rows, expected, strict=True)] == expected, rows
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
        env=os.environ | {"TRACKIO_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(find_spec("wandb") is None, reason="pip install wandb writes its log")
def test_wandb_offline_has_the_columns_of_every_row(tmp_path):
    """The file is a log of protocol buffers, in which names and values are JSON texts."""
    code = f"""
import sys
sys.path[:0] = [{os.path.dirname(__file__)!r}, {str(ROOT / 'tests')!r}]
from test_trackers import made_run
from ftkit.experiment import trackers
trackers.write(made_run(), "wandb")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
        env=os.environ | {"FTKIT_HOME": str(tmp_path), "WANDB_MODE": "offline"})
    assert done.returncode == 0 and "stopped" not in done.stderr, done.stderr
    log, = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    written, run = log.read_bytes(), made_run()
    for row in [run.before, *run.rows]:
        for name, value in row.items():
            assert name == "step" or name.encode() in written
            assert {str(value).encode(), b"%g" % value} & set(re.findall(rb"[\d.e-]+", written))


def test_an_unknown_or_missing_tool_is_an_error_before_anything_is_trained(home):
    with pytest.raises(UserError, match="log is 'mlflow'; expected tensorboard, trackio, wandb"):
        ft.Experiment(data=RECORDS, probes=()).run(**FAST, log="mlflow")
    for tool in trackers.TOOLS:
        with pytest.raises(UserError, match=rf"Run `pip install 'ftkit\[{tool}\]'"):
            trackers.check(tool, find=lambda name: None)
    assert not store.ids()


def test_a_log_that_fails_is_printed_once_and_the_run_continues(capsys, home):
    class Broken:
        def add(self, step, values):
            raise OSError("no room")

    log = trackers.RunLog("tensorboard", make=lambda run: Broken())
    log.begin(made_run())
    log.finish()
    assert capsys.readouterr().err.count("the log for tensorboard stopped (OSError: no room)") == 1


def test_without_a_log_the_callbacks_are_those_that_were_given():
    watch = Watch(on_row=print)
    with trackers.logged(watch) as found:
        assert found is watch
