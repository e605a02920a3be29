"""Muon against torch's own in a plain loop, LoRA+ against peft's optimizer, groups against both."""

import copy
import itertools

import pytest
import torch
from helpers import numbers

from ftkit.base.config import Config
from ftkit.base.optimizers import OPTIMIZERS
from ftkit.data import encoding
from ftkit.engine import loop, optimizers
from ftkit.model import loading

STEPS, SEED = 4, 0


@pytest.fixture(scope="module")
def units(base):
    records = numbers(8)
    return [[e] for e in encoding.encode_all(records, base[1], max_length=64).examples]


def adapted(base, config):
    torch.manual_seed(SEED)
    return loading.adapt(copy.deepcopy(base[0]), config).train()


def both(base, units, make, **fields):
    """Losses of our loop, and of a plain one with the optimizers of `make`; how far their weights
    are apart, relative to how far they moved."""
    config = Config(**{"learning_rate": 2e-3, "batch_size": 4, "precision": "fp32",
                       "warmup_steps": 0, "lr_scheduler_type": "constant", "weight_decay": 0.1}
                    | fields)
    ours = adapted(base, config)
    losses = [row["loss"] for row in loop.train(ours, units, config, STEPS)]
    theirs = adapted(base, config)
    made, expected = make(theirs, config), []
    for picked in itertools.islice(loop.shuffled(len(units), 4, SEED), STEPS):
        loss = theirs(**encoding.collate([units[i][0] for i in picked], 0)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad()
        expected.append(loss.item())
    mine, yours, start = (torch.cat([p.detach().flatten() for p in model.parameters()
                                     if p.requires_grad])
                          for model in (ours, theirs, adapted(base, config)))
    return losses, expected, float((mine - yours).norm() / (mine - start).norm())


def plain_muon(model, config):
    """Muon on what is a matrix inside a layer of tiny, AdamW on the rest, by name."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in named if "_proj" in name]
    embedding = [p for name, p in named if "embed_tokens" in name]
    norms = [p for name, p in named if "norm" in name]
    made = [torch.optim.Muon(hidden, lr=config.learning_rate, weight_decay=config.weight_decay,
                             momentum=0.95, adjust_lr_fn="match_rms_adamw")]
    if embedding:
        made.append(torch.optim.AdamW(
            [{"params": embedding, "weight_decay": config.weight_decay},
             {"params": norms, "weight_decay": 0.0}], lr=config.learning_rate))
    return made


def plain_lora_plus(model, config):
    from peft.optimizers import create_loraplus_optimizer

    return [create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=config.learning_rate,
        loraplus_lr_ratio=config.loraplus_lr_ratio, loraplus_weight_decay=config.weight_decay)]


CASES = [(plain_muon, {"method": "full", "optim": "muon"}),
         (plain_muon, {"method": "lora", "optim": "muon"}),
         (plain_lora_plus, {"method": "lora", "loraplus_lr_ratio": 16.0}),
         # peft would decay the vectors of DoRA
         (plain_lora_plus, {"method": "lora", "loraplus_lr_ratio": 4.0, "use_dora": True,
                            "weight_decay": 0.0})]


@pytest.mark.parametrize("make, fields", CASES)
def test_a_run_is_that_of_the_library_in_a_plain_loop(base, units, make, fields):
    losses, expected, apart = both(base, units, make, **fields)
    # Muon raises the rounding of packed and padded batches to the size of a whole update.
    assert losses == pytest.approx(expected, abs=1e-2) and losses[-1] < losses[0]
    assert apart < (0.1 if make is plain_muon else 0.02)


@pytest.mark.parametrize("make, fields", CASES)
def test_the_same_gradients_give_the_updates_of_the_library(base, make, fields):
    config = Config(**{"learning_rate": 2e-3, "precision": "fp32", "weight_decay": 0.1,
                       "max_grad_norm": 0.0} | fields)
    ours, theirs = adapted(base, config), adapted(base, config)
    update, made = loop.Update(ours, config), make(theirs, config)
    pairs = [(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)
             if p.requires_grad]
    torch.manual_seed(1)
    for _ in range(3):
        for p, q in pairs:
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        update.apply(config.learning_rate)
        for optimizer in made:
            optimizer.step()
    for p, q in pairs:
        assert torch.allclose(p, q, atol=1e-6)


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_every_optimizer_keeps_the_ratio_of_lora_plus_at_every_step(base, units, optim):
    if OPTIMIZERS[optim].width:
        pytest.importorskip("bitsandbytes")
    config = Config(method="lora", optim=optim, loraplus_lr_ratio=8.0, learning_rate=1e-3,
                    precision="fp32", batch_size=4)
    model, found = adapted(base, config), []
    update = loop.Update(model, config)
    names = {id(p): name for name, p in model.named_parameters()}
    for rate in (1e-3, 5e-4):
        for p in update.params:
            p.grad = torch.ones_like(p)
        update.apply(rate)
        found = {(("lora_B" in names[id(p)]), group["lr"])
                 for group in update.optimizer.param_groups for p in group["params"]}
        assert found == {(False, rate), (True, 8 * rate)}


@pytest.mark.parametrize("method, left_out", [
    ("full", {"embed_tokens", "norm"}), ("lora", set()), ("ia3", {"ia3_l"}),
    ("prompt_tuning", {"embedding"})])
def test_muon_gets_the_matrices_of_hidden_layers(base, method, left_out):
    model = adapted(base, Config(method=method))
    hidden = optimizers.hidden_matrices(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(any(word in name for word in left_out) for name in trained - hidden)
    assert not any(word in name for word in left_out for name in hidden)
    assert hidden or method in ("ia3", "prompt_tuning")


def test_a_combined_optimizer_keeps_its_state_and_loads_it(base):
    config = Config(optim="muon", learning_rate=1e-3, precision="fp32")
    states = []
    for _ in range(2):
        model = adapted(base, config)
        made = optimizers.make(model, config)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        if states:
            made.load_state_dict(copy.deepcopy(states[0]))
        made.step()
        states.append(copy.deepcopy(made.state_dict()))
        assert len(made.state) == len(list(model.parameters()))
    counted = [next(s["step"] for s in state["state"].values() if "step" in s) for state in states]
    assert counted == [1, 2]


def test_an_overflow_in_fp16_skips_the_step_of_muon(base):
    config = Config(optim="muon", learning_rate=1e-3, precision="fp16")
    model = adapted(base, config)
    update = loop.Update(model, config)
    before = [p.detach().clone() for p in update.params]
    for p in update.params:
        p.grad = torch.full_like(p, torch.inf)
    update.scaler.scale(torch.zeros(()))
    update.apply(1e-3)
    assert all(map(torch.equal, before, update.params))
    for p in update.params:
        p.grad = torch.ones_like(p)
    update.apply(1e-3)
    assert not any(map(torch.equal, before, update.params))
