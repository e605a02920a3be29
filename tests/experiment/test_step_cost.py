"""The operations of a step in closed form, against those that torch counts; forecasts by them."""

import types

import pytest
import torch
from torch.utils import flop_counter

from ftkit.base.config import Config
from ftkit.engine import loop, packed_batch
from ftkit.experiment import forecast, step_cost
from ftkit.memory_use import measure, preflight, simulate

METHODS = {
    "full": {}, "full, checkpointing": {"gradient_checkpointing": True},
    "lora": {"method": "lora"}, "dora": {"method": "lora", "use_dora": True},
    "lora, checkpointing": {"method": "lora", "gradient_checkpointing": True},
    "ia3": {"method": "ia3"}, "prompt_tuning": {"method": "prompt_tuning"},
    "prefix_tuning": {"method": "prefix_tuning"}, "qlora": {"method": "qlora"}}


def attention(q, k, v, *_, **__):
    return flop_counter.sdpa_flop_count(q, k, v)


def attention_backward(grad, q, k, v, *_, **__):
    return flop_counter.sdpa_backward_flop_count(grad, q, k, v)


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward}


def counter():
    return flop_counter.FlopCounterMode(display=False, custom_mapping=ATTENTION)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fields", METHODS.values(), ids=METHODS)
def test_the_operations_of_a_step_are_those_that_torch_counts(fields):
    facts = preflight.ModelFacts.of("tiny")
    # Virtual tokens need padded batches, whose longest record a forecast does not know.
    lengths = [90] * 4 if "tuning" in fields.get("method", "") else [120, 90, 75, 60]
    config = facts.resolve(Config(precision="fp32", batch_size=len(lengths), **fields))
    model = measure.prepare("tiny", config)
    update = loop.Update(model, config)
    batch = packed_batch.pack([simulate.example(n, 0.5, 3072) for n in lengths], share=False)
    with counter() as step:
        update([batch], 1e-4)
    with counter() as forward, torch.no_grad():
        update.forward.loss_sum(batch)
    tokens = sum(lengths)
    asked = step_cost.Batch(tokens, batch.supervised_tokens, sum(n * n for n in lengths))
    # torch does not see the products that bitsandbytes computes in the forward pass.
    unseen = 2 * facts.body * tokens if config.method == "qlora" else 0
    for found, training in ((step, True), (forward, False)):
        assert step_cost.flops(facts, config, asked, training) == pytest.approx(
            found.get_total_flops() + unseen, rel=0.06)


def test_a_frozen_weight_costs_two_thirds_and_a_recomputed_one_four_thirds():
    facts = preflight.ModelFacts.of("tiny")
    batch = step_cost.Batch(1000, 0, 0)
    full, frozen, repeated = (step_cost.flops(facts, Config(**fields), batch) for fields in (
        {}, {"method": "ia3"}, {"gradient_checkpointing": True}))
    assert (frozen / full, repeated / full) == pytest.approx((2 / 3, 4 / 3))


@pytest.fixture
def known():
    import ftkit as ft

    made = forecast.Forecast(ft.Experiment("tiny", "translation", probes=()))
    made.load()
    made.finished = []
    return made


def test_the_fifth_step_of_a_run_corrects_its_forecast(known):
    config = known.resolved(Config(max_steps=100, eval_steps=1000))
    each = 3 * known.step_seconds(config, known.facts)
    run = types.SimpleNamespace(id="a", config=config, rows=[])
    for n in range(8):  # the first step takes longer, which says nothing of the others
        run.rows.append({"seconds": 1 + n * each})
        known.observe(run)
        if n < 4:
            assert known.ratio == 1
    assert known.ratio == pytest.approx(3)
    known.facts.evaluation_tokens = 0
    assert known.seconds(config) == pytest.approx(forecast.SETUP + 100 * each)


@pytest.mark.parametrize("more", [
    {"max_steps": 60}, {"use_dora": True}, {"gradient_checkpointing": True}, {"batch_size": 32}])
def test_what_costs_more_is_foretold_to_take_longer(known, more):
    asked = Config(method="lora", max_steps=30, batch_size=8)
    assert known.seconds(asked.but(**more)) > known.seconds(asked)
