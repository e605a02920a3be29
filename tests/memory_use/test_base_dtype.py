"""The number format of frozen weights: 16 bits on a GPU, what it is said to be on a CPU."""

import pytest
import torch

import ftkit as ft
from ftkit.base.config import Config
from ftkit.memory_use import footprint, measure, preflight, simulate
from ftkit.memory_use.footprint import memory

LORA = {"method": "lora", "max_steps": 1, "batch_size": 2}


def dtypes(model) -> dict:
    """Number formats of the frozen and of the trained parameters, 4-bit ones left out."""
    found = {False: set(), True: set()}
    for p in model.parameters():
        if getattr(p, "quant_state", None) is None:
            found[p.requires_grad].add(p.dtype)
    return {"frozen": found[False], "trained": found[True]}


@pytest.fixture
def gpu(monkeypatch):
    """A run takes the choices that it takes on a GPU; the tensors stay on the CPU."""
    monkeypatch.setattr(preflight, "number_formats", lambda *_: ("bf16", "cuda"))


@pytest.mark.parametrize("method", ["lora", "qlora", "ia3"])
def test_a_run_on_a_gpu_holds_the_frozen_weights_in_16_bits(gpu, method):
    lab = ft.Experiment(model="tiny", data="translation", eval_records=4)
    run = lab.run(Config(**LORA | {"method": method}), live=False)
    assert run.config.base_dtype == "bf16"
    assert dtypes(run.model) == {"frozen": {torch.bfloat16}, "trained": {torch.float32}}
    assert run.rows[0]["loss"] < 5


def test_a_run_on_a_cpu_keeps_them_in_fp32_unless_asked():
    lab = ft.Experiment(model="tiny", data="translation", eval_records=4)
    run = lab.run(Config(**LORA), live=False)
    asked = lab.run(Config(**LORA, base_dtype="bf16"), live=False)
    assert dtypes(run.model)["frozen"] == {torch.float32} and run.config.base_dtype is None
    assert dtypes(asked.model) == {"frozen": {torch.bfloat16}, "trained": {torch.float32}}
    assert run.rows[0]["loss"] == pytest.approx(asked.rows[0]["loss"], rel=0.02)


@pytest.mark.parametrize("method, base", [("full", None), ("lora", "bf16"), ("qlora", "bf16")])
def test_a_prediction_for_a_gpu_assumes_16_bits(method, base):
    found = memory(model="llama-2-7b", method=method, precision="bf16", batch_size=1,
                   max_length=64)
    assert found.config.base_dtype == base


def test_the_weights_of_a_16_bit_base_have_the_bytes_of_torch():
    config = Config(method="lora", precision="bf16", base_dtype="bf16")
    model = measure.prepare("tiny", config)
    held = sum(p.nbytes for p in model.parameters())
    found = memory(config, "tiny", max_length=32, device="cpu")
    assert found.states["weights"] == pytest.approx(held)


def test_an_fp32_precision_keeps_an_fp32_base_on_a_gpu():
    found = memory(model="tiny", method="lora", precision="fp32", device="cuda", max_length=32)
    assert found.config.base_dtype == "fp32"


def test_full_fine_tuning_has_no_frozen_weights_to_narrow():
    plain, asked = (simulate.step(footprint.model_shapes.shape("tiny"),
                                  Config(precision="fp32", base_dtype=base), [32])
                    for base in (None, "bf16"))
    assert plain.peak == asked.peak
