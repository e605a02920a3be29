"""The lessons are built from their sources, without outputs, and have the parts of their form.

That they run from top to bottom is `make lessons`. Prose and length get advice from `make style`.
"""

import ast
import json
import re

import pytest
from lesson_files import (
    EXERCISES,
    NOTEBOOKS,
    SOURCES,
    TOUR,
    Cell,
    builder,
    cells_of,
    module,
    number_of,
    script_of,
    section,
    source_of,
)

from ftkit.lessons import hints

pytestmark = pytest.mark.quick

FIGURE = re.compile(r"!\[([^\]]*)\]\((figures/[^)\s]+)\)")
SHORTEST_ALT = 40  # characters that say what a figure shows


@pytest.fixture(params=[*SOURCES, TOUR], ids=lambda path: path.stem)
def page(request):
    return request.param


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def source(request):
    return request.param


@pytest.fixture
def cells(source):
    return cells_of(source)


def code(cells):
    return [cell.text for cell in cells if cell.kind == "code"]


def prose(cells):
    return "\n\n".join(cell.text for cell in cells if cell.kind == "markdown")


# ------------------------------------------------------------------------------ built files


def test_a_built_notebook_is_what_its_source_gives_byte_for_byte(page):
    built = (NOTEBOOKS / f"{page.stem}.ipynb").read_bytes()
    assert built == builder().build(page).encode(), "run `make notebooks`"


def test_a_notebook_has_no_outputs_and_nothing_of_the_machine_it_was_written_on(page):
    notebook = json.loads((NOTEBOOKS / f"{page.stem}.ipynb").read_text("utf-8"))
    assert notebook["metadata"].keys() == {"kernelspec"}
    for cell in notebook["cells"]:
        assert cell["metadata"].keys() <= {"tags", "jupyter"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_every_notebook_has_a_source():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == {
        path.stem for path in [*SOURCES, TOUR]}


# --------------------------------------------------------------------------- parts of a lesson


def test_a_lesson_starts_with_its_claim_and_the_machine(cells):
    assert cells[0].kind == "markdown" and cells[0].text.startswith("# ")
    assert "Claim" in cells[0].text and re.search(r"\b[Aa]bout\s+\d+\s+minutes", cells[0].text)
    first = code(cells)[1]  # the one before installs ftkit where it is not
    assert "import ftkit as ft\n" in first and first.rstrip().endswith("ft.setup(seed=0)")


def test_a_lesson_needs_no_download_no_shell_and_no_pyplot(cells):
    for text in code(cells):
        assert not re.search(r"^\s*[!%]|^\s*(try|except)\b", text, re.M), text
        assert not re.search(r"\bpyplot\b|\bplt\.|\bsubprocess\b|\burllib\b|\brequests\b", text)
        assert not re.search(r"\.style\b|\bHTML\(|\bMarkdown\(", text), text


def test_a_lesson_shows_a_figure_and_says_what_is_seen(cells):
    shown = FIGURE.findall(prose(cells))
    assert shown
    for alt, path in shown:
        assert len(alt) >= SHORTEST_ALT and (NOTEBOOKS / path).is_file(), path


def test_a_lesson_asks_what_a_real_model_did_or_says_why_not(cells):
    assert ("No box At 135M:" in " ".join(prose(cells).split())
            or any("at_135m(" in text for text in code(section(cells, "At 135M"))))


def test_recorded_runs_have_their_own_seeds(cells):
    """`make fresh` moves the seeds of a lesson; a recorded run keeps the one it was made with."""
    for cell in section(cells, "At 135M"):
        assert cell.kind != "code" or not re.search(r"\bSEEDS\b|\bseeds? *=", cell.text), cell.text


def test_a_lesson_has_a_configuration_for_practice(source):
    ast.parse(script_of(source) or pytest.fail("no script, here or on the reference page"))


def test_a_lesson_has_two_exercises_with_hints_before_its_end(cells, source):
    known = {section.name for section in
             hints.parse((EXERCISES / f"lesson_{number_of(source)}.md").read_text("utf-8"))}
    in_flow, flow = [], True
    for cell in cells:
        if cell.kind == "markdown":
            for heading in re.findall(r"^## (.*)$", cell.text, flags=re.M):
                flow = not heading.startswith(("Exercises", "In practice", "Interview", "Recap"))
        else:
            asked = re.findall(r"ft\.check\(\s*\"(\w+)\"", cell.text)
            assert set(asked) <= known
            in_flow += asked * flow
    assert len(in_flow) >= 2


def test_a_run_on_the_handwritten_records_has_room_for_the_longest_prompt(cells):
    """149 tokens for SmolLM2; a shorter max_length rejects the record. Most of these sections are
    not run by `make lessons`."""
    for text in code(cells):
        if 'data="handwritten"' in text:
            assert all(int(n) >= 160 for n in re.findall(r"max_length=(\d+)", text)), text


def test_every_claim_that_a_lesson_names_exists():
    """And every claim is in a lesson, or the list says why not; `python notebooks/coverage.py`."""
    coverage = module("coverage")
    known = {row["id"] for row in coverage.claims()}
    assert len(known) == 146 and set(coverage.places()) <= known
    assert coverage.missing(coverage.claims(), coverage.places()) == []


def test_the_lessons_whose_section_on_a_real_model_is_run_have_one():
    """FTKIT_REAL=1, which `make lessons` sets for them, makes a section that is skipped fail."""
    lessons = module("conftest")
    assert lessons.REAL
    for name in lessons.REAL:
        asks = [cell for cell in cells_of(source_of(name.partition("_")[0]))
                if cell.kind == "code" and 'is_fetched("smollm2")' in cell.text]
        assert len(asks) == 1 and not asks[0].tags, name


# ------------------------------------------------------------------------------------ its end

# usual values and pitfalls are on a reference page
REWRITTEN = ("00", "01", "02", "03", "04", "10", "11", "12", "13", "14", "15",
             "20a")


@pytest.mark.parametrize("number", REWRITTEN)
def test_at_most_a_fifth_of_the_words_comes_after_the_last_act(number):
    found = cells_of(source_of(number))
    last = max(cell.number for cell in found if cell.kind == "code"
               and re.search(r"ft\.check\(|\.score\(", cell.text))
    after = prose([cell for cell in found if cell.number > last])
    assert len(after.split()) <= 0.2 * len(prose(found).split())


# ------------------------------------------------------------------------------------ guesses


def wrong_guesses(cells: list[Cell]):
    """What is wrong with the guesses of a lesson, one line each.

    The last line of a cell draws a guess. The last line of a later cell scores it, with a measured
    value that can be each of its options.
    """
    trees = [ast.parse(text) for text in code(cells)]
    assigned = _assignments(trees)
    asked: dict[str, ast.Call] = {}  # guesses that no cell has scored yet
    for tree in trees:
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in calls:
            name = ast.unparse(call.func).removesuffix(".score")
            if name == ast.unparse(call.func) or name not in asked:
                continue
            if call is not getattr(tree.body[-1], "value", None):
                yield f"{name}: its score must be the last line, which a notebook shows"
            if isinstance(call.args[0], ast.Constant):
                yield f"{name}: the answer is written down, not measured"
            if f"{name}.options[" not in ast.unparse(call):
                for option in _options(asked[name]) - _strings(call, assigned):
                    yield f"{name}: no outcome is the option {option!r}"
            del asked[name]
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("ft.predict("):
                name = ast.unparse(node.targets[0])
                asked[name] = node.value
                if ast.unparse(tree.body[-1]) != name:
                    yield f"{name}: it must be the last line, which draws the buttons"
    for name in asked:
        yield f"{name}: no later cell scores it"


def _assignments(trees) -> dict[str, list[ast.AST]]:
    """Name -> every expression that is assigned to it, and the functions of that name."""
    found: dict[str, list[ast.AST]] = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
        if isinstance(node, ast.Assign):
            for name in (name for target in node.targets for name in ast.walk(target)):
                if isinstance(name, ast.Name):
                    found.setdefault(name.id, []).append(node.value)
    return found


def _options(call: ast.Call) -> set[str]:
    return {argument.value for argument in call.args[1:]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str)}


