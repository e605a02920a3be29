"""Slides of a lesson, made from its headings, first paragraphs, figures, tables and guesses.

    python notebooks/make_slides.py 02                     slides/02_lora.html
    python notebooks/make_slides.py 02 --reveal ./reveal.js    without a network, from a copy of it

nbconvert makes them; the page loads reveal.js from the address in --reveal. A notebook that was
executed (--notebook FILE) shows its pictures, too.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter

HERE = Path(__file__).resolve().parent
LEFT_OUT = ("Exercises", "In practice", "Interview", "Break it")
FIGURE = re.compile(r"!\[[^\]]*\]\([^)]+\)")
SHOWN = re.compile(r"ft\.(predict|curves|scatter|table)\(|show_batch\(|\.score\(")


def kept(text: str) -> str:
    """What a slide shows of a section: heading, first paragraph, figures, tables and lists."""
    blocks = [block for block in re.split(r"\n\s*\n", re.sub(r"<!--.*?-->", "", text, flags=re.S))
              if block.strip()]
    return "\n\n".join(block for i, block in enumerate(blocks)
                       if i < 2 or re.match(r"\s*([|>*-]|!\[|\$\$)", block))


def slides(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with the cells of its slides alone."""
    cells, inside = [], True
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if inside and SHOWN.search(cell.source):
                cells.append(nbformat.v4.new_code_cell(
                    cell.source, outputs=cell.outputs,
                    metadata={"slideshow": {"slide_type": "fragment"}}))
            continue
        for part in re.split(r"^(?=##? )", cell.source, flags=re.M):
            head = re.match(r"##? (.*)", part)
            if head:
                inside = not head[1].startswith(LEFT_OUT)
            shown = kept(part) if head else "\n\n".join(FIGURE.findall(part))
            if shown and inside:
                cells.append(nbformat.v4.new_markdown_cell(shown, metadata={
                    "slideshow": {"slide_type": "slide" if head else "subslide"}}))
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def page(notebook: nbformat.NotebookNode, reveal: str = "") -> str:
    """The slides as HTML. reveal: address or folder of reveal.js; "" takes nbconvert's default."""
    exporter = SlidesExporter(**({"reveal_url_prefix": reveal} if reveal else {}))
    return exporter.from_notebook_node(slides(notebook))[0]


def main():
    parser = argparse.ArgumentParser(description="Slides of a lesson.")
    parser.add_argument("lesson", help="its number, or tour")
    parser.add_argument("--reveal", default="", help="address or folder of reveal.js")
    parser.add_argument("--notebook", type=Path, help="an executed copy of the lesson")
    given = parser.parse_args()
    found = [path for path in sorted(HERE.glob("*.ipynb"))
             if path.stem.partition("_")[0] == given.lesson]
    if not found:
        parser.error(f"no lesson is called {given.lesson!r}; expected a number such as 02, or tour")
    out = HERE.parent / "slides" / f"{found[0].stem}.html"
    out.parent.mkdir(exist_ok=True)
    out.write_text(page(nbformat.read(given.notebook or found[0], 4), given.reveal), "utf-8")
    print(out)


if __name__ == "__main__":
    main()
