"""What several test files import: the root of the clone, records, notebooks made of cells, the
command line as a process, and cases of which `make test` takes some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def numbers(n: int) -> list[dict]:
    """Records with a rule that a short run learns a little of."""
    return [{"instruction": f"Name the number {i}.", "input": "", "output": f"number {i}"}
            for i in range(n)]


def write_notebook(path, cells, tags=()) -> None:
    """Code cells as a notebook file. tags: {place of a cell: its tags}."""
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    for place, names in dict(tags).items():
        notebook.cells[place].metadata["tags"] = names
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)


def start(*words, **options) -> subprocess.CompletedProcess:
    """`ftkit ...` in a process of its own, as a user starts it."""
    options = {"timeout": 300, "cwd": ROOT, "capture_output": True, "text": True} | options
    return subprocess.run([sys.executable, "-m", "ftkit", *map(str, words)], **options)


def others_later(values, now) -> list:
    """For parametrize: the values in `now` as they are; the others, tuples or not, are marked
    `seeds`, which leaves them to `make test-all`."""
    def later(value):
        values = value if isinstance(value, tuple) else (value,)
        return pytest.param(*values, marks=pytest.mark.seeds)

    return [value if value in now else later(value) for value in values]
