"""Every control of the what-if panel, driven as a learner would, judged by the record it leaves."""

import asyncio
import html
import json
import threading
import time
import types

import ipywidgets as W
import pytest
from helpers import numbers

import ftkit as ft
from ftkit.base import cancel, machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import gb
from ftkit.experiment import forecast, store
from ftkit.notebook import background, kernel, table_view, what_if, widgets
from ftkit.notebook.presets import PRESETS

RECORDS = numbers(40)
SMALL = ft.Config(max_steps=1, batch_size=4, eval_steps=1)
FIELDS = list(widgets.FIELDS)
ANOTHER = {  # a value that is not the default, where the next one offered would not do
    "method": "lora", "precision": "fp32", "max_length": 64, "target_modules": "q_proj,v_proj",
    "max_steps": 2, "epochs": 2.0, "learning_rate": 2e-4, "optim": "sgd",
    "metric_for_best_model": "again_loss", "num_virtual_tokens": 7, "l2_sp": 0.01,
    "init_lora_weights": "gaussian"}
ALSO = {"load_in_8bit": {"method": "qlora"}}  # without which the value is an error


def walk(widget):
    """A widget and everything in it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def controls_in(widget) -> list:
    """Everything in it that a learner can move, type into or press."""
    return [w for w in walk(widget) if isinstance(w, W.ValueWidget | W.Button)
            and not isinstance(w, W.HTML | W.Label | W.IntProgress | W.FloatProgress | W.Image)]


def nothing_failed():
    """Raises what a callback has raised, if one has."""
    failed, widgets.failures[:] = list(widgets.failures), []
    assert not failed, failed


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty store; and no callback may have failed behind the scenes."""
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    widgets.failures.clear()
    what_if._by_cell.clear()
    yield tmp_path / "home"
    background.QUEUE.stop()
    background.QUEUE.join()
    nothing_failed()


@pytest.fixture(scope="module")
def lab():
    return ft.Experiment(data=RECORDS, probes={"again": RECORDS[:5]}, eval_records=4)


@pytest.fixture
def panel(lab):
    made = ft.what_if(lab, config=SMALL)
    background.QUEUE.join(made.forecast)
    return made


@pytest.fixture(scope="module")
def moved(lab):
    """One panel for all of its controls, without its chart and the memory of each Config, which
    other tests look at."""
    made = ft.what_if(lab, config=SMALL)
    made.results.show = lambda config: None
    made.forecast.memory = lambda config: forecast.Memory()  # is known, so no estimate is made
    return made


def press(button):
    assert not button.disabled
    button.click()


def run(panel, **values):
    """Move controls, press Start, wait; the newest Run."""
    for name, value in values.items():
        widgets.write(panel.controls.fields[name], value)
    press(panel.launcher.start_button)
    panel.wait()
    return panel.runs[-1]


# ---------------------------------------------------------------------- a control, a record


@pytest.mark.parametrize("name", FIELDS)
def test_a_control_moved_is_a_field_of_the_run_that_is_stored(moved, name):
    panel, made = moved, moved.controls.fields[name]
    panel.config = SMALL
    old = getattr(panel.config, name)
    if name in ANOTHER:
        value = ANOTHER[name]
    elif isinstance(made, W.Checkbox):
        value = not old
    else:
        value = next(v for _, v in made.options if v not in (widgets.AUTO, old))
    also = ALSO.get(name, {})
    happened = run(panel, **also, **{name: value})
    assert panel.error_line.lines == []
    assert getattr(happened.config, name) == value != old
    stored = ft.load_run(happened.id)
    assert getattr(stored.config, name) == value and stored.rows
    assert f"{name}=" in panel.controls.line.value
    others = {n: v for n, v in panel.config.to_dict().items() if n != name}
    assert others == {n: v for n, v in SMALL.but(**also).to_dict().items() if n != name}


def test_every_control_of_the_panel_is_driven_in_this_file(panel):
    controls, launch = panel.controls, panel.launcher
    driven = [*controls.fields.values(), controls.line, controls.group, controls.undo_button,
              controls.reset_button, controls.preset, launch.start_button, launch.stop_button,
              launch.seeds_button, launch.knob, launch.sweep_button, panel.code.kind,
              panel.results.settle_button, launch.pause_button, launch.step_button,
              launch.rate_button]
    elsewhere = {*controls_in(panel.table.ui), *controls_in(panel.answers.ui)}  # test_run_table.py
    assert set(controls_in(panel.ui)) == {*driven, *elsewhere}
    assert set(controls.fields) == set(FIELDS), "a field of Config has no control"


