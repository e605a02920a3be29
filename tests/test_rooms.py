"""The package is divided into rooms, and imports point one way between them.

A room may import from the rooms before it in `ORDER` and from itself; rooms of one line do not use
each other. Imports inside functions count: that is where circles hide.
"""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest
from helpers import ROOT

pytestmark = pytest.mark.quick

ORDER = (("base",), ("report", "data"), ("model",), ("engine",), ("evaluate", "memory_use"),
         ("experiment",), ("distributed", "notebook", "lessons"), ("interview",), ("cli",))
FACADES = ("by_hand", "inside", "teaching")  # they name what is public; no room imports them


def files(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    named = {}
    for path in sorted((root / "ftkit").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imported(name: str, path: Path, known) -> set[str]:
    """The modules of the package that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            asked = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            base = package.split(".")[: len(package.split(".")) + 1 - node.level]
            start = ".".join([*base, node.module or ""]).strip(".") if node.level else node.module
            asked = [one for alias in node.names
                     for one in (f"{start}.{alias.name}", start)]
            asked = [a for a in asked if a in known][:1] if len(node.names) == 1 else asked
        else:
            continue
        found |= {one for one in asked if one in known}
    return found - {name}


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    known = files(root)
    return {name: {one for one in imported(name, path, known) if known[one].name != "__init__.py"}
            for name, path in known.items() if name not in ("ftkit", "ftkit.__main__")}


def floor(name: str) -> int:
    """How far to the right a module is; a module in no room raises."""
    room = name.split(".")[1]
    return next(i for i, rooms in enumerate((*ORDER, FACADES)) if room in rooms)


def against_the_order(imports: dict[str, set[str]]) -> list[str]:
    return sorted(
        f"{name} imports {other}" for name, others in imports.items() for other in others
        if name.split(".")[1] != other.split(".")[1] and floor(other) >= floor(name))


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Files that import each other in a circle, if there are any."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_every_module_is_in_one_of_at_most_thirteen_rooms():
    rooms = {path.name for path in (ROOT / "ftkit").iterdir()
             if path.is_dir() and path.name not in ("__pycache__", "_share")}
    assert rooms == {room for together in ORDER for room in together}
    assert len(rooms) <= 13
    assert {path.name for path in (ROOT / "ftkit").glob("*.py")} == {
        "__init__.py", "__main__.py", *(f"{name}.py" for name in FACADES)}


def test_imports_point_one_way():
    assert against_the_order(graph()) == []


def test_no_files_import_each_other_in_a_circle():
    assert circle(graph()) == []
