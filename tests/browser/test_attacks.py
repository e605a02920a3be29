"""Text of a data file stays text: nothing in it runs, however it is looked at."""

import json

import nbformat
import pytest
from attacks import ATTACKS

CELLS = [
    "import ftkit as ft\nft.setup(seed=0)\nrows = ft.records('attacks.jsonl')\nrows",
    "rows[:3]",
    "ft.show_batch(rows[:44], ft.load('tiny')[1])",
    "print(rows[1]['output'])",
    "names = [r['output'] for r in rows]\n"
    "ft.table([{name[:40]: 1, 'text': name} for name in names])",
    "chats = ft.records('chats.jsonl')\nchats",
    "lab = ft.Experiment(data='attacks.jsonl', val='attacks.jsonl', probes={names[1]: rows})\nlab",
    "run = lab.run(max_steps=2, eval_steps=1, max_length=512)\nrun",
    "run.data['name'] = run.model_name = names[1]\nrun",
    "run.stopped = names[0]\nrun.plot()",
    "ft.curves({name: run for name in names[:8]}, 'val_loss')",
    "ft.curves({name: run for name in names[23:32]}, 'val_loss')",
    "ft.scatter({name: run for name in names[:9]}, x='val_loss', y='loss')",
    "ft.predict(names[0], *names[1:4], guess=names[1]).score(names[2])",
    "ft.expect(1, '<', 2, names[1])",
    "ft.answers(run.model, run.tokenizer, rows[:4])",
    "ft.runs()",
    "ft.Experiment(data='bad.jsonl')",
    "ft.compare(run, lab.run(max_steps=2, learning_rate=1e-5, eval_steps=9, max_length=512))",
    "panel = ft.what_if(data='attacks.jsonl')\npanel",
]


@pytest.fixture
def attacked(jupyter):
    """A notebook that shows the attack set in every way there is."""
    folder = jupyter[2]
    rows = [{"instruction": text, "input": "", "output": text} for text in ATTACKS]
    chats = [{"messages": [{"role": "user", "content": text},
                           {"role": "assistant", "content": text}]} for text in ATTACKS]
    for name, lines in (("attacks", rows), ("chats", chats)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "bad.jsonl").write_text(json.dumps({ATTACKS[1]: ATTACKS[0]}))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    notebook.cells[CELLS.index("ft.Experiment(data='bad.jsonl')")].metadata["tags"] = [
        "raises-exception"]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, folder / "attacked.ipynb")
    return "attacked"


def test_nothing_of_a_data_file_runs_in_the_page(lesson, attacked, tmp_path):
    assert len(ATTACKS) >= 30
    page = lesson(attacked)
    page.page.on("dialog", lambda dialog: page.errors.append(f"dialog: {dialog.message}"))
    page.run_all()
    page.wait_until_done()
    page.page.wait_for_timeout(500)
    failed = [out for cell in page.save()["cells"] for out in cell.get("outputs", ())
              if out["output_type"] == "error"]
    assert [out["ename"] for out in failed] == ["DataError"], failed
    for inside in page.page.locator(".jp-OutputArea input:visible, .jp-OutputArea a:visible,"
                                    " .jp-OutputArea details:visible").all()[:40]:
        inside.dispatch_event("mouseover")
    page.look(tmp_path / "attacked.png")
    assert page.page.evaluate("() => window.pwned") is None
    bad = page.page.evaluate(
        "() => [...document.querySelectorAll('.jp-OutputArea *')].filter(e =>"
        " [...e.attributes].some(a => a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value))"
        " || (e.tagName == 'SCRIPT' && e.textContent.includes('pwned'))).map(e => e.outerHTML)")
    assert not bad, bad[:3]
    assert not (page.folder / "PWNED.txt").exists()
    page.reopen()  # and stored outputs are as harmless
    page.page.wait_for_timeout(500)
    assert page.page.evaluate("() => window.pwned") is None


def test_the_set_is_an_attack_where_text_becomes_html(lesson, attacked):
    """Otherwise the test above would prove nothing."""
    (page_folder := lesson(attacked)).command("notebook:run-cell")
    page = page_folder
    page.page.evaluate("html => { document.body.insertAdjacentHTML('beforeend', html) }",
                       ATTACKS[1].replace("fetch", "void fetch"))
    page.page.wait_for_function("() => window.pwned > 0")
