"""The package is divided into rooms, and imports point one way between them.

A room may import from the rooms before it in `ORDER` and from itself; rooms of one line do not use
each other. Imports inside functions count: that is where circles hide.
"""

from __future__ import annotations

import ast
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


def circles(imports: dict[str, set[str]]) -> list[str]:
    """Groups of files that import each other in a circle (Tarjan's algorithm)."""
    number, low, stack, found = {}, {}, [], []

    def visit(name):
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(imports.get(name, ())):
            if other not in number:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == number[name]:
            group = stack[stack.index(name):]
            del stack[stack.index(name):]
            if len(group) > 1:
                found.append(", ".join(sorted(group)))

    for name in sorted(imports):
        if name not in number:
            visit(name)
    return found


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
    assert circles(graph()) == []


@pytest.mark.parametrize(("where", "line"), [
    ("base/machine.py", "\n\ndef later():\n    from ftkit.cli import main\n"),
    ("data/jsonl.py", "\nimport ftkit.data.schema\n"),
    ("report/plots.py", "\nfrom ftkit.data.jsonl import rows\n"),
    ("engine/optimizers.py", "\n\ndef later():\n    from ..engine.loop import train\n"),
    ("cli/main.py", "\nfrom ftkit.inside import zoo\n"),
])
def test_an_import_against_the_order_or_in_a_circle_is_seen(tmp_path, where, line):
    for path in files().values():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text("utf-8"), "utf-8")
    changed = tmp_path / "ftkit" / where
    changed.write_text(changed.read_text("utf-8") + line, "utf-8")
    imports = graph(tmp_path)
    assert against_the_order(imports) or circles(imports)
