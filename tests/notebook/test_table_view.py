"""The table of runs and the answers under a panel, driven as a learner would."""

import csv
import html
import io
import re

import pytest
from test_widgets import RECORDS, controls_in, home, nothing_failed, press  # noqa: F401

import ftkit as ft
from ftkit.experiment import annotations, inputs, store
from ftkit.experiment.run import TRAINERS_DATA, Run
from ftkit.notebook import answers_view, background, table_view

SMALL = ft.Config(max_steps=1, batch_size=4, eval_steps=1)
EVIL = "<img src=x onerror=y>"


@pytest.fixture(scope="module")
def lab():
    return ft.Experiment(data=RECORDS, probes=(), eval_records=4)


@pytest.fixture
def panel(lab):
    made = ft.what_if(lab, config=SMALL, fields=["seed", "learning_rate"])
    background.QUEUE.join(made.forecast)
    return made


def add(panel, number: int, **config) -> Run:
    """A finished run in the store and in the panel, without training."""
    run = Run(f"20260101-00000{number}-aaaa", SMALL.but(**config), "tiny", {"name": "tasks"}, 1,
              rows=[{"step": 1, "loss": 2.0, "val_loss": 3.0 - number}],
              before={"val_loss": 9.0}, after={"val_loss": 3.0 - number}, seconds=1.0 + number)
    store.add(run)
    panel.collection.add(run)
    return run


def shown(panel) -> list[str]:
    return [entry["id"][-6] for entry in panel.table.entries]


def tick(panel, *runs):
    """Tick the boxes of these runs, as they are in the table now."""
    for run in runs:
        place = [entry["id"] for entry in panel.table.entries].index(run.id)
        panel.table.body.children[place].children[0].value = True


def test_frames_say_what_comes_until_there_is_a_run(panel):
    def texts(part):
        return [re.sub("<.*?>", "", made.value) for made in part if "ftkit-empty" in
                made._dom_classes and made.layout.display != "none"]

    table, chart = panel.table, panel.results.chart
    assert texts([chart.empty]) == ["The curves of your runs appear here."]
    assert texts(table.body.children) == ["Your runs are listed here."]
    assert table.ui.layout.visibility == "hidden" and table.body.layout.visibility == "visible"
    add(panel, 0)
    assert not texts([chart.empty, *table.body.children]) and len(table.body.children) == 1
    assert table.ui.layout.visibility is None and chart.ui.layout.display is None


def test_the_newest_run_is_on_top_and_a_click_on_a_column_sorts(panel):
    for number, rate in enumerate((1e-3, 1e-2, 1e-4)):
        add(panel, number, learning_rate=rate)
    assert shown(panel) == ["2", "1", "0"]
    head = next(b for b in panel.table.header.children if b.description == "val_loss")
    press(head)
    assert shown(panel) == ["2", "1", "0"]
    head = next(b for b in panel.table.header.children if b.description == "val_loss ▲")
    press(head)
    assert shown(panel) == ["0", "1", "2"]


def test_the_filter_leaves_the_runs_for_which_it_holds_and_says_what_it_cannot_read(panel):
    for number in range(3):
        add(panel, number, seed=number)
    panel.table.filter.value = "val_loss<2.5 seed=1"
    assert shown(panel) == ["1"]
    heads, panel.table.filter.value = panel.table.columns(), "xyz"
    (line,) = panel.table.body.children
    assert "No run matches" in line.children[0].value and panel.table.columns() == heads
    press(line.children[1])
    assert len(shown(panel)) == 3
    panel.table.filter.value = "val_loss<x"
    assert "expected a number" in panel.table.error.lines[0], "next to the filter"
    panel.table.filter.value = ""
    assert panel.table.error.lines == [] == panel.error_line.lines, "it is mended"


def test_runs_of_other_sessions_are_listed_when_asked_for(panel, lab):
    add(panel, 0)
    fresh = ft.what_if(lab, config=SMALL.but(seed=5), fields=["seed"])
    fresh.wait()
    assert fresh.table.entries == []
    fresh.table.store.value = True
    assert shown(fresh) == ["0"]


def test_runs_on_other_data_are_named_by_their_data_and_only_the_baseline_is_called_that():
    panel = ft.what_if(data="capital", probes=(), config=SMALL)
    background.QUEUE.join(panel.forecast)
    for number, (name, digest, seed) in enumerate((
            ("translation", "aa", 0), ("translation", "aa", 1), ("arithmetic", "bb", 0))):
        store.add(Run(f"20260101-00000{number}-aaaa", SMALL.but(seed=seed), "tiny",
                      {"name": name, "sha256": digest}, 1, rows=[{"step": 1, "loss": 2.0}]))
    panel.table.store.value = True
    stored, name_of = panel.collection.stored(), panel.collection.name_of
    assert [name_of(run) for run in stored] == [
        "A model=tiny, data=translation", "B model=tiny, data=translation, seed=1",
        "C model=tiny, data=arithmetic"]
    panel.start()
    panel.wait()
    assert name_of(panel.runs[-1]) == "D baseline"
    assert all("data=" in name_of(run) for run in stored)
    changed = Run("20260101-000009-aaaa", panel.runs[-1].config, "tiny",
                  {"name": "capital", "sha256": "cc"}, 1, rows=[{"step": 1, "loss": 2.0}])
    assert name_of(changed) == "E data=capital (other records)"


