"""Where the time of a training step goes: `python tests/benchmarks/operations.py`

For tiny and SmolLM2, full fine-tuning and LoRA: milliseconds of each kind of operation in a step,
by the profiler of torch, on one thread; the fraction of the step that its matmuls would take
at the speed of a plain one of like shapes (the GEMM peak); and the same fraction while they run.
Each step reads another batch, as in a run. The steps that compile kernels are left out.

    python tests/benchmarks/operations.py [--steps N] [--model tiny|smollm2] [--precision bf16|fp32]
                                          [--ops] prints the operations of each kind as well
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict

os.environ["OMP_NUM_THREADS"] = "1"

WARM_UP, RATE = 2, 1e-5
KINDS = {  # the first kind of which a name contains a word
    "optimizer and clipping": ("adam", "foreach", "norm_2", "linalg_vector_norm"),
    "attention": ("attention", "bmm", "baddbmm", "softmax"),
    "matrix multiplication": ("mm", "linear", "matmul"),
    "loss": ("log_softmax", "nll_loss", "logsumexp", "cross_entropy"),
    "casts and copies": ("copy", "_to_copy", "clone", "contiguous"),
    "embedding, gather, scatter": ("embedding", "index", "gather", "scatter", "cat", "unique"),
    "sums and means (norms among them)": ("sum", "mean", "rsqrt", "pow", "norm"),
    "elementwise": ("mul", "add", "silu", "sigmoid", "neg", "sub", "div", "exp", "where", "fill",
                    "zero", "cos", "sin", "gelu", "tanh", "sqrt"),
}


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--steps", type=int, help="profiled steps (default: tiny 12, smollm2 2)")
    asked.add_argument("--model", choices=("tiny", "smollm2"), help="this model alone")
    asked.add_argument("--method", choices=("full", "lora"), help="this method alone")
    asked.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    asked.add_argument("--ops", action="store_true", help="also each operation")
    asked = asked.parse_args()
    from ftkit.base import machine
    from ftkit.model import download

    about = machine.describe()
    print(f"{about['name']}, {about['system']}, torch {machine.versions()['torch']}, one thread, "
          f"{asked.precision}\n", flush=True)
    models = [asked.model] if asked.model else ["tiny"] + (
        ["smollm2"] if download.find("smollm2") else [])
    for model in models:
        for method in [asked.method] if asked.method else ("full", "lora"):
            table(model, method, asked)
    return 0


def table(model: str, method: str, asked):
    """Print the operations of a step of one model and method."""
    import contenders

    steps = asked.steps or {"tiny": 12, "smollm2": 2}[model]
    size = contenders.MODELS[model]["batch_size"]
    task = {"model": model, "method": method, "threads": 1, "records": (WARM_UP + steps) * size}
    spent, calls, seconds = profiled(task, asked.precision, size)
    work = contenders.work(task)["steps"][WARM_UP:]
    flops = sum(step["flops"] for step in work) / steps
    peak = contenders.gemm({"threads": 1})[asked.precision]["cpu"]
    kinds: dict[str, float] = defaultdict(float)
    whole = 1000 * seconds / steps
    # The profiler reads the wall clock, in which other programs take their part of each operation.
    scale = whole / sum(spent.values())
    for name, each in spent.items():
        kinds[kind_of(name)] += scale * each
    ideal = flops / peak / 1e6  # milliseconds
    print(f"### {model}, {method}: {whole:,.0f} ms a step, {ideal / whole:.0%} of the GEMM peak of "
          f"{peak:,.0f} GFLOP/s; its matrix multiplications alone "
          f"{ideal / kinds['matrix multiplication']:.0%}\n\n"
          "| operation | ms | of the step |\n| --- | --- | --- |")
    for kind, each in sorted(kinds.items(), key=lambda item: -item[1]):
        print(f"| {kind} | {each:,.1f} | {each / whole:.0%} |")
    if asked.ops:
        print("\n| ms | calls | operation |\n| --- | --- | --- |")
        for name, each in sorted(spent.items(), key=lambda item: -item[1])[:24]:
            print(f"| {scale * each:,.2f} | {calls[name] / steps:,.0f} | {name} |")
    print(flush=True)


def profiled(task: dict, precision: str, size: int):
    """(self milliseconds by operation, calls by operation, seconds of processor time without the
    profiler) of all steps after the warm-up."""
    import time

    import contenders
    import torch

    from ftkit.base.config import Config
    from ftkit.engine import loop, packed_batch

    model, _, rows = contenders.start(task)
    config = Config(method=task["method"], precision=precision, learning_rate=RATE)
    update = loop.Update(model, config)
    model.train()
    batches = [packed_batch.pack(rows[at : at + size]) for at in range(0, len(rows), size)]
    for batch in batches:
        update([batch], RATE)
    began = time.process_time()
    for batch in batches[WARM_UP:]:
        update([batch], RATE)
    seconds = time.process_time() - began
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for batch in batches[WARM_UP:]:
            update([batch], RATE)
    events = found.key_averages()
    return ({e.key: e.self_cpu_time_total / 1000 for e in events},
            {e.key: e.count for e in events}, seconds)


def kind_of(name: str) -> str:
    """The kind of an operation of the profiler."""
    low = name.lower()
    return next((kind for kind, words in KINDS.items() if any(word in low for word in words)),
                "views, autograd and dispatch")


if __name__ == "__main__":
    sys.exit(main())