def test_every_control_has_its_tip_as_tooltip_and_every_button_one(panel):
    for name, made in panel.controls.fields.items():
        tip = widgets.FIELDS[name].metadata["tip"]
        assert made.tooltip == tip and html.escape(tip) in panel.controls.rows[name].label.value
    for made in controls_in(panel.ui):
        assert (isinstance(made, W.ToggleButtons) and all(made.tooltips)) or made.tooltip or (
            made.description or "ftkit-choose" in made._dom_classes), made


def test_a_value_without_a_stop_on_the_slider_gets_one(panel):
    panel.config = SMALL.but(learning_rate=3.3e-4, batch_size=5)
    assert panel.controls.fields["learning_rate"].label == "0.00033"
    assert panel.config == SMALL.but(learning_rate=3.3e-4, batch_size=5)


def test_a_field_without_effect_on_the_method_is_not_shown(panel):
    assert list(panel.controls.boxes)[0] == "Basics"
    assert panel.controls.rows["r"].layout.display == "none"
    widgets.write(panel.controls.fields["method"], "lora")
    assert panel.controls.rows["r"].layout.display is None
    gray = {"full": "r", "lora": "num_virtual_tokens", "ia3": "lora_alpha"}
    for method, field in gray.items():
        widgets.write(panel.controls.fields["method"], method)
        assert panel.controls.fields[field].disabled
        assert panel.controls.rows[field].readout.lines == ["no effect"]
    assert panel.controls.fields["epochs"].disabled, "max_steps overrides it"
    widgets.write(panel.controls.fields["max_steps"], None)
    assert not panel.controls.fields["epochs"].disabled
    assert not panel.controls.fields["target_modules"].disabled


def test_few_fields_show_few_controls_and_the_rest_stays(lab):
    panel = ft.what_if(lab, config=SMALL, fields=["learning_rate"])
    assert list(panel.controls.fields) == ["learning_rate"]
    assert run(panel, learning_rate=1e-2).config.batch_size == 4
    with pytest.raises(ValueError, match="no field 'rate'; did you mean"):
        ft.what_if(lab, fields=["rate"])


# ---------------------------------------------------------------------------- the other ones


def test_a_typed_config_moves_the_controls_and_a_wrong_one_says_why(panel):
    panel.controls.line.value = "learning_rate=0.02 max_steps=1 batch_size=2"
    assert panel.config == ft.Config(learning_rate=0.02, max_steps=1, batch_size=2)
    assert panel.controls.fields["batch_size"].value == 2
    panel.controls.line.value = "lerning_rate=0.02"
    assert "did you mean learning_rate" in panel.error_line.lines[0]
    panel.controls.fields["batch_size"].value = 8
    assert panel.error_line.lines == [] and "batch_size=8" in panel.controls.line.value


def test_start_trains_nothing_else_where_what_is_typed_cannot_be_read(panel, tmp_path):
    panel.controls.line.value = "lr=0.02"
    press(panel.launcher.start_button)
    assert panel.wait() == [] and "did you mean learning_rate" in panel.error_line.lines[0]
    own = tmp_path / "mine.jsonl"
    own.write_text('{"instruction": ""}')
    picked = ft.what_if(data="capital", probes=(), config=SMALL)
    picked.picked.pickers["data"].value = str(own)
    widgets.write(picked.controls.fields["seed"], 1)
    press(picked.launcher.start_button)
    assert picked.wait() == [] and "mine.jsonl line 1" in picked.error_line.lines[0]
    assert picked.forecast_view.text.lines == [], "nothing is foretold of other data"
    own.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    press(picked.launcher.start_button)  # mended: the same name is read again
    assert picked.wait()[-1].data["rows"] == 36 and picked.error_line.lines == []


def test_a_second_click_on_start_makes_no_second_run(panel):
    panel.config = SMALL.but(max_steps=3)
    press(panel.launcher.start_button)
    press(panel.launcher.start_button)
    assert len(background.QUEUE.waiting(panel.launcher)) < 2 and len(panel.wait()) == 1
    panel.config = SMALL.but(max_steps=500)
    press(panel.launcher.start_button)
    panel.stop()
    press(panel.launcher.start_button)  # the one that was told to stop is not what is asked for
    assert background.QUEUE.busy(panel.launcher)
    panel.stop()


