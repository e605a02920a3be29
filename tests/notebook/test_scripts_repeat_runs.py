"""The exported folders repeat the run: same records in the same order, same loss mask, same
schedule, so the same losses. None of their scripts imports ftkit."""

import json
import runpy
import sys

import pytest
import torch
from helpers import others_later

import ftkit as ft
from ftkit.base import ports
from ftkit.data import encoding
from ftkit.distributed import launch
from ftkit.notebook import to_script

WORDS = "sea boat salt tea bread moon rust city".split()
TALK = [{"role": "user", "content": "Name one."}, {"role": "assistant", "content": "A whale."}]
LIBRARIES = list(to_script.LIBRARIES)


def instructions():
    return [{"instruction": f"Name the {WORDS[n % 8]} {n // 2}.", "input": "please" * (n % 2),
             "output": f"{WORDS[n % 5]} number {n}"} for n in range(60)]


def chats():
    return [{"messages": [
        *[{"role": "system", "content": "Be brief."}] * (n % 2),
        {"role": "user", "content": f"Where is the {WORDS[n % 8]} {n}?"},
        {"role": "assistant", "content": f"In the {WORDS[n % 3]}.", **({"weight": 0} if n % 5 == 0
                                                                      else {})},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": f"Look at the {WORDS[n % 4]} {n}."}]} for n in range(60)]


def texts():
    return [{"text": f"The {WORDS[n % 8]} of {n} lay by the {WORDS[n % 3]}.\nIt was {n} years old."}
            for n in range(60)]


def pairs():
    return [{"instruction": f"Name the {WORDS[n % 8]} {n}.", "chosen": f"{WORDS[n % 5]} {n}",
             "rejected": "none", "history": [*TALK]} for n in range(60)]


KINDS = {"instruction": instructions, "chat": chats, "text": texts, "pair": pairs}
CONFIG = ft.Config(max_steps=10, batch_size=3, learning_rate=2e-3, warmup_steps=4, seed=3,
                   precision="fp32", eval_steps=5)


def lab_of(kind="instruction", **options):
    """Of so few records that ten steps read some of them twice."""
    return ft.Experiment(data=KINDS[kind]()[:24], probes=(), **options)


def run_script(lab, config, library, folder):
    """The losses that the Trainer of an exported script logged."""
    path = to_script.export(lab, config, folder, library) / "train.py"
    assert not [line for line in path.read_text("utf-8").splitlines()
                if line.startswith(("import ", "from ")) and "ftkit" in line]
    names = runpy.run_path(str(path))
    return [row["loss"] for row in names["trainer"].state.log_history if "loss" in row]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


CASES = {  # name: kind of records, changes of CONFIG, options of the Experiment
    **{kind: (kind, {}, {}) for kind in KINDS},
    "accumulated": ("instruction", dict(
        method="lora", gradient_accumulation_steps=2, lr_scheduler_type="cosine",
        weight_decay=0.1, max_steps=8), {}),
    "packed": ("instruction", dict(
        epochs=1, max_steps=None, batch_size=4, packing=True, max_length=160,
        lr_scheduler_type="warmup_stable_decay", warmup_steps=0.3, num_decay_steps=0.3),
        {"template": "alpaca"}),
    "replayed": ("instruction", dict(
        loss_on="all", max_length=24, max_steps=6, warmup_steps=0, replay=0.3),
        {"template": "{instruction} → {output}"}),
    "prompt": ("instruction", dict(method="prompt_tuning", learning_rate=0.1, max_steps=6), {}),
    "8 bits": ("instruction", dict(method="qlora", load_in_8bit=True, max_steps=2), {}),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", others_later(CASES, now=(
    "chat", "accumulated", "packed", "replayed", "prompt", "8 bits")))
def test_a_script_gives_the_losses_of_the_run(case, library, tmp_path):
    kind, change, options = CASES[case]
    lab, config = lab_of(kind, **options), CONFIG.but(**change)
    ours = [row["loss"] for row in lab.run(config, live=False).rows]
    theirs = run_script(lab, config, library, tmp_path / "run")
    assert len(ours) >= 2 and theirs == pytest.approx(ours, abs=0.04 if case == "8 bits" else 1e-3)


@pytest.mark.parametrize("kind", others_later(KINDS, now=("chat",)))
def test_the_folder_for_torchrun_gives_the_losses_of_the_run(kind, tmp_path, monkeypatch):
    """Here, as the only rank: two of them and torchrun are in distributed/test_launch.py."""
    lab = lab_of(kind)
    ours = [row["loss"] for row in lab.run(CONFIG, live=False).rows]
    folder = launch.export(lab, CONFIG, tmp_path / "run")
    for name, value in launch._environment(0, 1, ports.free_port()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    runpy.run_path(str(folder / "train.py"), run_name="__main__")
    told = json.loads((folder / "result" / "zero3-rank0.json").read_text("utf-8"))
    theirs = [row["loss"] for row in told["rows"]]
    assert len(theirs) == 10 and theirs == pytest.approx(ours, abs=1e-3)


# ---------------------------------------------------------------------------- adapters


def loss_of(model, tokenizer):
    from ftkit.evaluate import scoring

    return scoring.loss_on(model, encoding.encode_all(instructions()[:8], tokenizer).examples)


@pytest.mark.parametrize("library, change", [
    ("TRL", {}), ("transformers", {"init_lora_weights": "pissa"})])
def test_the_adapter_of_a_script_equals_the_runs_and_is_trained_further_here(library, change,
                                                                            tmp_path):
    lab = lab_of()
    config = CONFIG.but(method="lora", max_steps=6, learning_rate=1e-2).but(**change)
    run = lab.run(config, live=False)
    before = loss_of(*ft.load("tiny"))
    run_script(lab, config, library, tmp_path / "run")
    folder = str(tmp_path / "run" / "tuned")
    theirs = ft.load(folder)
    assert loss_of(*theirs) == pytest.approx(loss_of(run.model, run.tokenizer), abs=2e-3)
    assert loss_of(*theirs) < before - 0.03
    again = ft.Experiment(model=folder, data=instructions()[:24], probes=()).run(
        CONFIG.but(method="lora", max_steps=3), live=False)
    assert again.before["val_loss"] == pytest.approx(run.after["val_loss"], abs=2e-3)


def test_our_adapter_is_trained_on_by_trl(tmp_path):
    import datasets
    import peft
    import trl

    lab = ft.Experiment(data=instructions(), probes=())
    run = lab.run(CONFIG, method="lora", max_steps=6, learning_rate=1e-2, live=False,
                  out=tmp_path / "ours")
    base, tokenizer = ft.load("tiny")
    model = peft.PeftModel.from_pretrained(base, tmp_path / "ours", is_trainable=True)
    assert loss_of(model, tokenizer) == pytest.approx(loss_of(run.model, tokenizer), abs=1e-4)
    start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    assert start and all("lora_" in name for name in start)
    coded = [{"input_ids": e["input_ids"], "labels": e["labels"]}
             for e in lab.encode(tokenizer, lab.model_facts().resolve(CONFIG)).units.examples]
    arguments = trl.SFTConfig(output_dir=str(tmp_path / "trl"), max_steps=2, report_to="none",
                              per_device_train_batch_size=4, save_strategy="no", bf16=False,
                              use_cpu=not torch.cuda.is_available(), learning_rate=1e-2)
    trainer = trl.SFTTrainer(model, arguments, train_dataset=datasets.Dataset.from_list(coded),
                             processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(tmp_path / "trl"))
    moved = ft.load(str(tmp_path / "trl"))[0]
    names = dict(moved.named_parameters())
    assert any(not torch.equal(names[name].cpu(), p.cpu()) for name, p in start.items()
               if name in names)
