"""Every form in which a Config is at hand can be typed into the panel."""

import json

import pytest

from ftkit.base import config_fields
from ftkit.base.config import Config
from ftkit.notebook import config_text
from ftkit.notebook.presets import PRESETS

CONFIG = Config(method="lora", learning_rate=3e-4, max_steps=60, use_dora=True,
                target_modules="q_proj,v_proj")


@pytest.mark.parametrize("text", [
    str(CONFIG), repr(CONFIG), f"ft.{CONFIG!r}", json.dumps(CONFIG.to_dict()),
    json.dumps({"id": "a run", "config": CONFIG.to_dict()}),
    ", ".join(f"{k}={v!r}" for k, v in CONFIG.differs().items()),
    "method=lora,learning_rate=3e-4,max_steps=60,use_dora=true,target_modules=q_proj,v_proj",
    "ftkit run --method lora --learning-rate=3e-4 --max-steps 60 --use-dora "
    "--target-modules q_proj,v_proj"])
def test_a_config_is_read_back_from_each_form(text):
    assert config_text.parse(text) == CONFIG


def test_nothing_is_all_defaults_and_auto_is_none():
    assert config_text.parse("  ") == Config()
    assert config_text.parse("learning_rate=auto, max_steps=5") == Config(max_steps=5)


@pytest.mark.parametrize("text, told", [
    ("lr=3", "did you mean learning_rate"), ("max_steps", "'max_steps' is not a name=value pair"),
    ("max_steps=many", "expected a whole number"), ('{"max_steps": }', "not JSON"),
    ("Config(max_steps=60", "closing bracket"), ("Config(open('x'))", "not a list of name=value"),
    ("Config(max_steps=open('x'))", "not a list of name=value"),
    ("--data tasks", "no field 'data'"), ("train --max-steps 5", "mixes options"),
    ("--max-steps 5 6", "'6' follows no option"), ("RATE=2", "no field 'RATE'")])
def test_what_cannot_be_read_is_named(text, told):
    with pytest.raises(ValueError, match="(?s)" + told.replace("(", r"\(")):
        config_text.parse(text)


def test_no_error_lists_what_is_not_a_field():
    with pytest.raises(ValueError) as caught:
        config_text.parse("zzzz=1")
    assert "RATE" not in str(caught.value)


def test_fields_without_effect_are_those_that_change_nothing():
    gray = config_fields.without_effect(Config(max_steps=5))
    assert {"epochs", "metric_for_best_model", "num_decay_steps", "r"} <= set(gray)
    assert not {"l2_sp", "learning_rate", "max_steps"} & set(gray)
    free = config_fields.without_effect(Config(
        method="lora", early_stopping_patience=2, lr_scheduler_type="warmup_stable_decay"))
    assert set(free) == {"l2_sp", "num_virtual_tokens", "bnb_4bit_quant_type", "load_in_8bit"}
    eight = config_fields.without_effect(Config(method="qlora", load_in_8bit=True))
    assert "bnb_4bit_quant_type" in eight and "load_in_8bit" not in eight


def test_the_values_of_a_sweep_are_neighbors_of_the_one_in_use():
    assert config_fields.neighbors(Config, "learning_rate", 1e-3) == [2e-4, 5e-4, 1e-3, 2e-3, 5e-3]
    assert config_fields.neighbors(Config, "r", 128) == [8, 16, 32, 64, 128]
    assert config_fields.neighbors(Config, "learning_rate", 3e-3)[2] == 3e-3
    with pytest.raises(ValueError, match="method has no list of usual values"):
        config_fields.neighbors(Config, "method", "full")


def test_a_preset_names_fields_with_values_that_config_accepts():
    for name, preset in PRESETS.items():
        assert Config().but(**preset.changes), name
