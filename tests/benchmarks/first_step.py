"""From the start of a process to its first training step: `python tests/benchmarks/first_step.py`

`ftkit run` with its defaults against the loop of the tutorials: transformers' auto classes, padded
batches, AdamW. Same model (tiny), records and batch size. Both are run by turns, each in a process
of its own, and the least processor time (user and system, all threads) of the rounds counts, which
other load on the machine hardly disturbs. ftkit also checks the records and measures two evaluation
sets before its first step.

    python tests/benchmarks/first_step.py [--rounds N]      the two, and their ratio
    python tests/benchmarks/first_step.py --imports         what each command imports, and when
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

COMMANDS = {
    "ftkit --help": ["--help"], "ftkit check FILE": ["check", "data_samples/tasks.train.jsonl"],
    "ftkit runs": ["runs"], "ftkit drill --list": ["drill", "--list"],
    "ftkit memory --model 7.5B": ["memory", "--model", "7.5B"],
    "ftkit memory --formula": ["memory", "--formula"], "ftkit memory": ["memory"],
    "ftkit run --max-steps 1": ["run", "--max-steps", "1", "--again"],
}
PACKAGES = ("numpy", "torch", "torch._dynamo", "torch.distributed", "transformers",
            "transformers.generation", "tokenizers", "peft", "bitsandbytes", "datasets",
            "matplotlib", "pandas", "sympy", "sklearn", "scipy", "IPython", "ipywidgets")
PLAIN = """
import json, random, sys, time
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, file = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
with open(file, encoding="utf-8") as lines:
    records = [json.loads(line) for line in lines]

def encode(record):
    prompt = tokenizer(record["instruction"] + "\\n" + record["input"] + "\\n")["input_ids"]
    ids = prompt + tokenizer(record["output"])["input_ids"] + [tokenizer.eos_token_id]
    return {"input_ids": ids, "labels": [-100] * len(prompt) + ids[len(prompt):]}

def collate(batch):
    longest = max(len(e["input_ids"]) for e in batch)
    pad = {"input_ids": 0, "labels": -100}
    padded = {k: torch.tensor([e[k] + [pad[k]] * (longest - len(e[k])) for e in batch])
              for k in pad}
    lengths = torch.tensor([[len(e["input_ids"])] for e in batch])
    padded["attention_mask"] = (torch.arange(longest)[None] < lengths).long()
    return padded

loader = DataLoader([encode(r) for r in records], batch_size=16, shuffle=True, collate_fn=collate)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
model.train()
for batch in loader:
    loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    print("step", loss.item(), flush=True)
    break
sys.stdin.read()
"""


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--imports", action="store_true")
    asked = asked.parse_args()
    if asked.imports:
        imports()
        return 0
    spent: dict[str, list[float]] = {"plain loop": [], "ftkit run": []}
    for _ in range(asked.rounds):
        spent["plain loop"].append(plain())
        spent["ftkit run"].append(ftkit())
        print({name: [f"{s:.2f}" for s in each] for name, each in spent.items()}, flush=True)
    ratio = min(spent["ftkit run"]) / min(spent["plain loop"])
    print(f"ftkit run takes {ratio:.2f} of the plain loop's processor time to its first step")
    return int(ratio > 0.75)


def seconds_of(process: subprocess.Popen) -> float:
    used = psutil.Process(process.pid).cpu_times()
    return used.user + used.system


def plain() -> float:
    """Processor seconds of the plain loop until its first step is done."""
    from ftkit.base import machine
    from ftkit.model import loading

    file = machine.share("data_samples") / "translation.train.jsonl"
    with subprocess.Popen([sys.executable, "-c", PLAIN, loading.tiny_path(), file],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        if not line.startswith("step"):
            raise RuntimeError("the plain loop failed")
        seconds = seconds_of(process)
        process.stdin.close()
    return seconds


def ftkit() -> float:
    """Processor seconds of `ftkit run` until its first row is on the disk."""
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen([sys.executable, "-m", "ftkit", "run", "--quiet"],
                                   env=os.environ | {"FTKIT_HOME": home},
                                   stdout=subprocess.DEVNULL)
        while not any(file.stat().st_size for file in Path(home).glob("runs/*/rows.jsonl")):
            if process.poll() is not None:
                raise RuntimeError("ftkit run failed")
            time.sleep(0.02)
        seconds = seconds_of(process)
        process.kill()
        process.wait()
    return seconds


def imports():
    """Print what each command imports, as a Markdown table."""
    code = ("import json, sys, time; from ftkit.cli.main import main; main(sys.argv[1:]); "
            f"print('\\n', len(sys.modules), time.process_time(), "
            f"*[n for n in {PACKAGES} if n in sys.modules], file=sys.stderr)")
    print("| command | processor seconds | modules | of the large packages |\n"
          "| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as home:
        for name, words in COMMANDS.items():
            done = subprocess.run([sys.executable, "-c", code, *words], text=True,
                                  env=os.environ | {"FTKIT_HOME": home}, capture_output=True)
            count, seconds, *found = done.stderr.splitlines()[-1].split()
            print(f"| `{name}` | {float(seconds):.2f} | {count} | {', '.join(found) or 'none'} |",
                  flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
