"""Which lesson teaches which claim, and what proves it: `python notebooks/coverage.py`.

A cell of prose names what its section teaches, `<!-- claims: C12 C13 · E09 -->`; the section goes
on to the next such cell. What proves it is every `ft.expect`, `assert` and `ft.check` in there.
`claims.tsv` lists the claims, each as it is commonly said with our verdict, and the experiments;
its column `instead` says why one is in no lesson.

    python notebooks/coverage.py             every claim and experiment; exit 1 if one is missing
    python notebooks/coverage.py --missing   only those that are missing
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from pathlib import Path
from typing import NamedTuple

import jupytext

HERE = Path(__file__).parent
MARK = re.compile(r"<!-- claims: ([^>]*?) -->")
PROOF = re.compile(r"ft\.expect\(|^\s*assert |ft\.check\(", re.M)


class Place(NamedTuple):
    """A section of a lesson: its first cell, and the lines in it that can fail."""

    lesson: str
    cell: int
    proofs: tuple[str, ...]


def places(folder: Path = HERE / "src") -> dict[str, list[Place]]:
    """Id of a claim or experiment → the sections that teach it."""
    found: dict[str, list[Place]] = {}
    for source in sorted(folder.glob("[0-9][0-9]*_*.py")):
        cells = jupytext.read(source, fmt="py:percent").cells
        starts = [(i, MARK.search(cell.source)) for i, cell in enumerate(cells)
                  if cell.cell_type == "markdown" and MARK.search(cell.source)]
        ends = [start for start, _ in starts[1:]] + [len(cells)]
        for (start, mark), end in zip(starts, ends, strict=False):
            proofs = tuple(line.strip() for cell in cells[start:end] if cell.cell_type == "code"
                           for line in cell.source.splitlines() if PROOF.search(line))
            for name in re.findall(r"\b[CE]\d+\b", mark[1]):
                number = source.stem.partition("_")[0]
                found.setdefault(name, []).append(Place(number, start, proofs))
    return found


def claims() -> list[dict]:
    with open(HERE / "claims.tsv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def missing(known: list[dict], found: dict[str, list[Place]]) -> list[dict]:
    """Rows that no lesson teaches and that give no reason, and experiments that nothing proves."""
    return [row for row in known if not row["instead"] and not any(
        place.proofs or row["verdict"] != "experiment" for place in found.get(row["id"], ()))]


def main() -> int:
    parser = argparse.ArgumentParser(description="Which lesson teaches which claim.")
    parser.add_argument("--missing", action="store_true", help="only what is in no lesson")
    known, found = claims(), places()
    lost = missing(known, found)
    for row in lost if parser.parse_args().missing else known:
        print(f"{row['id']:4} {row['verdict']:10} {row['claim'][:88]}")
        for place in found.get(row["id"], ()):
            proof = f"  {place.proofs[0][:70]}" if place.proofs else ""
            more = f" (+{len(place.proofs) - 1})" if len(place.proofs) > 1 else ""
            print(f"       lesson {place.lesson}, cell {place.cell}{proof}{more}")
        if row["instead"]:
            print(f"       in no lesson: {row['instead']}")
    strangers = sorted(found.keys() - {row["id"] for row in known})
    print(f"{len(known) - len(lost)} of {len(known)} covered"
          + (f"; unknown: {', '.join(strangers)}" if strangers else ""))
    return 1 if lost or strangers else 0


if __name__ == "__main__":
    sys.exit(main())
