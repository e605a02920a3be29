"""Screenshots of lessons, for eyes: light and dark, wide and as on a phone, a panel in training.

    FTKIT_LOOK=/tmp/shots pytest tests/browser/look_at.py -k 07
"""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

OUT = Path(os.environ.get("FTKIT_LOOK", "shots"))
HIGH, STEP = 1800, 1650  # pixels of a screenshot, and from one to the next


@pytest.mark.parametrize("name", [p.stem for p in sorted(Path("notebooks").glob("*.ipynb"))])
def test_look(lesson, name):
    OUT.mkdir(parents=True, exist_ok=True)
    page = lesson(name)
    page.run_all()
    page.wait_until_done()
    train(page, OUT / f"{name}-training.png")
    for width in (1280, 1920, 390):
        if width == 390:
            page.command("application:toggle-left-area")
        page.page.set_viewport_size({"width": width, "height": HIGH})
        for theme in ("Light", "Dark"):
            page.command("apputils:change-theme", {"theme": f"JupyterLab {theme}"})
            page.page.wait_for_timeout(1500)
            scroll(page, OUT / f"{name}-{width}-{theme.lower()}")


def train(page, path):
    """A second run from the last panel, if there is one."""
    if not page.locator(".ftkit-what-if").count():
        return
    knob, status = (page.locator(f".ftkit-{part}").last
                    for part in ("learning_rate .noUi-handle", "status"))
    knob.press("ArrowRight")
    page.locator(".ftkit-start").last.click()
    expect(status).to_contain_text(re.compile(r"step [1-9]"), timeout=120_000)
    page.locator(".ftkit-what-if").last.scroll_into_view_if_needed()
    page.look(path)
    expect(status).to_contain_text("finished", timeout=120_000)


def scroll(page, stem):
    """The whole notebook, one screenshot after the other."""
    box = page.locator(".jp-Notebook .jp-WindowedPanel-outer").first
    for place in range(20):
        box.evaluate("(e, y) => { e.scrollTop = y }", place * STEP)
        page.page.wait_for_timeout(700)
        page.look(f"{stem}-{place:02}.png")
        last = page.locator(".jp-Notebook .jp-Cell").last.bounding_box()
        if last and last["y"] + last["height"] < HIGH:
            return


def test_picture_of_a_lesson(lesson):
    """`lesson.png`: lesson 00 after its first run."""
    OUT.mkdir(parents=True, exist_ok=True)
    page = lesson("00_start_here", width=1100, height=860)
    page.run_all()
    page.wait_until_done()
    page.command("application:toggle-left-area")
    page.locator(".ftkit-chart svg").first.scroll_into_view_if_needed()
    page.page.wait_for_timeout(2000)
    page.page.mouse.move(500, 500)
    page.page.mouse.wheel(0, 80)
    page.page.wait_for_timeout(2000)
    page.look(OUT / "lesson.png")


def test_picture_of_a_sweep(page_of):
    """`what-if.png`: a panel after a run and a sweep of its learning rate."""
    OUT.mkdir(parents=True, exist_ok=True)
    cells = ("import ftkit as ft", "panel = ft.what_if(data='translation', config=ft.Config("
             "max_steps=40, eval_steps=5))\npanel")
    page = page_of("sweep", list(cells), width=1280, height=1500)
    page.run_cells(*cells)
    page.command("application:toggle-left-area")
    for css, said in ((".ftkit-start", "Newest run"),
                      (".ftkit-what-if button.ftkit-sweep", "E learning_rate")):
        page.locator(css).click()
        expect(page.locator(".ftkit-what-if")).to_contain_text(said, timeout=240_000)
    expect(page.locator(".ftkit-choose")).to_have_count(5, timeout=240_000)
    page.page.wait_for_timeout(10_000)
    page.page.set_viewport_size({"width": 1010, "height": 1500})
    page.page.mouse.move(5, 5)
    page.page.wait_for_timeout(2000)
    page.locator(".ftkit-what-if").screenshot(path=str(OUT / "what-if.png"))