def test_stop_keeps_the_partial_run_and_empties_the_queue(panel):
    panel.config = SMALL.but(max_steps=500)
    press(panel.launcher.start_button)
    assert panel.launcher.start_button.description == "Queue"
    while not (panel.launcher.running() and panel.launcher.running().started_run):
        time.sleep(0.01)
    panel.config = SMALL.but(max_steps=400)
    press(panel.launcher.start_button)
    assert "1 waiting" in panel.launcher.stop_button.description
    press(panel.launcher.stop_button)
    (happened,) = panel.wait()
    assert happened.stopped.startswith("stopped manually after step")
    assert 1 <= len(happened.rows) < 500 and happened.after
    assert ft.load_run(happened.id).stopped == happened.stopped
    assert "stopped manually" in panel.results.status.lines[0]
    assert panel.launcher.stop_button.disabled
    assert panel.launcher.start_button.description == "Start"
    assert panel.forecast.recall(happened.config) is None, "a part does not stand for the whole run"


def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def test_a_run_is_paused_stepped_and_continued_and_the_pause_is_no_training_time(panel):
    launch = panel.launcher
    panel.config = SMALL.but(max_steps=4, seed=41)
    press(launch.step_button)
    until(lambda: launch.running() and launch.running().paused)
    task = launch.running()
    for taken in (1, 2):
        text = f"paused after step {taken} of 4"
        until(lambda text=text: panel.results.status.lines == [text])
        assert len(task.started_run.rows) == taken == panel.results.curves.row["step"]
        assert launch.pause_button.icon == "play"
        time.sleep(2.5 / taken)
        assert len(task.started_run.rows) == taken, "a paused run trains"
        press(launch.step_button if taken == 1 else launch.pause_button)
    panel.wait()
    made = panel.runs[-1]
    assert made.is_finished and len(made.rows) == 4 and task.waited > 3
    assert made.rows[1]["seconds"] - made.rows[0]["seconds"] < 2
    assert launch.pause_button.disabled and not launch.step_button.disabled
    again = ft.Experiment(data=RECORDS, probes={"again": RECORDS[:5]}, eval_records=4).run(
        SMALL.but(max_steps=4, seed=41))
    assert [row["loss"] for row in again.rows] == [row["loss"] for row in made.rows]


def test_stop_ends_a_paused_run(panel):
    panel.config = SMALL.but(max_steps=4, seed=42)
    press(panel.launcher.step_button)
    until(lambda: panel.launcher.running() and panel.launcher.running().paused)
    press(panel.launcher.stop_button)
    panel.wait()
    assert panel.runs[-1].stopped == "stopped manually after step 1 of 4"


def test_a_learning_rate_changed_in_flight_is_marked_and_never_passes_for_the_constant_one(panel):
    launch, control = panel.launcher, panel.controls.fields["learning_rate"]
    config = SMALL.but(max_steps=4, seed=43, learning_rate=1e-3, lr_scheduler_type="constant",
                       warmup_steps=0)
    panel.config = config
    press(launch.step_button)
    until(lambda: launch.running() and launch.running().paused)
    assert launch.rate_button.layout.display == "none", "nothing differs yet"
    widgets.write(control, 1e-4)
    assert launch.running().started_run.changes == [], "moving a control changes no run"
    assert launch.rate_button.layout.display is None
    assert launch.rate_button.description == "Use 0.0001 from now on"
    press(launch.rate_button)
    assert launch.rate_button.layout.display == "none"
    press(launch.pause_button)
    panel.wait()
    made = panel.runs[-1]
    assert [row["learning_rate"] for row in made.rows] == [1e-3, 1e-4, 1e-4, 1e-4]
    assert panel.results.chart.shown["marks"] == [{"x": 1, "text": "A: 0.0001"}]
    text = "0.001, 0.0001 after step 1"
    assert text in panel.collection.name_of(made) == panel.table.entries[0]["run"]
    assert panel.table.entries[0]["learning_rate"] == text

    stored = ft.load_run(made.id)
    assert stored.changes == [{"step": 1, "learning_rate": 1e-4}] and not stored.is_finished
    assert "learning_rate was changed from 0.001 to 0.0001 after step 1" in str(stored.notes)
    widgets.write(control, 1e-3)
    assert panel.config == config and "already run" not in str(panel.forecast_view.text.lines)
    constant = run(panel)
    assert constant.id != made.id and constant.is_finished
    compared = ft.compare(stored, constant)
    assert compared.differs["learning_rate"] == [text, 1e-3]
    panel.collection.choose([made, constant])
    assert panel.collection.to_settle() == []
    for code in ("Python", "command line"):
        assert table_view.reproduced(made, code).startswith("# learning_rate was changed")
    for wrong in (lambda: compared.repeat(3), lambda: panel.experiment.resume(made.id)):
        with pytest.raises(UserError, match="was changed while it trained"):
            wrong()


