"""Does a run take the faster precision by default? `python tests/benchmarks/precision.py`

tiny and SmolLM2, full fine-tuning and LoRA: the same steps in fp32 and in bf16 by turns in one
process, in processor time of one thread, which other load on the machine hardly disturbs. Each
step reads another batch, as in a run, so what oneDNN compiles for new sizes is included. Prints a
Markdown table; the exit status is 1 where the default is slower than the other by more than 5 %.
SmolLM2 takes part if `ftkit fetch smollm2` has brought it.

    python tests/benchmarks/precision.py [--steps N] [--model tiny|smollm2]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

WARM_UP, TOLERANCE, RATE = 2, 1.05, 1e-5


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--steps", type=int, help="measured steps (default: tiny 24, smollm2 4)")
    asked.add_argument("--model", choices=("tiny", "smollm2"), help="this model alone")
    asked = asked.parse_args()
    from ftkit.base import machine
    from ftkit.model import download

    models = [asked.model] if asked.model else ["tiny"] + (
        ["smollm2"] if download.find("smollm2") else [])
    print(f"{machine.describe()['name']}, {machine.describe()['system']}, torch "
          f"{machine.versions()['torch']}, one thread\n")
    print("| model | method | fp32, ms a step | bf16, ms a step | default | the faster one |\n"
          "| --- | --- | --- | --- | --- | --- |")
    is_wrong = False
    for model in models:
        for method in ("full", "lora"):
            spent, default = measure(model, method, asked.steps)
            faster = min(spent, key=spent.get)
            is_wrong |= spent[default] > TOLERANCE * spent[faster]
            print(f"| {model} | {method} | {spent['fp32']:,.0f} | {spent['bf16']:,.0f} | {default} "
                  f"| {faster} |", flush=True)
    return int(is_wrong)


def measure(model: str, method: str, steps: int | None) -> tuple[dict[str, float], str]:
    """Median milliseconds of processor time of a step, by precision; and the default precision."""
    import contenders

    from ftkit.base.config import Config
    from ftkit.engine import loop, packed_batch
    from ftkit.memory_use.preflight import ModelFacts

    steps = steps or {"tiny": 24, "smollm2": 4}[model]
    size = contenders.MODELS[model]["batch_size"]
    task = {"model": model, "method": method, "threads": 1, "records": (WARM_UP + steps) * size}
    default = ModelFacts.of(model).resolve(Config(method=method)).precision
    updates, spent = {}, {"fp32": [], "bf16": []}
    for precision in spent:
        trained, _, rows = contenders.start(task)
        updates[precision] = loop.Update(trained, Config(
            method=method, precision=precision, learning_rate=RATE))
        trained.train()
    for at in range(0, len(rows), size):
        for precision, update in updates.items():
            began = time.process_time()
            update([packed_batch.pack(rows[at : at + size])], RATE)
            spent[precision].append(time.process_time() - began)
    return {name: 1000 * statistics.median(each[WARM_UP:]) for name, each in spent.items()}, default


if __name__ == "__main__":
    sys.exit(main())
