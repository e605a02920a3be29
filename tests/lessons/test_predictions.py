"""A guess by click: the controls, what is recorded, and what a page without a kernel shows."""

import json

import pytest

from ftkit.base import machine
from ftkit.lessons import predictions

pytestmark = [pytest.mark.quick, pytest.mark.heavy]  # ipywidgets takes a second
QUESTION = "What does val_loss do <then>?"


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """What a notebook would show: a list of (bundle, is an update)."""
    from IPython.display import DisplayHandle

    from ftkit.lessons import guess_widget

    shown = []

    def display(bundle, raw, display_id=None):
        shown.append((bundle, False))
        return DisplayHandle() if display_id else None

    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(machine, "in_notebook", lambda: True)
    monkeypatch.setattr(predictions, "_asked", {})
    monkeypatch.setattr(guess_widget, "display", display)
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(DisplayHandle, "update",
                        lambda self, bundle, raw: shown.append((bundle, True)))
    return shown


def kept() -> list[dict]:
    path = machine.home() / "progress.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ask(*options, **given):
    prediction = predictions.predict(QUESTION, *options, **given)
    prediction._ipython_display_()
    return prediction, prediction._controls


def test_a_click_is_recorded_at_once_and_can_be_changed_until_the_result(outputs):
    guess, controls = ask("falls", "rises")
    assert guess.guess is None and "Choose before" in controls.status.value
    controls.buttons[0].click()
    assert [(e["guess"], e["confidence"]) for e in kept()] == [("falls", 0.5)]
    assert controls.buttons[0].description == "✓ falls"
    controls.slider.value = 90
    controls.buttons[1].click()
    assert [(e["guess"], e["confidence"]) for e in kept()] == [
        ("falls", 0.5), ("falls", 0.9), ("rises", 0.9)]
    assert controls.buttons[0].description == "falls" and "Recorded: rises" in controls.status.value
    guess.score("rises")
    assert guess.right is True and kept()[-1]["kind"] == "score"
    controls.buttons[0].click()  # a click that was under way
    assert guess.guess == "rises" and len(kept()) == 4


def test_the_page_shows_the_question_without_a_kernel_and_no_result_below_it(outputs):
    guess, controls = ask("falls", "rises")
    (question, _), (view, _) = outputs
    assert "What does val_loss do &lt;then&gt;?" in question["text/html"]
    assert "<li>falls</li><li>rises</li>" in question["text/html"]
    assert "'falls', 'rises'" in question["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in view
    guess.score("falls")
    bundle, is_update = outputs[-1]
    assert is_update and "no guess was made, so none is counted" in bundle["text/plain"]
    assert "falls" not in bundle["text/html"], "an executed page would answer its own question"
    assert "result: falls" in repr(guess) and "widget" not in str(list(bundle))
    assert kept() == []


@pytest.mark.parametrize("options, chance", [("ab", 50), ("abc", 33), ("abcd", 25), ("abcde", 20)])
def test_the_slider_starts_at_the_chance_of_a_blind_guess(outputs, options, chance):
    slider = ask(*options)[1].slider
    assert slider.value == slider.min == chance and slider.max == 100


def test_names_between_backticks_are_code_on_the_page_and_plain_on_a_button(outputs):
    prediction, controls = ask("no `User:`", "a < b")
    page = outputs[0][0]["text/html"]
    assert "<li>no <code>User:</code></li>" in page and "<li>a &lt; b</li>" in page
    assert [button.description for button in controls.buttons] == ["no User:", "a < b"]
    controls.buttons[0].click()
    assert "Recorded: no <code>User:</code>," in controls.status.value
    assert prediction.guess == "no `User:`"


def test_the_cell_run_again_keeps_the_guess_and_then_shows_the_result(outputs, monkeypatch):
    guess, controls = ask("falls", "rises")
    controls.buttons[1].click()
    again, controls = ask("falls", "rises")
    assert again is guess and controls.buttons[1].description == "✓ rises"
    monkeypatch.setattr(predictions, "_asked", {})  # a new kernel
    restored, controls = ask("falls", "rises")
    assert (restored.guess, restored.confidence) == ("rises", 0.5)
    restored.score("falls")
    scored = predictions.predict(QUESTION, "falls", "rises")
    scored._ipython_display_()
    assert scored is restored and scored._controls is None
    assert "✗ not this time" in outputs[-1][0]["text/plain"]


def test_a_number_is_typed(outputs):
    guess, controls = ask()
    controls.field.value = "many"
    assert "&#x27;many&#x27; is not a number" in controls.status.value and kept() == []
    controls.field.value = "1,050"
    assert guess.guess == 1050 and kept()[0]["guess"] == 1050
    assert guess.score(1000).right is True


def test_a_guess_in_code_takes_the_place_of_a_click(outputs):
    guess, controls = ask("falls", "rises", guess="rises", confidence=0.8)
    assert guess.guess == "rises" and controls.slider.value == 80
    assert guess.score("rises").right is True


def test_run_all_is_not_blocked_and_a_terminal_gets_text(outputs, monkeypatch):
    monkeypatch.setattr(machine, "in_notebook", lambda: False)
    guess, controls = ask("falls", "rises")
    assert controls is None and "no guess yet" in outputs[-1][0]["text/plain"]
    assert guess.score("falls").right is None
