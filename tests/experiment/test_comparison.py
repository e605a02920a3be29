"""compare puts an effect down to a cause only where exactly one thing differs, and shows noise."""

import math
import random
from types import SimpleNamespace

import pytest
from helpers import numbers

import ftkit as ft
from ftkit.base.run_end import End
from ftkit.experiment import run, store

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("home")]

RECORDS = numbers(24)
SHORT = ft.Config(max_steps=2, eval_steps=2, batch_size=4, precision="fp32", max_length=512)


def made(val=1.0, general=2.0, seed=0, model="tiny", end=End.FINISHED, held=None, sha="d", name="d",
         **config):
    held = {"model": model, "data": sha, "validation": "v", "probes": {"general": "g"},
            "template": None, "eval_records": 64, "metrics": [], "replay_from": "general"} | (
                held or {})
    return run.Run(id=f"r{val}{seed}", config=ft.Config(**{"learning_rate": 1e-3, "seed": seed}
                                                        | config), model_name=model,
                   data={"name": name, "rows": 24, "sha256": sha, "held_still": held},
                   total_steps=1, rows=[{"step": 1, "loss": 1.0}],
                   after={"val_loss": val, "general_loss": general}, end=end)


def seeds(*values, **options):
    return [made(val, seed=i, **options) for i, val in enumerate(values)]


def test_one_field_gets_its_effect_with_a_band_from_the_seeds():
    found = ft.compare(seeds(1.0, 1.1, 0.9), seeds(2.0, 2.1, 1.9, learning_rate=1e-2))
    assert found.cause == "learning_rate" and found.differs == {"learning_rate": [1e-3, 1e-2]}
    effect = found.effects["val_loss"]
    assert effect.difference == pytest.approx(1.0) and effect.clear
    # by hand: t(97.5 %, 4 degrees) = 2.776, standard error sqrt(0.01 / 3 + 0.01 / 3)
    assert effect.band == pytest.approx(2.776 * math.sqrt(0.02 / 3), rel=1e-3)
    assert "Only learning_rate differs: a has 0.001, b has 0.01." in found.text
    assert "val_loss rose by 1.00 ± 0.23" in found.text


def test_replay_against_none_is_one_cause_wherever_the_replay_comes_from():
    assert ft.compare(made(1.0), made(2.0, replay=0.25)).cause == "replay"
    others = ft.compare(made(1.0, replay=0.25), made(2.0, replay=0.25, held={"replay_from": "x"}))
    assert others.cause == "replay_from"


def test_an_effect_within_the_noise_is_called_so():
    found = ft.compare(seeds(1.0, 1.4, 0.8), seeds(1.1, 1.2, 1.3, learning_rate=1e-2))
    assert found.effects["val_loss"].clear is False
    assert "within the noise of the seeds" in found.text and (
        "None of it is larger than the noise" in found.text)


def test_compare_and_expect_agree_on_what_is_seen(monkeypatch):
    monkeypatch.delenv("FTKIT_STRICT", raising=False)
    monkeypatch.setenv("FTKIT_TIER", "cpu")
    draw = random.Random(1)
    for shift in (0, 1, 2, 3) * 5:
        a, b = ([draw.gauss(mean, 1) for _ in range(3)] for mean in (0, shift))
        effect = ft.compare(seeds(*a), seeds(*b, learning_rate=1e-2)).effects["val_loss"]
        assert effect.clear == bool(ft.expect(a, "!=", b, "another loss"))
        if effect.clear:
            assert ft.expect(a, "<" if effect.difference > 0 else ">", b, "in that direction")


def test_one_run_of_each_is_no_proof_and_repeats_are_offered():
    found = ft.compare(made(1.0), made(2.0, learning_rate=1e-2))
    assert found.effects["val_loss"].clear is None and math.isnan(found.effects["val_loss"].band)
    assert "may be chance" in found.text and "`.repeat(3)`" in found.text
    page = found._repr_mimebundle_()["text/html"]
    assert "<code>.repeat(3)</code>" in page


