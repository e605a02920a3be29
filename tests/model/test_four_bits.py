"""`bnb_4bit_quant_type` of a qlora run is the type that bitsandbytes rounds its base to."""

import bitsandbytes.functional as bnb
import pytest
import torch

import ftkit as ft
from ftkit.experiment import fingerprint
from ftkit.lessons.by_hand import nf4
from ftkit.model import export, loading


@pytest.fixture(scope="module")
def lab():
    return ft.Experiment(data=ft.records("tasks")[:16], val=ft.records("tasks")[16:24], probes=())


def rounded(weight, kind):
    """What bitsandbytes makes of a weight in 4 bits, with double quantization."""
    return bnb.dequantize_4bit(*bnb.quantize_4bit(weight.detach(), quant_type=kind,
                                                  compress_statistics=True))


@pytest.mark.parametrize("asked, kind", [({}, "nf4"), ({"bnb_4bit_quant_type": "fp4"}, "fp4")])
def test_a_run_trains_over_the_weights_that_bitsandbytes_rounds(lab, asked, kind):
    run = lab.run(method="qlora", max_steps=2, live=False, **asked)
    base = dict(loading.load("tiny")[0].named_modules())
    merged, _ = loading.load("tiny")
    export._as_quantized(merged, "tiny", run.config.bnb_4bit_quant_type)
    layers = nf4.linears(run.model)
    assert len(layers) > 10 and run.rows[-1]["loss"] < run.rows[0]["loss"] + 1
    for name, layer in layers.items():
        wanted = rounded(base[name].weight, kind)
        # bitsandbytes 0.49 repacks a layer on a processor with fast bf16 and gives it back in bf16.
        got = nf4.dequantized(layer)
        assert torch.equal(got, wanted) or torch.equal(got, wanted.bfloat16().float())
        assert torch.equal(merged.get_submodule(name).weight, wanted), "as `ftkit export` merges"
    other = rounded(base[name].weight, {"nf4": "fp4", "fp4": "nf4"}[kind])
    assert not torch.equal(wanted, other)


def test_memory_is_the_same_and_says_the_type():
    four, other = (ft.memory(method="qlora", batch_size=2, max_length=32, bnb_4bit_quant_type=kind)
                   for kind in ("nf4", "fp4"))
    assert four.peak == other.peak and four.bits == other.bits
    assert "are in 4 bits (nf4), 4.1" in four.text() and "are in 4 bits (fp4), 4.1" in other.text()


def test_without_a_base_in_4_bits_the_type_is_told_to_have_no_effect(lab):
    run = lab.run(method="lora", bnb_4bit_quant_type="fp4", max_steps=1, live=False)
    assert any("only qlora has a base in 4 bits" in note for note in run.notes)
    plain = lab.run(method="full", max_steps=1, live=False)
    run.config = run.config.but(method="qlora")
    assert "bnb_4bit_quant_type" not in fingerprint.differences([plain], [run])
    with pytest.raises(ValueError, match="bnb_4bit_quant_type is 'int4'; expected one of nf4, fp4"):
        ft.Config(bnb_4bit_quant_type="int4")
