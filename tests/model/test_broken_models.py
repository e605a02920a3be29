"""A folder that is not whole is refused in words by everything that reads it, before training."""

import json
import os
import shutil

import broken_models
import peft
import pytest
import torch
from broken_models import CASES
from helpers import start

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.experiment import store
from ftkit.memory_use import footprint
from ftkit.model import export, loading

RECORDS = [{"instruction": f"say {i}", "output": f"out {i}"} for i in range(24)]
CONFIG = ft.Config(max_steps=1, method="lora", batch_size=4, max_length=64)


def cut_to_one_layer(folder, hidden=None):
    """The embedded model with its first layer only."""
    shutil.copytree(loading.tiny_path(), folder)
    broken_models.fields(num_hidden_layers=1)(folder)
    broken_models.tensors(lambda t: {n: v for n, v in t.items() if "layers." not in n
                                     or "layers.0." in n})(folder)
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Kind → a folder that is whole: one layer of the embedded model, and an adapter over it."""
    place = tmp_path_factory.mktemp("good")
    base = cut_to_one_layer(place / "model")
    model, tokenizer = ft.load(str(base))
    made = peft.get_peft_model(model, peft.LoraConfig(
        r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    loading.save(made, tokenizer, place / "adapter")
    brother = cut_to_one_layer(place / "brother")
    broken_models.fields(head_dim=32)(brother)
    broken_models.tensors(lambda t: {n: v[:96].contiguous() if n[-13] in "qkv" and "_proj" in n
                                     else v[:, :96].contiguous() if "o_proj" in n else v
                                     for n, v in t.items()})(brother)
    ft.load(str(brother))
    return {"model": base, "adapter": place / "adapter", "brother": brother}


def run(folder, out):
    ft.Experiment(model=str(folder), data=RECORDS, probes=()).run(CONFIG)


def memory(folder, out):
    footprint.memory(CONFIG, str(folder), simulation=False)


def exported(folder, out):
    export.export(folder, out)


def check(folder, out):
    loading.load_tokenizer(str(folder))
    loading.context(str(folder))


COMMANDS = {"run": run, "memory": memory, "export": exported, "check": check}


@pytest.fixture
def folder_of(good, tmp_path):
    def make(case):
        folder = case.make(good, tmp_path / "folder")
        config = folder / "adapter_config.json"
        if case.name == "other_base":
            broken_models.fields(config.name, base_model_name_or_path=str(good["brother"]))(folder)
        return folder

    return make


def test_there_are_90_broken_folders_and_no_two_of_one_name():
    assert len({case.name for case in CASES}) == len(CASES) >= 90


@pytest.mark.parametrize("kind", ["model", "adapter", "brother"])
def test_the_folders_that_the_others_are_made_of_are_accepted(good, tmp_path, kind):
    for command in COMMANDS.values():
        command(good[kind], tmp_path / "out")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_folder_is_refused_by_each_command(folder_of, tmp_path, case, home):
    folder = folder_of(case)
    for name, command in COMMANDS.items():
        if name in case.answers:
            try:
                command(folder, tmp_path / "out")
            except UserError as error:
                assert str(error)
            continue
        with pytest.raises(UserError, match=case.words):
            command(folder, tmp_path / "out")
    assert not store.ids() and not (tmp_path / "out").exists()


SEEN = ("half", "all_renamed", "stored_int8", "shard_missing", "layers_a_billion", "bert_head",
        "a_nan", "tokenizer_larger_than_embedding", "two_in_a_circle", "adapter_with_other_keys")


@pytest.mark.parametrize("name", SEEN)
def test_the_command_line_says_it_in_one_sentence_and_exits_with_2(ftkit, folder_of, tmp_path,
                                                                   name, home):
    case = next(case for case in CASES if case.name == name)
    folder = folder_of(case)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    words = {"run": ("run", "--model", folder, "--data", data, "--probe", "none", "--max-steps", 1),
             "memory": ("memory", "--model", folder, "--method", "lora", "--max-length", 64),
             "export": ("export", folder, tmp_path / "out"),
             "check": ("check", data, "--model", folder)}
    for command, line in words.items():
        if command in case.answers:
            continue
        status, out, err = ftkit(*line)
        assert status == 2 and out == "" and "Traceback" not in err
        assert err.startswith("ftkit: ") and str(folder) in err


def test_a_process_of_its_own_refuses_a_half_downloaded_model(folder_of, tmp_path):
    case = next(case for case in CASES if case.name == "half")
    done = start("run", "--model", folder_of(case), "--max-steps", 1,
                 env=os.environ | {"FTKIT_HOME": str(tmp_path / "home")})
    assert done.returncode == 2 and "is cut off" in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""


def test_a_model_of_two_files_is_loaded(good, tmp_path):
    case = broken_models.Case("sharded", broken_models.sharded(), "")
    model, _ = ft.load(str(case.make(good, tmp_path / "sharded")))
    whole, _ = ft.load(str(good["model"]))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(),
                                                 strict=True))


def test_weights_in_16_bits_are_loaded(good, tmp_path):
    half = broken_models.tensors(lambda t: {n: v.bfloat16() for n, v in t.items()})
    case = broken_models.Case("half", half, "")
    assert next(ft.load(str(case.make(good, tmp_path / "half")))[0].parameters()).dtype == (
        torch.float32)
