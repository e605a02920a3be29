"""The site of `make site`: every link resolves, nothing comes from the network, widgets fall back.

Built here without outputs, in seconds.
"""

import html
import json
import re

import nbformat
import pytest
from helpers import ROOT
from lesson_files import module

from ftkit.lessons.predictions import Prediction

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def maker():
    return module("make_site")


@pytest.fixture(scope="module")
def site(maker, tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    maker.build(out, execute=False)
    return out


@pytest.fixture(scope="module")
def pages(site):
    return {path.name: path.read_text("utf-8") for path in site.glob("*.html")}


def anchors(page):
    return {html.unescape(name) for name in re.findall(r'\bid="([^"]+)"', page)}


def test_there_is_a_page_for_each_lesson(pages):
    lessons = {f"{path.stem}.html" for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert len(lessons) >= 23 and lessons | {"index.html", "glossary.html"} <= pages.keys()


def test_every_internal_link_resolves(site, pages):
    links = 0
    for name, page in pages.items():
        for target in re.findall(r'(?:href|src)="([^"]+)"', page):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, fragment = html.unescape(target).partition("#")
            links += 1
            assert not path or (site / path).is_file(), f"{name}: {target}"
            if fragment and path != "playground.html":  # there it is the state of the page
                assert fragment in anchors(pages[path or name]), f"{name}: {target}"
    assert links > 23 * 23


def test_nothing_is_loaded_from_the_network(site, pages):
    for name, page in pages.items():
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="([^"]+)"', page)
        assert not [url for url in loaded if re.match(r"https?:|//", url)], name
    for path in [*site.glob("*.css"), *site.glob("site.js")]:
        assert not re.search(r"https?://|@import", path.read_text("utf-8")), path.name


def test_the_glossary_has_its_terms_and_leads_to_their_lessons(pages):
    page = pages["glossary.html"]
    assert 'id="LoRA"' in page and re.search(r'href="02_\w+\.html">Lesson 02', page)


def test_the_index_states_the_claim_of_every_lesson(pages):
    lessons = len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert "<code>ship</code>: six lessons, then a model of your own; 270 minutes" in pages[
        "index.html"]
    assert len(re.findall("<span>Claim[^:<]*: .+?</span>", pages["index.html"])) == lessons


def test_lessons_lead_to_the_previous_and_the_next_one(pages):
    page = pages["02_lora.html"]
    assert re.search(r'class="previous" href="01_full_fine_tuning.html"', page)
    assert re.search(r'class="next" href="03_the_peft_family.html"', page)
    assert 'class="previous"' not in pages["00_start_here.html"]


def test_every_section_can_be_searched(site, pages):
    text = (site / "search.js").read_text("utf-8")
    rows = json.loads(text.removeprefix("const INDEX = ").rstrip(";\n"))
    for page, _, anchor, _, _ in rows:
        assert anchor in anchors(pages[page]), (page, anchor)
    assert any("rank" in row[4] and row[0] == "02_lora.html" for row in rows)


def test_formulas_are_mathml_and_comments_are_left_out(pages):
    assert "<math" in pages["02_lora.html"] and "$$" not in pages["02_lora.html"]
    assert not any("claims: C" in page for page in pages.values())


def page_of(maker, *outputs):
    cell = nbformat.v4.new_code_cell("1 < 2", outputs=list(outputs))
    title = nbformat.v4.new_markdown_cell("# A <title>\n\n[next](01_x.ipynb#The-end)")
    return maker.lesson_page(nbformat.v4.new_notebook(cells=[title, cell]), "00_x").body


def test_a_widget_shows_its_fallback(maker):
    widget = {maker.WIDGET: {"model_id": "1"}, "text/plain": "HBox(children=..."}
    body = page_of(maker, nbformat.v4.new_output("display_data", widget))
    assert "open the notebook" in body and "HBox" not in body
    body = page_of(maker, nbformat.v4.new_output(
        "display_data", widget | {"text/plain": "peak < 9 GB"}))
    assert "open the notebook" in body and "<pre>peak &lt; 9 GB</pre>" in body
    body = page_of(maker, nbformat.v4.new_output(
        "display_data", widget | {"text/html": "<b>options</b>"}))
    assert "<b>options</b>" in body and "open the notebook" not in body


def test_text_of_an_output_is_escaped_and_has_no_color_codes(maker):
    body = page_of(maker, nbformat.v4.new_output("stream", text="\x1b[31m<script>\x1b[0m"),
                   nbformat.v4.new_output("error", ename="E", evalue="<x>", traceback=[]))
    assert "<pre>&lt;script&gt;</pre>" in body and "E: &lt;x&gt;" in body
    assert 'href="01_x.html#The-end"' in body


def test_a_guess_shows_its_options_and_not_yet_its_result(maker):
    guess = Prediction("Which?", ("option a", "option b"), None, None)
    question = {"text/html": guess._question_page(), "text/plain": repr(guess)}
    result = guess.score("option b")._bundle(guess._lines()[1:])
    both = [nbformat.v4.new_output("display_data", data) for data in (question, result)]
    body = page_of(maker, *both)
    assert "option a</li>" in body and "result: " not in body
    assert "result: option b" in page_of(maker, both[1])  # below the cell that finds it


def test_a_warning_does_not_show_the_folders_of_the_machine(maker):
    text = "/home/me/.venv/lib/python3.12/site-packages/torch/a.py:2: UserWarning: x"
    body = page_of(maker, nbformat.v4.new_output("stream", name="stderr", text=text))
    assert "<pre>site-packages/torch/a.py:2: UserWarning: x</pre>" in body


def test_a_number_in_a_table_is_not_broken_into_lines(maker):
    table = "<tr><td style='x'>0.9 ± 0.1</td><td>2 things that are long to tell</td></tr>"
    body = page_of(maker, nbformat.v4.new_output("display_data", {"text/html": table}))
    assert body.count("<td class=number") == 1 and "<td class=number style='x'>0.9" in body


def test_a_lesson_is_executed_again_only_when_something_changed(maker, tmp_path, monkeypatch):
    monkeypatch.setattr(maker, "CACHE", tmp_path / "cache")
    path = tmp_path / "00_x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("text")]), path)
    ran = []

    class Client:
        def __init__(self, notebook, **options):
            pass

        def execute(self):
            ran.append(1)

    monkeypatch.setattr("nbclient.NotebookClient", Client)
    monkeypatch.setattr(maker.os, "environ", dict(maker.os.environ))
    for package, runs in (("a", 1), ("a", 1), ("b", 2)):
        maker.executed(path, package, smoke=True)
        assert len(ran) == runs
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("new")]), path)
    maker.executed(path, "b", smoke=True)
    assert len(ran) == 3 and len(list((tmp_path / "cache").iterdir())) == 1


def test_a_folder_of_somebody_else_is_not_overwritten(maker, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="not empty"):
        maker.build(tmp_path, execute=False)
    assert (tmp_path / "mine.txt").read_text() == "mine"
