"""The playground as a file in Chromium: its numbers, its link, bad input, keys, axe."""

import json
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch

import ftkit as ft
from ftkit.model import cache

PAGE = Path(__file__).parents[2] / "playground" / "dist" / "index.html"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="`make playground` builds the page")


class Playground:
    """The page in a context of its own; `errors` and `outside` must stay empty."""

    def __init__(self, browser, state="", width=1280, dark=False, touch=False):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, reduced_motion="reduce", has_touch=touch,
            color_scheme="dark" if dark else "light")
        self.page = self.context.new_page()
        self.page.set_default_timeout(300_000)
        self.errors, self.outside = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: None if request.url.startswith(
            ("file:", "blob:", "data:")) else self.outside.append(request.url))
        self.page.goto(f"{PAGE.as_uri()}#{state}")
        self.page.wait_for_function("!document.querySelector('#answers')?.matches(':empty')"
                                    " || document.querySelector('#own:not([hidden])')")

    def finish(self) -> dict:
        """The current run, once it has ended, as it is exported."""
        self.page.wait_for_function(
            "['finished', 'diverged'].includes(playground.current()?.status)")
        with self.page.expect_download() as download:
            self.page.click("#export")
        return json.loads(Path(download.value.path()).read_text())[-1]

    def train(self) -> dict:
        self.page.click("#train")
        return self.finish()

    def paste(self, table: str):
        self.page.evaluate("table => { document.querySelector('#pairs').value = table }", table)
        self.page.click("#use")

    def text(self, css: str) -> str:
        return self.page.inner_text(css)


@pytest.fixture
def playground(chromium):
    opened = []

    def open(*args, **options):
        opened.append(Playground(chromium, *args, **options))
        return opened[-1]

    yield open
    for one in opened:
        assert not one.errors and not one.outside
        one.context.close()


def rounded_model():
    """The embedded model with the weights that the page stores (playground/src/weights.ts)."""
    model, tokenizer = cache.fresh("tiny")
    for weight in model.parameters():
        if weight.ndim == 2:
            values = weight.detach().numpy().astype(np.float64)
            scale = (np.abs(values).max(1, keepdims=True) / 32767).astype(np.float32)
            whole = np.floor(values / np.where(scale, scale, 1) + 0.5)
            weight.data = torch.tensor(whole.astype(np.float32) * scale)
    return model, tokenizer


PAIRS = "question,answer\n" + "\n".join(f"Add one to {i},{i + 1}" for i in range(40))


@pytest.mark.parametrize("fields", [
    {"method": "lora"}, {"method": "full", "learning_rate": 2e-4}, {"method": "ia3"},
    {"method": "lora", "data": "tasks", "max_steps": 20, "seed": 2},
    {"method": "full", "data": "tasks", "max_steps": 20, "replay": 0.2},
], ids=lambda fields: f"{fields['method']}-{fields.get('data', 'translation')}")
def test_an_exported_run_is_that_of_ftkit(playground, fields):
    fields = {"data": "translation", "max_steps": 100} | fields
    page = playground("&".join(f"{key}={value}" for key, value in fields.items()))
    shown = ft.Run.from_dict(page.train())
    lab = ft.Experiment(model=rounded_model(), data=fields.pop("data"), eval_records=16)
    run = lab.run(**fields, precision="fp32", live=False)
    assert shown.trainable_parameters == run.trainable_parameters
    for ours, theirs in zip(shown.rows, run.rows, strict=True):
        for name in theirs.keys() & {"loss", "val_loss", "general_loss"}:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-3), (name, ours["step"])


@pytest.mark.parametrize("method", ["lora", "full"])
def test_pasted_pairs_are_learned(playground, method):
    shown = playground(f"data=own&method={method}&max_steps=20")
    shown.paste(PAIRS)
    assert "40 pairs" in shown.text("#own-message")
    run = shown.train()
    assert run["after"]["val_loss"] < 0.5 * run["before"]["val_loss"]
    assert len(run["samples"]) == 8  # four questions, before and after


def test_a_shared_link_gives_the_same_curve_bit_for_bit(playground):
    first = playground("data=tasks&method=lora&max_steps=6&seed=7&learning_rate=0.01")
    run = first.train()
    first.page.click("#share")
    link = first.text("#dialog-code")
    again = playground(link.split("#", 1)[1])
    assert [row["loss"] for row in again.finish()["history"]] == [
        row["loss"] for row in run["history"]]


@pytest.mark.parametrize("pairs", ["[]", "null", "[1, 2]", "[{", '[{"instruction": "one"}]'])
def test_a_link_with_damaged_pairs_opens_without_them(playground, pairs):
    shown = playground(f"data=own&pairs={quote(pairs)}")
    assert shown.page.input_value("#pairs") == "" and shown.text("#own-message") == ""


