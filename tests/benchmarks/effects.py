"""What fine-tuning does to the embedded model, measured: `make effects` (a quarter of an hour).

Writes docs/measurements/EFFECTS.md. Every figure is a mean over three seeds with
its standard deviation; the seeds order the data and start the LoRA matrices, the base is one.
Seconds are process CPU time with one thread, evaluation before and after included: other load
hardly disturbs it, and two quiet cores are faster.

    python tests/benchmarks/effects.py [elicitation] [learning-rate] [overfitting] [forgetting]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import ftkit as ft
from ftkit.base import machine
from ftkit.data import schema, split_and_corrupt
from ftkit.evaluate import scoring

HERE = Path(__file__).parent
PAGES = Path(__file__).resolve().parents[2] / "docs" / "measurements"
SEEDS = (0, 1, 2)
RATES = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 5e-2)
BEST = {"full": 5e-4, "lora": 3e-3}
SWEEP_RECORDS = 512
FORGET = ("tasks_exact_match", "probes", "general_perplexity")


def train(lab: ft.Experiment, **changes):
    """A run without evaluation on the way; its seconds are those of the processor."""
    began = time.process_time()
    run = lab.run(eval_steps=10**6, live=False, **changes)
    run.seconds = time.process_time() - began
    return run


def measure(run, *, records=(), field="exact_match") -> dict:
    """Exact match on records, mean probe score and general perplexity of a finished run."""
    import math

    probes = scoring.probe_scores(run.model, run.tokenizer, ft.load_probes())
    out = {"probes": statistics.fmean(probes.values()), "seconds": run.seconds,
           "general_perplexity": math.exp(min(20.0, run.after["general_loss"]))}
    if records:
        out[field] = scoring.exact_match(run.model, run.tokenizer, list(records))
    return out


def cell(values: list[float], digits: int = 2) -> str:
    """`mean ± sd`, or the mean alone where the spread is nothing."""
    mean = statistics.fmean(values)
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    if mean >= 100:
        return f"{mean:,.0f} ± {spread:,.0f}"
    return f"{mean:.{digits}f} ± {spread:.{digits}f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def say(text: str):
    """Progress, on stderr."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def elicitation(seeds=SEEDS) -> tuple[str, dict]:
    """Exact match per task on held-out entities: untuned, full, LoRA."""
    records, test = schema.records("tasks"), schema.records("tasks", "test")
    tasks = sorted({r["task"] for r in test})
    model, tokenizer = ft.load("tiny")
    before = scoring.exact_match(model, tokenizer, test, by="task")
    found, seconds = {"before": [before]}, {}
    for method in ("full", "lora"):
        lab = ft.Experiment(data=records, val=schema.records("tasks", "validation"))
        found[method], seconds[method] = [], []
        for seed in seeds:
            run = train(lab, method=method, learning_rate=BEST[method], seed=seed)
            found[method].append(
                scoring.exact_match(run.model, run.tokenizer, test, by="task"))
            seconds[method].append(run.seconds)
            mean = statistics.fmean(found[method][-1].values())
            say(f"{method} seed {seed}: {mean:.3f} in {run.seconds:.1f} s")
    rows = []
    for task in tasks:
        rows.append([task, f"{before[task]:.2f}",
                     *(cell([f[task] for f in found[m]]) for m in ("full", "lora"))])
    means = {m: [statistics.fmean(f.values()) for f in found[m]] for m in found}
    rows.append(["**mean**", f"**{means['before'][0]:.2f}**",
                 *(f"**{cell(means[m])}**" for m in ("full", "lora"))])
    rows.append(["CPU seconds", "", *(cell(seconds[m], 1) for m in ("full", "lora"))])
    head = ["task, exact match on held-out entities", "untuned", "full", "LoRA r=8"]
    return table(head, rows), {"per_task": found, "seconds": seconds}


def learning_rate(seeds=SEEDS) -> tuple[str, dict]:
    """Too low underfits, a plateau, too high collapses: per method and rate."""
    records, test = schema.records("tasks"), schema.records("tasks", "test")
    lab = ft.Experiment(data=records[:SWEEP_RECORDS], val=schema.records("tasks", "validation"))
    rows, found = [], {}
    for method in ("full", "lora"):
        for rate in RATES:
            runs = [train(lab, method=method, learning_rate=rate, seed=seed) for seed in seeds]
            got = [measure(run, records=test[::2]) for run in runs]
            found[f"{method} {rate:g}"] = got
            rows.append([method, f"{rate:g}", cell([g["exact_match"] for g in got]),
                         cell([g["probes"] for g in got]),
                         cell([g["general_perplexity"] for g in got]),
                         cell([g["seconds"] for g in got], 1)])
            say(" ".join(rows[-1]))
    head = ["method", "learning rate", "exact match", "probes", "general perplexity", "CPU s"]
    return table(head, rows), found


