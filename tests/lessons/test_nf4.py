"""NF4 by hand equals bitsandbytes bit for bit; what is stored is counted; merges; gradients."""

import copy
import math

import pytest
import torch

import ftkit as ft
from ftkit.data import encoding
from ftkit.lessons.by_hand import nf4
from ftkit.model import loading

bnb = pytest.importorskip("bitsandbytes.functional")


def weight(seed=0, shape=(96, 512)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def test_the_code_book_is_that_of_bitsandbytes_bit_for_bit():
    assert torch.equal(nf4.nf4(), bnb.get_4bit_type("nf4", device="cpu"))
    assert torch.equal(nf4.dynamic8(), bnb.create_dynamic_map())
    fp4 = bnb.get_4bit_type("fp4", device="cpu").sort().values.unique()
    assert torch.equal(nf4.fp4(), fp4)


def test_the_levels_hold_equal_shares_of_a_normal_distribution():
    """What makes NF4 normal: each level is the nearest of about as many weights."""
    codes = nf4.quantize(weight(shape=(4096, 512))).packed
    counts = torch.bincount(torch.stack([codes >> 4, codes & 15]).flatten().long(), minlength=16)
    shares = counts / counts.sum()
    # the two ends are the largest of their block: at least one weight of 64 between them
    assert shares[[0, 15]].sum() >= 1 / 64
    assert 0.03 < shares[1:15].min() and shares[1:15].max() < 0.1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("nested", [False, True])
def test_quantized_by_hand_equals_bitsandbytes_bit_for_bit(seed, nested):
    W = weight(seed)
    packed, state = bnb.quantize_4bit(W, quant_type="nf4", compress_statistics=nested)
    mine = nf4.quantize(W)
    mine = nf4.double(mine) if nested else mine
    assert torch.equal(mine.packed, packed.flatten())
    assert torch.equal(mine.scales, state.absmax.flatten())
    if nested:
        assert torch.equal(mine.scales2, state.state2.absmax)
        assert torch.equal(mine.offset, state.offset)
    assert torch.equal(nf4.dequantize(mine), bnb.dequantize_4bit(packed, state))


def test_bits_are_those_of_the_paper():
    big = nf4.quantize(weight(shape=(1024, 1024)))
    assert big.bits == 4.5
    assert nf4.double(big).bits == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=1e-3)


def test_nf4_is_better_than_int4_and_fp4_on_normal_weights():
    W = weight(shape=(1280, 1000))
    errors = [nf4.error(W, levels) for levels in (nf4.nf4(), nf4.int4(), nf4.fp4())]
    assert errors == pytest.approx([0.092, 0.108, 0.122], abs=0.002)


@pytest.mark.parametrize("block", [63, 7, 0])
def test_a_block_that_does_not_divide_is_refused(block):
    with pytest.raises((ValueError, ZeroDivisionError)):
        nf4.quantize(torch.randn(10, 10), block=block)


def test_a_block_of_zeros_stays_zero():
    assert torch.equal(nf4.dequantize(nf4.double(nf4.quantize(torch.zeros(4, 64)))),
                       torch.zeros(4, 64))


# ------------------------------------------------------------------------- models in 4 bits


@pytest.fixture(scope="module")
def tuned():
    """A QLoRA run on tiny, with exact arithmetic in its 4-bit layers, its base, and records."""
    lab = ft.Experiment(data=ft.records("tasks")[:96], val="tasks", probes=())
    run = lab.run(method="qlora", max_steps=12, eval_steps=12, live=False)
    for module in nf4.linears(run.model).values():
        module.compute_dtype = torch.float32
    base, tokenizer = ft.load("tiny")
    return run, base, encoding.encode_all(lab.val[:24], tokenizer).examples


def test_only_the_merge_into_the_dequantized_base_is_what_was_trained(tuned):
    run, base, examples = tuned
    apart = {into: nf4.kl(run.model, nf4.merge(run.model, base, into), examples)
             for into in nf4.MERGES}
    assert apart["dequantized"] < 1e-6 < 1e-3 < apart["original"] < apart["requantized"]


def test_kl_is_zero_of_itself_and_grows_with_distance(tuned):
    _, base, examples = tuned
    noisy = copy.deepcopy(base)
    for p in noisy.parameters():
        p.data += 0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    assert nf4.kl(base, base, examples) == 0.0
    assert nf4.kl(base, noisy, examples) > 0.01
    assert not math.isnan(nf4.kl(base, noisy, examples))