@pytest.mark.parametrize("table, sentence", [
    ("", "The table is empty"), ("question,answer\n", "no rows"), ("same,1\nsame,2", "only one"),
    ("only a question\nanother", "has no answer"), ('"open,1\n2,3', "never closed"),
    ('{"question": 1', "not valid JSON"), ("a,b\n" * 201, "at most 200"),
    (f"{'word ' * 600},short\nb,c", "the model reads 512"), ("x" * 5_000_000, "5.0 MB"),
])
def test_bad_tables_get_a_sentence_and_nothing_is_lost(playground, table, sentence):
    shown = playground("data=own&max_steps=2")
    shown.paste(PAIRS)
    shown.paste(table)
    message = shown.text("#own-message")
    assert sentence in message and "40 pairs from before" in message
    assert len(shown.train()["history"]) == 2


def test_emoji_and_a_learning_rate_of_10(playground):
    shown = playground("data=own&method=full&max_steps=8&learning_rate=10")
    shown.paste("\n".join(f"🦊 {i} 日本,é🙂 {i}" for i in range(12)))
    shown.train()
    assert "broke the model" in shown.text("#verdict") or "diverged" in shown.text("#verdict")
    assert shown.page.locator("#runs tr").count() == 1


def test_pause_step_learning_rate_and_reset(playground):
    shown = playground("max_steps=12")
    page = shown.page
    page.click("#step")
    page.wait_for_function("playground.current().rows.length == 1")
    page.focus("[name=learning_rate]")
    page.keyboard.press("ArrowRight")
    page.click("#step")
    page.wait_for_function("playground.current().rows.length == 2")
    assert page.evaluate("playground.current().rows[1].learning_rate") == 0.01
    assert "Paused after 2 of 12" in shown.text("#verdict")
    page.click("#train")
    run = shown.finish()
    assert any("changed to 0.01 at step 2" in note for note in run["notes"])
    page.click("#reset")
    assert shown.text("#count") == "0" and page.locator("#runs tr").count() == 1


def test_a_changed_setting_marks_the_results_as_those_of_the_run(playground):
    shown = playground("max_steps=3")
    shown.train()
    assert shown.text("#count") == "3" and "learning rate" not in shown.text("#verdict")
    shown.page.check("[name=method][value=full]", force=True)
    assert "from 0.005 to 0.001, which is usual for Full" in shown.text("#about")
    assert "This is run 1. You have changed method and learning rate since" in shown.text(
        "#verdict")
    assert shown.text("#count") == "0"
    assert "before the settings were changed" in shown.text("#curves-title")
    for button in ("#share", "#python"):
        shown.page.click(button)
        assert "not" in shown.text("#dialog-text") and "run 1" in shown.text("#dialog-text")
        shown.page.click("#dialog-close")
    shown.train()
    assert "LoRA of rank 8 and alpha 16 instead of Full and learning rate 0.005" in shown.text(
        "#verdict")
    assert shown.text("#curves-title").endswith("run 2")


@pytest.mark.parametrize("state", [
    "method=lora&r=4&train_records=12&seed=3&learning_rate=0.002",
    "method=ia3&data=tasks&replay=0.2",
    "data=own&method=full&learning_rate=0.0002"])
def test_the_lines_for_python_repeat_the_run(playground, state, tmp_path, monkeypatch):
    shown = playground(f"{state}&max_steps=4")
    if "own" in state:
        shown.paste(PAIRS)
    run = shown.train()
    shown.page.click("#python")
    if "own" in state:
        with shown.page.expect_download() as download:
            shown.page.click("#dialog-save")
        download.value.save_as(tmp_path / "pairs.jsonl")
        monkeypatch.chdir(tmp_path)
    lines, there = shown.text("#dialog-code"), {}
    exec(lines.replace("ft.curves(run)", ""), there)
    for ours, theirs in zip(run["history"], there["run"].rows, strict=True):
        for name in ("loss", "val_loss", "general_loss"):
            assert ours[name] == pytest.approx(theirs[name], abs=5e-3), (name, ours["step"])


def test_a_table_with_semicolons_and_emoji(playground):
    shown = playground("data=own&max_steps=2")
    shown.paste("question;answer\n" + "\n".join(f"Greet, 🦊, {i};Hello, 🙂 {i}" for i in range(12)))
    assert "“Greet, 🦊, 0” → “Hello, 🙂 0”" in shown.text("#own-message")
    shown.train()
    mask = shown.text("#mask")
    assert "🦊" in mask and "🙂" in mask and "\ufffd" not in mask
    assert "Pairs that it is trained on" in shown.text("#answers")


