"""Memory: the numbers everybody quotes, the traced step against the measured one."""

import json

import pytest
import torch

from ftkit.base.config import Config
from ftkit.base.optimizers import OPTIMIZERS
from ftkit.engine import optimizers
from ftkit.memory_use import (
    by_depth,
    footprint,
    footprint_text,
    formula,
    model_shapes,
    simulate,
)
from ftkit.memory_use.footprint import memory
from ftkit.model import loading

MIXED = {"precision": "bf16", "batch_size": 1, "max_length": 512}


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
    assert found.peak == pytest.approx(sum(found.at_peak.values()))
    assert found.fits["H200 141GB"] and not found.fits["A100 80GB"]
    assert found.peak < sum(v for k, v in found.to_dict()["per_gpu"].items() if k != "peak")


def test_lora_on_q_and_v_of_llama_7b_has_the_parameters_of_the_arithmetic():
    found = memory(model=model_shapes.shape("llama-2-7b"), method="lora", r=8,
                   target_modules="q_proj,v_proj", **MIXED)
    assert found.trainable == 32 * 2 * 8 * (4096 + 4096) == 4_194_304


def test_python_and_the_command_line_assume_the_same_batch(ftkit):
    for model, batch in (("llama-2-7b", 1), ("tiny", 16)):
        _, text, _ = ftkit("memory", "--model", model, "--method", "lora", "--json")
        asked, found = json.loads(text), memory(model=model, method="lora")
        assert json.loads(json.dumps(found.to_dict())) == asked and found.config.batch_size == batch
        assert found.config.gradient_checkpointing == (batch == 1)
    assert memory(Config(method="lora"), "llama-2-7b").config.batch_size == 16


PUBLISHED = {  # as the hub counts the tensors of each checkpoint
    "meta-llama/Llama-2-70b-hf": 68_976_648_192, "meta-llama/Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Llama-3.2-1B": 1_235_814_400, "Qwen/Qwen2.5-7B": 7_615_616_512,
    "google/gemma-2-2b": 2_614_341_888, "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008, "openai-community/gpt2": 124_439_808,
    "huggyllama/llama-65b": 65_285_660_672, "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624, "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "google/gemma-3-270m": 268_098_176, "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "mistralai/Mixtral-8x22B-v0.1": 140_620_634_112, "microsoft/phi-4": 14_659_507_200,
    "mistralai/Mistral-Small-24B-Base-2501": 23_572_403_200,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760, "openai/gpt-oss-20b": 20_914_757_184,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "deepseek-ai/DeepSeek-V3": 671_026_419_200 - 58 * 256,  # biases of the router: buffers here
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624, "state-spaces/mamba-130m-hf": 129_135_360,
    "allenai/OLMo-2-1124-7B": 7_298_617_344, "openai/gpt-oss-120b": 116_829_156_672,
}


KNOWN = model_shapes.names()


@pytest.mark.parametrize("name", sorted({*PUBLISHED, *KNOWN}))
def test_a_known_shape_has_the_published_number_of_parameters(name):
    """Counted by depth, so a wrong period of layers is found here too."""
    shape, counts = model_shapes.shape(name), []
    layers = by_depth.kinds(shape.get_text_config())
    prefix, period, depth = by_depth.depths(layers) or (0, 1, len(layers))
    for n in (depth, depth + period):
        counts.append(loading.count(simulate.build(by_depth.cut(shape, n), Config()))[1])
        if n == len(layers):
            break
    count = counts[0] + (counts[-1] - counts[0]) * (len(layers) - depth) // period
    assert count == model_shapes.parameters(name) == PUBLISHED.get(name, count)
    context = getattr(shape.get_text_config(), "max_position_embeddings", None)
    assert model_shapes.sizes(model_shapes.content(name)).max_position_embeddings == (context or 0)


def test_a_config_json_alone_is_enough(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", "vocab_size": 1000, "hidden_size": 64,
                                "intermediate_size": 128, "num_hidden_layers": 2,
                                "num_attention_heads": 4}))
    found = memory(model=str(file), batch_size=2, max_length=64)
    assert found.parameters == 2 * 1000 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64
    assert memory(model=str(tmp_path), batch_size=2, max_length=64).peak == found.peak


