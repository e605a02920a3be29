"""The base of a qlora run is what bitsandbytes makes of the weights: `bnb_4bit_quant_type` in 4
bits, `load_in_8bit` in 8."""

import bitsandbytes
import bitsandbytes.functional as bnb
import pytest
import torch

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.lessons.by_hand import nf4
from ftkit.memory_use import measure, simulate
from ftkit.model import export, loading

KINDS = {"nf4": {}, "fp4": {"bnb_4bit_quant_type": "fp4"}, "int8": {"load_in_8bit": True}}


@pytest.fixture(scope="module")
def lab():
    return ft.Experiment(data=ft.records("tasks")[:16], val=ft.records("tasks")[16:24], probes=())


@pytest.fixture(scope="module")
def runs(lab):
    return {kind: lab.run(method="qlora", max_steps=6, live=False, **asked)
            for kind, asked in KINDS.items()}


def rounded(weight, kind):
    """What bitsandbytes makes of a weight: 4 bits with double quantization, or LLM.int8()."""
    if kind == "int8":
        codes, scales, _ = bnb.int8_vectorwise_quant(weight.detach().half())
        return bnb.int8_vectorwise_dequant(codes, scales)
    return bnb.dequantize_4bit(*bnb.quantize_4bit(weight.detach(), quant_type=kind,
                                                  compress_statistics=True))


def held(model, kind) -> dict:
    """Name → the weight that a quantized layer of a run reads back."""
    if kind != "int8":
        return {name: nf4.dequantized(layer) for name, layer in nf4.linears(model).items()}
    return {name.removesuffix(".base_layer"): bnb.int8_vectorwise_dequant(module.weight.data,
                                                                          module.state.SCB)
            for name, module in model.get_base_model().named_modules()
            if isinstance(module, bitsandbytes.nn.Linear8bitLt)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_trains_over_the_weights_that_bitsandbytes_rounds(runs, kind):
    run = runs[kind]
    base = dict(loading.load("tiny")[0].named_modules())
    merged, _ = loading.load("tiny")
    export._as_quantized(merged, "tiny", run.config.to_dict())
    layers = held(run.model, kind)
    assert len(layers) > 10 and run.after["val_loss"] < run.before["val_loss"]
    for name, got in layers.items():
        wanted = rounded(base[name].weight, kind)
        # bitsandbytes repacks a layer on a processor with fast bf16 and gives it back in bf16.
        assert torch.equal(got, wanted) or torch.equal(got, wanted.bfloat16().float())
        assert torch.equal(merged.get_submodule(name).weight, wanted), "as `ftkit export` merges"
    others = [rounded(base[name].weight, other) for other in KINDS if other != kind]
    assert not any(torch.equal(wanted, other) for other in others)


def test_int8_codes_are_the_rows_over_their_largest_weight():
    model, _ = loading.load("tiny", quantize=True, load_in_8bit=True)
    weight = loading.load("tiny")[0].model.layers[0].mlp.up_proj.weight.detach().half().float()
    layer = model.model.layers[0].mlp.up_proj
    largest = weight.abs().amax(1)
    codes = (weight * (127 / largest)[:, None]).round().to(torch.int8)
    assert torch.equal(layer.weight.SCB, largest) and torch.equal(layer.weight.data, codes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there activations are rounded in training")
def test_on_a_cpu_activations_are_rounded_to_8_bits_in_evaluation_alone():
    model, _ = loading.load("tiny", quantize=True, load_in_8bit=True)
    layer = model.model.layers[0].mlp.up_proj
    weight = rounded(loading.load("tiny")[0].model.layers[0].mlp.up_proj.weight, "int8")
    x = torch.randn(7, layer.in_features, requires_grad=True)
    trained, exact = layer.train()(x), x @ weight.T
    assert torch.allclose(trained, exact, atol=1e-4)
    slope = torch.randn_like(exact)
    found, = torch.autograd.grad(trained, x, slope)
    assert torch.allclose(found, slope @ weight, atol=1e-4)
    error = (layer.eval()(x) - exact).norm() / exact.norm()
    assert 1e-3 < error < 3e-2


def test_memory_says_the_type_and_nf4_and_fp4_are_equal():
    found = {kind: ft.memory(method="qlora", batch_size=2, max_length=32, device="cpu", **asked)
             for kind, asked in KINDS.items()}
    assert found["nf4"].peak == found["fp4"].peak and found["nf4"].bits == found["fp4"].bits
    for kind, words in (("nf4", "4 bits (nf4), 4.1"), ("fp4", "4 bits (fp4), 4.1"),
                        ("int8", "8 bits (LLM.int8()), 8.")):
        assert f"are in {words}" in found[kind].text(verbose=True)


def test_the_predicted_bytes_of_an_8_bit_base_are_those_that_are_held():
    config = ft.Config(method="qlora", load_in_8bit=True, precision="fp32")
    model = measure.prepare("tiny", config)
    bytes_held = sum(p.nbytes for p in model.parameters()) + sum(
        module.state.SCB.nbytes for module in model.modules() if simulate.is_eight_bit(module))
    found = ft.memory(config, "tiny", max_length=32, device="cpu")
    assert found.states["weights"] == pytest.approx(bytes_held)
    assert found.quantized == simulate.facts(model)["quantized"]
    assert loading.count(model) == (found.trainable, found.parameters)


def test_what_is_stored_in_4_or_8_bits_is_taken_as_it_is(tmp_path):
    for bits in (4, 8):
        model, tokenizer = loading.load("tiny", quantize=True, load_in_8bit=bits == 8)
        name = str(loading.save(model, tokenizer, tmp_path / str(bits)))
        found = ft.memory(model=name, method="lora", batch_size=1, max_length=16)
        assert found.config.method == "qlora" and found.bits // 1 == bits
        again, _ = loading.load(name, quantize=True, load_in_8bit=bits == 8)
        first = "model.layers.0.mlp.up_proj"
        assert torch.equal(again.get_submodule(first).weight, model.get_submodule(first).weight)
        with pytest.raises(UserError, match=f"have {bits} bits. Set load_in_8bit"):
            loading.load(name, quantize=True, load_in_8bit=bits == 4)


@pytest.mark.parametrize("method", ["full", "lora", "ia3"])
def test_8_bits_without_a_quantized_base_are_refused(lab, method):
    with pytest.raises(UserError, match=f"method is {method}, .*Set method to qlora"):
        lab.run(method=method, load_in_8bit=True)
    with pytest.raises(UserError, match="Set method to qlora"):
        ft.memory(method=method, load_in_8bit=True)