def test_a_challenge_asks_for_a_guess_and_says_when_it_is_solved(playground):
    shown = playground("max_steps=6&challenge=2")
    page = shown.page
    page.click("#challenge .guess button:nth-child(2)")
    page.click("text=Set it up")
    assert "Set: Full, learning rate 0.005, 30 steps" in shown.text("#challenge")
    assert page.evaluate("document.activeElement.id") == "train"
    page.evaluate("location.hash = 'method=lora&learning_rate=0.002&challenge=2'")
    page.wait_for_function("document.querySelector('#rate').textContent == '0.002'")
    page.keyboard.press("s")
    page.wait_for_function("playground.current().rows.length == 1")
    page.keyboard.press(" ")
    shown.finish()
    assert "Challenge 2 is solved" in shown.text("#verdict")
    assert "You guessed right" in shown.text("#challenge")


def test_a_challenge_is_solved_by_a_run_from_before_it_was_opened(playground):
    shown = playground("learning_rate=0.002")
    shown.train()
    shown.page.click("text=2. Keep the English")
    assert "Solved: run 1 ended at val_loss" in shown.text("#challenge")


def test_train_reads_what_is_in_the_box(playground):
    shown = playground("data=own&max_steps=2")
    page = shown.page
    shown.paste(PAIRS)
    assert "36 are taught; 4 are kept back and only asked, such as “Add one to" in shown.text(
        "#own-message")
    page.click(".more summary")
    page.fill("[name=train_records]", "8")
    page.press("[name=train_records]", "Tab")
    assert "Only 8 of 36 are taught" in shown.text("#own-message")
    assert "8 records" in shown.text("#more-set")
    page.click("#more-usual")
    assert "36 are taught" in shown.text("#own-message") and not shown.text("#more-set")
    shown.train()
    page.fill("#pairs", "question,answer\n" + "Who?,Tom\nWhere?,Here\nWhen?,Now\n")
    assert "Not in use yet" in shown.text("#own-message") and "pairs" in shown.text("#verdict")
    assert len(shown.train()["history"]) == 2
    assert "Who?" in shown.text("#answers") and "3 own pairs" in shown.text("#runs")
    page.fill("#pairs", "question,answer\nWho?,Tom, Ann and Bo")
    page.click("#train")
    assert "has 3 columns" in shown.text("#own-message") and page.locator("#runs tr").count() == 2
    page.click("#back")
    assert "Tom" in page.input_value("#pairs") and "Ann" not in page.input_value("#pairs")
    page.click("text=Use settings >> nth=1")
    assert "Add one to 39" in page.input_value("#pairs")


def test_numbers_outside_the_limits_and_a_kept_rate_are_said(playground):
    shown = playground("max_steps=3&learning_rate=0.01")
    shown.page.fill("[name=max_steps]", "5000")
    shown.page.check("[name=method][value=ia3]", force=True)
    assert "The learning rate stays at 0.01; usual for IA3 here is 0.1" in shown.text("#about")
    shown.page.click("text=Use 0.1")
    assert shown.text("#rate") == "0.1" and not shown.page.is_visible("#usual")
    shown.page.fill("[name=max_steps]", "0")
    shown.page.press("[name=max_steps]", "Tab")
    assert "Steps can be a whole number from 1 to 300: 1 is set, not 0" in shown.text("#about")


def test_a_run_can_be_paused_after_other_settings_were_chosen(playground):
    shown = playground("max_steps=300")
    page = shown.page
    page.click("#train")
    page.wait_for_function("playground.current()?.rows.length > 1")
    page.check("[name=method][value=full]", force=True)
    page.click("[aria-label='Pause run 1']")
    assert page.evaluate("playground.current().status") == "paused"
    page.click("[aria-label='Resume run 1']")
    assert page.evaluate("playground.current().status") == "running"
    page.click("#reset")


def test_the_reading_names_its_run_and_goes_with_the_pointer(playground):
    shown = playground("max_steps=3")
    shown.train()
    shown.page.hover("#task-chart")
    assert shown.text("#readout").startswith("Run 1, step ")
    shown.train()
    assert "Point at a curve" in shown.text("#readout")


def test_the_axes_fit_the_shown_run_and_other_data_are_not_drawn(playground):
    shown = playground("max_steps=20&method=full&learning_rate=10")
    shown.train()
    shown.page.evaluate("location.hash = 'max_steps=3&method=full&learning_rate=0.0001'")
    shown.train()
    marks = "[...document.querySelectorAll('#general-chart .tick')].map(t => t.textContent)"
    assert not {"10", "12", "20"} & set(shown.page.evaluate(marks))
    assert shown.page.locator("#task-chart .line.old").count() == 1
    assert shown.page.locator("#general-chart .plot .line.old").count() == 1
    assert shown.page.locator("#general-chart .off-scale.old").count() == 1
    shown.page.select_option("[name=data]", "tasks")
    shown.train()
    assert shown.page.locator("#task-chart .line.old").count() == 0
    assert "2 runs on other data are not drawn" in shown.text("#chosen")
    shown.train()
    assert "Same settings as run 3, same result" in shown.text("#verdict")
    assert shown.page.locator("#frontier-chart .point").count() == 2


