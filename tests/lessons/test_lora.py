"""LoRA from scratch equals peft's LoRA."""

import copy

import pytest
import torch

from ftkit.lessons.by_hand import lora
from ftkit.model import loading


@pytest.fixture(scope="module")
def pair():
    import peft

    torch.manual_seed(0)
    model, tokenizer = loading.load("tiny", device="cpu")
    ours = lora.inject(copy.deepcopy(model), ["q_proj", "v_proj"], r=4, lora_alpha=8)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"],
                             task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(copy.deepcopy(model), config)
    wrapped = {n.replace("base_model.model.", ""): m for n, m in theirs.named_modules()}
    for name, module in ours.named_modules():
        if isinstance(module, lora.LoRALinear):
            twin = wrapped[name]
            torch.nn.init.normal_(module.B, std=0.1)
            twin.lora_A["default"].weight.data.copy_(module.A)
            twin.lora_B["default"].weight.data.copy_(module.B)
    ids = torch.randint(10, 1000, (2, 12))
    return model, ours, theirs, ids


def test_logits_and_gradients_equal_pefts(pair):
    _, ours, theirs, ids = pair
    a, b = ours(ids, labels=ids), theirs(input_ids=ids, labels=ids)
    torch.testing.assert_close(a.logits, b.logits, rtol=1e-5, atol=1e-5)
    a.loss.backward()
    b.loss.backward()
    grads = [p.grad for p in ours.parameters() if p.requires_grad]
    twins = [p.grad for p in theirs.parameters() if p.requires_grad]
    assert len(grads) == len(twins) == 4 * 2 * 2
    for mine, other in zip(grads, twins, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_merged_equals_unmerged(pair):
    _, ours, theirs, ids = pair
    merged = lora.merge(copy.deepcopy(ours))
    assert not any(isinstance(m, lora.LoRALinear) for m in merged.modules())
    torch.testing.assert_close(merged(ids).logits, ours(ids).logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        merged(ids).logits, copy.deepcopy(theirs).merge_and_unload()(ids).logits,
        rtol=1e-4, atol=1e-4)
