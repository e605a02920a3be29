"""The loop against transformers and torch: schedules, accumulation, packing, seeds."""

import copy
import itertools
import warnings

import pytest
import torch
import transformers

from ftkit.base.config import Config
from ftkit.data import encoding
from ftkit.engine import loop, optimizers
from ftkit.model import loading
from ftkit.model.checkpointing import checkpoint


@pytest.fixture(scope="module")
def units(base):
    records = [{"instruction": f"What is the opposite of {a}?", "input": "", "output": b}
               for a, b in [("hot", "cold"), ("big", "small"), ("up", "down"), ("old", "new"),
                            ("early", "late in the day"), ("in", "out"), ("yes", "no"),
                            ("long", "not long but short")]]
    return [[e] for e in encoding.encode_all(records, base[1], max_length=64).examples]


def rows(base, units, total=4, **changes):
    config = Config(learning_rate=1e-3, precision="fp32", batch_size=4).but(**changes)
    model = loading.adapt(copy.deepcopy(base[0]), config)
    return list(loop.train(model, units, config, total)), model


def assert_as_transformers(config, name, *options):
    """After the warm-up; `schedule` of 40 steps is returned."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs, expected = transformers.get_scheduler(name, optimizer, 5, 40, *options), []
    ours = [loop.schedule(step, 40, config) for step in range(1, 41)]
    for _ in ours:
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert ours[5:] == pytest.approx(expected[5:])
    assert ours[:4] == pytest.approx(expected[1:5]) and ours[4] == 1.0
    return ours


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_schedules_equal_transformers_after_the_warm_up(kind):
    config = Config(learning_rate=1.0, lr_scheduler_type=kind, warmup_steps=5)
    assert_as_transformers(config, "constant_with_warmup" if kind == "constant" else kind)


@pytest.mark.parametrize("decay", [0.3, 12, 100])
def test_warmup_stable_decay_equals_transformers_after_the_warm_up(decay):
    config = Config(lr_scheduler_type="warmup_stable_decay", warmup_steps=5, num_decay_steps=decay,
                    max_steps=40)
    arguments = config.training_arguments()
    assert arguments["lr_scheduler_type"] == "warmup_stable_decay"
    given = arguments["lr_scheduler_kwargs"]
    assert given == {"num_decay_steps": 12 if decay < 100 else 100}
    given = {"num_decay_steps": min(35, given["num_decay_steps"])}  # no more than there are left
    ours = assert_as_transformers(config, "warmup_stable_decay", given)
    constant = sum(value == 1.0 for value in ours)
    assert constant == {0.3: 25, 12: 25, 100: 2}[decay]


def test_transformers_gets_a_number_of_decay_steps_or_a_readable_message():
    config = Config(lr_scheduler_type="warmup_stable_decay")
    with pytest.raises(ValueError, match="num_decay_steps is 0.2, a fraction.*set max_steps"):
        config.training_arguments()
    assert "lr_scheduler_kwargs" not in Config(max_steps=10).training_arguments()


def test_a_plain_torch_loop_gives_the_same_curve(base, units):
    ours, _ = rows(base, units, lr_scheduler_type="constant", warmup_steps=0)
    model = copy.deepcopy(base[0]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    order = loop.shuffled(len(units), 4, 0)
    expected = []
    for picked in itertools.islice(order, 4):
        batch = encoding.collate([units[i][0] for i in picked], 0)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    assert [r["loss"] for r in ours] == pytest.approx(expected, abs=1e-4)


def test_accumulated_batches_equal_one_big_batch(base, units):
    big, one = rows(base, units, batch_size=8)
    parts, two = rows(base, units, batch_size=2, gradient_accumulation_steps=4)
    assert [r["loss"] for r in big] == pytest.approx([r["loss"] for r in parts], abs=1e-4)
    assert [r["grad_norm"] for r in big] == pytest.approx(
        [r["grad_norm"] for r in parts], rel=1e-3)


def test_packed_rows_give_the_same_loss_and_gradient_norm(base, units):
    packed = encoding.pack([u[0] for u in units], 128)
    assert len(packed) < len(units)
    everything = dict(total=1, warmup_steps=0)
    loose, _ = rows(base, units, batch_size=len(units), **everything)
    tight, _ = rows(base, packed, batch_size=len(packed), **everything)
    assert tight[0]["loss"] == pytest.approx(loose[0]["loss"], abs=1e-5)
    assert tight[0]["grad_norm"] == pytest.approx(loose[0]["grad_norm"], rel=1e-5)


def test_checkpointing_is_asked_for_by_the_name_that_transformers_has(base):
    class Older:
        def gradient_checkpointing_enable(self, kwargs):
            self.asked = kwargs

    older, model = Older(), copy.deepcopy(base[0])
    checkpoint(older)
    assert not older.asked["use_reentrant"] and not older.asked["preserve_rng_state"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loading.trainable(model, Config(gradient_checkpointing=True))
    assert all(layer.gradient_checkpointing for layer in model.model.layers)


def test_the_same_seed_gives_the_same_curve_and_another_seed_another(base, units):
    one, two, other = (rows(base, units, seed=s)[0] for s in (3, 3, 4))
    curve = [[r["loss"] for r in run] for run in (one, two, other)]
    assert curve[0] == curve[1] and curve[0] != curve[2]


def test_clipping_and_decay_reach_the_right_parameters(base):
    model = loading.adapt(copy.deepcopy(base[0]), Config())
    optimizer = optimizers.make(model, Config(learning_rate=1.0, weight_decay=0.1))
    decayed, spared = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1 and all(p.ndim >= 2 for p in decayed["params"])
    assert spared["weight_decay"] == 0.0 and all(p.ndim < 2 for p in spared["params"])


@pytest.mark.parametrize("precision", ["bf16", "fp16", "pure-bf16"])
def test_low_precision_follows_the_fp32_curve(base, units, precision):
    full, _ = rows(base, units)
    config = Config(learning_rate=1e-3, precision=precision, batch_size=4)
    model = copy.deepcopy(base[0])
    if precision == "pure-bf16":
        model = model.to(torch.bfloat16)
    low = list(loop.train(model, units, config, 4))
    # A bf16 weight cannot take in a step of 1e-3 of its size, so the pure form drifts more.
    allowed = 0.15 if precision == "pure-bf16" else 0.02
    assert [r["loss"] for r in low] == pytest.approx([r["loss"] for r in full], rel=allowed)


def test_every_batch_is_full_and_every_record_comes_once_an_epoch():
    batches = list(itertools.islice(loop.shuffled(10, 4, seed=1), 5))
    assert all(len(b) == 4 for b in batches)
    seen = [i for b in batches for i in b]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
