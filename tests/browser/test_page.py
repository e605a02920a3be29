"""Lessons in a real JupyterLab: what nbval cannot see.

A control moved while a run goes on must react within half a second, Stop must keep what was done,
and what a learner has seen must still be there when the notebook is opened again.
"""

import json
import re
import time

import pytest
from playwright.sync_api import expect

LESSONS = ("00_start_here", pytest.param("07_learning_rate", marks=pytest.mark.slow),
           "22_what_if_lab")
REACTS = 500  # milliseconds
SLOW = 60_000  # milliseconds for what takes one second on a quiet machine


def outputs(notebook: dict) -> list[dict]:
    return [out for cell in notebook["cells"] for out in cell.get("outputs", ())]


def failed(notebook: dict) -> list:
    """Cells of code that were left out, and errors that the lesson did not mean to show."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and cell["source"]]
    return [cell["source"] for cell in code if not cell["execution_count"]] + [
        out for cell in code if "raises-exception" not in cell["metadata"].get("tags", ())
        for out in cell["outputs"] if out["output_type"] == "error"]


def figures(notebook: dict) -> list[str]:
    """The sentences of all figures that are stored in the cells."""
    return ["".join(out["data"]["text/plain"]) for out in outputs(notebook)
            if "image/png" in out.get("data", {})]


def move(page, field: str, key: str) -> float:
    """Press a key on a slider; milliseconds, by the page's clock, until the panel shows the new
    value beside it, which the kernel sends."""
    knob = page.locator(f".ftkit-{field} .noUi-handle").last
    knob.focus()
    page.locator(f".ftkit-row:has(.ftkit-{field}) .ftkit-readout").last.evaluate(
        "box => { const old = box.innerText; window.took = null;"
        " const seen = new MutationObserver(() => {"
        "   if (box.innerText.trim() && box.innerText != old) {"
        "     window.took = performance.now() - window.pressed; seen.disconnect() } });"
        " document.addEventListener('keydown', () => { window.pressed = performance.now() },"
        "   {capture: true, once: true});"
        " seen.observe(box, {childList: true, subtree: true, characterData: true}) }")
    knob.press(key)
    page.page.wait_for_function("() => window.took != null", timeout=SLOW)
    return page.page.evaluate("() => window.took")


def start_a_long_run(page):
    page.locator(".ftkit-max_steps .noUi-handle").last.press("End")
    page.locator(".ftkit-seed .noUi-handle").last.press("ArrowRight")
    page.locator(".ftkit-start").last.click()
    expect(page.locator(".ftkit-status").last).to_contain_text(
        re.compile(r"step [1-9]\d* of"), timeout=SLOW)


def stopped_by_hand(page):
    """What Stop did is said, and the partial run is in the list."""
    expect(page.locator(".ftkit-status").last).to_contain_text(
        re.compile(r"stopped manually after step [1-9]"), timeout=SLOW)
    expect(page.locator(".ftkit-runs").last).to_contain_text("stopped manually")
    expect(page.locator(".ftkit-error").last).to_be_empty()


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_reacts_stops_and_is_still_there_when_reopened(lesson, name):
    page = lesson(name)
    page.run_all()
    page.wait_until_done()
    assert not failed(page.save())

    start_a_long_run(page)
    status = page.locator(".ftkit-status").last
    took = [move(page, "learning_rate", key) for key in ("ArrowRight", "ArrowLeft") * 3]
    expect(status).to_contain_text(re.compile("step .* of"))  # the run has gone on meanwhile
    assert min(took) <= REACTS, f"the page reacted in {took} ms"  # other programs only add to it
    page.locator(".ftkit-stop").last.click()
    stopped_by_hand(page)

    # a second run, to its end
    for key in ("Home", "ArrowRight", "ArrowRight"):  # auto, 1, 5
        page.locator(".ftkit-max_steps .noUi-handle").last.press(key)
    # A page sends a slider's next value when the kernel has taken the last, a click at once.
    expect(page.locator(".ftkit-forecast").last).to_contain_text(
        re.compile(r"^\s*5 steps"), timeout=SLOW)
    page.locator(".ftkit-start").last.click()
    expect(status).to_contain_text("finished: 5 steps", timeout=SLOW)
    expect(page.locator(".ftkit-diagnosis").last).not_to_be_empty()
    newest = re.compile(r"newest run \([^)]*max_steps=5\b")
    kept = page.locator(".jp-OutputArea img[alt*='baseline']").last
    expect(kept).to_have_attribute("alt", newest, timeout=SLOW)

    # A figure reaches the notebook's file up to a second after the page.
    until = time.monotonic() + SLOW / 1000
    stored = figures(page.save())
    while not any(newest.search(text) for text in stored):
        assert time.monotonic() < until, stored
        page.page.wait_for_timeout(250)
        stored = figures(page.save())

    # the next day: no kernel, no widgets, and the figures are there
    page.reopen()
    # JupyterLab draws the cells one after the other, the last ones well after the first.
    drawn = page.locator(".jp-OutputArea img[alt]")
    expect(drawn.nth(len(stored) - 1)).to_be_attached(timeout=SLOW)
    expect(kept).to_have_attribute("alt", newest, timeout=SLOW)
    assert kept.evaluate("image => image.complete && image.naturalWidth > 100")
    assert figures(json.loads((page.folder / f"{name}.ipynb").read_text("utf-8"))) == stored


def test_figures_code_and_printed_words_can_be_read_where_the_page_is_narrow(lesson):
    page = lesson("16_catastrophic_forgetting", width=390, height=844)
    page.command("application:toggle-left-area")
    page.run_cells("ft.setup(", "def with_replay")
    figure = page.locator(".jp-RenderedMarkdown img[src*='16_frontier']")
    expect(figure).to_have_js_property("width", 570, timeout=SLOW)
    box = figure.locator("xpath=..")
    assert box.evaluate("e => [getComputedStyle(e).overflowX, e.clientWidth < 390]") == [
        "auto", True], "the figure scrolls, the page does not"
    code = page.locator(".jp-RenderedMarkdown pre").first
    expect(code).to_have_css("margin-left", "0px")
    expect(code).to_have_css("font-size", "13px")  # as in a cell
    expect(page.locator(".jp-RenderedMarkdown details").first).not_to_have_css(
        "margin-bottom", "0px")  # an answer is apart from the next question
    printed = page.page.locator(".jp-OutputArea-output pre", has_text="with_replay").first
    expect(printed).to_have_css("word-break", "normal")
