"""The scripts that a panel copies, and the folder for torchrun, repeat the run: same records in the
same order, same loss mask, same schedule, so the same losses. None of them imports ftkit."""

import json
import re
import runpy
import subprocess
import sys

import pytest
import tokenizers
import torch
import transformers
from helpers import others_later

import ftkit as ft
from ftkit.base import ports
from ftkit.data import encoding
from ftkit.distributed import launch
from ftkit.notebook import script_parts, to_script

WORDS = "sea boat salt tea bread moon rust city".split()
TALK = [{"role": "user", "content": "Name one."}, {"role": "assistant", "content": "A whale."}]


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
        {"role": "assistant", "content": f"Look at the {WORDS[n % 4]} {n}."},
        *[{"role": "user", "content": "Thanks."}] * (n % 7 == 0)]} for n in range(60)]


def texts():
    return [{"text": f"The {WORDS[n % 8]} of {n} lay by the {WORDS[n % 3]}.\nIt was {n} years old."}
            for n in range(60)]


def pairs():
    return [{"instruction": f"Name the {WORDS[n % 8]} {n}.", "chosen": f"{WORDS[n % 5]} {n}",
             "rejected": "none", "history": [*TALK]} for n in range(60)]


KINDS = {"instruction": instructions, "chat": chats, "text": texts}
ONE_KIND = others_later(KINDS, now=("chat",))
CONFIG = ft.Config(max_steps=10, batch_size=3, learning_rate=2e-3, warmup_steps=4, seed=3,
                   precision="fp32", eval_steps=5)


def a_file(folder, records):
    path = folder / "my data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def lab_of(kind, folder):
    """Of so few records that ten steps read some of them twice."""
    return ft.Experiment(data=str(a_file(folder, KINDS[kind]()[:24])), probes=())


def resolved(lab, config):
    return lab.model_facts().resolve(config)


def run_script(text, folder, monkeypatch):
    """The losses that the Trainer of a script logged."""
    monkeypatch.chdir(folder)
    (folder / "train.py").write_text(text, "utf-8")
    assert "ftkit" not in [line.split()[1].split(".")[0] for line in text.splitlines()
                           if line.startswith(("import ", "from "))]
    names = runpy.run_path("train.py")
    return [row["loss"] for row in names["trainer"].state.log_history if "loss" in row]


MAKERS = {"TRL": to_script.trl, "transformers": to_script.transformers}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("kind", ONE_KIND)
def test_a_script_gives_the_losses_of_the_run(kind, maker, tmp_path, monkeypatch):
    lab = lab_of(kind, tmp_path)
    config = resolved(lab, CONFIG)
    ours = [row["loss"] for row in lab.run(config, live=False).rows]
    theirs = run_script(MAKERS[maker](lab, config), tmp_path, monkeypatch)
    assert len(ours) == len(theirs) == 10
    assert theirs == pytest.approx(ours, abs=1e-3)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("change, options", [
    (dict(method="lora", gradient_accumulation_steps=2, lr_scheduler_type="cosine",
          weight_decay=0.1, max_steps=8), {}),
    (dict(epochs=1, max_steps=None, batch_size=14, lr_scheduler_type="warmup_stable_decay",
          warmup_steps=0.3, num_decay_steps=0.3), {"template": "alpaca"}),
    (dict(loss_on="all", max_length=24, max_steps=6, warmup_steps=0), {"template": "{instruction} "
                                                                       "→ {output}"}),
])
def test_method_schedule_template_and_cuts_are_those_of_the_run(change, options, maker, tmp_path,
                                                                monkeypatch):
    lab = ft.Experiment(data=str(a_file(tmp_path, instructions()[:40])), probes=(), **options)
    config = resolved(lab, CONFIG.but(**change))
    ours = [row["loss"] for row in lab.run(config, live=False).rows]
    theirs = run_script(MAKERS[maker](lab, config), tmp_path, monkeypatch)
    assert len(ours) >= 3 and theirs == pytest.approx(ours, abs=1e-3)