def test_queued_runs_follow_one_another(panel):
    for seed in range(3):
        widgets.write(panel.controls.fields["seed"], seed)
        press(panel.launcher.start_button)
    assert [made.config.seed for made in panel.wait()] == [0, 1, 2]
    assert panel.baseline.config.seed == 0
    assert [one.name for one in panel.collection.drawn()] == ["A baseline", "B seed=1", "C seed=2"]
    assert "The newest run (C seed=2): " in panel.picture().text


def test_a_run_goes_before_what_is_only_looked_up():
    order, free = [], threading.Event()

    def submit(name, can_wait):
        task = background.BackgroundTask(lambda: order.append(name) or free.wait(60))
        task.can_wait = can_wait
        background.QUEUE.submit(task)

    submit("current", True)
    while not order:
        time.sleep(0.01)
    for name, can_wait in (("forecast", True), ("first run", False), ("second run", False)):
        submit(name, can_wait)
    free.set()
    background.QUEUE.join()
    assert order == ["current", "first run", "second run", "forecast"]


def test_a_run_ends_an_estimate_that_is_being_made():
    states, begun = {}, threading.Event()

    def estimate():
        while True:
            begun.set()
            cancel.point()
            time.sleep(0.005)

    def note(task):
        states.setdefault(task.function.__name__, []).append(task.state)

    def run():
        pass

    tasks = [background.BackgroundTask(function, on_change=note) for function in (estimate, run)]
    tasks[0].cancelable, tasks[1].can_wait = True, False
    background.QUEUE.submit(tasks[0])
    assert begun.wait(60)
    background.QUEUE.submit(tasks[1])
    background.QUEUE.join(seconds=60)
    assert states == {"estimate": ["running", "stopped"], "run": ["running", "finished"]}


def test_a_memory_estimate_that_was_canceled_can_be_made_again(lab):
    made, asked = forecast.Forecast(lab), []
    made.load()
    config = SMALL.but(batch_size=3, method="lora", r=3)  # no other test has traced it

    def now():
        asked.append(True)
        return len(asked) > 20

    with pytest.raises(cancel.Canceled), cancel.cancelable(now):
        made.estimate_memory(config)
    assert len(asked) == 21 and made.memory(config) is None
    made.estimate_memory(config)
    assert made.memory(config).bytes > 1e6


def test_a_finished_run_comes_back_from_the_store_without_training(panel, lab, monkeypatch):
    first = run(panel, learning_rate=1e-3)
    monkeypatch.setattr(lab, "run", None)  # whoever trains now fails
    again = ft.what_if(lab, config=SMALL)
    again.wait()
    widgets.write(again.controls.fields["learning_rate"], 1e-3)
    assert again.runs[-1].id == first.id, "moving the control finds it"
    assert "from the store" in again.results.status.lines[0]
    assert again.runs[-1].rows == ft.load_run(first.id).rows
    press(again.launcher.start_button)
    assert [made.id for made in again.runs] == [first.id]
    again.table.choose(first.id)
    press(again.table.buttons["Use values"])
    assert again.config == SMALL, "what was left to be chosen still is"


def test_start_before_the_store_is_read_brings_a_finished_run_back_too(panel, lab):
    press(panel.launcher.start_button)
    (first,) = panel.wait()
    free = threading.Event()
    background.QUEUE.submit(background.BackgroundTask(lambda: free.wait(60)))  # loading waits
    fresh = ft.what_if(lab, config=SMALL)
    assert fresh.forecast.facts is None
    fresh.forecast.load()  # what the queue would do next; what Start knows is asked before
    fresh.forecast.facts, facts = None, fresh.forecast.facts
    fresh.start()
    fresh.forecast.facts = facts
    free.set()
    (run,) = fresh.wait()
    assert run.id == first.id and store.ids() == [first.id]
    assert fresh.results.status.lines == [f"already run: {first.id} was loaded from the store"]


@pytest.mark.parametrize("other", [
    {"data": RECORDS[:39]}, {"probes": ()}, {"eval_records": 3}, {"template": "alpaca"}])
def test_a_run_of_another_setting_does_not_come_back(panel, other):
    run(panel)
    same = {"data": RECORDS, "probes": {"again": RECORDS[:5]}, "eval_records": 4}
    for options, found in ((same, True), (same | other, False)):
        known = forecast.Forecast(ft.Experiment(**options))
        known.load()
        assert (known.recall(SMALL) is not None) is found