def test_ticked_runs_are_the_ones_in_the_chart_with_a_verdict_on_their_difference(panel):
    first, second, third = (add(panel, n, seed=7, learning_rate=1e-3 * (n + 1)) for n in range(3))
    tick(panel, first, third)
    names = {line["name"] for line in panel.results.chart.shown["lines"]}
    assert names == {"A baseline", "C learning_rate=0.003"}
    assert panel.results.owner.lines[0].startswith("In the chart: the 2 chosen runs")
    assert panel.results.diagnosis.lines[0].startswith(
        "C learning_rate=0.003 ends lowest: val_loss 1.00, next 3.00 (A baseline).")
    assert panel.picture().text.startswith("val_loss ended lowest at 1.00")
    panel.table.choose(third.id, False)
    assert panel.collection.shown() == [first] and second not in panel.collection.shown()


def test_a_name_and_a_note_are_kept_and_shown_without_being_html(panel):
    run = add(panel, 0)
    tick(panel, run)
    panel.table.name.value = EVIL
    panel.table.note.value = "try r=16"
    assert annotations.read()[run.id] == {"name": EVIL, "note": "try r=16"}
    row = panel.table.body.children[0].children[1].value
    assert html.escape(EVIL) in row and "<img" not in row and "try r=16" in row
    panel.table.name.value = "x" * 300
    assert "at most 200" in panel.table.error.lines[0]


def test_hidden_runs_leave_the_table_and_come_back(panel):
    run, other = add(panel, 0), add(panel, 1, seed=1)
    tick(panel, run)
    press(panel.table.buttons["Hide"])
    assert shown(panel) == ["1"] and store.ids() == sorted([run.id, other.id])
    panel.table.hidden.value = True
    assert shown(panel) == ["1", "0"]
    tick(panel, run)
    press(panel.table.buttons["Hide"])
    panel.table.hidden.value = False
    assert shown(panel) == ["1", "0"]


def test_a_deleted_run_leaves_the_store_and_restore_brings_it_back(panel):
    run, other = add(panel, 0), add(panel, 1, seed=1)
    assert panel.table.buttons["Restore"].disabled
    tick(panel, run)
    press(panel.table.buttons["Delete"])
    assert store.ids() == [other.id] and panel.runs == [other] and panel.baseline is other
    press(panel.table.buttons["Restore"])
    assert store.ids() == [run.id, other.id] and shown(panel) == ["1", "0"]
    assert panel.runs == [run, other] and store.load_run(run.id).rows == run.rows


def test_the_values_of_a_run_can_be_used_again_and_it_can_be_the_baseline(panel):
    add(panel, 0)
    run = add(panel, 1, seed=3)
    press(panel.table.buttons["Use values"])
    assert "0 runs are chosen; expected one run" in panel.table.error.lines[0]
    tick(panel, run)
    press(panel.table.buttons["Use values"])
    assert panel.config.seed == 3
    press(panel.table.buttons["Make baseline"])
    row = panel.table.body.children[0].children[1].value
    assert panel.baseline is run and "B ⚑ baseline" in row


def test_the_fields_that_differ_are_listed(panel):
    runs = [add(panel, 0), add(panel, 1, learning_rate=1e-2, batch_size=8)]
    tick(panel, *runs)
    press(panel.table.buttons["Differences"])
    found = re.findall(r"<td[^>]*>(\w+)</td>", panel.table.result.value)
    assert {"learning_rate", "batch_size"} <= set(found) and "max_steps" not in found


def test_the_csv_has_a_line_for_each_run_and_no_formula(panel):
    run = add(panel, 0, seed=4)
    tick(panel, run)
    panel.table.name.value = "=1+1"
    press(panel.table.buttons["CSV"])
    (row,) = csv.DictReader(io.StringIO(table_view.csv_of(panel.table.entries)))
    assert row["id"] == run.id and row["seed"] == "4" and float(row["val_loss"]) == 3.0
    assert row["name"] == "'=1+1" and "data:text/csv;base64," in panel.table.result.value


@pytest.mark.parametrize("kind, parts", [
    ("Python", ["ft.Experiment(model='tiny', data='tasks')", "seed=4"]),
    ("command line", ["ftkit run --model tiny --data tasks", "--max-steps 1", "--seed 4"])])