def _strings(node: ast.AST, assigned, depth: int = 3) -> set[str]:
    """The strings in an expression and in what was assigned to its names."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            found.add(inner.value)
        elif isinstance(inner, ast.keyword) and inner.arg:
            found.add(inner.arg)
        elif isinstance(inner, ast.Name) and depth:
            for value in assigned.get(inner.id, ()):
                if "ft.predict(" not in ast.unparse(value):
                    found |= _strings(value, assigned, depth - 1)
    return found


# ------------------------------------------------------------------------------------ the tour

MINUTES_OF_AN_EXERCISE, WORDS_A_MINUTE, LINES_A_MINUTE = 10, 200, 6


def acts_of_the_tour():
    """The cells of each act of the tour."""
    acts: list[list[Cell]] = []
    for cell in cells_of(TOUR):
        if cell.kind == "code":
            acts and acts[-1].append(cell)
            continue
        for part in re.split(r"^(?=## )", cell.text, flags=re.M):
            if part.startswith("## "):
                acts.append([])
            if acts:
                acts[-1].append(cell._replace(text=part))
    return acts[:-1]  # the last heading says what to read next


def test_the_tour_has_five_acts_with_a_guess_an_exercise_and_a_run():
    acts = acts_of_the_tour()
    assert len(acts) == 5
    for cells in acts:
        text = "\n".join(code(cells))
        assert re.search(r"ft\.predict\(", text) and re.search(r"ft\.check\(", text)
        assert re.search(r"lab\.(run|sweep)\(|ft\.answers\(", text)


def test_an_act_of_the_tour_takes_about_twenty_minutes():
    """Exercises there are of one to five lines; reading and code as slowly as measured readers."""
    minutes = [len(prose(cells).split()) / WORDS_A_MINUTE
               + sum(len(text.splitlines()) for text in code(cells)) / LINES_A_MINUTE / 2
               + MINUTES_OF_AN_EXERCISE / 2 * sum("ft.check(" in text for text in code(cells))
               for cells in acts_of_the_tour()]
    assert max(minutes) <= 20 and sum(minutes) <= 110, minutes


def test_the_tour_computes_in_fp32_and_asks_what_its_path_lists():
    from ftkit.interview import paths

    text = "\n".join(code(cells_of(TOUR)))
    assert re.findall(r"ft\.Config\((.*?)\)", text) == ['max_steps=30, precision="fp32"']
    assert set(re.findall(r'ft\.check\("(\w+)"', text)) == set(paths.steps()["tour"].exercises)
    assert list(wrong_guesses(cells_of(TOUR))) == []


def test_each_guess_is_drawn_and_scored_by_a_measurement_that_any_option_can_win(cells):
    assert list(wrong_guesses(cells)) == []
