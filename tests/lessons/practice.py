"""Runs the script of a lesson or of its reference page: the embedded model, two steps, no GPU.

    python tests/lessons/practice.py 02 03 my_block.py     a line of JSON for each

`Small` says what is replaced in the block; everything else runs as it stands in the lesson.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import math
import os
import re
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import lesson_files

STEPS = 2
ROWS = 16
WORDS = ("The river is wide.", "A bird sings.", "Two and two is four.", "The door is open.",
         "Rain falls in May.")

# Keyword arguments that need a GPU, another package or another model's vocabulary, and what
# stands in for them here.
ON_CPU = {"attn_implementation": "sdpa", "use_liger_kernel": False, "use_vllm": False,
          "fp16": False, "tf32": None, "torch_compile": False, "device_map": None,
          "device": "cpu", "eos_token": "<|eos|>",
          "tools": None}  # the embedded model's chat template has no tools
OPTIMIZERS = re.compile("paged_|_8bit|_4bit|fused")  # adamw_torch stands in for these
MOST = {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 8,
        "gradient_accumulation_steps": 1, "max_completion_length": 16, "num_generations": 4,
        "dataset_num_proc": 1,
        "dataloader_num_workers": 0}
ARGUMENTS = re.compile(r"(SFT|DPO|GRPO|KTO|Reward|RLOO|ORPO|CPO|GKD|Distillation)Config"
                       r"|(Seq2Seq)?TrainingArguments")


class Small(ast.NodeTransformer):
    """`model_id = "..."` becomes `folder`; arguments become those of a run on this machine."""

    def __init__(self, folder: str):
        self.folder = folder

    def visit_Assign(self, node):
        self.generic_visit(node)
        if (isinstance(node.targets[0], ast.Name) and node.targets[0].id.endswith("model_id")
                and isinstance(node.value, ast.Constant)):
            node.value = ast.Constant(self.folder)
        return node

    def visit_Dict(self, node):  # model_init_kwargs={"attn_implementation": ...}
        self.generic_visit(node)
        node.values = [_on_cpu(getattr(key, "value", None), value)
                       for key, value in zip(node.keys, node.values, strict=True)]
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        for keyword in node.keywords:
            keyword.value = _on_cpu(keyword.arg, keyword.value)
        if ARGUMENTS.fullmatch(ast.unparse(node.func).rpartition(".")[2]):
            extra = {"max_steps": STEPS, "report_to": "none", "use_cpu": True,
                     "disable_tqdm": True}
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in extra]
            node.keywords += [ast.keyword(name, ast.Constant(value))
                              for name, value in extra.items()]
        if isinstance(node.func, ast.Attribute) and node.func.attr == "to":
            node.args = [ast.Constant("cpu") if getattr(argument, "value", None) == "cuda"
                         else argument for argument in node.args]
        return node


def _on_cpu(name, node: ast.expr) -> ast.expr:
    """What the argument `name` is here; `node` itself for all but the few listed above."""
    value = getattr(node, "value", None)
    if name in ON_CPU and value not in ("eager", "sdpa"):
        return ast.Constant(ON_CPU[name])
    if name == "optim" and OPTIMIZERS.search(str(value)):
        return ast.Constant("adamw_torch")
    if name in MOST and isinstance(value, int):
        return ast.Constant(min(value, MOST[name]))
    return node


def small(block: str, folder: str) -> str:
    """The block as it is run here."""
    return ast.unparse(ast.fix_missing_locations(Small(folder).visit(ast.parse(block))))


def example_row(block: str) -> dict | None:
    """The record that a comment of the block shows, as JSON on one line or several."""
    comments = re.findall(r"(?:^[ \t]*#[^\n]*\n?)+", block, flags=re.M)
    for comment in comments:
        text = re.sub(r"^[ \t]*#", "", comment, flags=re.M)
        for start in (match.start() for match in re.finditer(r"{", text)):
            try:
                row, _ = json.JSONDecoder().raw_decode(text[start:])
            except ValueError:
                continue
            return row
    return None


def filled(value, sample):
    """The row with a sentence for each "..."."""
    if isinstance(value, dict):
        return {name: filled(inner, sample) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, sample) for inner in value]
    return next(sample) if value == "..." else value


def run(block: str) -> dict:
    """Run the block in an empty folder and return its names; a trainer of its has made 2 steps.

    Raises whatever the block raises, ValueError where it reads a file and shows no record, and
    AssertionError where the trainer did not train.
    """
    from ftkit.model import loading

    old = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="practice-") as place:
        os.chdir(place)
        try:
            shutil.copytree(loading.tiny_path(), "model")
            _write_data(block)
            names = {"__name__": "__main__"}
            exec(compile(small(block, str(Path("model").resolve())), "block", "exec"), names)
            trainer = names.get("trainer")
            if trainer is not None:
                if trainer.state.global_step == 0:
                    trainer.train()
                assert trainer.state.global_step == STEPS, trainer.state.global_step
                losses = [row["train_loss"] for row in trainer.state.log_history
                          if "train_loss" in row]
                assert losses and all(map(math.isfinite, losses)), losses
            return names
        finally:
            os.chdir(old)


def _write_data(block: str):
    row, sample = example_row(block), itertools.cycle(WORDS)
    for name in set(re.findall(r"[\"']([\w./-]+\.jsonl)[\"']", block)):
        if row is None:
            raise ValueError(f"the block reads {name}; show one record of it in a comment, as JSON")
        lines = [json.dumps(filled(row, sample)) for _ in range(ROWS)]
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("\n".join(lines) + "\n", "utf-8")


def offline():
    """Nothing may be taken from the hub; call this before transformers is imported."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE",
                 "HF_HUB_DISABLE_TELEMETRY"):
        os.environ[name] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def block_of(name: str) -> str:
    """The block of a lesson (by its number) or the text of a file."""
    if name.endswith(".py"):
        return Path(name).read_text("utf-8")
    block = lesson_files.script_of(lesson_files.source_of(name))
    if block is None:
        raise ValueError(f"lesson {name} has no script, and neither has its reference page")
    return block


def main(names: list[str]) -> int:
    offline()
    bad = 0
    for name in names:
        result = {"block": name, "steps": 0, "error": None}
        with contextlib.redirect_stdout(sys.stderr):
            try:
                trainer = run(block_of(name)).get("trainer")
                result["steps"] = trainer.state.global_step if trainer is not None else 0
            except Exception:  # noqa: BLE001  a block may raise anything; the next one still runs
                result["error"] = traceback.format_exc()
        bad += result["error"] is not None
        print(json.dumps(result), flush=True)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
