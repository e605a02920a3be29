"""Lessons, exercises and exported cells import public names only, so a learner's copy of a lesson
survives when a file inside the package is renamed."""

import ast
import importlib
import re

import lesson_files
import pytest
from helpers import ROOT

import ftkit
from ftkit.lessons import hints

PUBLIC = ("ftkit", "ftkit.by_hand", "ftkit.inside", "ftkit.teaching")
LESSONS = sorted((ROOT / "notebooks" / "src").glob("*.py"))
EXERCISES = sorted((ROOT / "ftkit" / "lessons" / "exercises").glob("*.md"))
ROOMS = [path.name for path in (ROOT / "ftkit").iterdir() if path.is_dir()]
DEEP = re.compile(rf"\bftkit\.(?:{'|'.join(ROOMS)})\.\w+")


def wrong_imports(code: str) -> list[str]:
    """The ftkit imports of `code` that are not public, and attributes its modules do not have."""
    tree, wrong, modules = ast.parse(code), [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wrong += [alias.name for alias in node.names if alias.name.startswith("ftkit.")]
            modules |= {alias.asname or alias.name: ftkit for alias in node.names
                        if alias.name == "ftkit"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ftkit":
            for alias in node.names:
                module = importlib.import_module(node.module) if node.module in PUBLIC else None
                if module is None or alias.name not in module.__all__:
                    wrong.append(f"{node.module}.{alias.name}")
                else:
                    modules[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            known = getattr(module, "__all__", None) or dir(module)
            if isinstance(module, type(ast)) and node.attr not in known:
                wrong.append(f"{node.value.id}.{node.attr}")
    return wrong


@pytest.mark.parametrize("source", LESSONS, ids=lesson_files.number_of)
def test_a_lesson_uses_public_names(source):
    cells = lesson_files.cells_of(source)
    assert wrong_imports("\n".join(cell.text for cell in cells if cell.kind == "code")) == []
    assert DEEP.findall("\n".join(cell.text for cell in cells)) == []


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_the_hints_and_solutions_of_a_lesson_use_public_names(path):
    text = path.read_text("utf-8")
    assert DEEP.findall(text) == []
    for section in hints.parse(text):
        assert wrong_imports(section.code) == []


def test_what_the_package_writes_for_users_imports_public_names():
    """Scripts, cells and messages are string literals of the package."""
    for path in (ROOT / "ftkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for module in re.findall(r"^ *(?:from|import) (ftkit[\w.]*)", node.value, re.M):
                    assert module in PUBLIC, f"{path}: {module}"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_exist_and_are_documented(module):
    public = importlib.import_module(module)
    assert public.__doc__ and len(set(public.__all__)) == len(public.__all__) <= 43
    for name in public.__all__:
        assert getattr(public, name).__doc__, name
    page = (ROOT / "ftkit" / "README.md").read_text("utf-8")
    assert module == "ftkit" or f"`{module}`" in page