def test_stored_seeds_join_only_where_they_give_a_band_and_the_text_names_them(home):
    a, b = made(1.0), made(2.0, learning_rate=1e-2)
    store.add(made(3.0, seed=1, learning_rate=1e-2))
    one = ft.compare(a, b)  # a has no second seed, so the seed of the store would be noise
    assert one.effects["val_loss"].b == [2.0] and "by 1.00 in one run of each" in one.text
    assert "store" not in one.text
    store.add(made(1.2, seed=5))
    two = ft.compare(a, b)
    assert (two.effects["val_loss"].a, two.effects["val_loss"].b) == ([1.0, 1.2], [2.0, 3.0])
    assert "Added from the store: r1.25 (seed 5) to a; r3.01 (seed 1) to b." in two.text
    pair = [made(2.0, r=4, method="lora"), made(3.0, r=4, method="lora", seed=1)]
    assert "in 1 against 2 runs" in ft.compare(made(1.0, method="lora"), pair).text


def test_two_causes_are_refused_and_the_runs_that_separate_them_are_named():
    a, b = made(1.0), made(2.0, learning_rate=1e-2, batch_size=8)
    found = ft.compare(a, b)
    assert found.cause is None and found.effects == {}
    assert set(found.differs) == {"learning_rate", "batch_size"}
    assert "no effect can be credited to one of them" in found.text
    assert [ft.Config.from_string(text) for text in found.separating] == [
        a.config.but(learning_rate=1e-2), a.config.but(batch_size=8)] or [
        ft.Config.from_string(text) for text in found.separating] == [
        a.config.but(batch_size=8), a.config.but(learning_rate=1e-2)]
    assert all(f"`{text}`" in found.text for text in found.separating)
    for text in found.separating:  # each of them differs from either in one thing only
        middle = made(1.5, **ft.Config.from_string(text).differs())
        assert len(ft.compare(a, middle).differs) == len(ft.compare(middle, b).differs) == 1


def test_a_default_that_follows_from_the_method_is_a_second_cause():
    full, lora = made(method="full"), made(method="lora", learning_rate=5e-3, r=4)
    assert set(ft.compare(full, lora).differs) == {"method", "learning_rate"}
    assert ft.compare(full, made(method="lora", r=4)).cause == "method"  # r is part of LoRA
    assert ft.compare(made(method="lora"), made(method="lora", r=4)).cause == "r"


@pytest.mark.parametrize("shared, field, value", [
    ({}, "r", 4), ({"method": "ia3"}, "r", 4), ({"method": "lora"}, "num_virtual_tokens", 5),
    ({"method": "prompt_tuning"}, "use_dora", True), ({"max_steps": 5}, "epochs", 3.0),
    ({"method": "qlora", "load_in_8bit": True}, "bnb_4bit_quant_type", "fp4"),
    ({}, "metric_for_best_model", "general_loss"), ({}, "num_decay_steps", 0.5)])
def test_a_field_without_effect_is_no_cause(shared, field, value):
    found = ft.compare(made(1.0, **shared), made(2.0, **shared | {field: value}))
    assert found.differs == {} and found.cause is None


@pytest.mark.parametrize("changes, cause", [
    ({"lr_scheduler_type": "warmup_stable_decay", "num_decay_steps": 0.5}, "lr_scheduler_type"),
    ({"max_steps": 9, "epochs": 3.0}, "max_steps"),
    ({"method": "ia3", "r": 4}, "method")])
def test_fields_that_a_setting_enables_or_disables_follow_from_it(changes, cause):
    found = ft.compare(made(method="lora"), made(2.0, **{"method": "lora"} | changes))
    assert found.cause == cause and list(found.differs) == [cause]


