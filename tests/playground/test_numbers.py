"""The playground's engine against torch, transformers, peft and ftkit's own loop, in Node."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def checks(node, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, HERE / "reference.py", folder], check=True)
    return node("check.mjs", folder)


@pytest.mark.parametrize("kind", [
    "gradients of", "loss of", "val_loss", "general_loss", "learning_rate", "answers", "parameters",
    "token ids", "decoded", "Python's", "torch's", "losses of own", "stored weights"])
def test_the_engine_equals_torch(checks, kind):
    found = {name: check for name, check in checks.items() if name.startswith(kind)}
    assert found and not {name: check for name, check in found.items()
                          if check["worst"] is None or check["worst"] > check["limit"]}
