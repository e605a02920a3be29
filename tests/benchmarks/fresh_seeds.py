"""The claims of the lessons on seeds that their text was not written with: `make fresh`.

    python tests/benchmarks/fresh_seeds.py [--first 200] [01 02 ...]

Executes each lesson at full length with its seeds 0, 1, ... replaced by 200, 201, ..., collects
what its `ft.expect` lines say, and writes docs/measurements/FRESH_SEEDS.md. "holds" and "not
held" are the verdicts of the test that `expect` makes; a claim about an open question that is
not settled counts as that. Half an hour on one core; lessons without seeds give the same lines.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import torch
from nbclient import NotebookClient

from ftkit.base import machine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MARKS = {"✓": "holds", "✗": "not held", "–": "no difference seen"}
# Data draws and starts of `seed=0` are moved as well: a claim should not hang on them.
NUMBERS = re.compile(r"(\b(?:SEEDS|seeds?)\s*=\s*)([\[(])((?:\d+,?\s*)+)([\])])")
RANGES = re.compile(r"(\b(?:SEEDS|seeds?)\s*(?:=|in)\s*)range\((\w+)\)")
SINGLE = re.compile(r"(\bseed\s*=\s*)(\d+)\b")
REPEATS = re.compile(r"(\brepeat\(.*, )range\((\d+)\)")


def shift(source: str, first: int) -> str:
    """The source of a cell with every seed moved up by `first`."""
    def moved(match):
        numbers = re.sub(r"\d+", lambda number: str(int(number[0]) + first), match[3])
        return f"{match[1]}{match[2]}{numbers}{match[4]}"

    source = NUMBERS.sub(moved, source)
    source = RANGES.sub(rf"\g<1>range({first}, {first} + \2)", source)
    source = REPEATS.sub(rf"\g<1>range({first}, {first} + \2)", source)
    return SINGLE.sub(lambda match: f"{match[1]}{int(match[2]) + first}", source)


def claims(path: Path, first: int) -> tuple[list[tuple[str, str]], list[str]]:
    """([(verdict, line)], errors) of one lesson, executed with moved seeds."""
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = shift(cell.source, first)
    NotebookClient(notebook, timeout=900, iopub_timeout=60, allow_errors=True,
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    found, errors = [], []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            wanted = "raises-exception" in cell.metadata.get("tags", [])
            if output.output_type == "error" and not wanted:
                errors.append(f"{output.ename}: {output.evalue}"[:200])
            if output.output_type == "stream" and "ft.expect(" in cell.source:
                lines = output.text.splitlines()
                found += [(MARKS[line[0]], line[2:]) for line in lines if line[:1] in MARKS]
    return found, errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", help="numbers such as 02 (default: all)")
    parser.add_argument("--first", type=int, default=200, help="the first seed (default: 200)")
    options = parser.parse_args()
    os.environ.update(FTKIT_TIER="cpu", FTKIT_STRICT="0", OMP_NUM_THREADS="1",
                      PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")
    subprocess.run([sys.executable, str(ROOT / "notebooks/build.py")], check=True,
                   stdout=subprocess.DEVNULL)
    target = ROOT / "docs" / "measurements" / "FRESH_SEEDS.md"
    parts = {}
    if target.exists():
        parts = dict(re.findall(r"^## (\d\d\w?) .*?\n(.*?)(?=^## |\Z)", target.read_text(),
                                flags=re.M | re.S))
    names = {path.name.partition("_")[0]: path.stem
             for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
    for number in options.lessons or names:
        with tempfile.TemporaryDirectory() as home:
            os.environ["FTKIT_HOME"] = home
            found, errors = claims(ROOT / "notebooks" / f"{names[number]}.ipynb", options.first)
        counted = {verdict: sum(v == verdict for v, _ in found) for verdict in MARKS.values()}
        parts[number] = "\n".join([
            "", "; ".join(f"{verdict} {count}" for verdict, count in counted.items()) + ".", "",
            *(f"- {verdict}: {line}" for verdict, line in found),
            *(f"- error: {line}" for line in errors)]) + "\n\n"
        print(number, counted, *errors, sep="; ", flush=True)
        text = [f"# Claims of the lessons on seeds {options.first} and up\n\n"
                "Written by `make fresh`; the lessons' own seeds begin at 0. Last part made on "
                f"{machine.processor()}, {platform.system()}, torch {torch.__version__}. An error "
                "is a cell that picks out a run by its seed. A lesson may have changed since its "
                "part was made.\n\n"]
        text += [f"## {key} {names[key]}\n{parts[key]}" for key in sorted(parts.keys() & names)]
        target.write_text("".join(text).rstrip() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