@pytest.mark.parametrize("change, cause", [
    (dict(sha="e"), "data sha256"), (dict(model="smollm2"), "model"),
    (dict(sha="e", name="e"), "data"), (dict(held={"validation": "w"}), "validation data"),
    (dict(held={"probes": {"general": "h"}}), "probe general"),
    (dict(held={"template": "x"}), "template"), (dict(seed=1), "seed"),
    (dict(end=End.INTERRUPTED), "steps done")])
def test_data_model_and_an_early_end_are_causes_too(change, cause):
    found = ft.compare(made(1.0), made(2.0, **change))
    assert found.cause == cause
    both = ft.compare(made(1.0), made(2.0, weight_decay=0.1, **change))
    assert both.cause is None and {"weight_decay", cause} == set(both.differs)
    assert both.separating


def test_a_third_run_that_separates_two_is_used():
    a, b = made(1.0), made(2.0, learning_rate=1e-2, batch_size=8)
    found = ft.compare(a, b, made(1.5, learning_rate=1e-2))
    assert "Only batch_size differs: c has 16, b has 8." in found.text
    assert "Only learning_rate differs: a has 0.001, c has 0.01." in found.text


def test_a_run_that_was_cut_short_is_to_be_finished_first():
    b = made(2.0, weight_decay=0.1, end=End.ENDED_EARLY)
    found = ft.compare(made(1.0), b)
    assert found.separating == [str(b.config)]
    assert f"Run `{b.config}` to the end first." in found.text


def test_runs_that_are_the_same_say_so():
    assert "Nothing differs between a and b" in ft.compare(made(), made()).text


def test_a_list_that_mixes_configs_and_things_that_are_no_runs_are_reported():
    with pytest.raises(ValueError, match="the runs of b differ in learning_rate"):
        ft.compare(made(), [made(), made(learning_rate=1e-2)])
    with pytest.raises(ValueError, match="b is empty"):
        ft.compare(made(), [])
    with pytest.raises(ValueError, match="is not a Run"):
        ft.compare(made(), [3])


def test_it_draws_itself_and_text_from_data_stays_text():
    evil = "<img src=x onerror=y> $x$"
    found = ft.compare(seeds(1.0, 1.1, name=evil), seeds(2.0, 2.1, name=evil, sha="e",
                                                         weight_decay=0.1))
    assert "<img src=x" not in found._repr_mimebundle_()["text/html"]
    clear = ft.compare(seeds(1.0, 1.1), seeds(2.0, math.nan, weight_decay=0.1))
    bundle = clear._repr_mimebundle_()
    assert bundle["image/png"] and "<table>" in bundle["text/html"]
    assert [t.get_text() for ax in clear.picture().axes for t in ax.texts] == ["diverged"]
    assert "val_loss: not finite in every run" in clear.text


@pytest.mark.heavy
def test_repeats_are_run_and_found_again_in_the_store():
    lab = ft.Experiment(data=RECORDS, val=RECORDS[:4], probes=())
    a, b = lab.run(SHORT), lab.run(SHORT, learning_rate=1e-5)
    found = ft.compare(a, b, repeat=2)
    assert [len(group) for group in found.groups] == [2, 2] and len(store.list_runs()) == 4
    assert found.effects["val_loss"].clear is not None
    again = ft.compare(store.load_run(a.id), store.load_run(b.id))
    assert [len(group) for group in again.groups] == [2, 2]
    with pytest.raises(ValueError, match="Pass it: compare"):
        ft.compare(store.load_run(a.id), store.load_run(b.id)).repeat([7])
    other = ft.Experiment(data=RECORDS[1:], val=RECORDS[:4], probes=())
    with pytest.raises(ValueError, match="made in another experiment, which differs in data"):
        ft.compare(store.load_run(a.id), store.load_run(b.id)).repeat([7], lab=other)


def test_a_run_of_trainer_and_a_run_by_hand_can_be_compared():
    odd = SimpleNamespace(**vars(made()))
    assert ft.compare(odd, made(2.0, weight_decay=0.1)).cause == "weight_decay"
