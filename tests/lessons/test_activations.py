"""What autograd keeps, what checkpointing costs, the largest batch: against independent counts."""

import pytest
import torch

import ftkit as ft
from ftkit.lessons import activations
from ftkit.memory_use import charts, footprint
from ftkit.memory_use.meter import Meter

BASE = ft.Config(precision="fp32", learning_rate=1e-3, batch_size=2, max_length=32)


@pytest.fixture(scope="module")
def model():
    return ft.load("tiny")[0]


@pytest.fixture(scope="module")
def ids():
    return torch.randint(5, 3000, (2, 48), generator=torch.Generator().manual_seed(0))


def test_what_is_kept_is_what_the_meter_finds_alive_after_the_forward_pass(model, ids):
    found = activations.kept(model, ids)
    assert set(found) == {"attention", "MLP", "norms", "loss"}
    with Meter(model) as meter:
        before = meter.total
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        alive = meter.total - before
    assert loss.requires_grad and alive == pytest.approx(sum(found.values()), rel=1e-3)
    assert sum(found.values()) == activations.kept_by_autocast(
        model, {"input_ids": ids, "labels": ids})["activations"]


def test_an_mlp_keeps_its_input_and_four_wide_tensors_by_hand(model, ids):
    wide, hidden = model.config.intermediate_size, model.config.hidden_size
    layers = model.config.num_hidden_layers
    assert activations.kept(model, ids)["MLP"] == layers * ids.numel() * 4 * (4 * wide + hidden)


def test_nothing_is_left_behind_in_the_model(model, ids):
    activations.kept(model, ids)
    activations.work(model, ids, checkpointing=True)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not model.is_gradient_checkpointing and not model.training


def test_checkpointing_adds_one_forward_pass_of_the_layers_and_changes_no_gradient(model, ids):
    plain = activations.work(model, ids)
    whole = activations.work(model, ids, checkpointing=True, early_stop=False)
    early = activations.work(model, ids, checkpointing=True)
    assert (plain.passes, whole.passes, early.passes) == (1, 2, 2)
    assert torch.equal(plain.gradient, whole.gradient) and torch.equal(plain.gradient,
                                                                       early.gradient)
    hidden, wide = model.config.hidden_size, model.config.intermediate_size
    down = 2 * ids.numel() * hidden * wide * model.config.num_hidden_layers
    assert whole.operations / plain.operations == pytest.approx(1 + plain.in_layers / 3)
    assert whole.operations - early.operations == down  # the last product of each layer


def test_the_largest_batch_fits_and_one_more_does_not():
    shape = {"model_type": "llama", "vocab_size": 500, "hidden_size": 64, "intermediate_size": 256,
             "num_hidden_layers": 2, "num_attention_heads": 4}
    peaks = [footprint.memory(BASE, shape, batch_size=n).peak for n in range(1, 8)]
    for budget in (peaks[0] - 1, peaks[0], peaks[4], peaks[5] - 1):
        wanted = sum(peak <= budget for peak in peaks)
        assert activations.largest_batch(BASE, budget, shape) == wanted
    assert activations.largest_batch(BASE, peaks[4], shape, gradient_checkpointing=True) > 5


def test_both_steps_are_drawn_with_their_peaks():
    steps = activations.steps("tiny", BASE, [32, 32])
    picture = charts.along(steps)
    assert len(picture.axes) == 2 and "with checkpointing: peak" in picture.text
    for ax, step in zip(picture.axes, steps.values(), strict=True):
        top = max(path.get_extents().y1 for drawn in ax.collections for path in drawn.get_paths())
        assert top == pytest.approx(step.peak / 1e6, rel=0.01)
