"""`ftkit memory --gpu`: the verdict, its search, whose step it is, and sizes that nobody means."""

import json
import re

import pytest

from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.memory_use import cheaper_configs, model_shapes, verdict
from ftkit.memory_use.footprint import memory

SHAPE = {"model_type": "llama", "vocab_size": 3072, "hidden_size": 192, "intermediate_size": 512,
         "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}
SMALL = {"model": SHAPE, "max_length": 64, "batch_size": 4, "precision": "fp32"}


@pytest.mark.parametrize("text, name", [
    ("RTX 4090", "RTX 4090 24GB"), ("rtx4090", "RTX 4090 24GB"), ("H100 80GB", "H100 80GB"),
    ("24GB", "24GB"), ("24 GiB", "24 GiB"), ("t4", "T4 16GB"),
])
def test_a_gpu_is_a_name_or_a_size(text, name):
    assert verdict.card(text).name == name


def test_each_further_prediction_is_told_before_it_is_made():
    told = []
    found = memory(Config(max_length=512, batch_size=8), 1e9, gpu="12GB", progress=told.append)
    assert {"batch_size": 16} in told or {"batch_size": 1} in told
    assert not found.verdict["fits"] and all(one["change"] in told
                                             for one in found.verdict["changes"])
    silent = memory(Config(max_length=512, batch_size=8), 1e9, gpu="12GB")
    assert silent.verdict == found.verdict


def test_gb_are_decimal_and_gib_binary():
    assert [verdict.card(t).bytes for t in ("24GB", "24GiB")] == [24e9, 24 * 2**30]


@pytest.mark.parametrize("text", ["A100", "RTX 9999", "", "0GB", "-3GB", "24", "1e9GB"])
def test_an_unknown_gpu_is_rejected_with_what_is_known(text):
    with pytest.raises(UserError, match="gpu is"):
        verdict.card(text)


def line(n):  # a floor of states, then activations that grow with the batch
    return max(17.0 + 0.2 * n, 16 + 1.24 * n)


@pytest.mark.parametrize("start", [1, 3, 64])
@pytest.mark.parametrize("limit", [16.5, 17.25, 18.0, 23.3, 400.0])
def test_the_largest_batch_is_that_of_a_full_search(start, limit):
    found, _ = verdict.largest(line, start, line(start), limit, 10_000)
    assert found == max((n for n in range(1, 10_001) if line(n) <= limit), default=0)


def test_a_step_that_fits_has_room_and_no_changes():
    found = memory(gpu="2GB", **SMALL)
    said = found.to_dict()["verdict"]
    assert said["fits"] and said["changes"] == [] and found.device == "cuda"
    assert said["headroom_bytes"] == round(2e9 - model_shapes.needed(found.peak))
    assert said["largest_batch_size"] > 100 and said["largest_max_length"] == 512


def test_a_step_that_does_not_fit_names_changes_that_do():
    least = SMALL | {"batch_size": 1, "gradient_accumulation_steps": 4,
                     "gradient_checkpointing": True}
    limit = sum(model_shapes.needed(memory(**step, device="cuda").peak)
                for step in (SMALL, least)) / 2
    found = memory(gpu=f"{limit / 1e6:.3f}MB", **SMALL)
    said = found.to_dict()["verdict"]
    assert not said["fits"] and said["headroom_bytes"] < 0 and said["changes"]
    assert said["changes"][0]["learns_the_same"]
    for one in said["changes"]:
        again = memory(**SMALL | one["change"], device="cuda")
        assert again.peak == one["peak"] and model_shapes.needed(again.peak) <= limit + 500


@pytest.mark.parametrize("gpu, status", [("24GB", 0), ("1MB", 3)])
def test_the_exit_status_is_the_verdict(ftkit, gpu, status):
    words = ("--model", "tiny", "--max-length", 64, "--batch-size", 1, "--gpu", gpu)
    found, out, _ = ftkit("memory", "--json", *words)
    said = json.loads(out)
    assert found == status and said["verdict"]["fits"] == (status == 0)
    assert {"base_dtype", "attention", "loss", "batch_size"} <= {
        *said["assumptions"], "base_dtype"} and said["reserved_estimate"] > said["per_gpu"]["peak"]


def test_a_number_of_parameters_has_no_largest_batch_and_rules_no_method_out(ftkit):
    status, out, _ = ftkit("memory", "--model", "7.5B", "--gpu", "24GB")
    assert status == 3 and "102.5 GB too much" in out and "LoRA and QLoRA" in out
    assert "Largest batch_size" not in out and "No change of" not in out
    status, out, _ = ftkit("memory", "--model", "7.5B", "--gpu", "160GB", "--json")
    said = json.loads(out)["verdict"]
    assert status == 0 and said["fits"] and said["largest_batch_size"] is None


@pytest.mark.slow
def test_an_8b_lora_fits_a_card_of_24_gb():
    found = memory(model="meta-llama/Llama-3.1-8B", method="lora", batch_size=1, max_length=2048,
                   gradient_checkpointing=True)
    assert verdict.card("24GB").fits(found.peak) and "base dtype bf16" in found.text(verbose=True)


def test_the_trainer_of_transformers_holds_all_logits():
    ours, theirs = (memory(trainer=trainer, device="cuda", **SMALL | {
        "batch_size": 16, "max_length": 256}) for trainer in ("ftkit", "hf"))
    assert theirs.peak > 1.1 * ours.peak
    assert theirs.assumptions["loss"] == "all logits at once"


def test_two_answers_of_dpo_take_the_place_of_two_records():
    one, two = (memory(objective=kind, device="cpu", **SMALL) for kind in ("sft", "dpo"))
    assert two.assumptions["tokens"] == 2 * one.assumptions["tokens"] and two.peak > one.peak


@pytest.fixture
def built(monkeypatch):
    """A list of the models that a prediction builds, which is what takes its time; none is."""
    from ftkit.memory_use import simulate

    asked = []
    monkeypatch.setattr(simulate, "build", lambda *what: asked.append(what))
    return asked


@pytest.mark.parametrize("sizes, words", [
    ({"num_hidden_layers": 10**9}, "num_hidden_layers"), ({"vocab_size": 10**15}, "vocab_size"),
    ({"hidden_size": 10**12}, "hidden_size"),
])
def test_absurd_sizes_are_refused_before_a_model_is_built(tmp_path, ftkit, built, sizes, words):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama"} | sizes))
    status, _, err = ftkit("memory", "--model", file)
    assert status == 2 and words in err and not built


def test_an_absurd_batch_is_refused_before_a_model_is_built(ftkit, built):
    status, _, err = ftkit("memory", "--batch-size", 10**9)
    assert status == 2 and "batch_size is 1000000000" in err and not built


def test_a_size_that_can_be_meant_is_built(ftkit, built):
    ftkit("memory", "--batch-size", 7, "--max-length", 77)  # whose step no other test traces
    assert built


def test_a_large_batch_lies_on_the_line_through_two_smaller_ones(monkeypatch):
    from ftkit.memory_use import footprint

    asked = {"model": "tiny", "max_length": 64, "batch_size": 64, "precision": "fp32"}
    whole = memory(**asked, device="cuda").peak
    monkeypatch.setattr(footprint, "TRACED", 2048)
    assert memory(**asked, device="cuda").peak == pytest.approx(whole, rel=0.02)


def test_a_state_space_model_is_simulated():
    shape = {"model_type": "mamba", "vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 2,
             "state_size": 16}
    found = memory(model=shape, max_length=16, batch_size=1, device="cpu", precision="fp32")
    assert found.moment and found.assumptions["attention"] == "none"


def test_infinity_in_a_config_json_is_read_as_transformers_writes_it():
    shape = {"model_type": "mamba2", "vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 2,
             "state_size": 16, "num_heads": 8, "head_dim": 16, "n_groups": 2}
    written = json.loads(model_shapes.shape(shape).to_json_string())
    assert written["time_step_limit"][1] == {"__float__": "Infinity"}
    assert model_shapes.shape(written).time_step_limit[1] == float("inf")


def test_a_length_beyond_the_context_has_a_note():
    found = memory(model="tiny", max_length=1024, batch_size=1, device="cuda")
    assert "longer than the 512" in found.notes[0]


def test_experts_that_are_not_quantized_are_counted_out():
    found = memory(model="mixtral-8x7b", method="qlora", batch_size=1, max_length=16)
    assert found.to_dict()["quantized_parameters"] < 0.05 * found.parameters
    assert "only 3% of the frozen parameters" in found.notes[-1]


def test_a_model_published_in_mxfp4_has_a_note():
    """12.8 GiB are the checkpoint of gpt-oss-20b by its model card (arXiv 2508.10925)."""
    found = memory(model="gpt-oss-20b", method="lora", batch_size=1, max_length=16)
    size = float(re.search(r"MXFP4.*\(([0-9.]+) GB\)", found.notes[-1])[1])
    assert size * 1e9 == pytest.approx(12.8 * 2**30, rel=0.01)


def test_stage_1_divides_no_weights():
    asked = {"model": "llama-2-7b", "method": "lora", "gpus": 8, "batch_size": 1,
             "max_length": 16, "precision": "bf16"}
    zero, one = (memory(zero=stage, **asked).states for stage in (0, 1))
    assert one["weights"] == zero["weights"] and one["optimizer"] == zero["optimizer"] / 8


@pytest.mark.parametrize("name", ["Llama 3", "llama_3"])
def test_a_name_written_in_another_way_leads_to_the_models_meant(name):
    with pytest.raises(UserError, match="did you mean llama3 or"):
        memory(model=name)


def test_zero_divides_the_state_of_an_8_bit_optimizer():
    asked = {"model": "llama-2-7b", "optim": "adamw_bnb_8bit", "gpus": 4, "batch_size": 1,
             "max_length": 16, "precision": "fp32"}
    zero, two = (memory(zero=stage, **asked).states for stage in (0, 2))
    assert two["optimizer"] == zero["optimizer"] / 4 and zero["optimizer"] < 2.1 * 6.74e9


@pytest.mark.parametrize("batch_size", [2, 5, 7, 12, 16, 96, 1_000_000])
def test_a_split_batch_keeps_its_records(batch_size):
    config = Config(batch_size=batch_size, gradient_accumulation_steps=3)
    split = next(cheaper_configs.families(config, "cuda"))
    assert split[-1]["batch_size"] == 1
    for change in split:
        assert change["batch_size"] * change["gradient_accumulation_steps"] == 3 * batch_size
    sizes = [change["batch_size"] for change in split]
    assert sizes == sorted(set(sizes), reverse=True)


def test_the_same_updates_are_those_of_the_same_batch():
    assert cheaper_configs.learns_the_same({"batch_size": 2, "gradient_accumulation_steps": 8})
    assert not cheaper_configs.learns_the_same({"batch_size": 2})
    assert not cheaper_configs.learns_the_same({"method": "lora"})


def test_the_slack_of_the_allocator_is_the_measured_one():
    from benchmarks import published

    found = [published.slack(row) for row in published.DATA["rows"] if "reserved_gb" in row]
    assert min(found) == pytest.approx(model_shapes.SLACK, abs=0.005)
    assert sorted(found)[len(found) // 2] == pytest.approx(model_shapes.TYPICAL_SLACK, abs=0.06)


@pytest.mark.slow
def test_runs_that_fitted_on_a_card_are_said_to_fit():
    from benchmarks import published

    for row in published.DATA["capacities"]:
        assert published.needed(row) <= row["card_gib"], row["what"]


@pytest.mark.slow
def test_published_measurements_are_met():
    import statistics

    from benchmarks import published

    # of runs that differ in their batch alone the last, which is the largest
    rows = {str((row["model"], row["options"] | {"batch_size": 0})): row
            for row in published.DATA["rows"] if "why" not in row}.values()
    errors = {row["source"] + row["model"] + row["what"]:
              published.predicted(row) / row["reported_gb"] - 1 for row in rows}
    assert statistics.median(map(abs, errors.values())) <= 0.06
    assert max(map(abs, errors.values())) <= 0.15, errors
