"""A step traced on shallow models and extended, against the trace of the whole model."""

import json

import architectures
import pytest

from ftkit.base import machine
from ftkit.base.config import Config
from ftkit.memory_use import by_depth, footprint, model_shapes, simulate, traced_step

WAYS = [({"precision": "bf16"}, [96, 96], "cuda"),
        ({"precision": "bf16", "method": "lora", "gradient_checkpointing": True}, [60, 25], "cpu"),
        ({"precision": "pure-bf16", "gradient_accumulation_steps": 2}, [64], "cpu"),
        ({"precision": "bf16", "method": "qlora"}, [96, 96], "cuda")]
DEEP = {"gemma3_text": 19, "deepseek_v3": 8, "smollm3": 14}


def deep(name: str) -> dict:
    """The shape of an architecture with more layers than two shallow models have together."""
    shape = dict(architectures.SHAPES[name])
    shape["n_layer" if "n_layer" in shape else "num_hidden_layers"] = DEEP.get(name, 6)
    if name == "recurrent_gemma":
        shape["num_hidden_layers"] = 12
    return shape


def cases():
    for place, name in enumerate(architectures.SHAPES):
        often = place % 10 == 0 or name == "gemma3_text"
        fields, lengths, device = WAYS[place % len(WAYS)]
        if name == "falcon_mamba" and fields.get("method") == "qlora":
            continue  # peft finds no linear layer to adapt
        lengths = [n // 5 for n in lengths] if name in architectures.SLOW else lengths
        yield pytest.param(name, fields, lengths, device, id=name,
                           marks=[] if often else pytest.mark.slow)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, fields, lengths, device", list(cases()))
def test_the_extended_step_is_that_of_the_whole_model(name, fields, lengths, device):
    shape, config = model_shapes.shape(deep(name)), Config(**fields)
    whole = simulate.step(shape, config, lengths, 1.0, device)
    extended = by_depth.step(shape, config, lengths, 1.0, device)
    assert (extended.trainable, extended.parameters) == (whole.trainable, whole.parameters)
    assert extended.peak == pytest.approx(whole.peak, rel=1e-3)
    assert extended.highest[0] == whole.highest[0]
    assert extended.facts["quantized_bytes"] == whole.facts["quantized_bytes"]


def layers(**sizes):
    return by_depth.kinds(model_shapes.shape({"model_type": "llama"} | sizes).get_text_config())


@pytest.mark.parametrize("name, expected", [
    ("llama-2-7b", (0, 1, 2)), ("google/gemma-3-1b-pt", (0, 6, 8)),
    ("deepseek-ai/DeepSeek-V3", (3, 1, 4)), ("openai/gpt-oss-20b", (0, 2, 2))])
def test_the_period_of_a_known_model_is_found(name, expected):
    config = model_shapes.shape(name).get_text_config()
    assert by_depth.depths(by_depth.kinds(config)) == expected


def test_a_model_of_few_layers_is_traced_whole():
    assert by_depth.depths(layers(num_hidden_layers=5)) is None
    assert by_depth.depths(layers(num_hidden_layers=6)) == (0, 1, 2)
    assert by_depth.depths(["a", "b", "c", "d", "e", "f", "g"]) is None


SHAPE = {"model_type": "llama", "vocab_size": 3072, "hidden_size": 192, "intermediate_size": 512,
         "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 4096}


@pytest.mark.parametrize("fields", [{}, {"method": "lora", "gradient_checkpointing": True}])
@pytest.mark.parametrize("lengths", [[512] * 24, [2048] * 8, [8192]])
def test_a_large_batch_is_on_the_line_through_two_small_ones(fields, lengths):
    config = Config(precision="bf16", **fields)
    found = footprint.simulated(SHAPE, config, lengths, device="cuda")
    whole = simulate.step(model_shapes.shape(SHAPE), config, lengths, 1.0, "cuda")
    assert found.peak == pytest.approx(whole.peak, rel=1e-3)


def forget():
    footprint._traced.cache_clear()
    footprint._whole_timeline.cache_clear()


@pytest.fixture
def traces(monkeypatch):
    """A list of the steps that were traced from here on, with nothing in memory."""
    traced, trace = [], simulate.trace
    monkeypatch.setattr(simulate, "trace", lambda *a, **k: traced.append(a) or trace(*a, **k))
    forget()
    return traced


def test_a_search_takes_no_more_traces_than_its_prediction(home, traces):
    asked = {"method": "lora", "batch_size": 1, "max_length": 512, "precision": "bf16",
             "gradient_checkpointing": False}
    found = footprint.memory(model=SHAPE | {"vocab_size": 128_000}, gpu="24GB", **asked)
    assert found.verdict["largest_batch_size"] > 500 and len(traces) == 2


def test_the_second_question_is_answered_from_the_disk(home, traces):
    asked = {"model": SHAPE, "device": "cuda", "batch_size": 2, "max_length": 40}
    first = footprint.memory(**asked)
    assert traces
    traces.clear()
    forget()
    assert footprint.memory(**asked).to_dict() == first.to_dict() and not traces


@pytest.mark.parametrize("damage", [
    lambda text: text[:len(text) // 2], lambda text: "", lambda text: "[]", lambda text: "\0" * 9,
    lambda text: json.dumps(json.loads(text) | {"steps": [{"before": 1}]}),
    lambda text: text.replace('"weights": ', '"weights": 1'), lambda text: "{}"])
def test_a_damaged_file_of_the_cache_is_traced_again(home, traces, damage):
    asked = {"model": SHAPE, "device": "cuda", "batch_size": 2, "max_length": 48}
    first = footprint.memory(**asked)
    for file in (machine.home() / "cache" / "memory").glob("*.json"):
        file.write_text(damage(file.read_text()))
    traces.clear()
    forget()
    assert footprint.memory(**asked).to_dict() == first.to_dict() and traces


def test_old_files_leave_the_cache(home, monkeypatch):
    monkeypatch.setattr(traced_step, "MOST_FILES", 4)
    step = traced_step.Step([("forward pass", {"weights": 1})], {"weights": 1}, 0, 0, 0)
    for n in range(20):
        traced_step.keep({"n": n}, [step])
    assert len(list((machine.home() / "cache" / "memory").glob("*.json"))) <= 5
    assert traced_step.kept({"n": 19}) == [step]


def test_a_batch_is_extended_where_another_moment_of_a_layer_becomes_the_highest(tmp_path):
    """In a short sequence the dequantized weight is the largest, in a long one the activations."""
    shape = by_depth.cut(model_shapes.shape("llama-3.1-8b"), 2)
    file = tmp_path / "config.json"
    file.write_text(shape.to_json_string(use_diff=False))
    config = Config(method="qlora", r=16, max_length=2048, batch_size=4, precision="bf16",
                    gradient_checkpointing=True)
    found = footprint.memory(config, str(file), device="cuda")
    whole = simulate.step(shape, found.config, [2048] * 4, 1.0, "cuda")
    assert found.peak == pytest.approx(whole.peak, rel=1e-4)
