"""Build the lessons: notebooks/src/NN_name.py (percent format) -> notebooks/NN_name.ipynb.

    python notebooks/build.py           write the notebooks that changed
    python notebooks/build.py --check   write nothing; exit 1 and name those that are not up to date

A build of the same source gives the same bytes: cells are numbered instead of getting random ids,
and neither outputs nor the state of a learner's machine are kept.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).parent
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
KEPT = ("tags", "jupyter")  # of the metadata of a cell
INSTALL = '''\
# On a machine without ftkit, such as Colab: set FTKIT_WHEEL to the path or address of its wheel.
import importlib.util
import os

if importlib.util.find_spec("ftkit") is None:
    if not os.environ.get("FTKIT_WHEEL"):
        raise RuntimeError("ftkit is not installed here. Set os.environ['FTKIT_WHEEL'] to the path "
                           "or the address of its wheel, and run this cell again.")
    get_ipython().run_line_magic("pip", f"install -q {os.environ['FTKIT_WHEEL']!r}")'''


def build(source: Path) -> str:
    """The text of the notebook that `source` describes."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = nbformat.NotebookNode(kernelspec=KERNEL)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = str(number)
        cell.metadata = nbformat.NotebookNode(
            {name: cell.metadata[name] for name in KEPT if name in cell.metadata})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    first = nbformat.v4.new_code_cell(INSTALL, id="install", metadata={
        "tags": ["install"], "jupyter": {"source_hidden": True}})
    notebook.cells.insert(1, first)  # below the title
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def lessons(folder: Path = HERE) -> dict[Path, Path]:
    """Source -> notebook of every lesson, and of the tour."""
    sources = sorted((folder / "src").glob("*.py"))
    return {source: folder / f"{source.stem}.ipynb" for source in sources}


def wrong_figures(folder: Path = HERE) -> list[str]:
    """The figures that a lesson shows and that do not exist, and those that no lesson shows."""
    shown = {path for source in lessons(folder)
             for path in re.findall(r"\]\((figures/[^)\s]+)\)", source.read_text("utf-8"))}
    drawn = {f"figures/{path.name}" for path in (folder / "figures").glob("*")}
    return ([f"a lesson shows it, and it does not exist: {path}" for path in sorted(shown - drawn)]
            + [f"no lesson shows it: {path}" for path in sorted(drawn - shown)])


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the lessons from notebooks/src.")
    parser.add_argument("--check", action="store_true", help="only say what is not up to date")
    check = parser.parse_args().check
    found = lessons()
    stale = [(notebook, text) for source, notebook in found.items()
             if (text := build(source)).encode() != (
                 notebook.read_bytes() if notebook.exists() else None)]
    orphans = sorted(set(HERE.glob("*.ipynb")) - set(found.values()))
    for notebook, text in stale:
        if not check:
            notebook.write_bytes(text.encode())
        print(f"{'not up to date' if check else 'built'}: {notebook.name}")
    for orphan in orphans:
        print(f"no source in notebooks/src: {orphan.name}")
    wrong = wrong_figures()
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if orphans or wrong or (check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
