"""A page of the site, built without outputs."""

import runpy

import pytest
from helpers import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    runpy.run_path(str(ROOT / "notebooks" / "make_site.py"))["build"](out, execute=False)
    return out


def test_code_that_scrolls_can_be_scrolled_by_keys(chromium, site):
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    page.goto((site / "00_start_here.html").as_uri())
    page.wait_for_selector("main pre[tabindex]")
    page.wait_for_timeout(500)
    wrong = page.evaluate("""() => [...document.querySelectorAll("main pre, main .wide")]
      .filter(e => e.scrollWidth > e.clientWidth !== (e.tabIndex === 0)).length""")
    assert wrong == 0
    box = page.locator("main pre[tabindex]").first
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.activeElement.scrollLeft > 0")
    page.close()
