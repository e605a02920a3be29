"""Text of a data file stays text: nothing in it runs, however it is looked at."""

import json

import pytest
from attacks import ATTACKS
from helpers import write_notebook

CELLS = [
    "import ftkit as ft\nft.setup(seed=0)\nrows = ft.records('attacks.jsonl')\nrows",
    "rows[:3]",
    "ft.show_batch(rows, ft.load('tiny')[1])",
    "names = [r['output'] for r in rows]\nshort = [r for r in rows if len(r['output']) < 200]\n"
    "math = [n for n in names if '$' in n or '\\\\(' in n]\n"
    "ft.table([{name[:40]: 1, 'text': name} for name in names])",
    "chats = ft.records('chats.jsonl')\nchats",
    "lab = ft.Experiment(data=short, val=short, probes={names[1]: short})\nlab",
    "run = lab.run(max_steps=2, eval_steps=1, max_length=512, sample=len(short))\nrun",
    "run.data['name'] = run.model_name = names[1]\nrun",
    "run.stopped = math[0]\nrun.plot()",
    "run.notes += names\nrun",
    "ft.curves({name: run for name in names[:8]}, 'val_loss')",
    "ft.curves({name: run for name in math}, 'val_loss')",
    "ft.curves({name: run for name in names[26:34]}, 'val_loss')",
    "ft.scatter({name: run for name in math + names[:4]}, x='val_loss', y='loss')",
    "ft.predict(math[0], *names[1:4], *math, guess=names[1]).score(names[2])",
    "ft.predict(names[0], *math)",
    "ft.expect(1, '<', 2, names[1])",
    "ft.expect(1, '<', 2, math[0])",
    "ft.answers(run.model, run.tokenizer, short[:4] + [r for r in short if r['output'] in math])",
    "from ftkit.experiment import annotations\n"
    "annotations.change(run.id, name=math[0][:200], note=names[0][:200])\nft.runs()",
    "ft.Experiment(data='bad.jsonl')",
    "ft.load('nobody/' + names[1])",
    "ft.compare(run, lab.run(max_steps=2, learning_rate=1e-5, eval_steps=9, max_length=512))",
    "from ftkit.evaluate.pairwise import judge\n"
    "votes = judge(names, {names[0]: names, math[0]: names[::-1]})\nvotes",
    "ft.drill(topic='your cards', own='cards.jsonl')",
    "panel = ft.what_if(lab)\npanel",
]
RAISES = ("ft.Experiment(data='bad.jsonl')", "ft.load('nobody/' + names[1])")

# What would be seen if text of the data were taken for more than text, in the outputs.
SEEN = """() => {
  const outputs = [...document.querySelectorAll('.jp-OutputArea-output')], bad = [];
  const find = (what, css, extra = () => true) => outputs.forEach(out =>
    out.querySelectorAll(css).forEach(e => extra(e) && bad.push(
    `${what}: in ${e.parentElement.className}: ${e.outerHTML}`)));
  find('mathematics', 'mjx-container, .MathJax, .MJX_Assistive_MathML');
  find('element of data', '[src*="example.com"], [href*="example.com"], [action], iframe, meta, '
    + 'link, math, video, body, img[src="x"], [ontoggle], [onload]');
  find('style', 'style', e => e.textContent.includes('example.com'));
  find('script', 'script', e => e.textContent.trim().startsWith('window.pwned'));
  find('handler', '*', e => [...e.attributes].some(
    a => a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value)));
  const control = /[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f]|\\p{Cf}/u;
  outputs.forEach(out => control.test(out.innerText) && bad.push('control: ' + out.innerText));
  return bad.map(one => one.slice(0, 300));
}"""


@pytest.fixture
def attacked(jupyter):
    """A notebook that shows the attack set in every way there is."""
    folder = jupyter[2]
    texts = [text.replace("\0", "") for text in ATTACKS]  # no data has NUL, which is refused
    rows = [{"instruction": text, "input": "", "output": text} for text in texts]
    chats = [{"messages": [{"role": "user", "content": text},
                           {"role": "assistant", "content": text}]} for text in texts]
    cards = [{"front": f"{i} {text}", "back": text, "topic": text} for i, text in enumerate(texts)]
    for name, lines in (("attacks", rows), ("chats", chats), ("cards", cards)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "bad.jsonl").write_text(json.dumps({ATTACKS[1]: ATTACKS[0]}))
    write_notebook(folder / "attacked.ipynb", CELLS,
                   {CELLS.index(cell): ["raises-exception"] for cell in RAISES})
    return "attacked"


def test_nothing_of_a_data_file_runs_in_the_page(lesson, attacked):
    assert len(ATTACKS) >= 30
    page = lesson(attacked)
    page.page.on("dialog", lambda dialog: page.errors.append(f"dialog: {dialog.message}"))
    page.run_all()
    page.wait_until_done()
    page.page.wait_for_timeout(500)
    cells = page.save()["cells"]
    failed = [out for cell in cells for out in cell.get("outputs", ())
              if out["output_type"] == "error"]
    assert [out["ename"] for out in failed] == ["DataError", "UserError"], failed
    assert all(cell["execution_count"] for cell in cells[: len(CELLS)])
    for inside in page.page.locator(".jp-OutputArea input:visible, .jp-OutputArea a:visible,"
                                    " .jp-OutputArea details:visible").all()[:40]:
        inside.dispatch_event("mouseover")
    assert page.page.evaluate("() => window.pwned") is None
    bad = page.page.evaluate(SEEN)
    assert not bad, bad[:5]
    assert not (page.folder / "PWNED.txt").exists()
    page.reopen()  # and stored outputs are as harmless
    page.page.wait_for_timeout(500)
    assert page.page.evaluate("() => window.pwned") is None
    assert not page.page.evaluate(SEEN)


def test_the_set_is_an_attack_where_text_becomes_html(lesson, attacked):
    """Otherwise the test above would prove nothing."""
    (page_folder := lesson(attacked)).command("notebook:run-cell")
    page = page_folder
    page.page.evaluate("html => { document.body.insertAdjacentHTML('beforeend', html) }",
                       ATTACKS[1].replace("fetch", "void fetch"))
    page.page.wait_for_function("() => window.pwned > 0")
    page.page.evaluate(
        "html => { const out = document.createElement('div'); out.innerHTML = html;"
        " out.className = 'jp-OutputArea-output'; document.body.append(out) }",
        "<a href='https://example.com'>x</a><mjx-container></mjx-container><p>\x9b31m</p>")
    found = {line.partition(":")[0] for line in page.page.evaluate(SEEN)}
    assert {"mathematics", "element of data", "control"} <= found
