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


def test_pictures_of_the_readme(lesson):
    """`lesson.png` and `what-if.png`: lesson 00 after its first run, and its panel after three."""
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
    panel = page.locator(".ftkit-what-if").last
    panel.locator(".ftkit-learning_rate .noUi-handle").press("End")
    panel.locator(".ftkit-start").click()
    expect(panel.locator(".ftkit-status")).to_contain_text("finished", timeout=240_000)
    page.page.set_viewport_size({"width": 1100, "height": 1100})  # the whole panel
    panel.scroll_into_view_if_needed()
    page.page.wait_for_timeout(2000)
    panel.screenshot(path=str(OUT / "what-if.png"))
