"""An interactive chart for a notebook: the numbers of a figure, and the script that draws them.

    spec = of_lines(panels, labels, "step", "val_loss fell ..."); page(spec, static_html)

The page is one piece of HTML with a static picture. Where scripts run (JupyterLab, Notebook, VS
Code, Colab, a page of nbconvert), the chart replaces it, also without a kernel. The files in
`chart_js` need nothing from the network.
"""

import functools
import itertools
import json
import math
import secrets
from pathlib import Path

from ftkit.base.formatting import IGNORED, clean, to_attribute

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
# The same seven on a page, with a contrast of 3 to its background.
LIGHT = ("#0072B2", "#D55E00", "#009E73", "#B0548C", "#000000", "#2B86BE", "#A66F00")
DARK = ("#56B4E9", "#FF8A4C", "#3DD6A8", "#E79FC6", "#FFFFFF", "#9AD0F5", "#E69F00")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # 5, 6 and 7: 210 different lines
SIGNS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚"}  # marker → in a legend
LOG_FROM = 20  # values whose ratio is at least this are drawn on a log scale
_numbers = itertools.count(1)
_KIND = secrets.token_hex(3)  # two kernels may write into one page


def new_id() -> str:
    return f"{_KIND}-{next(_numbers)}"


@functools.cache
def script() -> str:
    """The source of the function (uid, spec) that draws a chart, without comments and indentation,
    because each figure of a notebook carries it."""
    folder = Path(__file__).parent / "chart_js"
    given = {"STYLE": (folder / "style.css").read_text("utf-8"), "MARKS": list(SIGNS.values()),
             "WIDE": LOG_FROM, "LIGHT": LIGHT, "DARK": DARK}
    parts = [f"const {name} = {json.dumps(value)};" for name, value in given.items()]
    parts += [path.read_text("utf-8") for path in sorted(folder.glob("*.js"))]
    lines = [line.strip() for line in "\n".join(parts).split("\n")]
    body = "\n".join(line for line in lines if line and not line.startswith("//"))
    return f'(uid, first) => {{\n"use strict";\n{body}\n}}'


def of_lines(panels, labels: list[str], x: str, text: str) -> dict:
    """The spec of a figure. panels: the `style.Line`s of each; labels: their names."""
    lines = []
    for place, members in enumerate(panels):
        for line in members:
            lines.append(line_spec(f"{place}/{line.label}", line.label, place, line.look,
                                   line.points, best=line.best))
    return {"x": clean(x), "text": clean(text), "lines": lines, "panels": [
        {"label": clean(label), "log": "loss" in label, "small": label == "learning rate"}
        for label in labels]}


def mark(index: int) -> str:
    """The marker of line `index` as a letter."""
    return list(SIGNS.values())[index % len(SIGNS)]


def colors_css() -> str:
    """Style rules for the classes ftkit-c0 to ftkit-c6, which have the colors of the runs."""
    themes = (("", LIGHT), ("[data-jp-theme-light=false] ", DARK))
    return "".join(f"{theme}.ftkit-c{index} {{color: {color}; fill: {color}}}\n"
                   for theme, colors in themes for index, color in enumerate(colors))


def line_spec(id: str, name: str, panel: int, look: dict, points, *, best=False) -> dict:
    """The spec of one line. look: as in `style.Line`; other colors than Okabe and Ito's, such as
    gray, are "calm". points: (x, value) or (x, value, standard deviation)."""
    color, dash = look["color"], look.get("linestyle", "-")
    return {"id": clean(id), "name": clean(name), "panel": panel,
            "color": COLORS.index(color) if color in COLORS else "calm",
            "mark": list(SIGNS).index(look["marker"]) if look.get("marker") in SIGNS else 0,
            "dash": DASHES.index(dash) if dash in DASHES else 0,  # solid
            "best": best, "points": [plain_point(point) for point in points]}


def plain_point(point) -> list:
    """A point for JSON: None for a value that is not finite; a deviation of 0 is left out."""
    x, y, *deviation = point
    out = [x, y if math.isfinite(y) else None]
    return out + [deviation[0]] if deviation and deviation[0] > 0 else out


def page(spec: dict | None, static: str = "", uid: str = "") -> str:
    """The HTML of a chart. static: HTML for viewers without scripts. Without a spec, the chart
    follows the hidden elements of this uid (`wire`)."""
    uid = uid or new_id()
    data = "null" if spec is None else encoded(spec)
    return (f'<div class="ftkit-chart {IGNORED}" id="ftkit-chart-{uid}"><div class="ftkit-static">'
            f'{static}</div></div><script>({script()})("{uid}", {data})</script>')


def encoded(data) -> str:
    """JSON for a <script>, with `<` escaped so that it cannot end the script."""
    return (json.dumps(data, separators=(",", ":"), allow_nan=False)
            .replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def wire(data: dict) -> str:
    """A hidden HTML element that passes data to the page."""
    text = to_attribute(json.dumps(data, separators=(",", ":"), allow_nan=False))
    return f'<i hidden data-v="{text}"></i>'
