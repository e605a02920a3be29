"""The steps of other libraries: what differs from ours, and that published measurements show it."""

import pytest

from ftkit.memory_use.footprint import memory

SHAPE = {"model_type": "llama", "vocab_size": 3072, "hidden_size": 192, "intermediate_size": 512,
         "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512,
         "tie_word_embeddings": True}
SMALL = {"model": SHAPE, "max_length": 128, "batch_size": 4, "precision": "pure-bf16",
         "gradient_checkpointing": False, "device": "cuda"}


def test_full_fine_tuning_of_torchtune_holds_no_gradients():
    ours, theirs = (memory(trainer=name, method="full", **SMALL) for name in (
        "ftkit", "torchtune"))
    assert theirs.states["gradients"] == 0 < ours.states["gradients"]
    weights = 2 * ours.parameters
    assert theirs.total_states == pytest.approx(ours.total_states - weights)
    lora = [memory(trainer=name, method="lora", **SMALL).peak for name in ("ftkit", "torchtune")]
    assert lora[0] == lora[1]


def test_qlora_of_litgpt_quantizes_the_head_and_no_scales():
    ours, theirs = (memory(trainer=name, method="qlora", **SMALL) for name in ("hf", "litgpt"))
    assert theirs.quantized - ours.quantized == 3072 * 192
    assert theirs.bits == 4.5 and ours.bits < 4.2


def test_qlora_of_litgpt_keeps_the_inputs_of_the_step_before_and_a_second_embedding():
    few, many = (memory(trainer="litgpt", method="qlora", **SMALL | {"batch_size": n})
                 for n in (4, 8))
    without = [memory(trainer="litgpt", method="lora", **SMALL | {"batch_size": n}).largest
               for n in (4, 8)]
    tokens = 4 * 128
    # of two layers: of attention, its output, the MLP, and its last matrix, in 16 bits; those of
    # the step itself the adapters keep anyway
    inputs = 2 * tokens * (3 * 192 + 512) * 2
    grew = (many.largest["activations"] - few.largest["activations"]) - (
        without[1]["activations"] - without[0]["activations"])
    assert 0.5 * inputs < grew <= inputs
    assert few.at_peak["other"] > 2 * 3072 * 192 * 2


@pytest.mark.parametrize("what, options, reported", [
    ("litgpt configs, Llama-2-7B", {"method": "qlora", "r": 32, "target_modules": "q_proj,v_proj",
                                    "lora_dropout": 0.05, "batch_size": 2,
                                    "gradient_checkpointing": False}, 13.68)])
def test_a_published_peak_of_litgpt_is_met(what, options, reported):
    found = memory(model="llama-2-7b", trainer="litgpt", precision="pure-bf16", max_length=512,
                   device="cuda", **options)
    assert found.peak / 1e9 == pytest.approx(reported, rel=0.05), what