def test_auto_says_what_it_stands_for(panel):
    row = panel.controls.rows["learning_rate"]
    assert row.readout.lines == ["auto: 0.001"]
    widgets.write(panel.controls.fields["method"], "lora")
    assert row.readout.lines == ["auto: 0.005"]
    widgets.write(panel.controls.fields["learning_rate"], 2e-4)
    assert row.readout.lines == ["0.0002"]


def test_a_group_of_controls_is_shown_at_a_time(panel):
    for title in panel.controls.boxes:
        panel.controls.group.value = title
        shown = [name for name, box in panel.controls.boxes.items() if box.layout.display is None]
        assert shown == [title]
    assert not [w for w in walk(panel.ui) if isinstance(w, W.Tab)], (
        "a Tab inside a box is dead after a reload")


def test_undo_and_reset_bring_back_what_the_controls_were(panel):
    widgets.write(panel.controls.fields["seed"], 3)
    widgets.write(panel.controls.fields["batch_size"], 8)
    press(panel.controls.undo_button)
    assert panel.config == SMALL.but(seed=3)
    press(panel.controls.undo_button)
    assert panel.config == SMALL
    press(panel.controls.undo_button)
    assert "no change to undo" in panel.error_line.lines[0]
    panel.controls.line.value = "max_steps=7"
    press(panel.controls.reset_button)
    assert panel.config == SMALL
    press(panel.controls.undo_button)
    assert panel.config == ft.Config(max_steps=7)


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_sets_its_fields_and_leaves_the_others(panel, name):
    widgets.write(panel.controls.fields["seed"], 4)
    panel.controls.preset.value = name
    assert panel.config == SMALL.but(seed=4, **PRESETS[name].changes)
    assert PRESETS[name].watch in panel.results.status.lines[0]
    assert panel.controls.preset.value == ""


def test_three_seeds_are_three_runs_and_one_line_with_a_band(panel):
    press(panel.launcher.seeds_button)
    runs = panel.wait()
    assert [made.config.seed for made in runs] == [0, 1, 2]
    assert panel.collection.chosen == runs
    lines = panel.results.chart.shown["lines"]
    assert {line["name"] for line in lines} == {"A baseline, 3 seeds"}
    values = [made.after["val_loss"] for made in runs]
    mean = next(line for line in lines if line["panel"] == 0)["points"][-1]
    assert mean[1] == pytest.approx(sum(values) / 3)
    assert panel.results.diagnosis.lines[0].startswith("3 seeds, mean ± sample standard deviation")
    press(panel.launcher.seeds_button)
    assert len(panel.wait()) == 3, "what is stored is not trained again"


def test_one_knob_over_five_values_is_five_runs_that_differ_in_it_alone(panel):
    panel.launcher.knob.value = "learning_rate"
    press(panel.launcher.sweep_button)
    runs = panel.wait()
    assert [made.config.learning_rate for made in runs] == [2e-4, 5e-4, 1e-3, 2e-3, 5e-3]
    assert len({made.config.but(learning_rate=1.0) for made in runs}) == 1
    (verdict,) = panel.results.diagnosis.lines
    assert " ends lowest: val_loss " in verdict and "(" in verdict
    assert "One seed each: may be chance." in verdict and len(verdict.split()) <= 25
    values = {f"learning_rate={value:g}" for value in (2e-4, 5e-4, 1e-3, 2e-3, 5e-3)}
    legend = {line["name"] for line in panel.results.chart.shown["lines"]}
    assert {name.split()[1] for name in legend} == values, "also the default"
    assert {entry["run"] for entry in panel.table.entries} == legend
    assert panel.results.owner.lines == ["Sweep of learning_rate at batch_size=4, max_steps=1, "
                                         "eval_steps=1"]


def test_a_sweep_is_a_picture_of_losses_over_its_values_and_seeds_can_settle_it(panel):
    panel.launcher.knob.value = "learning_rate"
    press(panel.launcher.sweep_button)
    runs = panel.wait()
    drawn = panel.results.sweep.value
    assert "val_loss against learning_rate: 0.0002 ends at" in drawn and "again_loss" in drawn
    assert drawn.count("<circle") == 2, "the best value of each measure has a ring"
    by_loss = sorted(runs, key=lambda made: made.after["val_loss"])
    assert panel.collection.to_settle() == by_loss[:2]
    press(panel.results.settle_button)
    assert len(panel.wait()) == 5 + 4, "one seed of each of the two is there"
    assert len(panel.collection.chosen) == 9
    assert panel.results.sweep.value.count("dominant-baseline") == 2 * 9, "each seed is a point"
    assert "3 seeds" in panel.results.diagnosis.lines[0]
    panel.collection.choose([])
    assert panel.results.sweep.layout.display == "none"


