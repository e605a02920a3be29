"""The concept figures: shown by a lesson, self-contained, and readable at the size of the page."""

import re
import xml.etree.ElementTree as ET

import lesson_files
import pytest

pytestmark = pytest.mark.quick

SVG = "{http://www.w3.org/2000/svg}"
FIGURES = sorted((lesson_files.NOTEBOOKS / "figures").glob("*"))
PAGE = 760  # pixels of a lesson's column
SMALLEST = 13  # pixels of a letter there


def faults(text: str) -> list[str]:
    """What a reader or a browser would stumble over in an SVG."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        return [f"not well-formed: {error}"]
    found = []
    view = [float(number) for number in root.get("viewBox", "").replace(",", " ").split()]
    if root.tag != f"{SVG}svg" or len(view) != 4:
        return ["no <svg> with a viewBox"]
    if not (root.findtext(f"{SVG}title") or "").strip():
        found.append("no <title>")
    if root.find(f"{SVG}rect") is None:
        found.append("no background rectangle")
    scale = PAGE / view[2]
    for element in root.iter():
        tag = str(element.tag).removeprefix(SVG)
        if tag in ("script", "image", "foreignObject", "style"):
            found.append(f"<{tag}>")
        for name, value in element.attrib.items():
            if name.startswith("on") or (name.endswith("href") and not value.startswith("#")):
                found.append(f"{name}={value}")
            if "url(" in value and not re.fullmatch(r"url\(#[\w-]+\)", value):
                found.append(f"{name}={value}")
    _check_sizes(root, None, scale, found)
    return found


def _check_sizes(element, inherited, scale, found):
    """A size is inherited; text without any is 16 px of the drawing."""
    given = element.get("font-size")
    if "font-size" in element.get("style", "") or "scale" in element.get("transform", ""):
        found.append("a size in style= or by scale(); use font-size=")
    size = float(given.removesuffix("px")) if given else inherited
    if str(element.tag) in (f"{SVG}text", f"{SVG}tspan"):
        if (size or 16) * scale < SMALLEST:
            found.append(f"text of {(size or 16) * scale:.1f} px: {''.join(element.itertext())}")
    for child in element:
        _check_sizes(child, size, scale, found)


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.name)
def test_a_figure_is_whole_and_readable(path):
    assert path.suffix == ".svg" and re.match(r"\d\d\w?_", path.name)
    assert not faults(path.read_text("utf-8"))


def test_every_figure_is_shown_and_every_shown_figure_exists():
    assert not lesson_files.builder().wrong_figures()


def test_a_figure_that_is_missing_or_an_orphan_is_named(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "00_b.svg").write_text("")
    (tmp_path / "src" / "00_x.py").write_text("# %% [markdown]\n# ![text](figures/00_a.svg)\n")
    missing, orphan = lesson_files.builder().wrong_figures(tmp_path)
    assert "00_a.svg" in missing and "00_b.svg" in orphan
