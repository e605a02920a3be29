"""Names of ftkit that a learner's notebook uses and that no longer exist.

Notebook and package are only read, never executed, so this takes milliseconds.
"""

import ast
import functools
import importlib
import json
from pathlib import Path

from ftkit.base import machine

FACADES = ("ftkit", "ftkit.by_hand", "ftkit.inside", "ftkit.teaching")  # cheap to import


def missing_names(notebook: Path) -> list[str]:
    """Dotted names, in the order of the notebook; empty for a file that is no notebook."""
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    modules: dict[str, str] = {}  # variable in the notebook -> module of ftkit
    missing = []
    for tree in filter(None, map(_parsed, code)):
        for node in ast.walk(tree):
            missing += [name for name in _used(node, modules) if name != "ftkit"
                        and name.rpartition(".")[2] not in _names_in(name.rpartition(".")[0])]
    return list(dict.fromkeys(missing))


def _parsed(source: str) -> ast.Module | None:
    """The cell without its magics; None for unfinished code."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        return None


def _used(node: ast.AST, modules: dict[str, str]) -> list[str]:
    """The names of ftkit at this node; adds what an import binds to `modules`."""
    if isinstance(node, ast.Import):
        ours = [alias for alias in node.names if alias.name.split(".")[0] == "ftkit"]
        modules |= {alias.asname: alias.name for alias in ours if alias.asname}
        return [alias.name for alias in ours]
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ftkit":
        names = {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        modules |= names
        return list(names.values())
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = modules.get(node.value.id)
        if module and _names_in(module):
            return [f"{module}.{node.attr}"]
    return []


@functools.cache
def _names_in(module: str) -> frozenset[str]:
    """The importable names of an ftkit module; empty if it does not exist."""
    if module in FACADES:
        rooms = [path.stem for path in machine.package().iterdir()]
        return frozenset(importlib.import_module(module).__all__ + rooms * (module == "ftkit"))
    path = machine.package().parent / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        return frozenset()
    names = {child.stem for child in path.glob("*") if path.is_dir()}
    for node in ast.parse(file.read_text("utf-8")).body:
        for inner in ast.walk(node) if not hasattr(node, "name") else [node]:
            if isinstance(inner, (ast.FunctionDef, ast.ClassDef)):
                names.add(inner.name)
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                names.add(inner.id)
            elif isinstance(inner, ast.alias):
                names.add(inner.asname or inner.name)
    return frozenset(names)
