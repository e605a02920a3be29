"""Predicted against published memory; writes docs/measurements/PUBLISHED.md.

published.json holds what others measured, with its source, and the options of `ft.memory` that
come nearest to how they ran it. Where only the card is known on which a run fitted, it is a
capacity: a bound, and no part of the median. Nothing in the prediction was fitted to it but the
slack of the allocator (`model_shapes.SLACK`), which is read off the column of reserved memory.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

HERE = Path(__file__).parent
PAGES = Path(__file__).resolve().parents[2] / "docs" / "measurements"
DATA = json.loads((HERE / "published.json").read_text("utf-8"))


def predicted(row: dict) -> float:
    """Our bytes for a row, in GB."""
    from ftkit.base.config import Config
    from ftkit.memory_use.footprint import memory

    model = DATA["models"].get(row["model"], row["model"])
    found = memory(Config(), model, device="cuda", **row["options"])
    return (found.total_states if row.get("states") else found.peak) / 1e9


def needed(row: dict) -> float:
    """Our bytes for a capacity, with CUDA and the allocator, in GiB."""
    from ftkit.memory_use import model_shapes

    return model_shapes.needed(predicted(row) * 1e9) / model_shapes.GIB


def slack(row: dict) -> float:
    """What a run reserved over its peak, as a fraction, without the context of CUDA."""
    from ftkit.memory_use import model_shapes

    return (row["reserved_gb"] - model_shapes.CONTEXT / 1e9) / row["reported_gb"] - 1


def _spread(errors: list[float]) -> str:
    sizes = list(map(abs, errors))
    return (f"{len(sizes)} rows, median error {statistics.median(sizes):.1%}, "
            f"{sum(size <= 0.15 for size in sizes) / len(sizes):.0%} within 15 %.")


def main():
    lines = ["# Predicted against published memory", "", "| source | model | run | reported, GB | "
             "ours, GB | error | why |", "|---|---|---|---|---|---|---|"]
    errors, flagged = [], []
    for row in DATA["rows"]:
        ours = predicted(row)
        errors.append(ours / row["reported_gb"] - 1)
        flagged.append("why" in row)
        lines.append(f"| {row['source']} | {row['model']} | {row['what']} | {row['reported_gb']} | "
                     f"{ours:.2f} | {errors[-1]:+.1%} | {row.get('why', '')} |")
        print(lines[-1], flush=True)
    plain = [error for error, flag in zip(errors, flagged, strict=True) if not flag]
    lines += ["", f"{_spread(errors)} Without the {sum(flagged)} rows that have a reason: "
              f"{_spread(plain)} Every row that was tried is here; answer.ai's other rows give "
              "reserved memory, and litgpt's for 4 GPUs repeat those for one. Made by "
              "`python tests/benchmarks/published.py`.", "",
              "Capacities: a run that fitted on a card, and what we say that it needs with CUDA "
              "and the allocator.", "", "| source | model | run | card, GiB | ours, GiB |",
              "|---|---|---|---|---|",
              *(f"| {row['source']} | {row['model']} | {row['what']} | {row['card_gib']} | "
                f"{needed(row):.1f} |" for row in DATA["capacities"]), "",
              *(f"- {name}: {where}" for name, where in DATA["sources"].items())]
    (PAGES / "PUBLISHED.md").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
