"""Reading a lesson: its cells, its sections, the code of its texts."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
REFERENCE = NOTEBOOKS / "reference"
EXERCISES = ROOT / "ftkit" / "lessons" / "exercises"
TOUR = NOTEBOOKS / "src" / "tour.py"
SOURCES = sorted((NOTEBOOKS / "src").glob("[0-9][0-9]*_*.py"))


class Cell(NamedTuple):
    number: int
    kind: str  # "markdown" or "code"
    text: str
    tags: tuple[str, ...] = ()


def module(name: str):
    """A module of the folder notebooks, which is no package."""
    spec = importlib.util.spec_from_file_location(f"{name}_of_lessons", NOTEBOOKS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@functools.cache
def builder():
    return module("build")


def number_of(source: Path) -> str:
    """"20a" of notebooks/src/20a_name.py."""
    return source.name.partition("_")[0]


def source_of(number: str) -> Path:
    """notebooks/src/NN_name.py of lesson `number`; ValueError where there is none."""
    found = [path for path in SOURCES if path.name.startswith(f"{number}_")]
    if not found:
        raise ValueError(f"notebooks/src has no lesson {number}")
    return found[0]


@functools.cache
def cells_of(source: Path) -> list[Cell]:
    notebook = json.loads(builder().build(source))
    return [Cell(i, cell["cell_type"], "".join(cell["source"]),
                 tuple(cell["metadata"].get("tags", ())))
            for i, cell in enumerate(notebook["cells"])]


def section(cells: list[Cell], heading: str) -> list[Cell]:
    """The cells from `## heading` to the next `## `, cut to what is between the two."""
    inside, found = False, []
    for cell in cells:
        if cell.kind == "code":
            found += [cell] * inside
            continue
        for part in re.split(r"^(?=## )", cell.text, flags=re.M):
            if part.startswith("## "):
                inside = part.partition("\n")[0].strip() == f"## {heading}"
            if inside:
                found.append(cell._replace(text=part))
    return found


def practice_block(cells: list[Cell]) -> str | None:
    """The first block of Python under `## In practice, 2026`."""
    for cell in section(cells, "In practice, 2026"):
        if cell.kind == "markdown":
            found = re.search(r"^ *```python\n(.*?)^ *```", cell.text, flags=re.S | re.M)
            if found:
                return found.group(1)
    return None


FENCE = re.compile(r"^```(python|diff)\n(.*?)^```", flags=re.S | re.M)


def script_of(source: Path) -> str | None:
    """The script of a lesson: its practice block, or the first block of its reference page.

    A block of "diff" there says what changes in the script of lesson 00.
    """
    page = REFERENCE / f"{source.stem}.md"
    found = FENCE.search(page.read_text("utf-8")) if page.is_file() else None
    script = practice_block(cells_of(source))
    if script or found is None:
        return script
    return found[2] if found[1] == "python" else changed(script_of(SOURCES[0]), found[2])


def changed(script: str, diff: str) -> str:
    """The script after a diff whose hunks are separated by lines of "@@"."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.M):
        lines = hunk.splitlines()
        old, new = ("".join(f"{line[1:]}\n" for line in lines if not line.startswith(sign))
                    for sign in "+-")
        if lines:
            assert script.count(old) == 1, f"not once in the script of lesson 00:\n{old}"
            script = script.replace(old, new)
    return script
