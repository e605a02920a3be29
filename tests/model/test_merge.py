"""Interpolation between a base and a tuned model."""

import copy

import pytest
import torch

from ftkit.base.config import Config
from ftkit.model import loading, merge


@pytest.fixture(scope="module")
def tuned(base):
    model = copy.deepcopy(base[0])
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)), alpha=0.01)
    return model


def test_share_0_is_the_base_and_share_1_the_tuned_model_to_the_bit(base, tuned):
    before = copy.deepcopy(tuned.state_dict())
    for share, wanted in ((0, base[0]), (1, tuned)):
        made = merge.blend(base[0], tuned, share)
        for p, q in zip(made.parameters(), wanted.parameters(), strict=True):
            assert torch.equal(p, q)
    assert all(torch.equal(p, before[name]) for name, p in tuned.state_dict().items())


def test_between_them_the_weights_are_on_the_straight_line(base, tuned):
    made = merge.blend(base[0], tuned, 0.3)
    for p, a, b in zip(made.parameters(), base[0].parameters(), tuned.parameters(), strict=True):
        assert torch.allclose(p, 0.7 * a + 0.3 * b, atol=1e-6)


def test_a_blend_keeps_the_tied_embedding_tied(base, tuned):
    made = merge.blend(base[0], tuned, 0.5)
    assert made.get_input_embeddings().weight is made.get_output_embeddings().weight


def test_a_blended_adapter_is_one_with_a_scaled_update(base):
    config = Config(method="lora", learning_rate=5e-3, precision="fp32")
    adapted = loading.adapt(copy.deepcopy(base[0]), config)
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.02)
    scaled = copy.deepcopy(adapted)
    for module in scaled.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling["default"] *= 0.4
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        wanted = scaled.eval()(input_ids=ids).logits
        assert torch.allclose(
            merge.blend(base[0], adapted, 0.4)(input_ids=ids).logits, wanted, atol=1e-3
        )
    assert hasattr(adapted, "merge_and_unload")  # still an adapter


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), True])
def test_a_share_that_is_none_is_refused(base, share):
    with pytest.raises(ValueError, match="from 0"):
        merge.blend(base[0], base[0], share)


def test_models_of_two_kinds_are_refused(base):
    other = copy.deepcopy(base[0])
    other.model.layers[1].mlp.up_proj = torch.nn.Linear(192, 500, bias=False)
    with pytest.raises(ValueError, match="up_proj.*base it was tuned from"):
        merge.blend(base[0], other, 0.5)
    del other.model.layers[3]
    with pytest.raises(ValueError, match="lacks: model.layers.3"):
        merge.blend(other, tuned_model=_same_shapes(base[0], other), weight=0.5)


def _same_shapes(whole, other):
    whole = copy.deepcopy(whole)
    whole.model.layers[1].mlp.up_proj = copy.deepcopy(other.model.layers[1].mlp.up_proj)
    return whole
