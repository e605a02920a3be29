"""Screenshots of the pages of `make site`, for eyes: 390, 1280 and 1920 pixels, light and dark.

    python tests/browser/look_at_site.py SITE OUT [PAGE ...]

Prints a line for each page that is wider than its window.
"""

from __future__ import annotations

import sys
from pathlib import Path

from conftest import CHROMIUM, QUIET
from playwright.sync_api import sync_playwright


def main(site: str, out: str, *names: str) -> int:
    target, wide = Path(out), 0
    target.mkdir(parents=True, exist_ok=True)
    pages = [Path(site) / name for name in names] or sorted(Path(site).glob("*.html"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        for width in (390, 1280, 1920):
            for theme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": 1100},
                                        color_scheme=theme)
                for path in pages:
                    page.goto(path.resolve().as_uri())
                    found = page.evaluate("document.documentElement.scrollWidth")
                    if found > width:
                        wide += 1
                        print(f"{path.name}: {found} pixels wide at {width}")
                    page.screenshot(path=str(target / f"{path.stem}-{width}-{theme}.png"))
                page.close()
        browser.close()
    return bool(wide)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
