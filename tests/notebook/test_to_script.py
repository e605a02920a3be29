"""What is copied out of a panel runs elsewhere, and asks for the same."""

import ast
import dataclasses
import json
import runpy

import pytest

import ftkit as ft
from ftkit.notebook import to_script

RECORDS = [{"instruction": f"Name the number {n}.", "input": "", "output": f"number {n}"}
           for n in range(24)]
CONFIGS = [ft.Config(), ft.Config(method="lora", r=4, learning_rate=3e-3, warmup_steps=5),
           ft.Config(method="qlora", target_modules="q_proj,v_proj", packing=True, replay=0.2),
           ft.Config(method="qlora", bnb_4bit_quant_type="fp4"),
           ft.Config(method="qlora", load_in_8bit=True),
           ft.Config(method="ia3"), ft.Config(method="prompt_tuning", num_virtual_tokens=5),
           ft.Config(precision="pure-bf16", gradient_checkpointing=True, loss_on="all",
                     optim="sgd", max_steps=3, early_stopping_patience=2),
           ft.Config(neftune_noise_alpha=5.0, packing=True)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my 'data'.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


@pytest.fixture
def lab(file):
    return ft.Experiment(data=str(file))


def resolved(config, tier="tiny"):
    return config.resolved(tier, "fp32", 256)


def arguments(text: str, name: str) -> dict:
    """The keyword arguments of the call of `name` in a script."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)
             and getattr(node.func, "id", None) == name]
    assert len(calls) == 1, text
    return {k.arg: ast.literal_eval(k.value) for k in calls[0].keywords if k.arg != "use_cpu"}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_line_and_the_cell_give_the_same_config(lab, config):
    assert ft.Config.from_string(to_script.line(lab, config)) == config
    names = {}
    text = to_script.cell(lab, config).replace("run = lab.run(", "asked = (").replace("\nrun\n", "")
    exec(text, names)
    assert names["asked"] == config and names["lab"].train.sha256 == lab.train.sha256


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("make, name", [(to_script.trl, "SFTConfig"),
                                        (to_script.transformers, "TrainingArguments")])
def test_the_arguments_of_a_script_are_those_the_library_knows(lab, config, make, name):
    import transformers
    import trl

    config = resolved(config)
    known = {"SFTConfig": trl.SFTConfig, "TrainingArguments": transformers.TrainingArguments}[name]
    asked = arguments(make(lab, config), name)
    assert asked.keys() <= {field.name for field in dataclasses.fields(known)}
    assert known(**asked | {"use_cpu": True, "bf16": False, "fp16": False}).learning_rate == \
        config.learning_rate
    assert asked["per_device_train_batch_size"] == config.batch_size
    assert asked.get("neftune_noise_alpha") == config.neftune_noise_alpha
    if name == "SFTConfig":
        assert (asked["packing"], asked["max_length"]) == (config.packing, config.max_length)


@pytest.mark.parametrize("make, name", [(to_script.trl, "SFTConfig"),
                                        (to_script.transformers, "TrainingArguments")])
def test_a_script_has_the_learning_rate_that_a_run_takes_by_itself(lab, make, name):
    config = ft.Config(method="lora", precision="fp32")
    filled = lab.model_facts().resolve(config)
    text = make(lab, config)
    assert arguments(text, name)["learning_rate"] == filled.learning_rate
    assert "ids[:None]" not in text and text == make(lab, filled)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_the_script_of_qlora_asks_for_the_same_kind_of_4_bits(lab, kind):
    config = resolved(ft.Config(method="qlora", bnb_4bit_quant_type=kind))
    asked = arguments(to_script.trl(lab, config).replace("=torch.bfloat16", "=None"),
                      "BitsAndBytesConfig")
    assert asked["load_in_4bit"] and asked["bnb_4bit_quant_type"] == kind


def test_the_script_of_an_8_bit_base_trains_it_as_a_run_does(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolved(ft.Config(method="qlora", load_in_8bit=True, max_steps=2,
                                batch_size=len(RECORDS)))
    text = to_script.transformers(lab, config)
    assert arguments(text, "BitsAndBytesConfig") == {"load_in_8bit": True}
    (tmp_path / "train.py").write_text(text)
    losses = [row["loss"] for row in runpy.run_path("train.py")["trainer"].state.log_history
              if "loss" in row]
    ours = ft.Experiment(data=RECORDS, probes=()).run(config, live=False)
    assert losses[0] == pytest.approx(ours.rows[0]["loss"], rel=0.01)


def test_what_has_no_counterpart_is_named(lab):
    text = to_script.trl(lab, resolved(ft.Config(replay=0.2)))
    assert "  # a folder of this machine" in text, "elsewhere the path must be changed"
    assert "left out: replay" in text.splitlines()[1]


def test_a_name_from_the_data_stays_a_comment_or_a_string(tmp_path):
    path = tmp_path / "a\nimport os; os.abort()  #.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    lab = ft.Experiment(data=str(path))
    for make in to_script.KINDS.values():
        text = make(lab, resolved(ft.Config(method="lora")))
        if make is not to_script.line:
            assert "abort" not in ast.dump(ast.parse(text)).replace(repr(str(path)), "")
            assert not [n for n in ast.walk(ast.parse(text)) if getattr(n, "attr", "") == "abort"]


@pytest.mark.parametrize("make", [to_script.trl, to_script.transformers])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_script_trains_and_leaves_an_adapter(lab, make, precision, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolved(ft.Config(method="lora", max_steps=2, batch_size=len(RECORDS),
                                precision=precision))
    text = make(lab, config)
    (tmp_path / "train.py").write_text(text)
    names = runpy.run_path("train.py")
    assert names["trainer"].state.global_step == 2
    assert json.loads((tmp_path / "tuned" / "adapter_config.json").read_text())["r"] == config.r
    first = names["trainer"].state.log_history[0]["loss"]
    ours = ft.Experiment(data=RECORDS, probes=()).run(config.but(precision="fp32"), live=False)
    assert first == pytest.approx(ours.rows[0]["loss"], rel=0.01), "another loss is trained"
