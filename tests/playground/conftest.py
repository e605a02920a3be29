"""The engine of the playground in Node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def node():
    """Run a script of this folder and return the JSON that it prints."""
    if not shutil.which("node") or not (HERE / "../../playground/dist/engine.mjs").exists():
        pytest.skip("needs node and `make playground`")

    def run(script: str, *args):
        done = subprocess.run(["node", HERE / script, *args], capture_output=True, text=True)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)
    return run
