"""The predicted peak of a rank against that of real ranks: the part of MEMORY.md about ranks.

    python tests/benchmarks/ranks_report.py

Lines that were measured are kept in --rows, so that a run that is broken off goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "distributed")]
MARK = "\n## Ranks\n"
CASES = [(4, {"precision": "fp32"}), (4, {"precision": "bf16"}),
         (2, {"precision": "bf16", "method": "lora"}), (2, {"precision": "fp32"}),
         (2, {"precision": "bf16"})]


def rows(ranks: int, fields: dict):
    """Yields a line for each stage."""
    import allocator_of_ranks
    import test_peak_of_ranks

    with tempfile.TemporaryDirectory() as folder:
        run, config, tokens = test_peak_of_ranks.exported(Path(folder) / "run", ranks, **fields)
        measured = allocator_of_ranks.peaks(run, ranks)
    for stage, peaks in measured.items():
        yield {"ranks": ranks, "fields": fields, "stage": stage, "tokens": f"2x{tokens}",
               "predicted": test_peak_of_ranks.predicted(config, ranks, stage, tokens),
               "lowest": min(peaks), "highest": max(peaks)}


def table(found: list[dict]) -> str:
    """The section of MEMORY.md."""
    errors = [abs(one["predicted"] / one[side] - 1) for one in found
              for side in ("lowest", "highest")]
    lines = [MARK, "The peak of one step on each of several ranks, processes that meet over gloo "
             "on one machine and train the model tiny with the script of `ftkit run --torchrun`: "
             "`ft.memory(trainer=\"torchrun\", device=\"cpu\")` against what torch's allocator "
             "recorded. Measured is the lowest and the highest of the ranks. Largest error "
             f"**{max(errors):.2%}**. Made by `python tests/benchmarks/ranks_report.py`.", "",
             "| ranks | config | stage | tokens a rank | predicted | measured | error |",
             "|---|---|---|---|---|---|---|"]
    for one in sorted(found, key=lambda r: (str(r["fields"]), r["ranks"], r["stage"])):
        told = " ".join(f"{k}={v}" for k, v in one["fields"].items())
        low, high = one["lowest"], one["highest"]
        measured = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        lines.append(f"| {one['ranks']} | {told} | {one['stage']} | {one['tokens']} | "
                     f"{one['predicted']:,} | {measured} | {one['predicted'] / low - 1:+.2%} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=Path, default=Path(tempfile.gettempdir()) / "ranks.jsonl")
    asked = parser.parse_args()
    found = [json.loads(line) for line in asked.rows.open()] if asked.rows.exists() else []
    known = {json.dumps([one["ranks"], one["fields"]]) for one in found}
    for case in CASES:
        if json.dumps(case) not in known:
            for one in rows(*case):
                found.append(one)
                with asked.rows.open("a") as file:
                    file.write(json.dumps(one) + "\n")
                print(json.dumps(one), flush=True)
    import memory_report

    memory_report.put(table(found), MARK)


if __name__ == "__main__":
    main()
