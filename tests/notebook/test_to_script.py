"""What is copied out of a panel asks for the same run elsewhere."""

import ast
import dataclasses
import json

import pytest
from helpers import numbers

import ftkit as ft
from ftkit.notebook import to_script

RECORDS = numbers(24)
CONFIGS = [ft.Config(), ft.Config(method="lora", r=4, learning_rate=3e-3, warmup_steps=5),
           ft.Config(method="qlora", target_modules="q_proj,v_proj", packing=True, replay=0.2),
           ft.Config(method="qlora", load_in_8bit=True), ft.Config(method="ia3"),
           ft.Config(precision="pure-bf16", gradient_checkpointing=True, loss_on="all",
                     optim="sgd", max_steps=3, early_stopping_patience=2),
           ft.Config(neftune_noise_alpha=5.0, packing=True)]


def lab_of(path):
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return ft.Experiment(data=str(path))


@pytest.fixture
def lab(tmp_path):
    return lab_of(tmp_path / "my 'data'.jsonl")


def arguments(text: str, name: str) -> dict:
    """The keyword arguments of the call of `name` in a script."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)
             and getattr(node.func, "id", None) == name]
    assert len(calls) == 1, text
    return {k.arg: ast.literal_eval(k.value) for k in calls[0].keywords if k.arg != "use_cpu"}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_line_and_the_cell_give_the_same_config(lab, config):
    assert ft.Config.from_string(to_script.TEXTS["Config string"](lab, config)) == config
    names = {}
    text = to_script.cell(lab, config).replace("run = lab.run(", "asked = (").replace("\nrun\n", "")
    exec(text, names)
    assert names["asked"] == config and names["lab"].train.sha256 == lab.train.sha256


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("library", to_script.LIBRARIES)
def test_the_arguments_of_a_script_are_those_the_library_knows(lab, config, library):
    import transformers
    import trl

    name = to_script.LIBRARIES[library][1]
    known = {"SFTConfig": trl.SFTConfig, "TrainingArguments": transformers.TrainingArguments}[name]
    resolved = lab.model_facts().resolve(config)
    asked = arguments(to_script.script(lab, resolved, library, steps=3), name)
    assert asked.keys() <= {field.name for field in dataclasses.fields(known)}
    made = known(**asked | {"use_cpu": True, "bf16": False, "fp16": False})
    assert (made.learning_rate, made.max_steps) == (resolved.learning_rate, 3)
    assert asked["per_device_train_batch_size"] == config.batch_size
    assert asked.get("neftune_noise_alpha") == config.neftune_noise_alpha


def test_the_quantization_of_qlora_is_asked_for(lab):
    def quantization(**fields):
        config = lab.model_facts().resolve(ft.Config(method="qlora", **fields))
        return arguments(to_script.script(lab, config, "TRL", 3).replace(
            "torch.bfloat16", "'bfloat16'"), "BitsAndBytesConfig")

    assert quantization(bnb_4bit_quant_type="fp4")["bnb_4bit_quant_type"] == "fp4"
    assert quantization()["bnb_4bit_quant_type"] == "nf4"
    assert quantization(load_in_8bit=True) == {"load_in_8bit": True}


def test_an_exported_qlora_run_has_its_adapter_without_a_gpu(lab, tmp_path):
    folder = to_script.export(lab, ft.Config(method="qlora", r=2, max_steps=1), tmp_path / "run")
    adapter = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert adapter["r"] == 2 and "load_in_4bit=True" in (folder / "train.py").read_text()


def test_what_has_no_counterpart_is_named_and_a_folder_in_use_is_kept(lab, tmp_path):
    config = ft.Config(kl_coef=0.5, max_steps=1)
    folder = to_script.export(lab, config, tmp_path / "run")
    head = (folder / "train.py").read_text("utf-8").splitlines()[:2]
    assert "no counterpart: kl_coef" in head[1]
    with pytest.raises(ValueError, match="is not an empty folder. Choose another folder"):
        to_script.export(lab, config, folder)
    with pytest.raises(ValueError, match="expected TRL or transformers"):
        to_script.export(lab, config, tmp_path / "other", "axolotl")


def test_a_name_from_the_data_stays_a_comment_or_a_string(tmp_path):
    lab = lab_of(tmp_path / "a\nimport os; os.abort()  #.jsonl")
    config = lab.model_facts().resolve(ft.Config(method="lora"))
    for text in (to_script.cell(lab, config), to_script.script(lab, config, "TRL", 3)):
        assert not [n for n in ast.walk(ast.parse(text)) if getattr(n, "attr", "") == "abort"]


def test_a_part_of_a_file_is_not_named_as_its_source(tmp_path):
    path = tmp_path / "data.jsonl"
    lab_of(path)
    part = ft.Experiment(data=ft.records(path)[:12], val=ft.records(path)[12:], probes=())
    assert "records = ...  # your list of records" in to_script.cell(part, ft.Config())
    assert "data='capital'" in to_script.cell(ft.Experiment(data="capital"), ft.Config())
