"""Every field of Config explains itself where a learner meets it."""

import dataclasses
import importlib
import inspect

import pytest

import ftkit as ft
from ftkit.base import config_fields
from ftkit.base.config import DPOConfig, GRPOConfig

pytestmark = pytest.mark.quick

FIELDS = config_fields.fields_of(ft.Config)


def test_tips_are_short_different_and_give_a_usual_range_for_numbers():
    tips = {name: field.metadata["tip"] for name, field in FIELDS.items()}
    assert len(set(tips.values())) == len(tips)
    for name, tip in tips.items():
        assert 5 <= len(tip.split()) <= 25, f"{name}: {tip!r}; give option(tip=...)"
        without = ("seed", "max_length", "eval_steps")
        if config_fields.is_slider(FIELDS[name]) and name not in without:
            assert any(character.isdigit() for character in tip), (name, tip)


@dataclasses.dataclass(frozen=True)
class Counted(ft.Config):
    # The annotation is a class here, and text in config.py.
    times: int | None = config_fields.option(None, "times", group="Data", changes="", low=1)


@pytest.mark.parametrize("given, kept", [("3", 3), (3.0, 3), (None, None)])
def test_a_field_is_read_in_its_type_whether_its_annotation_is_text_or_a_class(given, kept):
    assert Counted(times=given).times == kept == ft.Config(max_steps=given).max_steps
    for wrong in (2.5, "many"):
        for make in (lambda v: Counted(times=v), lambda v: ft.Config(max_steps=v),
                     lambda v: ft.Config().but(max_steps=v)):
            with pytest.raises(ValueError, match="expected a whole number"):
                make(wrong)


def test_a_declaration_with_an_unknown_group_or_change_is_refused():
    for words in ({"group": "Other", "changes": ""}, {"group": "Data", "changes": "speed"}):
        with pytest.raises(ValueError, match="expected one of"):
            config_fields.option(1, "help", **words)


def test_fields_without_effect_are_known_for_preferences_as_well():
    idle = config_fields.without_effect
    assert {"beta", "simpo_gamma"} <= idle(DPOConfig(loss_type="sft")).keys()
    assert "simpo_gamma" not in idle(DPOConfig(loss_type="simpo"))
    clipped = {"epsilon", "epsilon_high", "importance_sampling_level"}
    assert clipped <= idle(GRPOConfig()).keys()
    assert not clipped & idle(GRPOConfig(num_iterations=2)).keys()


@pytest.mark.heavy
@pytest.mark.parametrize("owner", [
    "transformers.TrainingArguments", "transformers.BitsAndBytesConfig", "peft.LoraConfig",
    "peft.PromptTuningConfig", "peft.PrefixTuningConfig", "trl.DPOConfig",
    "trl.GRPOConfig"])
def test_counterparts_are_parameters_of_the_libraries(owner):
    library, _, name = owner.partition(".")
    known = inspect.signature(getattr(importlib.import_module(library), name).__init__).parameters
    asked = {parameter for kind in (ft.Config, DPOConfig, GRPOConfig)
             for parameter in config_fields.parameters_of(kind, name).values()}
    assert asked and asked <= known.keys()
