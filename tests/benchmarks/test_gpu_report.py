"""`make gpu` runs through without a card, and its page says what a figure is."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.mark.slow
def test_every_part_but_the_lessons_runs_dry_and_lands_in_the_page():
    done = subprocess.run([sys.executable, ROOT / "tests" / "benchmarks" / "gpu.py", "tests",
                           "memory", "speed", "--dry"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    stored = json.loads((ROOT / ".cache" / "gpu-dry.json").read_text("utf-8"))
    assert {"tests", "memory", "speed"} <= stored.keys()
    rows = [row for part in ("memory", "speed") for row in stored[part]["rows"]]
    assert not [row for row in rows if "failed" in row]
    trained = [row for row in stored["speed"]["rows"] if "last loss" in row]
    assert {row["trainer"] for row in trained} >= {"ftkit", "Trainer", "TRL"}
    assert stored["memory"]["rows"][0]["error"] == pytest.approx(0, abs=0.01)
    assert "the figures mean nothing" in (ROOT / ".cache" / "gpu-dry.md").read_text("utf-8")