def test_gradients_after_an_evaluation_are_those_of_the_dequantized_model():
    """On bf16 CPUs bitsandbytes repacks its weights in the first evaluation, for a kernel that
    drops the path through them from the backward pass; models.load forbids it."""
    four, tokenizer = loading.load("tiny", quantize=True)
    plain, _ = loading.load("tiny")
    names = dict(plain.named_modules())
    for name, module in nf4.linears(four).items():
        module.compute_dtype = torch.float32
        names[name].weight.data.copy_(nf4.dequantized(module))
    batch = encoding.collate([ft.encode(r, tokenizer) for r in ft.records("tasks")[:8]], 0)
    four.eval()
    with torch.no_grad():
        four(**batch)
    gradients = []
    for start in (four, plain):
        torch.manual_seed(0)
        model = loading.adapt(start, ft.Config(method="lora")).train()
        for name, p in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(p, std=0.02)
        model(**batch).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()
                                    if p.requires_grad]))
    ours, wanted = gradients
    assert (ours - wanted).norm() / wanted.norm() <= 1e-3


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
def test_a_folder_of_4_bit_weights_trains_as_qlora_does_and_not_in_full(tmp_path, monkeypatch):
    """bitsandbytes repacks such weights at the first evaluation, after which the gradients that
    pass through them are wrong, and the loss of this run would be ten times as high."""
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    model, tokenizer = loading.load("tiny", quantize=True)
    loading.save(model, tokenizer, tmp_path / "stored")
    setting = dict(data="translation", probes=(), eval_records=4)
    config = ft.Config(max_steps=3, eval_steps=1, learning_rate=1e-2)
    stored = ft.Experiment(model=str(tmp_path / "stored"), **setting)
    runs = [stored.run(config.but(method="lora")), stored.run(config.but(method="qlora")),
            ft.Experiment(**setting).run(config.but(method="qlora"))]
    curves = [[row["loss"] for row in run.rows] for run in runs]
    assert curves[0] == curves[1] == pytest.approx(curves[2], rel=1e-2)
    with pytest.raises(ValueError, match="weights of this model are quantized. Set method to lora"):
        stored.run(config)
    peaks = [ft.memory(config.but(method=method), str(tmp_path / "stored")).peak
             for method in ("lora", "qlora")]
    assert peaks[0] == peaks[1]
    with pytest.raises(ValueError, match="memory with method full cannot be predicted"):
        ft.memory(config, str(tmp_path / "stored"))


def test_fused_experts_are_left_in_16_bits_as_lesson_10_says(tmp_path):
    from transformers import (
        AutoModelForCausalLM,
        BitsAndBytesConfig,
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
    )

    config = Qwen3MoeConfig(
        vocab_size=64, hidden_size=64, intermediate_size=64, moe_intermediate_size=64,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        num_experts=4, num_experts_per_tok=2)
    Qwen3MoeForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.bfloat16, quantization_config=BitsAndBytesConfig(load_in_4bit=True))
    found = {name: p.dtype for name, p in model.named_parameters()}
    assert found["model.layers.0.self_attn.q_proj.weight"] == torch.uint8
    experts = {kind for name, kind in found.items() if "experts" in name}
    assert experts == {torch.bfloat16}, "then lesson 10's fused experts must change"


def test_the_sizes_of_lesson_10_follow_from_the_shapes_of_the_models():
    def parameters(width, inner, layers, heads, kv, head, words, experts=0):
        attention = width * head * (2 * heads + 2 * kv)
        mlp = 3 * width * inner
        return (layers * (attention + (0 if experts else mlp)), layers * experts * mlp,
                2 * words * width + layers * width * experts)

    assert [round(n / 1e9, 3) for n in parameters(4096, 12288, 36, 32, 8, 128, 151936)] == [
        6.946, 0, 1.245]
    assert [round(n / 1e9, 3) for n in parameters(4096, 11008, 32, 32, 32, 128, 32000)] == [
        6.476, 0, 0.262]
    assert [round(n / 1e9, 3) for n in parameters(2048, 768, 48, 32, 4, 128, 151936, 128)] == [
        0.906, 28.991, 0.635]
