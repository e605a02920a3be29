"""A run that was killed goes on, and its curve is that of a run that was never interrupted."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers import ROOT, numbers, start

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.evaluate import scoring
from ftkit.experiment import checkpoints, distillation, preferences, store

pytestmark = pytest.mark.usefixtures("home")
RECORDS = numbers(40)
COLUMNS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "supervised_tokens",
           "val_loss")
SHORT = dict(max_steps=8, batch_size=4, eval_steps=3, max_length=64)


@pytest.fixture
def lab():
    return ft.Experiment(data=RECORDS, probes=())


def same(one, other):
    """All columns but the clock agree to 1e-6, relative to their size."""
    assert len(one.rows) == len(other.rows)
    for mine, yours in zip(one.rows, other.rows, strict=True):
        assert mine.keys() == yours.keys()
        for name in set(COLUMNS) & mine.keys():
            assert mine.get(name) == pytest.approx(yours.get(name), rel=1e-6, abs=1e-9)
    assert one.before == pytest.approx(other.before) and one.after == pytest.approx(other.after)


def interrupt_at(step):
    def on_row(row):
        if row["step"] == step:
            raise KeyboardInterrupt

    return on_row


def slow(**config):
    return pytest.param(config, marks=pytest.mark.slow)


CONFIGS = [dict(method="lora", lora_dropout=0.3, neftune_noise_alpha=5.0,
                gradient_accumulation_steps=2),
           dict(method="lora", optim="muon", loraplus_lr_ratio=4.0),
           slow(method="full", optim="muon"),
           dict(method="full", l2_sp=0.5, early_stopping_patience=9), slow(method="full"),
           slow(method="full", optim="sgd", gradient_accumulation_steps=3),
           slow(method="full", optim="adafactor"), slow(method="full", precision="bf16"),
           slow(method="lora", kl_coef=0.5, use_dora=True), slow(method="ia3"),
           slow(method="lora", init_lora_weights="pissa"),
           slow(method="lora", optim="adamw_bnb_8bit"), slow(method="prompt_tuning")]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: " ".join(map(str, c.values())))
def test_an_interrupted_run_goes_on_to_the_same_curve_and_weights(lab, config):
    config = SHORT | {"precision": "fp32"} | config
    whole = lab.run(**config)
    part = lab.run(**config, save_steps=0, on_row=interrupt_at(5))
    assert part.stopped == "interrupted after step 5 of 8" and len(part.rows) == 5
    made = lab.resume(part.id)
    assert made.id == part.id and made.stopped is None
    same(made, whole)
    for a, b in zip(made.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)
    kept = store.load_run(part.id)
    same(kept, whole)
    assert [row["step"] for row in kept.rows] == list(range(1, 9))
    assert not list(store.folder_of(part.id).glob("checkpoint-*"))


def test_without_a_checkpoint_a_run_begins_again_under_its_id(lab):
    whole, part = lab.run(**SHORT), lab.run(**SHORT, on_row=interrupt_at(4))
    made = lab.resume(part.id)
    assert made.id == part.id and len(store.ids()) == 2
    same(made, whole)


def test_checkpoints_are_written_at_the_interval_and_their_cost_is_said(lab):
    seen = []

    def look(row):
        seen.append([p.name for p in (store.folder_of(run_id[0])).glob("checkpoint-*")])

    run_id = []
    run = lab.run(**SHORT, save_steps=3, on_row=look, on_start=lambda run: run_id.append(run.id))
    assert seen == [[], [], *[["checkpoint-3"]] * 3, *[["checkpoint-6"]] * 3]
    assert any(note.startswith("2 checkpoints of ") and "MB took" in note for note in run.notes)


def test_a_half_written_checkpoint_is_passed_over(lab):
    part = lab.run(**SHORT, save_steps=0, on_row=interrupt_at(5))
    place = store.folder_of(part.id)
    (place / ".new-6").mkdir()
    (place / "checkpoint-7").mkdir()
    (place / "checkpoint-7" / "state.json").write_text("{")
    assert checkpoints.latest(part.id)["facts"]["start"]["step"] == 5
    same(lab.resume(part.id), lab.run(**SHORT))


def test_what_cannot_be_resumed_is_said(lab):
    done = lab.run(**SHORT)
    with pytest.raises(UserError, match="has reached its end"):
        lab.resume(done.id)
    part = lab.run(**SHORT, save_steps=0, on_row=interrupt_at(2))
    with pytest.raises(UserError, match="another model, other records"):
        ft.Experiment(data=RECORDS[:30], probes=()).resume(part.id)
    with pytest.raises(UserError, match="names no run"):
        lab.resume("x")
    with pytest.raises(UserError, match="cannot be rebuilt from the command line.*lab.resume"):
        checkpoints.source_of(part.id)
    with pytest.raises(UserError, match="save_steps is -1"):
        lab.run(**SHORT, save_steps=-1)


OBJECTIVES = {  # name → (Experiment, options of a run)
    "dpo": (lambda: preferences.DPO(probes=(), eval_records=4), {"gradient_accumulation_steps": 2}),
    "grpo": (lambda: preferences.GRPO("contains", data="to_past", probes=(), eval_records=4),
             {"num_iterations": 2, "num_generations": 3, "max_completion_length": 6}),
    "rloo": (lambda: preferences.GRPO(lambda answer, record: len(answer) % 3, data="to_past",
                                      probes=(), eval_records=4),
             {"loss_type": "rloo", "beta": 0.1, "num_generations": 3, "method": "lora",
              "max_completion_length": 6}),
    "distill": (lambda: distillation.Distillation("tiny", data="to_past", probes=(),
                                                  eval_records=4),
                {"lmbda": 0.5, "max_completion_length": 6, "learning_rate": 1e-3})}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_other_objectives_go_on_to_the_same_curve(name):
    """The answers of a batch serve two steps of this GRPO, so it continues from step 2, not 3."""
    make, options = OBJECTIVES[name]
    config = {"max_steps": 5, "batch_size": 2, "precision": "fp32", "live": False} | options
    lab = make()
    whole = lab.run(**config)
    part = lab.run(**config, save_steps=0 if name == "dpo" else 2, on_row=interrupt_at(3))
    with torch.random.fork_rng():
        torch.manual_seed(4)  # torch's global state is none of the run's
        again = lab.resume(part.id)
    same(again, whole)
    shared = {"reward", "kl", "entropy", "length", "margin"} & again.rows[0].keys()
    assert shared and all(a[key] == pytest.approx(b[key], abs=1e-6) for key in shared
                          for a, b in zip(again.rows, whole.rows, strict=True))


def test_a_resumed_run_remembers_that_its_rewards_differed():
    calls = itertools.count()

    def reward(answer, record):  # differs in the first two steps, of four answers each
        call = next(calls)
        return float(call % 2) if call <= 8 else 0.0

    lab = preferences.GRPO(reward, data="to_past", probes=(), eval_records=4)
    part = lab.run(max_steps=3, batch_size=2, num_generations=2, max_completion_length=4,
                   live=False, save_steps=0, on_row=interrupt_at(2))
    assert [row["dead"] for row in part.rows] == [0, 0]
    again = lab.resume(part.id)
    assert again.rows[-1]["dead"] == 1
    assert not any("nothing was learned" in note for note in again.notes)


# --------------------------------------------------------------------------- the command line


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


WORDS = ("--probe", "none", "--batch-size", 4, "--max-length", 64, "--eval-steps", 4, "--method",
         "lora", "--lora-dropout", 0.2, "--precision", "fp32", "--quiet")


def rows_on_disk(home) -> int:
    return sum(path.read_bytes().count(b"\n") for path in home.glob("runs/*/rows.jsonl"))


def begin(data, home, *more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "ftkit", "run", "--data", str(data), *map(str, WORDS + more)],
        cwd=ROOT, env=os.environ | {"FTKIT_HOME": str(home)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)


def wait_for_rows(child, home, count):
    while rows_on_disk(home) < count and child.poll() is None:
        time.sleep(0.02)


def test_a_command_killed_at_a_random_moment_and_resumed_has_the_curve_of_one_that_was_not(
        data, home, ftkit):
    rng = random.Random(0)
    child = begin(data, home, "--max-steps", 24, "--save-steps", 2)
    wait_for_rows(child, home, rng.randrange(3, 12))
    time.sleep(rng.random() * 0.1)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    (id,) = store.ids()
    assert ftkit("run", "--resume", id, "--save-steps", 2, "--quiet")[0] == 0
    whole = ft.Experiment(data=str(data), probes=()).run(
        method="lora", lora_dropout=0.2, batch_size=4, max_length=64, eval_steps=4,
        precision="fp32", max_steps=24)
    made = store.load_run(id)
    assert made.stopped is None
    same(made, whole)


def test_sigterm_ends_the_run_after_a_step_with_its_weights_saved(data, tmp_path, home):
    child = begin(data, home, "--max-steps", 3000, "--out", tmp_path / "out")
    wait_for_rows(child, home, 3)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate()
    assert child.returncode == 143 and "interrupted by SIGTERM" in err, err
    (id,) = store.ids()
    assert "Traceback" not in err and f"--resume {id}" in err
    run = store.load_run(id)
    assert run.stopped.startswith("interrupted by SIGTERM") and 3 <= len(run.rows) < 3000
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    ft.load(str(tmp_path / "out"))
    assert checkpoints.latest(id)["facts"]["start"]["step"] == len(run.rows)


def test_resume_takes_no_options_that_would_make_another_run(ftkit, home):
    for words in (("--learning-rate", 1), ("--data", "colors"), ("--model", "smollm2"),
                  ("--probe", "none"), ("--ranks", 2)):
        status, out, err = ftkit("run", "--resume", "x", *words)
        assert status == 2 and "--resume" in err and words[0] in err
    status, out, err = ftkit("run", "--resume", "x")
    assert status == 2 and "names no run" in err


def test_weights_that_out_cannot_take_are_kept_with_the_run(lab, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def fill(run):  # after the check before the run, the place is taken by a file
        out.write_text("")

    with pytest.raises(UserError, match="could not be written to .*They are in .*weights"):
        lab.run(**SHORT, out=out, on_start=fill, method="lora")
    (id,) = store.ids()
    ft.load(str(store.folder_of(id) / "weights"))
    assert start("runs", id, env=os.environ).returncode == 0


def test_answers_to_the_same_records_are_kept_at_each_evaluation(lab):
    run = lab.run(**SHORT, sample=2)
    assert [one["step"] for one in run.samples] == [0, 0, 3, 3, 6, 6, 8, 8]
    assert len({one["prompt"] for one in run.samples}) == 2
    one = run.samples[-1]
    record = next(r for r in RECORDS if r["instruction"] == one["prompt"])
    assert one["reference"] == record["output"]
    assert scoring.answers(run.model, run.tokenizer, [record])[0] == one["answer"]
    assert store.load_run(run.id).samples == run.samples
    plain = lab.run(**SHORT)
    assert [row["loss"] for row in plain.rows] == [row["loss"] for row in run.rows]
    with pytest.raises(UserError, match="text records, which ask no questions"):
        ft.Experiment(data=[{"text": f"a story {i}"} for i in range(9)], probes=()).run(sample=1)