@pytest.mark.parametrize("template", ["chat", "alpaca", "{instruction} → {output}"])
def test_the_code_of_a_script_encodes_as_here_for_tokenizers_that_mark_a_start(template):
    letters = ["▁", *map(chr, range(32, 127)), "\n", "→", "▁A", "▁t"]
    vocab = {w: i for i, w in enumerate(["<unk>", "<s>", "</s>", *letters])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(
        vocab=vocab, merges=[("▁", "A"), ("▁", "t")], unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}"
        "{{ eos_token }}{% else %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}")
    lab = ft.Experiment(model=(torch.nn.Linear(1, 1), tokenizer), data=chats(), probes=(),
                        template=template)
    code = (to_script._conversation(lab) + to_script._segments(lab)
            + script_parts.ENCODE.format(labels="part if is_trained else [-100] * len(part)",
                                         max_length=400))
    names = {"tokenizer": tokenizer, "re": re}
    exec(code, names)
    assert names["MARKS_A_START"]
    ours = encoding.encode_all(lab.train, tokenizer, 400, template=template).examples
    assert [names["encode"](record) for record in lab.train] == list(ours)


def test_pairs_are_trained_on_their_chosen_answers_as_here(tmp_path, monkeypatch):
    lab = ft.Experiment(data=str(a_file(tmp_path, pairs())), probes=())
    config = resolved(lab, CONFIG.but(max_steps=5))
    ours = [row["loss"] for row in lab.run(config, live=False).rows]
    theirs = run_script(to_script.transformers(lab, config), tmp_path, monkeypatch)
    assert theirs == pytest.approx(ours, abs=1e-3)


def test_a_sample_with_its_own_validation_is_trained_on_whole(tmp_path, monkeypatch):
    lab = ft.Experiment(data="capital", probes=())
    config = resolved(lab, CONFIG.but(max_steps=5))
    ours = [row["loss"] for row in lab.run(config, live=False).rows]
    text = to_script.transformers(lab, config)
    assert "validation" not in text
    assert run_script(text, tmp_path, monkeypatch) == pytest.approx(ours, abs=1e-3)


def test_a_part_of_a_file_or_a_file_of_another_tool_is_to_be_written_first(tmp_path, monkeypatch):
    path = a_file(tmp_path, instructions())
    part = ft.Experiment(data=ft.records(path)[:30], val=ft.records(path)[30:], probes=())
    config = resolved(part, CONFIG.but(max_steps=5))
    assert "DATA = 'train.jsonl'  # write your records there" in to_script.trl(part, config)

    table = tmp_path / "table.csv"
    table.write_text("prompt,completion\n" + "".join(f"Say {n}.,word {n}\n" for n in range(40)))
    lab = ft.Experiment(data=str(table), probes=())
    text = to_script.transformers(lab, config)
    command = text.partition("# made by: ")[2].partition("\n")[0]
    assert command.startswith("ftkit convert ")
    subprocess.run([sys.executable, "-m", *command.split()], cwd=tmp_path, check=True)
    ours = [row["loss"] for row in lab.run(config, live=False).rows]
    assert run_script(text, tmp_path, monkeypatch) == pytest.approx(ours, abs=1e-3)


@pytest.mark.parametrize("kind", ONE_KIND)
def test_the_folder_for_torchrun_gives_the_losses_of_the_run(kind, tmp_path, monkeypatch):
    """Here, as the only rank: two of them and torchrun are in distributed/test_launch.py."""
    lab = lab_of(kind, tmp_path)
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


@pytest.mark.parametrize("maker", MAKERS)
def test_the_adapter_of_a_script_is_that_of_the_run_and_trains_on_here(maker, tmp_path,
                                                                      monkeypatch):
    path = str(a_file(tmp_path, instructions()))
    lab = ft.Experiment(data=path, probes=())
    config = resolved(lab, CONFIG.but(method="lora", max_steps=6, learning_rate=1e-2))
    run = lab.run(config, live=False, out=tmp_path / "ours")
    before = loss_of(*ft.load("tiny"))
    run_script(MAKERS[maker](lab, config), tmp_path, monkeypatch)
    theirs = ft.load(str(tmp_path / "tuned"))
    assert loss_of(*theirs) == pytest.approx(loss_of(run.model, run.tokenizer), abs=1e-3)
    assert loss_of(*theirs) < before - 0.05
    again = ft.Experiment(model=str(tmp_path / "tuned"), data=path, probes=()).run(
        CONFIG.but(method="lora", max_steps=3), live=False)
    assert again.before["val_loss"] == pytest.approx(run.after["val_loss"], abs=1e-3)


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
             for e in lab.encode(tokenizer, resolved(lab, CONFIG)).units.examples]
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
