"""What is left of a notebook where no kernel, no script and no widget runs: nbconvert, GitHub, a
terminal with IPython. Executed once by nbconvert, which is a kernel without a front end."""

import re

import nbformat
import pytest

CELLS = {
    "run": "import ftkit as ft\nlab = ft.Experiment(data='capital', probes=(), eval_records=4)\n"
           "run = lab.run(max_steps=4, batch_size=4, eval_steps=2)\nrun",
    "curves": "ft.curves(run)",
    "seeds": "ft.curves([run, lab.run(run.config, seed=1, live=False)], 'val_loss')",
    "scatter": "ft.scatter([run], x='seconds', y='val_loss')",
    "compare": "ft.compare(run, lab.run(run.config, learning_rate=1e-2, live=False))",
    "memory": "ft.memory(model='tiny', method='lora')",
    "calculator": "from ftkit.notebook.memory_calculator import Calculator\nCalculator()",
    "batch": "lab.show_batch(1)",
    "guess": "guess = ft.predict('val_loss ends ...', 'lower', 'higher')\nguess",
    "score": "guess.score('lower')",
    "panel": "panel = ft.what_if(lab, config=run.config.but(seed=3))\npanel",
    "result": "_ = await panel.result()",
    "recorded": "ft.curves(ft.recorded('lora_vs_full'), 'val_loss')",
}
PICTURES = ("run", "curves", "seeds", "scatter", "compare", "memory", "result", "recorded")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """(notebook with its outputs, its page by nbconvert)"""
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import ExecutePreprocessor

    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(code, id=name) for name, code in CELLS.items()])
    ExecutePreprocessor(timeout=600, kernel_name="python3").preprocess(
        notebook, {"metadata": {"path": str(tmp_path_factory.mktemp("executed"))}})
    return notebook, HTMLExporter().from_notebook_node(notebook)[0]


def bundles(executed, name: str) -> list[dict]:
    cell = next(cell for cell in executed[0].cells if cell.id == name)
    return [out.data for out in cell.outputs if "data" in out]


def without_scripts(page: str) -> str:
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.S)


@pytest.mark.parametrize("name", PICTURES)
def test_a_figure_has_a_picture_and_a_sentence_without_scripts(executed, name):
    figure = next(data for data in bundles(executed, name) if "image/png" in data)
    assert len(figure["image/png"]) > 2000
    assert len(figure["text/plain"].split()) >= 4, "what a screen reader and a terminal get"
    page = without_scripts(figure["text/html"])
    assert re.search(r'<img alt="[^"]{20,}"', page), page[:200]
    assert "<progress" not in page, "the chart of a finished run is the final one"


@pytest.mark.parametrize("name", PICTURES)
def test_the_page_of_nbconvert_shows_it_too(executed, name):
    cell = re.search(rf'id="cell-id={name}".*?(?=id="cell-id=|\Z)', executed[1], re.S)
    assert cell and "<img alt=" in without_scripts(cell[0])


@pytest.mark.parametrize("name", ["guess", "panel", "calculator"])
def test_a_widget_says_what_it_is_where_none_is_drawn(executed, name):
    for data in bundles(executed, name):
        text = data["text/plain"]
        assert "children=" not in text and "Model(" not in text and len(text) < 300, text


@pytest.mark.parametrize("name", list(CELLS))
def test_no_output_is_empty_without_scripts(executed, name):
    for data in bundles(executed, name):
        page = without_scripts(data.get("text/html", "x"))
        assert "<img" in page or re.sub(r"<[^>]*>|\s", "", page) or data["text/plain"].strip()
