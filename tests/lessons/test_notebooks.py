"""The lessons: built from their sources, without outputs, and within the budgets of their form.

That they run from top to bottom is `make lessons`.
"""

import ast
import importlib.util
import json
import re

import pytest
from helpers import ROOT

FOLDER = ROOT / "notebooks"
SOURCES = sorted((FOLDER / "src").glob("[0-9][0-9]_*.py"))

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("build_lessons", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def source(request):
    return request.param


@pytest.fixture
def cells(source, builder):
    return json.loads(builder.build(source))["cells"]


def code(cells):
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def prose(cells):
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def test_a_built_notebook_is_what_its_source_gives_byte_for_byte(source, builder):
    built = (FOLDER / f"{source.stem}.ipynb").read_bytes()
    assert built == builder.build(source).encode(), "run `make notebooks`"


def test_building_twice_gives_the_same_bytes(source, builder):
    assert builder.build(source) == builder.build(source)


def test_a_notebook_has_no_outputs_and_nothing_of_the_machine_it_was_written_on(source):
    notebook = json.loads((FOLDER / f"{source.stem}.ipynb").read_text("utf-8"))
    assert notebook["metadata"].keys() == {"kernelspec"}
    for cell in notebook["cells"]:
        assert cell["metadata"].keys() <= {"tags", "jupyter"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_every_notebook_has_a_source():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {path.stem for path in SOURCES}


def test_code_cells_are_short(cells):
    lines = sorted(len(text.splitlines()) for text in code(cells))
    longest = max(code(cells), key=lambda text: len(text.splitlines()))
    assert lines[len(lines) // 2] <= 8, f"median {lines[len(lines) // 2]} lines"
    assert lines[int(len(lines) * 0.9)] <= 20, f"a tenth has more than 20 lines: {lines}"
    assert lines[-1] <= 32, longest


def test_a_lesson_is_no_longer_than_its_form(cells):
    """The minutes of a lesson are limited by test_second_edition.py."""
    assert len(code(cells)) <= 40 and len(prose(cells)) <= 40


def test_a_cell_of_prose_is_short(cells):
    """Between two cells of code; tables and fenced code are not prose."""
    answers = re.compile(r"<details>.*?</details>", re.S)
    for text in (re.sub(r"<!--.*?-->|^```.*?^```|^\|[^\n]*", "", text, flags=re.S | re.M)
                 for text in prose(cells)):
        words = len(answers.sub("", text).split())
        assert words <= 300, f"{words} words: {text[:80]}"
        for answer in answers.findall(text):
            assert len(re.sub(r"<[^>]+>", " ", answer).split()) <= 120, answer


def test_a_lesson_needs_no_download_no_shell_and_no_pyplot(cells):
    for text in code(cells):
        assert not re.search(r"^\s*[!%]", text, re.M), text
        assert not re.search(r"\bpyplot\b|\bplt\.|\bsubprocess\b|\burllib\b|\brequests\b", text)
        assert not re.search(r"^\s*(try|except)\b", text, re.M), text
        assert not re.search(r"\.style\b|\bHTML\(|\bMarkdown\(", text), text


def test_a_lesson_starts_with_its_claim_and_the_machine(cells):
    assert cells[0]["cell_type"] == "markdown" and "".join(cells[0]["source"]).startswith("# ")
    assert "Claim" in "".join(cells[0]["source"])
    first = code(cells)[0]
    assert "import ftkit as ft\n" in first and first.rstrip().endswith("ft.setup(seed=0)")


def test_the_verdict_of_a_guess_is_what_its_cell_shows_and_was_measured(cells):
    """A notebook draws the last line of a cell alone; and an answer that is written down there
    would hold whatever the run has shown."""
    trees = [ast.parse(text) for text in code(cells)]
    guesses = {target.id for tree in trees for node in tree.body if isinstance(node, ast.Assign)
               and "ft.predict(" in ast.unparse(node) for target in node.targets}
    for tree in trees:
        shown = tree.body[-1].value if isinstance(tree.body[-1], ast.Expr) else None
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                asked = node.func.value
                if node.func.attr == "score" and getattr(asked, "id", None) in guesses:
                    assert node is shown, ast.unparse(tree)
                    assert not isinstance(node.args[0], ast.Constant), ast.unparse(node)


def test_a_run_on_the_handwritten_records_has_room_for_the_longest_prompt(cells):
    """149 tokens for SmolLM2; a shorter max_length refuses the record. Most of these sections are
    not run by `make lessons`."""
    for text in code(cells):
        if 'data="handwritten"' in text:
            assert all(int(n) >= 160 for n in re.findall(r"max_length=(\d+)", text)), text


def test_every_claim_that_a_lesson_names_exists():
    """`python notebooks/coverage.py` prints the whole list."""
    spec = importlib.util.spec_from_file_location("coverage_of_claims", FOLDER / "coverage.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    known = {row["id"] for row in module.claims()}
    assert len(known) == 146 and set(module.places()) <= known


def test_the_lessons_whose_section_on_a_real_model_is_run_have_one(builder):
    """FTKIT_REAL=1, which `make lessons` sets for them, makes a section that is skipped fail."""
    spec = importlib.util.spec_from_file_location("conftest_of_lessons", FOLDER / "conftest.py")
    lessons = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lessons)
    assert lessons.REAL
    for name in lessons.REAL:
        cells = json.loads(builder.build(FOLDER / "src" / f"{name}.py"))["cells"]
        asks = [cell for cell in cells if cell["cell_type"] == "code"
                and 'is_fetched("smollm2")' in "".join(cell["source"])]
        assert len(asks) == 1 and "tags" not in asks[0]["metadata"], name
