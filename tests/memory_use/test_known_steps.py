"""The traced steps that the package ships, and the answers that need no trace for this."""

import json
import subprocess
import sys

import pytest

from ftkit.base.config import Config
from ftkit.memory_use import footprint, traced_step

KNOWN = traced_step._archive()
NAMES = sorted(KNOWN.namelist())[:-1] if KNOWN else []  # the last is versions.json
OFTEN = NAMES[::len(NAMES) // 5 or 1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in NAMES[::11]
    + [name for name in OFTEN if name not in NAMES[::11]]])
def test_a_shipped_step_is_what_a_trace_gives_now(name, home, monkeypatch):
    shipped = json.loads(KNOWN.read(name))
    question, steps = shipped["question"], shipped["steps"]
    monkeypatch.setattr(traced_step, "shipped", lambda question: None)
    traced = footprint._traced.__wrapped__(
        question["content"], Config(**question["config"]),
        tuple(map(tuple, question["batches"])), *question["options"])
    assert json.loads(traced_step.written(question, traced))["steps"] == steps


def test_an_answer_of_another_version_of_a_library_is_not_used(monkeypatch):
    assert traced_step.SHIPPED.exists()
    monkeypatch.setattr(traced_step, "minor_versions", lambda: {"torch": "1.13"})
    assert traced_step._archive.__wrapped__() is None


MODELS = ("llama-2-7b", "llama-3.1-8b", "llama-3.1-70b", "qwen3-8b", "qwen3-30b-a3b", "mistral-7b",
          "mixtral-8x7b", "gpt-oss-20b", "deepseek-v3", "phi-4", "smollm2", "gemma-3-12b")
ASK = """
import sys
from ftkit.cli import main
for model in {models}:
    for method in ("full", "lora", "qlora"):
        asked = ["memory", "--model", model, "--method", method, "--gpu", "{gpu}"]
        assert main.main(asked) in (0, 3)
        assert not {{"torch", "transformers"}} & set(sys.modules), (model, method)
"""


@pytest.mark.skipif(not KNOWN, reason="made with other versions of the libraries")
@pytest.mark.parametrize("gpu", ["24GB", "RTX 4090", "A100 80GB"])
def test_well_known_models_are_answered_without_torch(home, gpu):
    done = subprocess.run([sys.executable, "-c", ASK.format(models=MODELS, gpu=gpu)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
