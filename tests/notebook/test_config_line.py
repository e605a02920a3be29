"""The Config line of the panel, and the facts about fields that its controls are made of."""

import pytest

from ftkit.base.config import Config
from ftkit.base.config_fields import neighbors, without_effect
from ftkit.notebook.controls import parse

CONFIG = Config(method="lora", learning_rate=3e-4, max_steps=60, use_dora=True,
                target_modules="q_proj,v_proj")


@pytest.mark.parametrize("text", [str(CONFIG), repr(CONFIG), f" ft.{CONFIG!r}\n"])
def test_a_config_is_read_back_from_a_line_and_from_python(text):
    assert parse(text) == CONFIG
    assert parse("  ") == Config()


@pytest.mark.parametrize("text, message", [
    ("lr=3", "did you mean learning_rate"), ("max_steps", "name=value"),
    ("max_steps=many", "expected a whole number"), ("Config(max_steps=60", "cannot be read"),
    ("Config(lr=3)", "did you mean learning_rate"), ("Config(open('x'))", "cannot be read"),
    ("Config(max_steps=open('x'))", "cannot be read"), ("zzzz=1", "no field 'zzzz'")])
def test_an_error_names_what_cannot_be_read(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_fields_without_effect_are_those_that_change_nothing():
    gray = without_effect(Config(max_steps=5))
    assert {"epochs", "metric_for_best_model", "num_decay_steps", "r"} <= set(gray)
    assert not {"l2_sp", "learning_rate", "max_steps"} & set(gray)
    free = without_effect(Config(
        method="lora", early_stopping_patience=2, lr_scheduler_type="warmup_stable_decay"))
    assert set(free) == {"l2_sp", "num_virtual_tokens", "bnb_4bit_quant_type", "load_in_8bit"}
    eight = without_effect(Config(method="qlora", load_in_8bit=True))
    assert "bnb_4bit_quant_type" in eight and "load_in_8bit" not in eight


def test_the_values_of_a_sweep_are_neighbors_of_the_one_in_use():
    assert neighbors(Config, "learning_rate", 1e-3) == [2e-4, 5e-4, 1e-3, 2e-3, 5e-3]
    assert neighbors(Config, "r", 128) == [8, 16, 32, 64, 128]
    assert neighbors(Config, "learning_rate", 3e-3)[2] == 3e-3
    with pytest.raises(ValueError, match="method has no list of usual values"):
        neighbors(Config, "method", "full")
