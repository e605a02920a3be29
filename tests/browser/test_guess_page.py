"""A guess in a real JupyterLab: by mouse, by keyboard alone, read by axe-core, and reopened."""

import json

import pytest
from playwright.sync_api import expect

CELLS = ["import ftkit as ft",
         "guess = ft.predict('What does val_loss do after epoch 3?', 'falls', 'stays where it is',"
         " 'rises, because the model memorizes its records and nothing that they have in common')"
         "\nguess",
         "number = ft.predict('How many parameters does LoRA train?')\nnumber",
         "guess.score('falls')",
         "number.score(1000)"]
STATUS = ".ftkit-guess-status"


@pytest.fixture
def page(request, page_of):
    """The five cells above as a notebook, the first three of them run."""
    name = f"guess_{request.node.name.partition('[')[0]}_{len(request.node.name)}"
    opened = page_of(name, CELLS, **getattr(request, "param", {}))
    opened.run_cells(*CELLS[:3])
    return opened


@pytest.mark.parametrize("page", [{}, {"dark": True}, {"width": 390, "height": 844}],
                         ids=["light", "dark", "narrow"], indirect=True)
def test_a_click_is_recorded_and_the_result_stands_where_it_is_scored(page):
    expect(page.locator(".ftkit-options").first).to_be_hidden()
    first = page.locator(".ftkit-guess").first
    first.get_by_role("button", name="rises").click()
    expect(first.locator(STATUS)).to_contain_text("Recorded: rises")
    page.locator(".ftkit-guess").nth(1).locator("input").fill("1050")
    page.page.keyboard.press("Enter")
    expect(page.locator(STATUS).nth(1)).to_contain_text("Recorded: 1,050")
    box = first.bounding_box()
    for button in first.get_by_role("button").all():
        inside = button.bounding_box()
        assert inside["x"] + inside["width"] <= box["x"] + box["width"] + 1
        assert button.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    first.get_by_role("button", name="falls").click()
    page.run_cells(*CELLS[3:])
    expect(page.locator(".ftkit-guess")).to_have_count(0)
    text = page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea").inner_text()
    assert "your guess: falls (33% sure)" in text and "result" not in text
    expect(page.locator(".jp-CodeCell").nth(3)).to_contain_text("result: falls ✓ right")
    page.run_cells(CELLS[1])
    expect(page.locator(".jp-CodeCell").nth(1)).to_contain_text("result: falls")


def test_a_guess_by_keyboard_alone(page):
    page.page.keyboard.press("Escape")
    page.tab_to(".ftkit-guess", "stays")
    expect(page.locator(".ftkit-guess button:focus")).to_have_css("outline-width", "3px")
    page.page.keyboard.press("Enter")
    expect(page.locator(STATUS).first).to_contain_text("Recorded: stays where it is, 33 % sure")
    page.tab_to(".ftkit-guess .noUi-handle")
    for _ in range(2):
        page.page.keyboard.press("ArrowRight")
    expect(page.locator(STATUS).first).to_contain_text("Recorded: stays where it is, 35 % sure")
    page.page.keyboard.press("Tab")
    assert not page.locator(".widget-readout:focus").count(), "letters would be typed into it"
    log = page.folder.parent / "home" / "progress.jsonl"
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["guess"], last["confidence"]) == ("stays where it is", 0.35)


def test_a_scored_guess_leaves_the_other_widgets_alive_after_a_reload(page):
    page.locator(".ftkit-guess").first.get_by_role("button", name="falls").click()
    expect(page.locator(STATUS).first).to_contain_text("Recorded: falls")
    page.run_cells(CELLS[3])
    page.save()
    page.open()
    field = page.locator(".ftkit-guess input[type=text], .ftkit-guess input:not([type])").first
    field.fill("1050")
    page.page.keyboard.press("Enter")
    expect(page.locator(STATUS)).to_contain_text("Recorded: 1,050")


def test_a_page_without_a_kernel_shows_question_and_options(page):
    page.reopen()
    expect(page.locator(".ftkit-options").first).to_be_visible()
    expect(page.locator(".ftkit-options li")).to_have_count(3)
    expect(page.locator(".jp-Notebook")).not_to_contain_text("widget", use_inner_text=True)


@pytest.mark.parametrize("page", [{}, {"dark": True}], ids=["light", "dark"], indirect=True)
def test_axe_finds_nothing_serious(page):
    page.locator(".ftkit-guess").first.get_by_role("button", name="falls").click()
    expect(page.locator(STATUS).first).to_contain_text("Recorded")
    expect(page.locator(".ftkit-guess[role=group]")).to_have_count(2)
    assert not page.serious(".ftkit-guess, .ftkit-question")