def test_a_failed_attempt_and_a_single_step_are_explained(playground):
    shown = playground("max_steps=20")
    page = shown.page
    page.click("text=3. Overfit")
    page.click("text=Set it up")
    assert "Set: Full, learning rate 0.001" in shown.text("#challenge")
    page.fill("[name=max_steps]", "20")
    page.press("[name=max_steps]", "Tab")
    assert "Set: " not in shown.text("#challenge")
    for _ in range(3):
        page.click("#step")
        page.wait_for_function("['paused'].includes(playground.current()?.status)")
    page.wait_for_function("playground.current().rows.length == 3")
    assert "The loss of this batch was" in shown.text("#verdict")
    page.wait_for_selector("#verdict:has-text('those of step 2')")  # a second worker evaluates
    page.evaluate("document.querySelector('meta[name=lessons]').content = './'")
    page.evaluate("location.hash = 'method=full&max_steps=3&challenge=1'")
    page.wait_for_function("document.querySelector('[name=max_steps]').value == '3'")
    shown.train()
    assert "Not yet: run 2 ended at general_loss" in shown.text("#challenge")
    page.evaluate("location.hash = 'method=full&max_steps=8&challenge=1&learning_rate=0.05'")
    shown.train()
    assert "Solved: run 3 ended at general_loss" in shown.text("#challenge")
    assert page.get_attribute("#challenge a", "href") == "./16_catastrophic_forgetting.html"


def test_on_a_phone_an_error_is_above_the_fixed_bar(playground):
    shown = playground("data=own", width=390, touch=True)
    shown.page.wait_for_selector("#train:enabled")
    shown.page.tap("#train")
    message = shown.page.locator("#own-message").bounding_box()
    assert "Give your pairs first" in shown.text("#own-message")
    assert message["y"] + message["height"] <= shown.page.locator(".drive").bounding_box()["y"]


def test_the_page_follows_the_theme_of_the_system_until_another_is_chosen(playground):
    shown = playground()
    theme = "document.documentElement.dataset.theme"
    shown.page.emulate_media(color_scheme="dark")
    shown.page.wait_for_function(f"{theme} == 'dark'")
    shown.page.click("#theme")
    for system in ("light", "dark"):
        shown.page.emulate_media(color_scheme=system)
        shown.page.evaluate("new Promise(requestAnimationFrame)")
        assert shown.page.evaluate(theme) == "light"


def test_a_phone_folds_what_is_not_needed_and_reads_taps(playground):
    shown = playground("max_steps=3", width=390, touch=True)
    page = shown.page
    shown.train()
    page.tap("#task-chart")
    assert shown.text("#readout").startswith("Run 1, step ")
    assert page.evaluate("document.documentElement.scrollHeight") < 3500
    assert "nothing is sent" in shown.text(".lead")
    page.tap(".frontier summary")
    page.wait_for_function("document.querySelector('#frontier-chart svg').clientWidth > 300")


def test_losses_above_the_scale_are_marked_and_no_label_is_cut(playground):
    shown = playground("method=full&learning_rate=10&max_steps=10", width=390)
    shown.train()
    page = shown.page
    assert page.locator(".off-scale").count() and "guessing evenly" in shown.text("#task-chart")
    assert page.evaluate("""[...document.querySelectorAll("text.end")].every(t =>
        t.getBoundingClientRect().right <= t.closest("svg").getBoundingClientRect().right)""")
    assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.scroll'))")


def test_a_challenge_by_keyboard_alone(playground):
    shown = playground("method=full&max_steps=6")
    page = shown.page

    def tab_to(css):
        while not page.evaluate("css => document.activeElement.matches(css)", css):
            page.keyboard.press("Tab")

    tab_to("[name=learning_rate]")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    page.focus("body")
    tab_to("#train")
    page.keyboard.press("Enter")
    shown.finish()
    assert "Solved" in shown.text("#challenge")


@pytest.mark.parametrize("width, dark", [(1280, False), (1280, True), (390, False)])
def test_axe_finds_nothing_serious_and_nothing_overflows(playground, width, dark):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    shown = playground("max_steps=3", width=width, dark=dark)
    shown.train()
    found = axe.Axe().run(shown.page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found
            if v["impact"] in ("serious", "critical")] == []
    assert shown.page.evaluate("document.documentElement.scrollWidth") == width
