"""A concept figure as a reader sees it, on a white page and on a dark one: a PNG for your eyes.

    python tests/lessons/look_at_figure.py notebooks/figures/00_next_token.svg [OUT.png]
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH = 760  # pixels of a lesson's column
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main(figure: str, out: str | None = None) -> int:
    path = Path(figure).resolve()
    target = Path(out or Path(tempfile.gettempdir()) / f"{path.stem}.png")
    chromium = os.environ.get("FTKIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)))
    pages = "".join(f'<div style="background:{color};padding:20px"><img src="{path.as_uri()}" '
                    f'style="width:{WIDTH}px;display:block"></div>'
                    for color in ("#ffffff", "#111111"))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        html = Path(folder) / "page.html"
        html.write_text(f'<body style="margin:0">{pages}</body>', "utf-8")
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH + 40, "height": 400})
        page.goto(html.as_uri())
        page.screenshot(path=str(target), full_page=True)
        browser.close()
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
