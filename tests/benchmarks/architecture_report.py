"""Predicted against measured peak of a step for many architectures: the last part of MEMORY.md.

    python tests/benchmarks/architecture_report.py [--quick]

Each line has two measurements: torch's own record of its allocations, and all bytes that the
process had from malloc, by a library that is preloaded (tests/count_malloc.c; Linux, gcc). A
measurement runs in a process of its own. Lines that were measured are kept in --rows, so that a
run that is broken off goes on where it ended.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
MARK = "\n## Architectures\n"


def preloaded():
    """Start this program once more, with the library that counts malloc."""
    library = Path(tempfile.mkdtemp()) / "count_malloc.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", str(HERE.parent / "count_malloc.c"), "-o",
                    str(library)], check=True)
    os.execve(sys.executable, [sys.executable, *sys.argv],
              os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"})


def by_malloc(shape: dict, config, lengths: list[int]) -> int:
    """Bytes at the peak of a step: those of the tensors before it, and what it has from malloc
    beside them. It is the step after next, when everything is imported."""
    import allocator

    from ftkit.memory_use import simulate

    counted = ctypes.CDLL(None)
    counted.malloc_now.restype = counted.malloc_peak.restype = ctypes.c_long
    update, batches = allocator.ready(shape, config, lengths)
    update(batches, 1e-3)
    tensors = simulate.watch(update, batches).total
    gc.collect()
    counted.malloc_reset()
    before = counted.malloc_now()
    update(batches, 1e-3)
    return tensors + counted.malloc_peak() - before


def row(name: str, fields: dict, lengths: list[int], kind: str) -> dict:
    """A line with one of its measurements, torch or malloc."""
    import allocator
    import architectures as shapes

    from ftkit.base.config import Config
    from ftkit.memory_use import footprint

    config, shape = Config(**fields), shapes.SHAPES[name]
    found = {"model": name, "fields": fields, "lengths": lengths}
    if kind == "malloc":
        return found | {"malloc": allocator.forked(by_malloc, shape, config, lengths)}
    predicted = footprint.simulated(shape, config, lengths, device="cpu").peak
    return found | {"predicted": predicted,
                    "torch": allocator.forked(allocator.peak, shape, config, lengths)}


def table(rows: list[dict]) -> str:
    """The section of MEMORY.md."""
    torchs, mallocs = ([abs(one["predicted"] / one[kind] - 1) for one in rows if kind in one]
                       for kind in ("torch", "malloc"))
    above = sum(error > 0.02 for error in mallocs)
    lines = [MARK, f"{len(rows)} steps of {len({one['model'] for one in rows})} architectures, "
             "random weights (tests/architectures.py). Against the record of torch's allocator the "
             f"largest error is **{max(torchs):.3%}**. Against all bytes from malloc, counted for "
             f"{len(mallocs)} of them, it is {max(mallocs):.2%}, the median "
             f"{statistics.median(mallocs):.2%}, and above 2 % for {above}: malloc also counts the "
             "objects of Python and the scratch of kernels. Both together are 0.1 to 1.2 MB here; "
             "only where experts have weights in bf16 are they 18 to 41 MB, which the products of "
             "the CPU take beside the tensors. Made by "
             "`python tests/benchmarks/architecture_report.py`.", "",
             "| model | config | tokens | predicted | torch | error | malloc | error |",
             "|---|---|---|---|---|---|---|---|"]
    for one in rows:
        told = " ".join(f"{k}={v}" for k, v in one["fields"].items())
        malloc = (f"{one['malloc']:,} | {one['predicted'] / one['malloc'] - 1:+.2%}"
                  if "malloc" in one else "not counted | ")
        lines.append(
            f"| {one['model']} | {told} | {'+'.join(map(str, one['lengths']))} | "
            f"{one['predicted']:,} | {one['torch']:,} | {one['predicted'] / one['torch'] - 1:+.3%} "
            f"| {malloc} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="every tenth line, nothing written")
    parser.add_argument("--rows", type=Path, default=Path(tempfile.gettempdir()) / "rows.jsonl")
    asked = parser.parse_args()
    if not hasattr(ctypes.CDLL(None), "malloc_now"):
        preloaded()
    import architectures as shapes
    import torch

    torch.set_num_threads(1)
    import bitsandbytes  # noqa: F401  what children need is imported once
    import torch.profiler
    known: dict[str, dict] = {}
    for line in asked.rows.open() if asked.rows.exists() else ():
        one = json.loads(line)
        known.setdefault(_key(one["model"], one["fields"], one["lengths"]), {}).update(one)
    cases = shapes.CASES[:: 10 if asked.quick else 1]
    for kind in ("torch", "malloc"):
        for case in cases:
            one = known.setdefault(_key(*case), {})
            if kind in one or (kind == "malloc" and "torch" not in one):
                continue
            try:
                one |= row(*case, kind)
            except Exception as error:  # noqa: BLE001  a line that fails must not end the others
                print(case[:2], type(error).__name__, str(error)[:200], flush=True)
                continue
            with asked.rows.open("a") as file:
                file.write(json.dumps(one) + "\n")
            print(json.dumps(one), flush=True)
    if not asked.quick:
        import memory_report

        memory_report.put(table([one for one in known.values() if "torch" in one]), MARK)


def _key(*case) -> str:
    return json.dumps(case)


if __name__ == "__main__":
    main()