SIZES = {"vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
MAKES = {
    "experts": {"model_type": "mixtral", **SIZES, **EXPERTS},
    "attention sinks": {"model_type": "gpt_oss", **SIZES, **EXPERTS, "head_dim": 16},
    "matrices turned round": {"model_type": "gpt2", "vocab_size": 1000, "n_embd": 64, "n_layer": 2,
                              "n_head": 4, "n_positions": 128},
    "linear layers of its own": {"model_type": "falcon", "vocab_size": 1000, "hidden_size": 64,
                                 "num_hidden_layers": 2, "num_attention_heads": 4},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("fields", [{}, {"method": "lora"}, {"method": "qlora"}])
def test_other_makes_of_models_are_predicted_as_they_are_trained(make, fields):
    from ftkit.memory_use import measure

    shape, config = model_shapes.shape(MAKES[make]), Config(**fields, precision="fp32")
    step = simulate.step(shape, config, [32, 20])
    if fields.get("method") != "qlora":  # which quantizes as it loads
        import transformers

        model = transformers.AutoModelForCausalLM.from_config(shape)
        assert loading.count(loading.adapt(model, config)) == (step.trainable, step.parameters)
        model = transformers.AutoModelForCausalLM.from_config(shape)
        assert step.peak == pytest.approx(measure.step(model, config, [32, 20]).peak, rel=2e-3)
    elif make == "matrices turned round":
        assert step.facts["quantized"] == 2 * 12 * 64 * 64


@pytest.mark.parametrize("precision", ["fp32", "pure-bf16"])
@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_the_state_of_every_optimizer_has_the_predicted_bytes(optim, precision):
    if OPTIMIZERS[optim].width:
        pytest.importorskip("bitsandbytes")
    config = Config(optim=optim, precision=precision, learning_rate=1e-3)
    layer = torch.nn.Linear(128, 256, bias=False).to(
        torch.bfloat16 if precision == "pure-bf16" else torch.float32)
    optimizer = optimizers.make(layer, config,
                                None if torch.cuda.is_available() else simulate.MAKERS)
    layer(torch.ones(1, 128, dtype=layer.weight.dtype)).sum().backward()
    optimizer.step()
    held = sum(x.nbytes for x in optimizer.state[layer.weight].values()
               if isinstance(x, torch.Tensor) and x.ndim)
    count = layer.weight.numel()
    states = formula.states(count, count, config, factored=128 + 256, hidden=count)
    assert states["optimizer"] == held


@pytest.mark.parametrize("fields", [
    {"optim": "muon"}, {"optim": "muon", "method": "lora"}, {"optim": "muon", "method": "ia3"},
    {"loraplus_lr_ratio": 16.0, "method": "lora"}, {"optim": "muon", "precision": "pure-bf16"}])
def test_the_states_of_a_whole_model_are_those_of_the_real_optimizer(fields):
    config = Config(**{"precision": "fp32", "learning_rate": 1e-3} | fields)
    model = loading.trainable(loading.load("tiny", device="cpu")[0], config)
    optimizer = optimizers.make(model, config)
    for p in model.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    optimizer.step()
    held = sum(x.nbytes for state in optimizer.state.values() for x in state.values()
               if isinstance(x, torch.Tensor) and x.ndim)
    small = {"max_length": 32, "batch_size": 1, "device": "cpu"}
    assert memory(config, "tiny", **small).states["optimizer"] == held


@pytest.mark.parametrize("fields", [
    {}, {"method": "lora", "precision": "bf16", "gradient_checkpointing": True}, {"l2_sp": 0.1}])
def test_two_of_the_batches_of_a_step_tell_what_all_of_them_need(fields, home):
    shape = model_shapes.shape({"model_type": "llama", **SIZES})
    config = Config(**fields, gradient_accumulation_steps=5)
    few = footprint.simulated(shape, config, [40, 40], device="cuda")
    every = simulate.step(shape, config, [40, 40], device="cuda")
    assert (few.highest, few.parts, few.before) == (every.highest, every.parts, every.before)
    assert len(few.timeline) < len(every.timeline)


@pytest.mark.parametrize("optim", ["sgd", "adafactor", "paged_adamw_8bit"])
def test_fp16_is_simulated_with_every_optimizer(optim):
    fields = {"model": "tiny", "max_length": 32, "batch_size": 1, "optim": optim}
    low, full = (memory(precision=p, **fields, device="cpu") for p in ("fp16", "fp32"))
    assert low.states == full.states and low.peak < full.peak + 1e6


@pytest.mark.parametrize("change, words", [
    ({"num_key_value_heads": 3}, "Check the sizes"), ({"hidden_act": "nonsense"}, "KeyError"),
    ({"hidden_size": -64}, "hidden_size is -64"), ({"vocab_size": 0}, "vocab_size is 0"),
    ({"model_type": "t5"}, "AutoModelForCausalLM"),
])
def test_a_config_that_no_model_can_have_is_told_in_words(ftkit, tmp_path, change, words):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", **SIZES} | change))
    status, _, err = ftkit("memory", "--model", file, "--max-length", 32, "--batch-size", 1)
    assert status == 2 and words in err


@pytest.mark.parametrize("wrong, words", [
    ({"model": "llama-9b"}, "did you mean"),
    ({"model": "tiny", "gpus": 0}, "gpus is 0"),
    ({"model": "tiny", "zero": 1}, "gpus"),
    ({"model": "tiny", "zero": 4, "gpus": 2}, "zero is 4"),
    ({"model": "7B", "method": "lora"}, "shape"),
    ({"model": "tiny", "attention": "flash"}, "attention"),
    ({"model": "tiny", "trainer": "trl"}, "trainer hf is an upper bound"),
    ({"model": "tiny", "trainer": "unsloth"}, "not peaks"),
    ({"model": "tiny", "attention": "eager", "measure": True}, "Leave attention"),
    ({"model": "tiny", "learning_rat": 1}, "learning_rate"),
    ({"config": "tiny"}, "config is a str"),
    ({"model": "tiny", "method": "prefix_tuning", "gradient_checkpointing": True}, "prompt_tuning"),
])
def test_a_wrong_request_is_told_in_words(wrong, words):
    with pytest.raises(ValueError, match=words):
        memory(**wrong)


def test_it_draws_itself():
    found = memory(model="tiny", batch_size=2, max_length=64)
    bundle = found._repr_mimebundle_()
    assert "GiB" in bundle["text/plain"] or "MiB" in bundle["text/plain"]
    assert "optimizer state" in bundle["text/html"]
    assert footprint_text.ERROR["cpu"] in found.summary()


def told(ftkit, *words) -> dict:
    """`ftkit memory --json` of a model of 1 x 512 tokens in bf16 autocast."""
    status, out, err = ftkit("memory", "--json", "--precision", "bf16", "--batch-size", 1,
                             "--max-length", 512, *words)
    assert status == 0, err
    return json.loads(out)


@pytest.mark.parametrize("words, expected", [
    (["llama-2-7b"], 107.8e9), (["llama-2-7b", "--gpus", 8, "--zero", 2], 25.27e9),
    (["llama-2-7b", "--gpus", 8, "--zero", 3], 13.48e9),
    (["7.5B", "--gpus", 64, "--zero", 1], 31.4e9), (["7.5B", "--gpus", 64, "--zero", 2], 16.64e9),
    (["7.5B", "--gpus", 64, "--zero", 3], 1.875e9), (["175B"], 2.8e12),
])
def test_the_command_gives_the_states_of_the_papers(ftkit, words, expected):
    found = told(ftkit, "--model", *words)
    assert found["states"] == pytest.approx(expected, rel=1e-3)
    assert found["states"] == sum(found["per_gpu"][k] for k in footprint.STATES)


@pytest.mark.parametrize("fields, key, expected", [
    (["llama-2-7b", "--method", "lora", "--r", 8, "--target-modules", "q_proj,v_proj"],
     "trainable_parameters", 4_194_304),
    (["smollm2-135m", "--method", "qlora"], "bits_per_weight", 4.127),
    (["smollm2-135m", "--method", "qlora", "--load-in-8bit", "true"], "bits_per_weight",
     8 + 32 * (2 * 576 + 2 * 192 + 2 * 1536 + 576) / (  # a scale for each row
         2 * 576 * 576 + 2 * 192 * 576 + 3 * 1536 * 576)),
])
def test_the_command_counts_lora_and_the_bits_of_a_weight(ftkit, fields, key, expected):
    assert told(ftkit, "--model", *fields)[key] == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_a_65b_qlora_step_is_broken_down_and_fits_one_card_of_48_gb(ftkit):
    found = told(ftkit, "--model", "huggyllama/llama-65b", "--method", "qlora", "--r", 64,
                 "--gradient-checkpointing")
    assert found["bits_per_weight"] == pytest.approx(4.127, abs=1e-3)
    parts = dict(found["at_peak"])
    peak = parts.pop("peak")
    assert peak == found["per_gpu"]["peak"] == pytest.approx(sum(parts.values()), abs=9)
    # 64.2 billion weights in 4 bits; embedding, head and norms in 16, and the adapters in 32
    adapters = 80 * 64 * (4 * 2 * 8192 + 3 * (8192 + 22016))
    assert found["trainable_parameters"] == adapters
    rest = 65_285_660_672 - 80 * (4 * 8192**2 + 3 * 8192 * 22016)
    assert parts["weights"] == pytest.approx((65_285_660_672 - rest) * 4.127 / 8
                                             + 2 * rest + 4 * adapters, rel=1e-3)
    assert parts["optimizer"] == pytest.approx(8 * adapters, rel=1e-3)
    assert found["fits"]["A6000 48GB"] and not found["fits"]["L40S 48GB"]


def test_the_command_tells_parts_sentence_and_gpus_in_words(ftkit):
    status, out, _ = ftkit("memory", "--model", "tiny", "--batch-size", 2, "--max-length", 64)
    assert status == 0
    for words in ("weights", "optimizer state", "activations", "at the peak", "Fits: T4 16GB",
                  footprint_text.ERROR["cpu"], "2 x 64 tokens", "--gpu NAME"):
        assert words in out
    assert "Assumes: " not in out
    _, out, _ = ftkit("memory", "--model", "tiny", "--batch-size", 2, "--max-length", 64,
                      "--verbose")
    assert "parameters are trained" in out and "Assumes: " in out and "batch size 2" in out
    status, _, err = ftkit("memory", "--model", "llama-9b")
    assert status == 2 and "did you mean" in err


@pytest.mark.parametrize("fields, lengths", [
    ({"precision": "fp32"}, [128, 128]),
    ({"precision": "bf16", "method": "lora"}, [256] * 3),
    ({"precision": "fp32", "method": "qlora"}, [128, 128]),
    ({"precision": "bf16", "method": "qlora", "use_dora": True}, [128, 60]),
    ({"precision": "bf16", "gradient_checkpointing": True}, [200, 150, 70, 33]),
    ({"precision": "fp32", "method": "prefix_tuning"}, [128, 40]),
    ({"precision": "bf16", "method": "lora", "base_dtype": "bf16"}, [128, 128]),
    ({"precision": "bf16", "method": "qlora", "base_dtype": "bf16"}, [128, 60]),
    ({"precision": "fp32", "method": "qlora", "load_in_8bit": True}, [128, 128]),
    ({"precision": "bf16", "method": "qlora", "load_in_8bit": True,
      "gradient_checkpointing": True}, [128, 60]),
    ({"precision": "fp16", "method": "lora", "base_dtype": "fp16", "gradient_checkpointing": True},
     [128, 60]),
    ({"precision": "bf16", "method": "prompt_tuning", "gradient_checkpointing": True}, [128, 128]),
])
def test_the_traced_peak_is_that_of_torchs_allocator(fields, lengths):
    from allocator import forked, peak

    config = Config(**fields)
    if torch.cuda.is_available():
        pytest.skip("measures the allocator of the CPU")
    measured = forked(peak, "tiny", config, lengths, start="forkserver")
    found = memory(config, "tiny", lengths=lengths, device="cpu")
    assert found.peak == pytest.approx(measured, rel=2e-3)
