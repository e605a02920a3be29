"""What a lesson derives from scratch and the package's own version of it give the same outputs.

A lesson's functions and classes are taken from its source by name, so a change on either side
fails here. Cells that compare with the package in the lesson itself are not repeated.
"""

import ast
import copy
import itertools
import math
import re

import pytest
import torch
from helpers import ROOT
from shown_solutions import shown

import ftkit as ft
from ftkit.data import encoding, mixing
from ftkit.engine import loop, packed_batch, packed_loss
from ftkit.evaluate import perplexity
from ftkit.experiment import preference_losses, preferences
from ftkit.lessons import activations
from ftkit.lessons.by_hand import floats, lora, nf4, peft_family, schedules


def lesson(number: str, *names: str, **given) -> dict:
    """The functions and classes of these names, and its imports of libraries, from a lesson's
    source; given: variables of the lesson that they use."""
    (path,) = (ROOT / "notebooks" / "src").glob(f"{number}_*.py")
    nodes = ast.parse(path.read_text("utf-8")).body
    defined = {node.name: node for node in nodes
               if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    space = {"torch": torch, "nn": torch.nn, "math": math, "re": re, **given}
    for name in names:
        exec(compile(ast.Module([defined[name]], []), str(path), "exec"), space)
    return space


@pytest.fixture(scope="module")
def tiny():
    return ft.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def batch(tiny):
    examples = [ft.encode(record, tiny[1]) for record in ft.records("tasks")[:6]]
    return encoding.collate(examples, tiny[1].pad_token_id)


# -------------------------------------------------------------------------------- 02, LoRA


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_exercises_of_lesson_02_compute_and_merge_as_the_module(tiny, dtype):
    base = copy.deepcopy(tiny[0]).to(dtype)
    model = lora.inject(base, ["q_proj", "down_proj"], r=4, lora_alpha=8)
    layers = [m for m in model.modules() if isinstance(m, lora.LoRALinear)]
    assert len(layers) == 2 * tiny[0].config.num_hidden_layers
    assert all(m.A.dtype == dtype for m in layers)
    merged = []
    for m in layers:
        m.B.data += 0.1  # away from B = 0, where A would not matter
        x = torch.randn(3, m.linear.in_features, dtype=dtype)
        assert torch.allclose(shown("lora_forward")(x, m.linear.weight, m.A, m.B, 8), m(x), atol=0.1
                              if dtype == torch.bfloat16 else 1e-5)
        merged.append(shown("merge_weight")(m.linear.weight.data, m.A.data, m.B.data, 4, 8))
    places = [name.removesuffix(".linear.weight") + ".weight" for name in model.state_dict()
              if name.endswith(".linear.weight")]
    whole = lora.merge(model).state_dict()
    assert whole.keys() == tiny[0].state_dict().keys() and len(places) == len(layers)
    assert all(torch.equal(whole[place], weight) for place, weight in
               zip(places, merged, strict=True))


def test_the_module_starts_a_where_peft_starts_it(tiny):
    import peft

    torch.manual_seed(0)
    theirs = peft.get_peft_model(copy.deepcopy(tiny[0]), peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    torch.manual_seed(0)
    ours = lora.inject(copy.deepcopy(tiny[0]), ["q_proj"], r=4, lora_alpha=8)
    layers = [m for m in ours.modules() if isinstance(m, lora.LoRALinear)]
    twins = [m for m in theirs.modules() if isinstance(m, peft.tuners.lora.Linear)]
    for layer, twin in zip(layers, twins, strict=True):
        bound = layer.linear.in_features ** -0.5  # kaiming-uniform with a = sqrt(5)
        for A in (layer.A, twin.lora_A["default"].weight):
            assert A.abs().max() <= bound
            assert A.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert not layer.B.any() and not twin.lora_B["default"].weight.any()
        assert layer.scaling == twin.scaling["default"] == 2


# --------------------------------------------------------------------------- other lessons


def test_ia3_and_dora_from_scratch_give_the_outputs_of_the_layers_of_peft(tiny):
    import peft

    adapted = peft.get_peft_model(copy.deepcopy(tiny[0]), peft.IA3Config(task_type="CAUSAL_LM"))
    block = adapted.base_model.model.model.layers[0]
    for layer, on_input in ((block.self_attn.k_proj, False), (block.mlp.down_proj, True)):
        vector = layer.ia3_l["default"]
        vector.data = torch.rand_like(vector)
        x = torch.randn(5, layer.in_features)
        ours = peft_family.ia3_forward(x, layer.base_layer.weight, vector.flatten(), on_input)
        assert torch.allclose(ours, layer(x), atol=1e-5)
    settings = peft.LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj"], use_dora=True)
    adapted = peft.get_peft_model(copy.deepcopy(tiny[0]), settings)
    layer = adapted.base_model.model.model.layers[0].self_attn.q_proj
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    layer.lora_magnitude_vector["default"].weight.data *= 1.5  # no longer the lengths of W
    ours = peft_family.dora_weight(
        layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight,
        layer.lora_magnitude_vector["default"].weight, 12 / 4)
    x = torch.randn(5, layer.in_features)
    assert torch.allclose(x @ ours.T, layer(x), atol=1e-4)


def test_lesson_04_has_the_loss_that_is_trained_with(tiny, batch):
    examples = [ft.encode(record, tiny[1]) for record in ft.records("tasks")[:6]]
    flat = packed_batch.pack(examples)
    with torch.no_grad():
        ours = packed_loss.loss_sum(tiny[0], flat) / flat.supervised_tokens
        theirs = shown("sft_loss")(tiny[0](**batch).logits, batch["labels"])
    assert theirs.item() == pytest.approx(ours.item(), rel=1e-5)


def test_the_schedule_of_lesson_07_is_that_of_the_loop():
    config = ft.Config(warmup_steps=3, lr_scheduler_type="cosine", learning_rate=1e-3)
    for step in range(1, 21):
        ours = 1e-3 * loop.schedule(step, 20, config)
        assert schedules.warmup_cosine(step, 20, 1e-3, 3) == pytest.approx(ours, abs=1e-12)


def code_between(number: str, start: str, stop: str) -> str:
    """The code of a lesson from one line on, up to another; both must be there."""
    (path,) = (ROOT / "notebooks" / "src").glob(f"{number}_*.py")
    text = path.read_text("utf-8")
    first = text.index(f"\n{start}") + 1
    return text[first:text.index(f"\n{stop}", first)]


def test_lesson_10_has_the_levels_and_the_codes_of_nf4():
    W = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    space = {"torch": torch, "W": W}
    exec("from statistics import NormalDist\n"
         + code_between("10", "quantile = NormalDist", "levels\n"), space)
    assert torch.equal(space["levels"], nf4.nf4())
    space["quantize"] = shown("quantize_block")
    exec(code_between("10", "blocks = ", "theirs, state"), space)
    ours = nf4.quantize(W)
    assert torch.equal(space["packed"], ours.packed) and torch.equal(space["scales"], ours.scales)
    assert torch.equal(space["back"], nf4.dequantize(ours))


def test_lesson_11_counts_what_is_kept_as_the_package_does(tiny, batch):
    keeps = lesson("11", "keeps", saved_tensors_hooks=torch.autograd.graph.saved_tensors_hooks)
    x = torch.randn(64, 192, requires_grad=True)
    layer = torch.nn.Linear(192, 192)
    counted = activations.saved_bytes(torch.nn.Module(), lambda: layer(x).relu())
    assert keeps["keeps"](lambda x: layer(x).relu(), x) == counted["saved"]


def test_lesson_12_rounds_as_the_package_does():
    x = torch.randn(1_000, generator=torch.Generator().manual_seed(0))
    rounded = floats.to_bf16(x)
    assert [shown("round_bf16")(value) for value in x.tolist()] == rounded.tolist()
    between = 1 + torch.rand(10_000, generator=torch.Generator().manual_seed(1))
    by_chance = shown("round_stochastically")(between, 2**-7)
    assert torch.equal(by_chance, floats.to_bf16(by_chance))
    assert abs((by_chance - between).mean().item()) < 2**-7 / 20


def test_lesson_14_has_the_perplexity_of_padded_losses(tiny):
    texts = [row["text"] for row in ft.records("general", "validation")[:2]]
    scores = perplexity.score(*tiny, texts)
    nll = [score.nll + [9.0] * 3 for score in scores]  # padding, which the mask leaves out
    mask = [[1] * len(score.nll) + [0] * 3 for score in scores]
    by_hand = shown("corpus_perplexity")(nll, mask)
    assert by_hand == pytest.approx(perplexity.of(scores))


def test_the_exercises_of_lesson_19_give_the_shares_of_the_package():
    sizes = {"large": 1_000_000, "middle": 100_000, "small": 5_000}
    for temperature, cap in itertools.product((1, 2, math.inf), (None, 131_072)):
        assert shown("mixing_shares")(sizes, temperature, cap) == pytest.approx(
            mixing.rates(sizes, temperature=temperature, cap=cap))
    even = {"large": 1 / 4, "middle": 1 / 20, "small": 1 / 2}  # times the tokens: equal
    effective = shown("effective_shares")(even, {"large": 4, "middle": 20, "small": 2})
    assert effective == pytest.approx(dict.fromkeys(sizes, 1 / 3))


def test_the_exercises_of_lessons_20a_and_20b_have_the_losses_of_the_package():
    reference = -10 * torch.rand(2, 4)  # log-probabilities of chosen and rejected answers
    policy = reference + torch.tensor([[0.5], [-4.0]])
    assert torch.allclose(shown("dpo_loss")(policy, reference, beta=0.1),
                          preferences.dpo_loss(policy, reference, beta=0.1)[0])
    rewards = torch.tensor([[1.0, 1, 0, 0], [1.0] * 4])
    gains = shown("group_advantages")(rewards)
    assert torch.equal(gains, preferences.advantages(rewards))
    mask, old = torch.rand(8, 5) > 0.3, -torch.rand(8, 5)
    policy = old + torch.randn(8, 5)
    config = preferences.GRPOConfig(loss_type="dapo")
    assert torch.allclose(
        shown("grpo_loss")(policy, old, mask, gains.flatten()),
        preference_losses.grpo(policy, old, mask, gains.flatten(), config))
    chosen, rejected = torch.randn(2, 6)
    assert torch.allclose(shown("reward_loss")(chosen, rejected),
                          preference_losses.reward_model(chosen, rejected))
    kl = (preference_losses.k3(policy, old) * mask).sum(1).mean()
    assert torch.allclose(shown("answer_kl")(policy, old, mask.float()), kl)
    rewards, values, whole = torch.randn(1, 5), torch.randn(1, 5), torch.ones(1, 5)
    assert torch.allclose(shown("token_advantages")(rewards[0], values[0], 0.9, 0.7),
                          preference_losses.gae(rewards, values, whole, 0.9, 0.7)[0][0])
