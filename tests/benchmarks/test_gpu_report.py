"""`make gpu` runs through without a card, and its page says what a figure is."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT

SCRIPT = ROOT / "tests" / "benchmarks" / "gpu.py"


def gpu(*words) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True,
                          cwd=ROOT)


@pytest.mark.slow
def test_every_part_but_the_lessons_runs_dry_and_lands_in_the_page():
    done = gpu("tests", "memory", "speed", "recorded", "--dry")
    assert done.returncode == 0, done.stderr[-2000:]
    stored = json.loads((ROOT / ".cache" / "gpu-dry.json").read_text("utf-8"))
    assert {"tests", "memory", "speed", "recorded"} <= stored.keys()
    rows = [row for part in ("memory", "speed") for row in stored[part]["rows"]]
    assert not [row for row in rows if "failed" in row]
    trained = [row for row in stored["speed"]["rows"] if "last loss" in row]
    assert {row["trainer"] for row in trained} >= {"ftkit", "Trainer", "TRL"}
    assert stored["memory"]["rows"][0]["error"] == pytest.approx(0, abs=0.01)
    assert "the figures mean nothing" in (ROOT / ".cache" / "gpu-dry.md").read_text("utf-8")


def test_an_unknown_part_is_refused_with_the_parts_there_are():
    done = gpu("sped")
    assert done.returncode == 2 and "no part is called sped" in done.stderr
    assert "speed" in done.stderr


def test_without_a_card_the_way_to_try_it_is_named():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    done = gpu("memory")
    assert done.returncode == 1 and "--dry" in done.stderr
