"""What all tests share: a home of their own, the command line, SmolLM2; and what `quick` means."""

from __future__ import annotations

import importlib.abc
import os
import sys
from pathlib import Path

import pytest
from helpers import ROOT, start

# ------------------------------------------------------------------------------ make quick


class NoTorch(importlib.abc.MetaPathFinder):
    """Makes a test that is marked quick and imports torch fail, rather than be slow."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft"):
            raise ImportError(f"a quick test imports {name}; mark it with pytest.mark.heavy")


def is_quick(config) -> bool:
    return config.option.markexpr.startswith("quick")


def pytest_configure(config):
    if is_quick(config):
        sys.meta_path.insert(0, NoTorch())


def pytest_ignore_collect(collection_path: Path, config):
    """A file without the mark is not even imported by `make quick`."""
    if is_quick(config) and collection_path.name.startswith("test_"):
        return "pytest.mark.quick" not in collection_path.read_text("utf-8") or None


# The files that take longest begin first, so that no worker waits for one at the end.
LONGEST = ("test_preflight", "test_zoo", "test_proofs", "test_clinic", "test_footprint")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST
               else len(LONGEST))


# ----------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session", autouse=True)
def no_test_touches_the_home_of_the_user(tmp_path_factory):
    """Runs, progress and Jupyter's own files go to a folder that is thrown away."""
    home = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("FTKIT_HOME", str(home / "ftkit"))
    for name in ("CONFIG", "DATA", "RUNTIME"):
        patch.setenv(f"JUPYTER_{name}_DIR", str(home / f"jupyter-{name.lower()}"))
    patch.setenv("IPYTHONDIR", str(home / "ipython"))
    yield home
    patch.undo()


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An FTKIT_HOME that does not exist yet."""
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "ftkit-home"))
    return tmp_path / "ftkit-home"


@pytest.fixture(scope="module")
def base():
    """(model, tokenizer): the embedded model on the CPU, shared by the tests of a file."""
    from ftkit.model import loading

    return loading.load("tiny", device="cpu")


@pytest.fixture
def ftkit(capsys, monkeypatch):
    """`ftkit("run", "--json", ...)` in this process: (exit status, stdout, stderr)."""
    from ftkit.cli import main

    monkeypatch.delenv("FTKIT_DEBUG", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # which a worker of pytest-xdist gets

    def call(*words) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main.main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture(scope="session")
def smollm2_home(no_test_touches_the_home_of_the_user) -> Path:
    """An FTKIT_HOME with SmolLM2 in it; fetched once and kept in .cache of the clone."""
    home = ROOT / ".cache" / "home"
    if not (home / "models" / "smollm2").exists():
        done = start("fetch", "smollm2", env=os.environ | {"FTKIT_HOME": str(home)}, timeout=900)
        assert done.returncode == 0, done.stderr
    return home
