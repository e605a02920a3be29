"""Eight learning rates on the embedded model: ftkit's sweep against eight plain PyTorch runs.

The plain run is what one writes without a kit: padded batches, fp32, `model(**batch).loss`, clip,
AdamW, an evaluation ten times in a run; one rate after the other in one process with all cores.
Same model, records, order, schedule and evaluation records. Each contender has a process of its
own; imports, loading and a first step are not counted. Wall time, so it needs a quiet machine.
Writes docs/measurements/SWEEPS.md.

    python tests/benchmarks/sweeps.py [--quick] [--rounds N]

--quick: three rates, 12 steps, nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "docs" / "measurements"
RATES = (3e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
WHO = {
    "plain": "plain PyTorch, fp32, one after the other",
    "turn": "ftkit, one after the other",
    "sweep": "ftkit, `lab.sweep(...)` as it comes",
    "fp32": "ftkit, fp32, as it comes",
    "halving": "ftkit, `halving=True`",
}


def experiment():
    import ftkit as ft

    return ft.Experiment(model="tiny", data="tasks", eval_records=64)


def plain(rates, steps: int) -> dict:
    """The ordinary loop."""
    import random

    import torch

    from ftkit.data import encoding
    from ftkit.engine import loop
    from ftkit.model import loading

    lab = experiment()
    tokenizer = loading.load_tokenizer("tiny")
    train = encoding.encode_all(lab.train, tokenizer).examples
    held_out = {name: encoding.encode_all(
        [records[i] for i in sorted(random.Random(0).sample(range(len(records)),
                                                            min(64, len(records))))],
        tokenizer).examples for name, records in {"val": lab.val, **lab.probes}.items()}

    def batch_of(examples):
        return encoding.collate(examples, tokenizer.pad_token_id or 0)

    def evaluate(model, examples):
        model.eval()
        total = count = 0
        with torch.no_grad():
            for start in range(0, len(examples), 16):
                batch = batch_of(examples[start : start + 16])
                labeled = int((batch["labels"][:, 1:] != -100).sum())
                total += model(**batch).loss.item() * labeled
                count += labeled
        model.train()
        return total / count

    def run(rate, steps):
        model, _ = loading.load("tiny")
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
        order = loop.shuffled(len(train), 16, 0)
        measured = [evaluate(model, examples) for examples in held_out.values()]
        model.train()
        for step in range(1, steps + 1):
            share = loop.schedule(step, steps, Cosine(0.06))
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            batch = batch_of([train[i] for i in next(order)])
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            if step % max(1, steps // 10) == 0 or step == steps:
                measured = [evaluate(model, examples) for examples in held_out.values()]
        return measured[0]

    run(1e-5, 1)
    began = time.perf_counter()
    losses = [run(rate, steps) for rate in rates]
    return {"seconds": time.perf_counter() - began, "val_loss": losses}


class Cosine:
    """What `loop.schedule` reads of a Config."""

    lr_scheduler_type = "cosine"

    def __init__(self, warmup_steps):
        self.warmup_steps = warmup_steps


def ours(who: str, rates, steps: int) -> dict:
    """Experiment.sweep in one of its ways."""
    import ftkit as ft

    lab = experiment()
    config = ft.Config(max_steps=steps, precision="fp32" if who == "fp32" else None)
    lab.run(config, max_steps=1, live=False)
    options = {"turn": {"parallel": False}, "halving": {"halving": True}}.get(who, {})
    began = time.perf_counter()
    runs = lab.sweep(config, learning_rate=list(rates), **options)
    return {"seconds": time.perf_counter() - began, "how": runs.how,
            "val_loss": [None if r.end == "ended early" else r.after["val_loss"]
                         for r in runs]}


def contender(who: str, quick: bool) -> dict:
    """One of them in a fresh process."""
    words = [sys.executable, __file__, "--who", who] + ["--quick"] * quick
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(words, capture_output=True, text=True,
                              env=os.environ | {"FTKIT_HOME": home, "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise RuntimeError(f"{who} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def told(results: dict, rates, steps: int) -> str:
    """The table in Markdown."""
    from ftkit.base import machine

    base = results["plain"]
    lines = ["| | seconds | share of plain | largest difference in val_loss | best rate | how |",
             "| --- | --- | --- | --- | --- | --- |"]
    for who, name in WHO.items():
        found = results[who]
        pairs = [(a, b) for a, b in zip(base["val_loss"], found["val_loss"], strict=True)
                 if b is not None]
        apart = max(abs(a - b) for a, b in pairs)
        best = rates[min((v, i) for i, v in enumerate(found["val_loss"]) if v is not None)[1]]
        lines.append(f"| {name} | {found['seconds']:.1f} | {found['seconds'] / base['seconds']:.2f}"
                     f" | {apart:.4f} | {best:g} | {found.get('how', '')} |")
    return (f"{len(rates)} learning rates, {steps} steps of 16 records each, on "
            f"{machine.processor()}, {machine.cores()} cores.\n\n" + "\n".join(lines) + "\n\n"
            + ends(results, rates))


def ends(results: dict, rates) -> str:
    """val_loss of each rate at its end; None: ended early."""
    lines = ["val_loss at the end, by learning rate; in fp32 the runs are the plain ones but for "
             "rounding, which the highest rates amplify:", "",
             "| | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
             "| --- " * (len(rates) + 1) + "|"]
    for who, name in WHO.items():
        cells = ["" if loss is None else f"{loss:.3f}" for loss in results[who]["val_loss"]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=1, help="the best of so many counts")
    parser.add_argument("--who", choices=WHO, help=argparse.SUPPRESS)
    args = parser.parse_args()
    rates, steps = (RATES[3:6], 12) if args.quick else (RATES, 60)
    if args.who:
        made = plain(rates, steps) if args.who == "plain" else ours(args.who, rates, steps)
        print(json.dumps(made))
        return
    results: dict = {}
    for number in range(1 if args.quick else args.rounds):
        for who in WHO:
            found = contender(who, args.quick)
            print(f"round {number + 1}, {who}: {found['seconds']:.1f} s", file=sys.stderr)
            if who not in results or found["seconds"] < results[who]["seconds"]:
                results[who] = found
    text = told(results, rates, steps)
    print(text)
    if not args.quick:
        (PAGES / "SWEEPS.md").write_text(f"# Sweeps\n\n{__doc__.split(chr(10))[0]}\n"
                                        f"`make sweeps` measures it again.\n\n{text}", "utf-8")


if __name__ == "__main__":
    main()