def test_a_run_of_a_sweep_is_named_in_full_next_to_runs_that_are_not_of_it(panel):
    full, lora = run(panel), run(panel, method="lora", learning_rate=0.01)
    runs = panel.collection
    runs.swept[lora.id] = "learning_rate"
    for chosen in ([], [full, lora]):
        runs.choose(chosen)
        assert "method=lora" in runs.name_of(lora), "the baseline in this chart is method=full"
    runs.choose([lora])
    assert runs.name_of(lora) == "B learning_rate=0.01"


def test_a_run_keeps_its_color_and_the_chart_its_panels_when_it_ends(panel):
    panel.config = SMALL.but(max_steps=60, eval_steps=20)
    run(panel)
    widgets.write(panel.controls.fields["seed"], 1)
    shown, show = [], panel.results.chart._send
    panel.results.chart._send = lambda spec: (shown.append(spec), show(spec))
    press(panel.launcher.start_button)
    panel.wait()

    def look(spec):
        return (spec["panels"], [(line["id"], line["name"], line["color"], line["dash"])
                                 for line in spec["lines"]])

    growing, final = shown[0], shown[-1]
    assert growing["total"] and "total" not in final and look(growing) == look(final)
    assert {line["name"] for line in final["lines"]} == {"A baseline", "B seed=1", "training loss"}


def test_chart_and_verdict_say_whose_they_are(panel):
    run(panel, seed=1)
    assert panel.results.owner.lines == ["Newest run: A baseline"]
    widgets.write(panel.controls.fields["batch_size"], 2)
    assert panel.results.owner.lines == ["Newest run: A baseline (settings changed since)"]
    assert panel.results.status.lines == ["ready"]
    widgets.write(panel.controls.fields["batch_size"], 4)
    assert panel.results.owner.lines == ["Newest run: A baseline"]


def test_wrong_data_and_back_keep_the_baseline(tmp_path):
    panel = ft.what_if(data="capital", probes=(), config=SMALL)
    first = run(panel)
    data = panel.picked.pickers["data"]
    data.value = str(tmp_path / "missing.jsonl")
    data.value = "capital"
    assert panel.baseline is first
    data.value = "translation"
    assert panel.baseline is None
    data.value = "capital"
    assert panel.baseline is first


def test_runs_on_other_validation_data_share_no_chart_and_no_verdict():
    panel = ft.what_if(data="capital", probes=(), config=SMALL)
    first, second = run(panel), run(panel, seed=1)
    panel.picked.pickers["data"].value = "translation"
    assert panel.results.chart.ui.layout.display == "none", "a chart of the other data"
    assert panel.results.owner.lines[0].startswith("no run of this model and data yet")
    assert panel.results.diagnosis.lines == [] and panel.picture() is None
    other = run(panel)
    assert panel.collection.shown() == [other]
    panel.collection.choose([first, second, other])
    assert panel.collection.shown() == [other]
    assert "without 2 of another model or other data" in panel.results.owner.lines[0]
    panel.collection.choose([other, first, second])
    assert panel.collection.shown() == [first, second]
    assert "translation" not in " ".join(panel.results.diagnosis.lines)


def test_a_cell_run_again_keeps_runs_baseline_and_controls(lab, monkeypatch):
    monkeypatch.setattr(kernel, "cell_id", lambda: "a cell")
    first = ft.what_if(lab, config=SMALL)
    made = [run(first, seed=seed) for seed in (0, 1)]
    first.table.choose(made[1].id)
    press(first.table.buttons["Make baseline"])
    widgets.write(first.controls.fields["batch_size"], 8)
    again = ft.what_if(lab, config=SMALL)
    again.wait()
    assert again.runs == made and again.baseline is made[1]
    assert again.config == SMALL.but(seed=1, batch_size=8)
    assert "2 runs, their baseline and the controls were kept" in again.results.status.lines[0]
    monkeypatch.setattr(kernel, "cell_id", lambda: "another cell")
    assert ft.what_if(lab, config=SMALL).runs == []


def test_a_run_that_the_second_panel_of_a_cell_stops_is_in_its_table(lab, monkeypatch):
    monkeypatch.setattr(kernel, "cell_id", lambda: "a third cell")
    first = ft.what_if(lab, config=SMALL.but(max_steps=500))
    press(first.launcher.start_button)
    while not (first.launcher.running() and first.launcher.running().started_run):
        time.sleep(0.01)
    again = ft.what_if(lab, config=SMALL.but(max_steps=500))
    first.wait()
    again.wait()
    assert [made.stopped[:16] for made in again.runs] == ["stopped manually"]


