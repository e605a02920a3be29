"""Slides: one for each section with a heading, with figures and guesses, without answers."""

import nbformat
import pytest
from lesson_files import NOTEBOOKS, SOURCES, TOUR, module


@pytest.mark.parametrize("source", [*SOURCES, TOUR], ids=lambda path: path.stem)
def test_a_lesson_has_slides_with_its_figures_and_without_answers(source):
    made = module("make_slides").slides(nbformat.read(NOTEBOOKS / f"{source.stem}.ipynb", 4))
    text = [cell.source for cell in made.cells if cell.cell_type == "markdown"]
    assert text[0].startswith("# ") and len(text) >= 5
    assert not any("<summary>Answer" in part or "ft.check(" in part for part in text)
    assert source == TOUR or any("](figures/" in part for part in text)
    assert max(len(part.split()) for part in text) < 400


def test_a_page_takes_reveal_from_a_folder_and_shows_a_guess():
    maker = module("make_slides")
    page = maker.page(nbformat.read(NOTEBOOKS / "02_lora.ipynb", 4), reveal="./reveal.js")
    assert "unpkg.com/reveal" not in page and "./reveal.js/dist/reveal.js" in page
    assert page.count("<section") > 10 and "ft.predict" in page.replace("</span>", "").replace(
        '<span class="o">.', ".").replace('<span class="n">', "")
