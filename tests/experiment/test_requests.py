"""What cannot be meant is refused at once, and what has no effect is said."""

import dataclasses
import math

import pytest

import ftkit as ft
from ftkit.base.config import Config, DPOConfig, GRPOConfig
from ftkit.base.errors import UserError
from ftkit.experiment import inputs

pytestmark = pytest.mark.usefixtures("home")
RECORDS = [{"instruction": f"say {i}", "output": f"out {i}"} for i in range(24)]
ABSURD = {"batch_size": 1e308, "epochs": 1e308, "r": 1e30, "num_virtual_tokens": 1e30,
          "l2_sp": 1e308, "lora_alpha": 1e308, "max_grad_norm": 1e-320, "learning_rate": 1e-320,
          "warmup_steps": 1e308, "max_steps": 1e12, "gradient_accumulation_steps": 1e9,
          "weight_decay": 1e300, "kl_coef": 1e300, "max_length": 1e15, "eval_steps": 1e30}


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_value_is_refused_with_its_range(name):
    with pytest.raises(UserError, match=f"{name} is .*expected .*(at most|above 0|at least)"):
        ft.Config(**{name: ABSURD[name]})


@pytest.mark.parametrize("kind, name", [(kind, field.name) for kind in (DPOConfig, GRPOConfig)
                                        for field in dataclasses.fields(kind)
                                        if field.type not in ("str", "bool")
                                        and field.name != "learning_rate"])
def test_a_number_of_preferences_and_rewards_has_a_bound_too(kind, name):
    for value in (1e30, b"1"):
        with pytest.raises(UserError, match=f"{name} is .*expected"):
            kind(**{name: value})


def test_a_folder_of_a_name_that_no_system_has_is_refused_before_training():
    lab = ft.Experiment(data=RECORDS, probes=())
    with pytest.raises(UserError, match="cannot be written"):
        lab.run(max_steps=1, out="a\0b")


def test_a_scale_of_zero_which_would_train_nothing_is_refused():
    with pytest.raises(UserError, match="lora_alpha is 0.0; expected a number above 0"):
        ft.Config(lora_alpha=0)


def test_virtual_tokens_leave_room_for_a_record():
    lab = ft.Experiment(data=RECORDS, probes=())
    with pytest.raises(UserError, match="num_virtual_tokens is 600, .* 512 tokens.*at most 256"):
        lab.run(method="prompt_tuning", num_virtual_tokens=600, max_steps=1)


def test_the_largest_batch_that_is_accepted_is_answered_by_tracing_small_ones(monkeypatch):
    from ftkit.memory_use import footprint, simulate

    trace, traced = simulate.trace, []

    def count(shape, config, batches, *more, **options):
        traced.append(len(batches[0].examples))
        return trace(shape, config, batches, *more, **options)

    monkeypatch.setattr(simulate, "trace", count)
    lab = ft.Experiment(data=RECORDS, probes=())
    monkeypatch.setattr(lab, "fresh_model", lambda config: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match="needs about"):
        lab.run(batch_size=10**6, max_length=512, max_steps=1, precision="fp32")
    assert traced and max(traced) <= footprint.SEQUENCES


@pytest.mark.parametrize("fields, note", [
    ({"method": "ia3", "r": 4, "use_dora": True}, "r, use_dora had no effect: method is ia3"),
    ({"method": "lora", "num_virtual_tokens": 5},
     "num_virtual_tokens had no effect: method is lora"),
    ({"base_dtype": "bf16"}, "base_dtype had no effect: method is full"),
    ({"method": "lora", "bnb_4bit_quant_type": "fp4"},
     "bnb_4bit_quant_type had no effect: method is lora"),
    ({"method": "qlora", "load_in_8bit": True, "bnb_4bit_quant_type": "fp4"},
     "bnb_4bit_quant_type had no effect: load_in_8bit leaves no 4-bit weights"),
    ({"metric_for_best_model": "general_loss"},
     "metric_for_best_model had no effect: there is no early_stopping_patience"),
    ({"num_decay_steps": 0.5},
     "num_decay_steps had no effect: lr_scheduler_type is not warmup_stable_decay"),
    ({"epochs": 3.0, "max_steps": 5}, "epochs had no effect: max_steps overrides epochs")])
def test_each_field_that_was_given_without_effect_is_noted(fields, note):
    config = Config(**fields)
    assert inputs.notes_on(config.resolved("tiny", "fp32", 512), 20) == [note]


def test_what_has_no_effect_is_noted():
    lab = ft.Experiment(data="translation", probes=())
    run = lab.run(method="full", use_dora=True, r=4, warmup_steps=1000, max_steps=1, batch_size=4)
    assert any("use_dora" in note and "no effect" in note for note in run.notes)
    assert any(note.startswith("the warm-up takes 1000 steps and the run has 1")
               for note in run.notes)
    assert lab.run(method="lora", r=4, max_steps=1, batch_size=4).notes == []


def test_preference_records_in_a_plain_run_are_noted_once():
    pairs = [{"instruction": f"say {i}", "chosen": f"out {i}", "rejected": "no"}
             for i in range(24)]
    run = ft.Experiment(data=pairs, probes=()).run(max_steps=1, batch_size=4)
    assert sum("chosen" in note and "DPO" in note for note in run.notes) == 1


def test_a_run_whose_last_update_diverged_says_so():
    run = ft.Experiment(data=RECORDS, probes=()).run(
        learning_rate=1e5, max_steps=2, warmup_steps=0, max_grad_norm=0, precision="fp32",
        batch_size=4)
    assert all(math.isfinite(row["loss"]) for row in run.rows)
    assert not math.isfinite(run.after["val_loss"])
    assert run.end == "diverged" and run.is_finished and ft.load_run(run.id).stopped == run.stopped


def test_a_model_that_is_broken_before_training_is_refused_and_no_run_is_kept():
    model, tokenizer = ft.load("tiny")
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(UserError, match="val_loss is nan before the first step"):
        ft.Experiment((model, tokenizer), RECORDS, probes=()).run(max_steps=1)
    assert len(ft.runs()) == 0