def test_a_run_is_reproduced_as_code(panel, kind, parts):
    run = add(panel, 0, seed=4)
    tick(panel, run)
    panel.table.reproduce.value = kind
    assert all(part in panel.table.code.code for part in parts)
    if kind == "command line":
        words = panel.table.code.code.partition("tasks ")[2].split()
        names = [name[2:].replace("-", "_") for name in words[::2]]
        assert ft.Config(**dict(zip(names, words[1::2], strict=True))) == run.config


def test_a_long_list_is_shown_in_pages(panel):
    for number in range(10):
        add(panel, number, seed=number)
    assert len(panel.table.body.children) == table_view.PAGE
    press(panel.table.more)
    assert len(panel.table.body.children) == 10


def test_every_control_of_the_table_is_driven_in_this_file(panel):
    add(panel, 0)
    table, answers = panel.table, panel.answers
    driven = {table.filter, table.store, table.hidden, table.name, table.note, table.reproduce,
              *table.buttons.values(), table.more, table.tools,
              *table.header.children[1:], table.body.children[0].children[0]}
    assert set(controls_in(table.ui)) == driven
    assert set(controls_in(answers.ui)) == {answers.prompts, answers.ask_button,
                                             answers.during}


# ------------------------------------------------------------------------------- answers


def test_prompts_are_answered_before_and_after_and_the_difference_is_marked(panel, lab):
    panel.config = SMALL.but(max_steps=60, eval_steps=60)
    press(panel.launcher.start_button)
    (run,) = panel.wait()
    press(panel.answers.ask_button)
    background.QUEUE.join()
    rows = panel.answers.rows
    assert len(rows) == answers_view.FIRST and rows[0].keys() == {
        "prompt", "expected", "before training", "A baseline"}
    records = panel.answers.records()
    tuned = ft.answers(run.model, run.tokenizer, records, max_new_tokens=inputs.LONGEST)
    base = ft.answers(*ft.load("tiny"), records, max_new_tokens=inputs.LONGEST)
    assert [row["A baseline"] for row in rows] == tuned
    assert [row["before training"] for row in rows] == base != tuned
    assert "<mark>" in panel.answers.table.value


def test_prompts_of_ones_own_are_asked_and_a_run_without_weights_says_so(panel):
    add(panel, 0)
    panel.answers.prompts.value = f"Name the number 3.\n\n{EVIL}"
    press(panel.answers.ask_button)
    background.QUEUE.join()
    assert [row["prompt"] for row in panel.answers.rows] == ["Name the number 3.", EVIL]
    page = panel.answers.table.value
    assert "the weights of this run are not kept" in page and "<img" not in page
    assert "scope='col' style" in page and ">expected<" not in page, "nothing is expected of them"
    panel.answers.prompts.value = "a\n" * 6
    press(panel.answers.ask_button)
    assert "6 prompts were given; expected at most 5" in panel.answers.error.lines[0]


def test_prompts_are_answered_at_each_evaluation_of_a_run_where_that_is_asked_for(panel):
    panel.config = SMALL.but(max_steps=4, eval_steps=1)
    panel.answers.prompts.value = f"Name the number 3.\n{EVIL}"
    panel.answers.during.value = True
    press(panel.launcher.start_button)
    (run,) = panel.wait()
    rows = panel.answers.rows
    assert list(rows[0]) == ["prompt", "expected", "before training", "A, step 4"]
    for row in rows:
        for name, answer in list(row.items())[2:]:
            step = 0 if name == "before training" else int(name.split()[2])
            (one,) = [s for s in run.samples if (s["prompt"], s["step"]) == (row["prompt"], step)]
            assert one["answer"] == answer
    assert "<img" not in panel.answers.table.value
    panel.answers.during.value = False
    panel.config = SMALL.but(seed=8)
    press(panel.launcher.start_button)
    assert panel.wait()[-1].samples == []


def test_marked_words_are_those_that_differ():
    assert answers_view.marked("a b c", "a x c") == "a <mark>x</mark> c"
    assert answers_view.marked("", "<b>") == "<mark>&lt;b&gt;</mark>"
    assert answers_view.marked("same", "same") == "same"


def test_a_run_of_a_trainer_is_listed_like_others_and_made_again_by_its_script(panel):
    add(panel, 0)
    other = Run("20260101-000009-bbbb", SMALL, "gpt2", {"name": TRAINERS_DATA}, 100,
                rows=[{"step": 50, "loss": 2.0}, {"step": 100, "loss": 1.0, "val_loss": 1.5}],
                after={"val_loss": 1.5})
    store.add(other)
    panel.table.store.value = True
    assert [entry["steps"] for entry in panel.table.entries] == [100, 1]
    tick(panel, other)
    names = {line["name"] for line in panel.results.chart.shown["lines"]}
    assert "B the same again" not in names and any(name.startswith("B ") for name in names)
    panel.table.reproduce.value = "Python"
    assert "Start that script again" in panel.table.error.lines[0]
