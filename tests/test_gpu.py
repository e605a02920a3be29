"""The same runs on a CUDA device; skipped, and said so, where there is none."""

import pytest
import torch
from helpers import numbers

import ftkit as ft

pytestmark = [
    pytest.mark.usefixtures("home"),
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

RECORDS = numbers(40)


def test_the_fp32_curve_on_cuda_equals_the_one_on_cpu():
    from ftkit.data import encoding
    from ftkit.engine import loop
    from ftkit.model import loading

    curves = []
    for device in ("cpu", "cuda"):
        model, tokenizer = loading.load("tiny", device=device)
        units = [[e] for e in encoding.encode_all(RECORDS, tokenizer).examples]
        config = ft.Config(learning_rate=1e-3, precision="fp32")
        rows = loop.train(loading.adapt(model, config), units, config, 10)
        curves.append([row["loss"] for row in rows])
    assert curves[1] == pytest.approx(curves[0], abs=2e-3)


@pytest.mark.parametrize("asked", [{"method": "full"}, {"method": "lora"}, {"method": "qlora"},
                                   {"method": "qlora", "load_in_8bit": True}], ids=str)
@pytest.mark.parametrize("precision", ["bf16", "fp16", "pure-bf16"])
def test_every_method_learns_in_every_precision(asked, precision):
    if asked["method"] == "qlora" and precision == "pure-bf16":
        pytest.skip("quantized weights are not cast")
    lab = ft.Experiment(data=RECORDS, probes=())
    run = lab.run(**asked, precision=precision, max_steps=20, batch_size=8)
    assert run.after["val_loss"] < run.before["val_loss"]
    assert run.peak_memory_bytes < 2**31
    assert len(ft.answers(run.model, run.tokenizer, RECORDS[:5])) == 5
