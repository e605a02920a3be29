"""Every field of Config explains itself where a learner meets it."""

import dataclasses

import pytest

import ftkit as ft

pytestmark = pytest.mark.quick

FIELDS = dataclasses.fields(ft.Config)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_field_has_a_tip_of_at_most_25_words(field):
    tip = field.metadata["tip"]
    words = len(tip.split())
    assert 5 <= words <= 25, f"{words} words: {tip!r}; give _option(tip=...)"


def test_no_two_fields_share_a_tip():
    tips = [field.metadata["tip"] for field in FIELDS]
    assert len(set(tips)) == len(tips)


@pytest.mark.parametrize("name", [
    "learning_rate", "batch_size", "epochs", "warmup_steps", "weight_decay", "r", "lora_alpha",
    "lora_dropout", "replay", "max_grad_norm", "early_stopping_patience"])
def test_the_tip_of_a_number_names_its_usual_range(name):
    tip = ft.Config.__dataclass_fields__[name].metadata["tip"]
    assert any(character.isdigit() for character in tip), tip
