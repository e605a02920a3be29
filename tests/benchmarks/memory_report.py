"""Predicted against measured peak of a training step: `make memory-report` (ten minutes).

Writes docs/measurements/MEMORY.md. On CPU the measurement is torch's own record of every
allocation (tests/allocator.py), one process for each line; on CUDA the allocator's peak. The
prediction has no constant that was fitted to it.

    python tests/benchmarks/memory_report.py [--quick] [--models tiny smollm2]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent
PAGES = Path(__file__).resolve().parents[2] / "docs" / "measurements"
sys.path.insert(0, str(HERE.parent))

import allocator  # noqa: E402

from ftkit.base import formatting, machine  # noqa: E402
from ftkit.base.config import Config  # noqa: E402
from ftkit.memory_use import footprint, measure  # noqa: E402

LENGTHS = {"2x128": [128] * 2, "8x256": [256] * 8}
OTHERS = [  # what the grid leaves out: (fields, lengths)
    ({"optim": "adamw_bnb_8bit"}, [128] * 4), ({"optim": "sgd"}, [64]),
    ({"optim": "muon"}, [64] * 2), ({"method": "lora", "optim": "muon"}, [64] * 2),
    ({"method": "lora", "loraplus_lr_ratio": 16.0}, [64] * 2),
    ({"optim": "adafactor"}, [64] * 2), ({"gradient_accumulation_steps": 3}, [96] * 2),
    ({"precision": "fp16"}, [128] * 4), ({"l2_sp": 0.01}, [128] * 2),
    ({"method": "lora", "r": 64, "target_modules": "q_proj,v_proj"}, [200] * 3),
    ({"method": "lora", "lora_dropout": 0.1}, [128] * 2),
    ({"method": "lora", "use_dora": True}, [128] * 2),
    ({}, [200, 150, 70, 33]), ({"gradient_checkpointing": True}, [512, 40]),
    ({"method": "qlora", "r": 32, "optim": "adamw_bnb_8bit"}, [100] * 5),
    ({"method": "lora", "optim": "adafactor", "precision": "bf16"}, [300] * 2),
    ({"packing": True, "precision": "bf16"}, [61, 60, 7, 120, 8, 44, 44, 40]),
    ({"method": "qlora", "r": 4, "target_modules": "q_proj,v_proj",
      "gradient_accumulation_steps": 4}, [64] * 2),
    ({"max_grad_norm": 0.0, "optim": "sgd", "precision": "pure-bf16"}, [16]),
]


def grid():
    """Every cell: (fields, batch)."""
    for method, precision, checkpointing, batch in itertools.product(
            ("full", "lora", "qlora"), ("fp32", "bf16", "pure-bf16"), (False, True), LENGTHS):
        yield {"method": method, "precision": precision,
               "gradient_checkpointing": checkpointing}, LENGTHS[batch]


def row(model: str, fields: dict, lengths: list[int]) -> dict:
    """One line of the table."""
    config = Config(**({"precision": "fp32"} | fields))
    device = machine.device()
    began = time.process_time()
    predicted = footprint.simulated(model, config, lengths, device=device).peak
    seconds = time.process_time() - began
    if device == "cuda":
        measured = measure.step(model, config, lengths).peak
    else:
        measured = allocator.forked(allocator.peak, model, config, lengths, start="forkserver")
    asked = dict(config.differs())
    asked.pop("gradient_checkpointing", None)
    told = " ".join(f"{k}={v}" for k, v in asked.items() if k not in ("method", "precision"))
    batch = "x".join(map(str, (len(lengths), lengths[0]))) if len(set(lengths)) == 1 else (
        "+".join(map(str, lengths)))
    return {"model": model, "method": config.method, "precision": config.precision,
            "checkpointing": "yes" if config.gradient_checkpointing else "", "batch": batch,
            "other": told, "predicted": predicted, "measured": measured,
            "error": predicted / measured - 1, "seconds": seconds}


def written(rows: list[dict]) -> str:
    """The table and what it comes to, in Markdown."""
    errors = [abs(row["error"]) for row in rows]
    found = machine.describe()
    versions = machine.versions()
    head = ["# Predicted against measured memory", "",
            "The peak of one training step, `ft.memory`'s simulation against what torch's "
            "allocator recorded, in bytes. Made by `make memory-report`; nothing in the "
            "prediction was fitted to it.", "",
            f"{len(rows)} configurations: largest error **{max(errors):.3%}**, "
            f"median {sorted(errors)[len(errors) // 2]:.4%}.", "",
            f"Machine: {found['name']}, {found['device']}; torch {versions['torch']}, "
            f"transformers {versions['transformers']}, peft {versions['peft']}, bitsandbytes "
            f"{versions['bitsandbytes']}.", ""]
    keys = [key for key in rows[0] if key != "seconds"]
    table = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    for one in rows:
        cells = [f"{one[k]:+.3%}" if k == "error" else f"{one[k]:,}" if isinstance(one[k], int)
                 else formatting.clean(one[k]) for k in keys]
        table.append("| " + " | ".join(cells) + " |")
    return "\n".join(head + table) + "\n"


def put(section: str, mark: str = ""):
    """Write a section of MEMORY.md, which begins with its mark; without one, all above the first
    section."""
    file = PAGES / "MEMORY.md"
    before, found, after = file.read_text("utf-8").partition(mark or "\n## ")
    if mark:
        rest = after.partition("\n## ")
        file.write_text(before + section + "".join(rest[1:]), "utf-8")
    else:
        file.write_text(section + found + after, "utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=["tiny", "smollm2"])
    parser.add_argument("--quick", action="store_true", help="every ninth line, nothing written")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    import bitsandbytes  # noqa: F401

    plan = [(model, *cell) for model in asked.models
            for cell in [*grid(), *(OTHERS if model == "tiny" else [])]]
    rows = []
    for model, fields, lengths in plan[:: 9 if asked.quick else 1]:
        rows.append(row(model, fields, lengths))
        print(json.dumps(rows[-1]), flush=True)
    if not asked.quick:
        put(written(rows))
    print(f"largest error {max(abs(row['error']) for row in rows):.3%}")


if __name__ == "__main__":
    main()
