"""Every field of Config explains itself where a learner meets it."""

import dataclasses

import pytest

import ftkit as ft
from ftkit.base import config_fields

pytestmark = pytest.mark.quick

FIELDS = dataclasses.fields(ft.Config)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_field_has_a_tip_of_at_most_25_words(field):
    tip = field.metadata["tip"]
    words = len(tip.split())
    assert 5 <= words <= 25, f"{words} words: {tip!r}; give option(tip=...)"


@dataclasses.dataclass(frozen=True)
class Counted(ft.Config):
    # The annotation is a class here, and text in config.py.
    times: int | None = config_fields.option(None, "times", group="Data", changes="", low=1)


@pytest.mark.parametrize("given, kept", [("3", 3), (3.0, 3), (None, None)])
def test_a_field_is_read_in_its_type_whether_its_annotation_is_text_or_a_class(given, kept):
    assert Counted(times=given).times == kept == ft.Config(max_steps=given).max_steps
    for wrong in (2.5, "many"):
        with pytest.raises(ValueError, match="expected a whole number"):
            Counted(times=wrong)
        with pytest.raises(ValueError, match="expected a whole number"):
            ft.Config(max_steps=wrong)


def test_no_two_fields_share_a_tip():
    tips = [field.metadata["tip"] for field in FIELDS]
    assert len(set(tips)) == len(tips)


@pytest.mark.parametrize("name", [
    "learning_rate", "batch_size", "epochs", "warmup_steps", "weight_decay", "r", "lora_alpha",
    "lora_dropout", "replay", "max_grad_norm", "early_stopping_patience"])
def test_the_tip_of_a_number_names_its_usual_range(name):
    tip = ft.Config.__dataclass_fields__[name].metadata["tip"]
    assert any(character.isdigit() for character in tip), tip
