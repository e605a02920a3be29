"""A real JupyterLab in a headless Chromium: what a learner sees, driven by Playwright.

    def test_x(lesson):
        page = lesson("00_start_here")            # opened, its kernel idle
        page.run_all(); page.locator(".ftkit-stop").click(); page.reopen()

Where no Chromium is found the tests skip and say how to get one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import write_notebook

from ftkit.base import ports

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("FTKIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
WHY = ("no Chromium on this machine, so no page was looked at; `apt-get install chromium` gets "
       "one, FTKIT_CHROMIUM names one")
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")
HERE = r"(https?|wss?)://127\.0\.0\.1|data:|blob:"
SECONDS = 1000  # Playwright counts in milliseconds
PATIENCE = 120  # seconds for what takes two on a quiet machine


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason=WHY))


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory):
    """`ftkit lab` on a free port with its own folders: (address, token, folder of lessons)."""
    place = tmp_path_factory.mktemp("jupyter")
    config = place / "config"
    config.mkdir()
    # The page's own commands ("run all cells") can then be called from a test.
    (config / "jupyter_lab_config.json").write_text(
        json.dumps({"LabApp": {"expose_app_in_browser": True}}))
    own = {f"JUPYTER_{name}_DIR": str(place / name.lower()) for name in ("DATA", "RUNTIME")}
    own |= {"JUPYTER_CONFIG_DIR": str(config), "FTKIT_HOME": str(place / "home"),
            "JUPYTERLAB_SETTINGS_DIR": str(place / "settings"), "FTKIT_TIER": "cpu",
            "JUPYTERLAB_WORKSPACES_DIR": str(place / "workspaces")}
    with open(place / "log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "ftkit", "lab", str(place / "lessons"), "--no-browser",
             # Two servers that look for a port in one moment find the same one.
             "--port", str(ports.free_port())],
            env=os.environ | own, cwd=place, stdout=subprocess.PIPE, stderr=log, text=True)
    said = ""
    try:
        while "Stop it" not in said:
            line = server.stdout.readline()
            assert line, said + (place / "log").read_text()
            said += line
        threading.Thread(target=server.stdout.read, daemon=True).start()
        address, token = re.search(
            r"(http://127\.0\.0\.1:\d+)/lab\S*\?token=([0-9a-f]{32,})", said).groups()
        yield address, token, place / "lessons"
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


class Lesson:
    """One notebook open in JupyterLab. `.page` is Playwright's Page; `.outside` and `.errors`
    collect requests that leave this machine and errors of the page: both must stay empty."""

    def __init__(self, browser, jupyter, name: str, width=1280, height=900, dark=False):
        self.address, self.token, self.folder = jupyter
        self.name, self.outside, self.errors = name, [], []
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * SECONDS)
        self.page.on("request", lambda r: None if re.match(HERE, r.url)
                     else self.outside.append(r.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.open()
        if dark:
            self.command("apputils:change-theme", {"theme": "JupyterLab Dark"})

    def open(self):
        """Load the page anew; ready when the notebook is drawn and its kernel idle."""
        self.page.goto(f"{self.address}/lab/tree/{self.name}.ipynb?token={self.token}&reset")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
            "?.status == 'idle'")

    def command(self, name: str, arguments: dict | None = None):
        """Start a command of JupyterLab; see `wait_until_done`."""
        self.page.evaluate(
            "([name, args]) => { window.done = false; window.jupyterapp.commands"
            ".execute(name, args).finally(() => { window.done = true }) }",
            [name, arguments or {}])

    def run_all(self):
        self.command("notebook:run-all-cells")

    def run_cells(self, *marks: str):
        """Run the code cells whose source has one of these marks; the last one stays active."""
        self.page.evaluate("""async (marks) => {
          const nb = window.jupyterapp.shell.currentWidget.content;
          for (let i = 0; i < nb.widgets.length; i++) {
            const model = nb.widgets[i].model;
            if (model.type === 'code'
                && marks.some(m => model.sharedModel.getSource().includes(m))) {
              nb.activeCellIndex = i; nb.deselectAll(); nb.mode = 'command'; nb.activate();
              await window.jupyterapp.commands.execute('notebook:run-cell');
            }
          }
        }""", list(marks))

    def tab_to(self, css: str, text: str = ""):
        """Press Tab until the focus is in an element of this selector that has this text."""
        self.locator(css).first.wait_for()
        for _ in range(60):
            if self.page.evaluate(
                    "([css, text]) => { const e = document.activeElement;"
                    " return !!e?.closest(css) && e.textContent.includes(text) }", [css, text]):
                return
            self.page.keyboard.press("Tab")
        pytest.fail(f"the keyboard does not get to {css} {text}")

    def wait_until_done(self, seconds: float = 600):
        """Until the last command has ended and the kernel has done all that it was asked.

        Run All ends for JupyterLab at the first error, also in a cell that shall raise one; the
        cells after that go on. So the kernel gets one more, empty, request and must answer it.
        """
        self.page.wait_for_function("() => window.done", timeout=seconds * SECONDS)
        self.page.evaluate(
            "() => { window.done = false; window.jupyterapp.shell.currentWidget.sessionContext"
            ".session.kernel.requestExecute({code: '', store_history: false}).done"
            ".finally(() => { window.done = true }) }")
        self.page.wait_for_function("() => window.done", timeout=seconds * SECONDS)

    def save(self) -> dict:
        """Save as the learner does; returns the notebook as it lies on the disk."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
        return json.loads((self.folder / f"{self.name}.ipynb").read_text("utf-8"))

    def reopen(self):
        """Save, end the kernel and load the page again, as on the next day."""
        self.save()
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.open()

    def locator(self, selector: str):
        return self.page.locator(selector)

    def look(self, path, **options):
        """A screenshot, for eyes."""
        self.page.screenshot(path=str(path), **options)

    def serious(self, selectors: str) -> list:
        """What axe-core finds in these elements and calls serious or critical."""
        if find_spec("axe_playwright_python") is None:
            pytest.skip("pip install axe-playwright-python brings axe-core")
        import axe_playwright_python

        # Not by add_script_tag: the page's loader of modules would take axe for one.
        source = next(Path(axe_playwright_python.__file__).parent.rglob("axe.min.js"))
        self.page.evaluate(source.read_text("utf-8"))
        found = self.page.evaluate("selectors => axe.run(selectors)", selectors)["violations"]
        return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found
                if one["impact"] in ("serious", "critical")]

    def close(self):
        self.context.close()
        assert not self.outside, f"the page asked other machines: {self.outside}"
        assert not self.errors, self.errors


@pytest.fixture
def lesson(jupyter, chromium):
    """`lesson("00_start_here")` opens it; options: width, height, dark."""
    opened = []

    def open(name: str, **options) -> Lesson:
        opened.append(Lesson(chromium, jupyter, name, **options))
        return opened[-1]

    yield open
    for one in opened:
        one.close()


@pytest.fixture
def page_of(jupyter, lesson):
    """`page_of("name", cells)` opens these code cells, none of them run; options as of `lesson`.
    Below 600 pixels without the list of files."""

    def open(name: str, cells, **options) -> Lesson:
        write_notebook(jupyter[2] / f"{name}.ipynb", cells)
        page = lesson(name, **options)
        if not options.get("dark"):  # the server keeps the theme of the test before
            page.command("apputils:change-theme", {"theme": "JupyterLab Light"})
        if options.get("width", 1280) < 600:
            page.command("application:toggle-left-area")
        return page

    return open
