"""Make `known_steps.zip`, the traced steps that the package ships: `make known-steps`, an hour.

Asks `ftkit memory` about well-known models on many cards, and keeps every step that was traced for
it, with the minor versions of the libraries. It is made again for new versions of these, or if
tests/memory_use/test_known_steps.py finds that a step is traced differently now.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import warnings
import zipfile

from ftkit.base import machine
from ftkit.cli import main as cli
from ftkit.memory_use import model_shapes, traced_step

MODELS = ("llama-2-7b", "llama-3.1-8b", "qwen3-8b", "mistral-7b", "phi-4", "smollm2",
          "smollm2-135m", "mixtral-8x7b", "llama-3.1-70b", "qwen3-30b-a3b", "gpt-oss-20b",
          "gemma-3-12b", "deepseek-v3")
RUNS = (["full"], ["full", "--gradient-checkpointing", "true"], ["lora"], ["qlora"],
        ["lora", "--gradient-checkpointing", "false"],
        ["qlora", "--gradient-checkpointing", "false"])
GIGABYTES = (6, 8, 10, 11, 12, 16, 20, 22, 24, 32, 40, 44, 48, 64, 80, 96, 128, 141, 180, 256, 288)
CARDS = (*model_shapes.GPUS, *(f"{size}GB" for size in GIGABYTES))
STAMP = (2020, 1, 1, 0, 0, 0)  # the same steps give the same file


def ask(model: str):
    """Ask about a model; all traced steps land in the cache of FTKIT_HOME."""
    for run in RUNS:
        for card in CARDS:
            with contextlib.redirect_stdout(io.StringIO()):
                status = cli.main(["memory", "--model", model, "--gpu", card, "--method", *run])
            if status not in (0, 3):
                raise SystemExit(f"{model} {run} {card}: exit status {status}")


def main():
    warnings.simplefilter("ignore")  # peft's, on experts that one of two patterns does not name
    traced_step.SHIPPED.unlink(missing_ok=True)  # or nothing would be traced
    found = {"versions.json": json.dumps(traced_step.minor_versions()).encode()}
    for model in MODELS:
        with tempfile.TemporaryDirectory() as home:
            os.environ["FTKIT_HOME"] = home
            ask(model)
            for file in (machine.home() / "cache" / "memory").glob("*.json"):
                content = file.read_bytes()
                found[traced_step.name_of(json.loads(content)["question"])] = content
        print(model, len(found), flush=True)
    with zipfile.ZipFile(traced_step.SHIPPED, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, content in sorted(found.items()):
            file.writestr(zipfile.ZipInfo(name, STAMP), content, zipfile.ZIP_DEFLATED)
    print(traced_step.SHIPPED.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
