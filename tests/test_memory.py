"""Memory: the numbers everybody quotes, the traced step against the measured one."""

import json

import pytest

from ftkit import footprint, shapes, simulate
from ftkit.config import Config
from ftkit.footprint import memory

MIXED = {"precision": "bf16", "batch_size": 1, "max_length": 256}


def states(**request):
    return memory(**request).total_states


@pytest.mark.parametrize("request_, expected", [
    ({"model": "meta-llama/Llama-2-7b"}, 107.8e9),
    ({"model": "meta-llama/Llama-2-7b", "gpus": 8, "zero": 2}, 25.27e9),
    ({"model": "meta-llama/Llama-2-7b", "gpus": 8, "zero": 3}, 13.48e9),
    ({"model": "7.5B", "gpus": 64, "zero": 1}, 31.4e9),  # ZeRO, figure 1
    ({"model": "7.5B", "gpus": 64, "zero": 2}, 16.64e9),
    ({"model": 7.5e9, "gpus": 64, "zero": 3}, 1.875e9),
    ({"model": "7.5B"}, 120e9),
    ({"model": "175B"}, 2.8e12),
])
def test_states_are_those_of_the_papers(request_, expected):
    assert states(**MIXED, **request_) == pytest.approx(expected, rel=2e-3)


def test_a_7b_step_needs_what_its_states_need_and_the_parts_add_up():
    found = memory(model="llama-2-7b", **MIXED)
    assert found.peak == pytest.approx(107.8e9, rel=2e-3)
    parts = dict(found.simulation)
    assert parts.pop("peak") == pytest.approx(sum(parts.values()))
    assert found.fits["H200 141GB"] and not found.fits["A100 80GB"]
    assert found.peak < sum(v for k, v in found.to_dict()["per_gpu"].items() if k != "peak")


def test_lora_on_q_and_v_of_llama_7b_has_the_parameters_of_the_arithmetic():
    found = memory(model="llama-2-7b", method="lora", r=8, target_modules="q_proj,v_proj", **MIXED)
    assert found.trainable == 32 * 2 * 8 * (4096 + 4096) == 4_194_304


PUBLISHED = {  # as the hub counts the tensors of each checkpoint
    "meta-llama/Llama-2-70b-hf": 68_976_648_192, "meta-llama/Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Llama-3.2-1B": 1_235_814_400, "Qwen/Qwen2.5-7B": 7_615_616_512,
    "google/gemma-2-2b": 2_614_341_888, "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008, "openai-community/gpt2": 124_439_808,
    "huggyllama/llama-65b": 65_285_660_672, "Qwen/Qwen3-0.6B": 596_049_920,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_known_shape_has_the_published_number_of_parameters(name):
    from ftkit import models

    assert models.count(simulate.build(shapes.shape(name), Config()))[1] == PUBLISHED[name]


def test_a_config_json_alone_is_enough(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", "vocab_size": 1000, "hidden_size": 64,
                                "intermediate_size": 128, "num_hidden_layers": 2,
                                "num_attention_heads": 4}))
    found = memory(model=str(file), batch_size=2, max_length=64)
    assert found.parameters == 2 * 1000 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64
    assert memory(model=str(tmp_path), batch_size=2, max_length=64).peak == found.peak


@pytest.mark.parametrize("wrong, words", [
    ({"model": "llama-9b"}, "did you mean"),
    ({"model": "tiny", "gpus": 0}, "gpus is 0"),
    ({"model": "tiny", "zero": 1}, "gpus"),
    ({"model": "tiny", "zero": 4, "gpus": 2}, "zero is 4"),
    ({"model": "7B", "method": "lora"}, "shape"),
    ({"model": "tiny", "attention": "flash"}, "attention"),
    ({"model": "tiny", "learning_rat": 1}, "learning_rate"),
])
def test_a_wrong_request_is_told_in_words(wrong, words):
    with pytest.raises(ValueError, match=words):
        memory(**wrong)


def test_it_draws_itself():
    found = memory(model="tiny", batch_size=2, max_length=64)
    bundle = found._repr_mimebundle_()
    assert "GiB" in bundle["text/plain"] or "MiB" in bundle["text/plain"]
    assert "optimizer state" in bundle["text/html"] and footprint.ERROR["cpu"] in found.summary()
