"""LiveCallback draws what Trainer and TRL log, in a notebook or into two files, and never stops
them."""

import contextlib
import io

import pytest
from helpers import numbers
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

import ftkit as ft
from ftkit.cli import listing
from ftkit.experiment import store, store_query
from ftkit.report import live

RECORDS = numbers(16)


def lines_of(tokenizer):
    """Encoded records, all of one length."""
    ids = tokenizer([r["instruction"] for r in RECORDS])["input_ids"]
    short = min(map(len, ids))
    return [{"input_ids": i[:short], "labels": i[:short]} for i in ids]


def options(folder, **more):
    return dict(output_dir=str(folder), max_steps=6, per_device_train_batch_size=4,
                logging_steps=2, eval_strategy="steps", eval_steps=3, report_to=[],
                disable_tqdm=True, save_strategy="no", use_cpu=True, learning_rate=1e-3) | more


def trainer_of(folder, *callbacks, eval_dataset=None, **more):
    """A Trainer of the embedded model."""
    model, tokenizer = ft.load("tiny")
    if eval_dataset is None:
        more["eval_strategy"] = "no"
    return Trainer(model, TrainingArguments(**options(folder, **more)), callbacks=[*callbacks],
                   train_dataset=lines_of(tokenizer), eval_dataset=eval_dataset)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(callback, log of the Trainer, its folder, what was printed)"""
    folder = tmp_path_factory.mktemp("trained") / "out"
    lines, seen = lines_of(ft.load("tiny")[1]), ft.LiveCallback(title="mine")
    trainer = trainer_of(folder, seen, eval_dataset={"val": lines, "b": lines}, seed=4,
                         neftune_noise_alpha=5)
    trainer.remove_callback(PrinterCallback)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        trainer.train()
    return seen, trainer.state.log_history, folder, said.getvalue()


def test_outside_a_notebook_a_picture_and_its_sentence_are_left_in_silence(trained):
    _, _, folder, said = trained
    assert said == ""
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "curves.txt").read_text()
    assert text.startswith("mine: val_loss fell from ") and "b_loss fell from " in text


def test_rows_hold_exactly_what_the_trainer_logged(trained):
    seen, log, *_ = trained
    for ours, theirs in (("loss", "loss"), ("val_loss", "eval_val_loss"),
                         ("b_loss", "eval_b_loss"), ("learning_rate", "learning_rate")):
        logged = [(entry["step"], float(entry[theirs])) for entry in log if theirs in entry]
        assert [(r["step"], r[ours]) for r in seen.run.rows if ours in r] == logged and logged
    assert [r["step"] for r in seen.run.rows] == [2, 3, 4, 6]
    assert "train_loss" not in {key for row in seen.run.rows for key in row}
    assert seen.run.after["val_loss"] == seen.run.rows[-1]["val_loss"]
    config = seen.run.config
    assert (config.learning_rate, config.batch_size, config.seed, config.precision) == (
        1e-3, 4, 4, "fp32")
    assert config.neftune_noise_alpha == 5
    assert ft.curves(seen.run, "val_loss").text.startswith("val_loss fell")


def test_the_run_is_in_the_store_as_the_trainer_logged_it(trained):
    seen, *_ = trained
    kept = store.load_run(seen.run.id)
    assert kept.rows == seen.run.rows and kept.after == seen.run.after
    facts = store_query.facts(kept)
    assert (facts["steps"], facts["learning_rate"], facts["stopped"]) == (6, 1e-3, "")
    assert kept.id in listing.text([kept], 0, 80)


def test_a_training_that_breaks_keeps_the_rows_that_were_logged(tmp_path):
    class Break(TrainerCallback):
        def on_step_end(self, args, state, control, **others):
            if state.global_step == 5:
                raise RuntimeError("out of memory")

    seen = ft.LiveCallback()
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer_of(tmp_path / "out", seen, Break()).train()
    kept = store.load_run(seen.run.id)
    assert [row["step"] for row in kept.rows] == [2], "step 4 might still get an evaluation"
    assert kept.stopped == "not finished"


def test_store_false_keeps_nothing(tmp_path):
    before = store.ids()
    trainer_of(tmp_path / "out", ft.LiveCallback(store=False), max_steps=2).train()
    assert store.ids() == before


def test_in_a_notebook_the_figure_grows_and_stays(tmp_path, monkeypatch, capfd):
    shown = []
    monkeypatch.setattr(live, "notebook_display", lambda: shown.append)
    trainer = trainer_of(tmp_path / "out", ft.LiveCallback())
    trainer.train()
    end = len(shown)
    trainer.evaluate(trainer.train_dataset)
    assert len(shown) == end, "an evaluation afterwards does not draw over the end"
    assert len(shown) >= 3 and "image/png" in shown[-1]
    assert shown[-1]["text/plain"].startswith("loss ") and "step 2 of 6" in shown[1]["text/plain"]


def test_a_drawing_error_does_not_stop_the_training(tmp_path, monkeypatch, capfd):
    def broken(bundle):
        raise RuntimeError("no canvas")

    monkeypatch.setattr(live, "notebook_display", lambda: broken)
    assert trainer_of(tmp_path / "out", ft.LiveCallback()).train().global_step == 6
    assert capfd.readouterr().err.count("the live figure stopped") == 1


def test_trl_is_drawn_too(tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = ft.load("tiny")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    lines = Dataset.from_list([{"text": f"{r['instruction']} {r['output']}"} for r in RECORDS])
    seen = ft.LiveCallback(out=tmp_path / "mine")
    SFTTrainer(model, SFTConfig(**options(tmp_path / "out", bf16=False, max_length=64)),
               train_dataset=lines, eval_dataset=lines, processing_class=tokenizer,
               callbacks=[seen]).train()
    rows = seen.run.rows
    assert rows[-1]["loss"] < rows[0]["loss"] and "val_loss" in rows[-1]
    assert rows[-1]["tokens"] > rows[0]["tokens"] > 0 and 0 < rows[-1]["accuracy"] <= 1
    assert (tmp_path / "mine" / "curves.png").exists()