def overfitting(seeds=SEEDS) -> tuple[str, dict]:
    """A small set, many passes: training loss falls on, validation loss turns."""
    few = schema.records("tasks")[:75]
    clean = ft.Experiment(data=few, val=schema.records("tasks", "validation"), eval_records=200)
    found = {"full": [], "with 30 % wrong answers": []}
    wrong = split_and_corrupt.corrupt(few, "wrong", 0.3, seed=0)
    noisy = ft.Experiment(data=wrong, val=schema.records("tasks", "validation"), eval_records=200)
    for name, lab in zip(found, (clean, noisy), strict=True):
        for seed in seeds:
            found[name].append(lab.run(epochs=30, eval_steps=14, seed=seed, live=False).rows)
            say(f"overfitting, {name}, seed {seed}")
    rows = []
    for name, runs in found.items():
        for epoch in (3, 6, 9, 12, 18, 24, 30):
            at = [min((r for r in run if "val_loss" in r), key=lambda r: abs(r["epoch"] - epoch))
                  for run in runs]
            rows.append([name, str(epoch), cell([a["loss"] for a in at], 3),
                         cell([a["val_loss"] for a in at], 3)])
    return table(["records", "epoch", "training loss", "validation loss"], rows), found


def forgetting(seeds=SEEDS) -> tuple[str, dict]:
    """A tuned assistant learns one narrow task; what is left of the rest?"""
    records, test = schema.records("tasks"), schema.records("tasks", "test")[::2]
    narrow = schema.records("finance_task")[:240]
    narrow_test = schema.records("finance_task", "test")
    first = train(ft.Experiment(data=records[:1600]), learning_rate=1e-3)
    tuned = (first.model, first.tokenizer)
    arms = {
        "full, 1e-3": dict(learning_rate=1e-3),
        "full, 5e-5": dict(learning_rate=5e-5),
        "full, 5e-3": dict(learning_rate=5e-3),
        "LoRA, 5e-3": dict(method="lora", learning_rate=5e-3),
        "LoRA, 1e-3": dict(method="lora", learning_rate=1e-3),
        "full, 1e-3, 20 % replay": dict(learning_rate=1e-3, replay=0.2),
    }
    start = measure(first, records=test, field="tasks_exact_match")
    start["exact_match"] = scoring.exact_match(*tuned, narrow_test)
    rows = [["before"] + [f"{start[k]:.2f}" for k in ("exact_match", *FORGET)] + [""]]
    found = {"before": [start]}
    replayed = records[1600:]
    for name, changes in arms.items():
        lab = ft.Experiment(model=tuned, data=narrow, replay_from=replayed,
                            val=schema.records("finance_task", "validation"))
        got = []
        for seed in seeds:
            run = train(lab, epochs=2, seed=seed, **changes)
            one = measure(run, records=test, field="tasks_exact_match")
            one["exact_match"] = scoring.exact_match(run.model, run.tokenizer, narrow_test)
            got.append(one)
        found[name] = got
        rows.append([name] + [cell([g[k] for g in got]) for k in ("exact_match", *FORGET)]
                    + [cell([g["seconds"] for g in got], 1)])
        say(" ".join(rows[-1]))
    head = ["run", "narrow task", "all other tasks", "probes", "general perplexity", "CPU s"]
    return table(head, rows), found


PARTS = {"elicitation": elicitation, "learning-rate": learning_rate,
         "overfitting": overfitting, "forgetting": forgetting}


def main():
    """Measure the parts named on the command line (all of them by default)."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    if set(options.parts) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")
    where = HERE.parent.parent / ".cache" / "effects.json"  # so that parts can be measured alone
    where.parent.mkdir(exist_ok=True)
    kept = json.loads(where.read_text("utf-8")) if where.exists() else {}
    for name in options.parts or PARTS:
        text, numbers = PARTS[name](tuple(options.seeds))
        kept[name] = {"table": text, "numbers": numbers, "machine": machine.describe(),
                      "about": PARTS[name].__doc__}
        where.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    parts = [f"## {name}\n\n{kept[name]['about']}\n\n{kept[name]['table']}" for name in PARTS
             if name in kept]
    text = "# Effects on the embedded model\n\n" + "\n\n".join(parts) + "\n"
    (PAGES / "EFFECTS.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