@pytest.mark.parametrize("kind, found", [
    ("Config string", "batch_size=4"), ("Python cell", "ft.Config(")])
def test_copy_as_shows_what_the_controls_say(panel, kind, found):
    panel.code.kind.value = kind
    assert found in panel.code.text.code
    widgets.write(panel.controls.fields["seed"], 7)
    assert "seed=7" in panel.code.text.code
    panel.code.kind.value = ""
    assert panel.code.text.code == "" and panel.code.text.value == ""


def test_copy_as_script_writes_folders_next_to_the_notebook(panel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, trainer in (("trl-script", "SFTConfig("), ("trl-script-2", "SFTConfig("),
                          ("transformers-script", "TrainingArguments(")):
        panel.code.kind.value = f"{'TRL' if 'trl' in name else 'transformers'} script"
        panel.wait()
        assert f"cd {tmp_path / name}" in panel.code.text.code
        assert trainer in (tmp_path / name / "train.py").read_text("utf-8")
        panel.code.kind.value = ""


def test_what_is_no_experiment_is_told():
    with pytest.raises(ValueError, match="experiment is a str; expected an Experiment"):
        ft.what_if("tiny")


def test_a_learners_own_file_can_be_picked_and_a_bad_one_is_told_by_line(tmp_path):
    good, bad = tmp_path / "mine.jsonl", tmp_path / "bad.jsonl"
    good.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    bad.write_text('{"instruction": "a", "output": "b"}\n{"instruction": ""}\n')
    panel = ft.what_if(data="capital", probes=(), config=SMALL)
    model, data = panel.picked.pickers.values()
    assert model.value == "tiny" and data.value == "capital"
    assert set(panel.picked.pickers.values()) < set(controls_in(panel.ui))
    data.value = str(good)
    happened = run(panel)
    own = ft.Experiment(data=str(good), probes=())
    assert happened.data["sha256"] == own.train.sha256 and happened.data["rows"] == 36
    data.value = str(bad)
    assert "line 2" in panel.error_line.lines[0]
    assert panel.experiment.train.sha256 == own.train.sha256, "the good file is kept"
    model.value = "no such model"
    data.value = str(good)
    assert "no model 'no such model'" in panel.error_line.lines[0]
    model.value = data.value = ""
    names = (panel.experiment.model, panel.experiment.train.name)
    assert (model.value, data.value) == names, "an empty field shows the default that is taken"


def test_a_learners_own_model_can_be_picked(tmp_path, panel, lab):
    folder = tmp_path / "tuned"
    lab.run(SMALL, live=False, out=folder)
    picked = ft.what_if(data="capital", probes=(), config=SMALL)
    picked.picked.pickers["model"].value = str(folder)
    assert run(picked).model_name == str(folder)


# ------------------------------------------------------------------------------- in words


def test_what_the_first_run_takes_is_said_whatever_is_stopped_meanwhile(lab):
    first = ft.what_if(lab, config=SMALL)
    second, third = (ft.what_if(lab, config=SMALL.but(batch_size=n)) for n in (2, 3))
    background.QUEUE.stop()
    for made in (first, second, third):
        made.wait()
        assert "1 step, about 1 s" in made.forecast_view.text.lines[0]
        assert "B of " in made.forecast_view.text.lines[0], "no control was moved"


def test_while_the_memory_is_found_out_it_is_not_known_yet(panel, monkeypatch):
    from ftkit.memory_use import footprint

    said, weigh = [], footprint.memory
    monkeypatch.setattr(footprint, "memory", lambda *args, **options: (
        said.append(panel.forecast_view.describe(panel.config)), weigh(*args, **options))[1])
    widgets.write(panel.controls.fields["batch_size"], 2)
    background.QUEUE.join()
    assert said and all(text.endswith("memory not known yet") for text in said)


def test_what_a_run_takes_is_said_before_it_starts(panel):
    widgets.write(panel.controls.fields["max_steps"], 200)
    background.QUEUE.join()
    (said,) = panel.forecast_view.text.lines
    assert said.startswith("200 steps, about ")
    length = round(panel.forecast.facts.record_tokens)
    bytes = ft.memory(panel.forecast.resolved(SMALL), "tiny", lengths=[length] * 4).peak
    assert f"{gb(bytes)} of " in said


def test_what_is_measured_before_the_first_step_is_said(panel, lab):
    said = []

    class Noted(types.SimpleNamespace):
        def __setattr__(self, name, value):
            said.append(value)
            super().__setattr__(name, value)

    made, prepared = lab.begin(SMALL)
    assert lab.measure(Noted(model=made.model), prepared).keys() == {"val_loss", "again_loss"}
    assert said == ["measuring val_loss, 4 records (1 of 2)",
                    "measuring again_loss, 4 records (2 of 2)", ""]
    task = types.SimpleNamespace(
        done=threading.Event(), rows=[], run=None, paused=False,
        started_run=types.SimpleNamespace(before={}, activity=said[0], samples=[]))
    drawing = threading.Thread(target=panel.results.draw_live, args=(task,))
    drawing.start()
    while panel.results.status.lines != [f"before the first step: {said[0]}"]:
        time.sleep(0.01)
    task.done.set()
    drawing.join(60)


def test_seconds_are_those_of_runs_like_it_on_this_machine(panel):
    known = panel.forecast
    here = machine.describe()
    made = run(panel)
    made.machine, made.seconds, made.tokens = here, 2.0, 2000
    known.finished = [made]
    asked = SMALL.but(max_steps=100, eval_steps=1000)
    known.facts.evaluation_tokens = 0
    expected = 0.3 + 100 * 4 * known.facts.record_tokens / 1000
    known.ratio = 1.0
    assert known.seconds(asked) == pytest.approx(expected)
    known.learn(asked, 4 * expected)
    assert expected < known.seconds(asked) < 4 * expected
    made.machine = here | {"name": "another"}
    known.ratio = 1.0
    assert known.seconds(asked) != pytest.approx(expected)


def test_the_picture_has_the_diagnosis_in_its_sentence(panel):
    happened = run(panel)
    text = panel.picture().text
    assert "underfitting" in text or "fine" in text
    assert panel.results.diagnosis.lines and text.startswith(
        panel.results.chart.shown["text"].rstrip("."))
    assert "data:image/png" in panel.results.chart.static.value
    assert len(happened.rows) == 1


def test_records_named_like_html_reach_no_widget_as_html(tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    panel = ft.what_if(data=str(path), probes=(), config=SMALL)
    run(panel)
    panel.code.kind.value = "Python cell"
    shown = [w for w in walk(panel.ui) if isinstance(w, W.HTML)]
    assert shown and not [w for w in shown if "<img src=x" in w.value]
    assert "<img src=x" not in panel.picture()._repr_mimebundle_()["text/html"]


# ------------------------------------------------------------------------ when something fails


def test_an_exception_of_a_control_or_a_button_is_shown_and_fails_any_test(panel, monkeypatch):
    def move():
        widgets.write(panel.controls.fields["seed"], 3)

    for target, name, act in ((panel.forecast, "steps", move),
                              (background.QUEUE, "submit", panel.launcher.start_button.click)):
        panel.show_error("")
        with monkeypatch.context() as patch:
            patch.setattr(target, name, lambda *_: 1 / 0)
            act()
        assert "a bug in this control of ftkit" in panel.error_line.lines[0]
        with pytest.raises(AssertionError, match="division by zero"):
            nothing_failed()


def test_a_run_that_fails_is_told_in_the_panel_and_raised_where_it_is_awaited(panel, monkeypatch):
    monkeypatch.setattr(panel.experiment, "run", lambda *_, **__: 1 / 0)
    press(panel.launcher.start_button)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(panel.result())
    assert "the run failed: ZeroDivisionError" in panel.error_line.lines[0]
    with pytest.raises(AssertionError, match="division by zero"):
        nothing_failed()
    monkeypatch.undo()


def test_values_that_contradict_each_other_are_told_and_train_nothing(panel):
    panel.config = SMALL.but(method="lora", init_lora_weights="orthogonal", r=1)
    press(panel.launcher.start_button)
    assert panel.wait() == [] and "expected an even r" in panel.error_line.lines[0]
    with pytest.raises(ValueError, match="expected an even r"):
        asyncio.run(panel.result())
    widgets.write(panel.controls.fields["max_length"], 2048)
    assert "longer than the" in panel.error_line.lines[0]
    press(panel.launcher.start_button)
    assert panel.wait() == [], "nothing was started"
    panel.config = SMALL.but(method="lora", init_lora_weights="orthogonal", r=1)
    press(panel.launcher.start_button)
    panel.wait()
    panel.config = SMALL
    press(panel.launcher.start_button)
    assert asyncio.run(panel.result()).config.method == "full", "the old failure is not raised"


def test_without_a_front_end_result_trains_the_defaults_to_the_end(panel):
    happened = asyncio.run(panel.result())
    assert happened.stopped is None and len(happened.rows) == 1
    assert asyncio.run(panel.result()) is happened, "awaiting again trains nothing"
