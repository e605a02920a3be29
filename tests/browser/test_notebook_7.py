"""The widgets in Notebook 7, which has a page of its own around the same cells."""

import os
import re
import subprocess
import sys

import pytest
from helpers import write_notebook

pytest.importorskip("notebook", reason="Notebook 7 is not installed")

CELLS = (
    "import ftkit as ft\nft.setup(seed=0)\npanel = ft.what_if(data='tasks')\npanel",
    "guess = ft.predict('Which one?', 'this', 'that')\nguess",
)


@pytest.fixture
def notebook_7(tmp_path, chromium):
    """A page of Notebook 7 with a panel and a guess, all cells run."""
    write_notebook(tmp_path / "one.ipynb", CELLS)
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("DATA", "RUNTIME", "CONFIG")}
    own |= {"FTKIT_HOME": str(tmp_path / "home"), "FTKIT_TIER": "cpu"}
    server = subprocess.Popen(
        [sys.executable, "-m", "notebook", "--no-browser", "--allow-root",
         "--IdentityProvider.token=secret", "--ServerApp.port_retries=50", "one.ipynb"],
        cwd=tmp_path, env=os.environ | own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True)
    try:
        address = next(found[0] for line in server.stderr
                       if (found := re.search(r"http://(127.0.0.1|localhost):\d+/", line)))
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(f"{address}notebooks/one.ipynb?token=secret")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
        for place in range(len(CELLS)):
            for _ in range(60):  # keys are lost while the page is still being built
                if re.search(r"[*\d]", prompts.nth(place).inner_text()):
                    break
                page.locator(".jp-CodeCell .cm-content").nth(place).click()
                page.keyboard.press("Control+Enter")
                page.wait_for_timeout(1000)
        yield page
        page.close()
    finally:
        server.terminate()
        server.wait(60)


def test_the_arrow_keys_move_every_slider(notebook_7):
    for slider in (".ftkit-learning_rate", ".ftkit-guess"):
        handle = notebook_7.locator(f"{slider} .noUi-handle").first
        handle.wait_for()
        notebook_7.wait_for_function(  # the script of the page has seen it
            "css => document.querySelector(css).getAttribute('aria-label')",
            arg=f"{slider} .noUi-handle")
        before = float(handle.get_attribute("aria-valuenow"))
        handle.focus()
        notebook_7.keyboard.press("ArrowRight")
        notebook_7.wait_for_function(
            "([css, before]) => Number(document.querySelector(css).ariaValueNow) > before",
            arg=[f"{slider} .noUi-handle", before])
