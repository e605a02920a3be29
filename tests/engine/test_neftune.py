"""NEFTune: the noise is transformers', in training only, and None changes nothing."""

import copy

import pytest
import torch
from transformers.integrations import neftune as theirs

import ftkit as ft
from ftkit.base.config import Config
from ftkit.data import encoding
from ftkit.engine import loop, neftune, packed_attention, packed_batch, packed_loss
from ftkit.experiment import preferences
from ftkit.memory_use import model_shapes, simulate
from ftkit.model import loading

ALPHA = 5.0
CONFIG = Config(learning_rate=1e-3, precision="fp32", batch_size=8, neftune_noise_alpha=ALPHA)


@pytest.fixture(scope="module")
def examples(base):
    return encoding.encode_all(ft.records("tasks")[:8], base[1]).examples


def noise_of(model) -> list[torch.Tensor]:
    """What is between the embeddings and the first layer in each later pass: their difference."""
    seen = []
    model.model.layers[0].register_forward_pre_hook(
        lambda layer, args: seen.append(args[0].detach() - embedded.pop()))
    embedded = []
    model.model.embed_tokens.register_forward_hook(
        lambda module, ids, output: embedded.append(output.detach().clone()))
    return seen


def test_on_a_padded_batch_it_is_what_transformers_adds(base, examples):
    model, batch = copy.deepcopy(base[0]).train(), packed_batch.pack(examples)
    padded = packed_loss.Forward(model, "to compare")
    torch.manual_seed(3)
    with neftune.noise(model, ALPHA, batch) as read:
        ours = padded.loss_sum(read).item()
    hook = theirs.activate_neftune(model, ALPHA)
    torch.manual_seed(3)
    assert ours == pytest.approx(padded.loss_sum(batch).item(), rel=1e-6)
    theirs.deactivate_neftune(model, hook)
    assert abs(padded.loss_sum(batch).item() / ours - 1) > 1e-4, "there was no noise"


def test_a_packed_row_has_the_noise_of_its_longest_example_and_an_evaluation_none(base, examples):
    model = copy.deepcopy(base[0])
    assert packed_attention.why_padded(model) is None
    seen = noise_of(model)
    rows = loop.train(model, [[e] for e in examples], CONFIG.but(eval_steps=1), 2,
                      lambda: {"val_loss": packed_loss.nll(model, examples)[0]})
    assert len(list(rows)) == 2
    trained = [noise for noise in seen if noise.abs().max() > 0]
    lengths = [len(e["input_ids"]) for e in examples]
    bound = ALPHA / (max(lengths) * model.config.hidden_size) ** 0.5
    assert len(seen) == 4 and len(trained) == 2
    for noise in trained:
        assert noise.shape[1] >= sum(lengths), "a shared prefix has the same noise twice"
        assert 0.99 * bound < noise.abs().max() <= bound * (1 + 1e-5)
        assert noise.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert abs(noise.mean()) < 0.02 * bound
    assert not torch.equal(*(noise[:, :sum(lengths)] for noise in trained))


def test_none_draws_no_random_number_and_a_seed_gives_the_same_run_again(base, examples):
    def curve(alpha):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        rows = loop.train(copy.deepcopy(base[0]), [[e] for e in examples],
                          CONFIG.but(neftune_noise_alpha=alpha), 2)
        losses = [row["loss"] for row in rows]
        return losses, torch.equal(before, torch.get_rng_state())

    (none, drew_none), (noisy, drew) = curve(None), curve(ALPHA)
    assert drew_none and not drew and noisy == curve(ALPHA)[0] != none


def test_the_tuned_model_answers_without_noise(base):
    lab = ft.Experiment(data=ft.records("tasks")[:8], val=ft.records("tasks")[8:12], probes=())
    run = lab.run(CONFIG.but(method="prompt_tuning", max_steps=1), live=False)
    clean = lab.run(CONFIG.but(method="prompt_tuning", max_steps=1, neftune_noise_alpha=None),
                    live=False)
    assert run.before == clean.before and run.rows[0]["loss"] != clean.rows[0]["loss"]
    assert not run.model.get_input_embeddings()._forward_hooks


def test_the_base_of_kl_coef_is_read_without_noise(base, examples):
    config = CONFIG.but(kl_coef=0.1, method="lora", batch_size=1)
    model, plain = loading.trainable(copy.deepcopy(base[0]), config), copy.deepcopy(base[0])
    torch.manual_seed(1)
    kl = next(loop.train(model, [examples[:1]], config, 1))["kl"]
    forward, batch = packed_loss.Forward.of(plain), packed_batch.pack(examples[:1])
    with torch.no_grad():
        clean = forward.logits(batch)[0].log_softmax(-1)
        torch.manual_seed(1)
        with neftune.noise(plain.train(), ALPHA, batch) as read:  # lora's update is still zero
            noisy = forward.logits(read)[0].log_softmax(-1)
    assert kl == pytest.approx((clean.exp() * (clean - noisy)).sum(-1).mean().item(), rel=1e-3)
    assert kl > 1e-4


def test_a_prediction_of_memory_counts_it_and_dpo_refuses_it():
    shape = model_shapes.shape(loading.read_config(loading.tiny_path()))
    less, more = (simulate.step(shape, CONFIG.but(neftune_noise_alpha=alpha), [64, 64])
                  for alpha in (None, ALPHA))
    assert less.peak <= more.peak <= less.peak + 2 * 128 * 4 * shape.hidden_size
    with pytest.raises(ValueError, match="neftune_noise_alpha is 5.0, which DPO does not support"):
        preferences.DPO(probes=()).run(neftune_noise_alpha=5.0, live=False)
