"""The style of all figures: colors, labels at lines, log scales, marks for divergence.

Uses matplotlib's objects, imported when the first figure is drawn; pyplot has global state and is
unsafe in threads. Colors are from Okabe and Ito (2008); dashes and markers tell lines apart in
gray. Text from data is never parsed as math or HTML.
"""

import base64
import contextlib
import io
import math
import threading
from typing import NamedTuple

from ftkit.base import quiet
from ftkit.base.formatting import clean, mean_sd, number, to_attribute, with_code
from ftkit.report import chart as chart_page
from ftkit.report import series
from ftkit.report.chart import COLORS, DASHES, LOG_FROM, SIGNS

MARKERS = tuple(SIGNS)
QUIET = "#707070"  # the training loss: noisy, and not the measure to watch
CORNER = 0.08  # radius in inches
_STYLE = threading.RLock()  # matplotlib has one style for all threads
NARROWEST = 0.73  # fraction of its width (letters of 9 pixels) below which a figure scrolls
LEGIBLE = 12  # a name is not shortened to fewer letters
ARROWS = 8  # up to this many points get an arrow from the star; more would hide the points


class Line(NamedTuple):
    """A line of a panel. points: (x, mean, standard deviation). best: mark the lowest point with a
    ring. ring: x of another point to mark, with its value."""

    label: str
    points: list[tuple[float, float, float]]
    look: dict
    best: bool = False
    ring: float | None = None


class Picture:
    """A figure and the sentence that says what it shows; draws itself in a notebook.

    `.figure` is the matplotlib Figure, `.axes` its axes, `.savefig(path)` writes a file. chart:
    the spec of the interactive chart that replaces the figure where scripts run.
    """

    def __init__(self, figure, text: str, chart: dict | None = None):
        self.figure, self.text, self.chart = figure, text, chart

    @property
    def axes(self):
        return self.figure.axes

    def savefig(self, *args, **options):
        with no_glyph_warnings():
            self.figure.savefig(*args, **options)

    def png(self, dpi: int = 144) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=dpi)
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        return self.bundle()

    def as_html(self, png: bytes = b"") -> str:
        """The static picture as HTML, with its sentence as alternative text and below it."""
        width, height = (round(100 * side) for side in self.figure.get_size_inches())
        data = base64.b64encode(png or self.png(dpi=100)).decode()
        return (f'<img alt="{to_attribute(self.text)}" width="{width}" height="{height}" '
                'decoding="sync" '  # JupyterLab shows alternative text only in HTML
                f'style="max-width:100%;min-width:{round(NARROWEST * width)}px;height:auto" '
                f'src="data:image/png;base64,{data}"><div>{with_code(clean(self.text))}</div>')

    def bundle(self, uid: str = "", run=None) -> dict:
        """The MIME bundle. uid, run: ids of the live chart that it replaces, if any."""
        png = self.png()
        page = self.as_html(png)
        if self.chart is not None:
            spec = self.chart | {"text": clean(self.text).replace("`", ""), "run": run}
            page = chart_page.page(spec, page, uid)
        return {"text/html": page, "text/plain": self.text,
                "image/png": base64.b64encode(png).decode()}  # for viewers that drop HTML

    def __repr__(self):
        return self.text


def new_figure(width: float, height: float):
    """An empty figure (sizes in inches): a white card with round corners, in dark notebooks too,
    because no text color has a contrast of 4.5 both on white and on JupyterLab's #111."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    figure = Figure((width, height), dpi=100, facecolor="none")
    FigureCanvasAgg(figure)
    figure.add_artist(FancyBboxPatch(
        (CORNER, CORNER), width - 2 * CORNER, height - 2 * CORNER, f"round,pad={CORNER}",
        transform=figure.dpi_scale_trans, facecolor="white", edgecolor="none", zorder=-1))
    return figure


@contextlib.contextmanager
def style():
    """Use ftkit's style inside the block, whatever style the notebook has set."""
    import matplotlib
    import matplotlib.style

    ours = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
            "axes.grid": True, "grid.color": "#e5e5e5", "grid.linewidth": 0.7,
            "axes.axisbelow": True, "axes.facecolor": "white", "lines.markersize": 4.5}
    with _STYLE, matplotlib.style.context(["default", ours]), no_glyph_warnings():
        yield


def no_glyph_warnings():
    """Suppress matplotlib's warning about letters that the font lacks."""
    return quiet.no_warnings("Glyph .* missing")


def look(index: int, count: int, calm: bool = False) -> dict:
    """Color, dash and marker of line `index`, with about eight markers on `count` points. Two
    points are joined by a thin dotted line, because nothing was measured between them."""
    if calm:
        return {"color": QUIET, "linewidth": 1.0, "marker": "." if count < 2 else ""}
    if count == 2:
        return {"color": COLORS[index % 7], "linestyle": (0, (1, 4)), "linewidth": 0.9,
                "marker": MARKERS[index % 6], "markersize": 6}
    every = max(1, count // 8)
    return {"color": COLORS[index % 7], "linestyle": DASHES[index % 5], "linewidth": 1.7,
            "marker": MARKERS[index % 6], "markevery": (index * every // 4 % every, every)}


def lines_of(groups, keys, x: str) -> list[Line]:
    """One Line for each group and key; seeds become mean and deviation at each common x."""
    lines = []
    for position, (name, members) in enumerate(groups):
        for key in keys:
            points = mean_points(members, key, x)
            if not points:
                continue
            alone = len(groups) == 1
            index = color_index(key, keys) if alone else position
            label = key if alone else name if len(keys) == 1 else f"{name} {key}"
            lines.append(Line(label, points, look(index, len(points), alone and key == "loss"),
                              key == "val_loss"))
    return lines


def mean_points(runs, key: str, x: str) -> list[tuple[float, float, float]]:
    """(x, mean, sample standard deviation) of a measure over runs, at each x that one of them has.
    """
    values_at = {}
    for run in runs:
        for where, y in series.points(run, key, x):
            values_at.setdefault(where, []).append(y)
    return [(where, *mean_sd(ys)) for where, ys in sorted(values_at.items())]


def color_index(key, keys) -> int:
    """Index of a measure's color among `keys`: val_loss gets the first color, probes the next."""
    others = [k for k in keys if k not in ("loss", "val_loss")]
    return others.index(key) + 1 if key in others else 0


def draw(ax, lines: list[Line], x: str = "step", beside_log: bool = False):
    """Draw lines in one panel, with names at their ends. beside_log: see `log_if_wide`."""
    from matplotlib.ticker import MaxNLocator

    ends = []
    for line in lines:
        finite = [p for p in line.points if math.isfinite(p[1])]
        xs, ys, sds = zip(*[p if math.isfinite(p[1]) else (p[0], math.nan, 0.0)
                            for p in line.points], strict=True)
        ax.plot(xs, ys, **line.look)
        color = line.look["color"]
        if any(sd > 0 for sd in sds):
            ax.fill_between(xs, [y - s for y, s in zip(ys, sds, strict=True)],
                            [y + s for y, s in zip(ys, sds, strict=True)],
                            color=color, alpha=0.18, linewidth=0)
        bad = next((p[0] for p in line.points if not math.isfinite(p[1])), None)
        text = f"{short(line.label)}: {number(finite[-1][1])}" if finite else short(line.label)
        if bad is not None:
            text = f"{short(line.label)} diverged at {x} {bad:g}"
            before = [p for p in finite if p[0] < bad]
            mark, transform = ((before[-1][:2], ax.transData) if before
                               else ((bad, 0.97), ax.get_xaxis_transform()))
            ax.plot(*mark, "X", color=color, markersize=9, markeredgecolor="white",
                    clip_on=False, zorder=4, transform=transform)
        marked = [p for p in finite if p[0] == line.ring]
        if marked and bad is None:
            text = short(line.label)  # the value is at the ring
            ax.annotate(number(marked[0][1]), marked[0][:2], textcoords="offset points",
                        color=dark(color), annotation_clip=False,
                        **_beside_ring(marked[0], [p for other in lines for p in other.points
                                                   if p[0] == other.ring == line.ring]))
        elif line.best and bad is None and len(finite) > 2:
            marked = [min(finite, key=lambda p: p[1])]
        if marked:
            ax.plot(*marked[0][:2], "o", markersize=10, markerfacecolor="none", clip_on=False,
                    markeredgecolor=color, markeredgewidth=1.3, zorder=4)
        ends.append((*(finite[-1][:2] if finite else (bad, math.nan)), text, color))
    if not lines:
        ax.text(0.5, 0.5, "no steps yet", transform=ax.transAxes, ha="center", color=QUIET)
    log_if_wide(ax, "y", heights(lines), beside_log)
    ax.margins(x=0.02, y=0.1)
    ax.autoscale_view()
    places = {p[0] for line in lines for p in line.points}
    if len(places) == 1:
        ax.set_xlim(min(places) - 1, min(places) + 1)
    if x in ("step", "tokens"):
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
    label_line_ends(ax, ends)


def _beside_ring(point, rings) -> dict:
    """Where the value of a ring is written: below it, or above or right of it if another ring of
    the same x is in the way."""
    ys = [p[1] for p in rings]
    if point[1] == min(ys):
        return {"xytext": (0, -9), "ha": "center", "va": "top"}
    if point[1] == max(ys):
        return {"xytext": (0, 9), "ha": "center", "va": "bottom"}
    return {"xytext": (9, 0), "ha": "left", "va": "center"}


def heights(lines: list[Line]) -> list[float]:
    return [point[1] for line in lines for point in line.points]


def is_wide(values) -> bool:
    """Whether the values span a ratio at which a linear scale would hide small ones."""
    finite = [v for v in values if math.isfinite(v)]
    return bool(finite) and min(finite) > 0 and max(finite) >= LOG_FROM * min(finite)


def log_if_wide(ax, which: str, values, beside_log: bool = False):
    """Give axis "x" or "y" a log scale with plain numbers, if the values need it.

    beside_log: a neighbor panel has a log scale, so positive values get one in any case.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    finite = [v for v in values if math.isfinite(v)]
    narrow = not is_wide(values)
    if narrow and not (beside_log and finite and min(finite) > 0):
        return
    decades = math.log10(max(finite) / min(finite))
    ax.set(**{f"{which}scale": "log"})
    axis = getattr(ax, f"{which}axis")
    wide = ax.get_position().width * ax.figure.get_size_inches()[0]
    room = which == "y" or wide > 1.8 * decades  # inches for three numbers a decade
    axis.set_major_locator(
        MaxNLocator(5) if decades < 1 else
        LogLocator(subs=(1, 2, 5) if decades < 2.5 and room else (1,), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_points(ax, points, start, frontier=(), linear=""):
    """Draw named points (name, x, sd of x, y, sd of y). start: (x, y) of a star. frontier: points
    (x, y) to connect. linear: axes ("x", "y", "xy") that are never logarithmic, as for scores."""
    from matplotlib.transforms import blended_transform_factory

    for which, column in (("x", 1), ("y", 3)):
        if which not in linear:
            ends = [p[column] for p in points] + ([start[column // 2]] if start else [])
            log_if_wide(ax, which, ends)
    placed, names = [], []
    for position, (name, x, sx, y, sy) in enumerate(points):
        i = position if name else 0
        color = COLORS[i % 7]
        if math.isfinite(x + y):
            if start and all(map(math.isfinite, start)) and len(points) <= ARROWS:
                ax.annotate("", (x, y), start, arrowprops={
                    "arrowstyle": "->", "color": "#bbbbbb", "linewidth": 0.8, "shrinkB": 5})
            ax.errorbar(x, y, sy or None, sx or None, MARKERS[i % 6], color=color, markersize=7,
                        capsize=3, linewidth=1.2)
            names.append((x, y, ax.transData, name, color))
        else:
            edge = blended_transform_factory(ax.transData if math.isfinite(x) else ax.transAxes,
                                             ax.transData if math.isfinite(y) else ax.transAxes)
            at = x if math.isfinite(x) else 1.0, y if math.isfinite(y) else 1.0
            ax.plot(*at, "X", color=color, transform=edge, clip_on=False, markersize=9)
            names.append((*at, edge, f"{name} diverged", color))
    if start:
        ax.plot(*start, "*", color="black", markersize=14, zorder=5)
        names.append((*start, ax.transData, "untouched model", "#000000"))
    if len(frontier) > 1:
        ax.plot(*zip(*frontier, strict=True), color=QUIET, linewidth=1.1, linestyle=DASHES[3],
                zorder=1)
    ax.margins(0.12)
    ax.autoscale_view()
    if len(frontier) > 1:  # named in the middle of its longest part
        in_pixels = [ax.transData.transform(p) for p in frontier]
        a, b = max(zip(in_pixels, in_pixels[1:], strict=False), key=lambda part: math.dist(*part))
        middle = ax.transData.inverted().transform((a + b) / 2)
        names.insert(0, (*middle, ax.transData, "frontier", QUIET))
    boxes = [_box(t.transform((x, y)), 0, 0, 10, 10) for x, y, t, *_ in names]
    frame = ax.get_window_extent()
    for _, x, sx, y, sy in points:  # error bars
        for dx, dy in ((sx, 0), (0, sy)) if math.isfinite(x + y) else ():
            a, b = (ax.transData.transform((x + sign * dx, y + sign * dy)) for sign in (-1, 1))
            boxes += [(a[0] - 3, a[1] - 3, b[0] + 3, b[1] + 3)] if dx or dy else []
    for x, y, transform, full_name, color in names:
        text = short(full_name)
        at = transform.transform((x, y))
        dx, dy = _free_place(at, 7.4 * len(text) + 6, placed + boxes, frame)
        placed.append(_box(at, dx, dy, 7.4 * len(text) + 6, 14))
        leader = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkB": 4}
        ax.annotate(text, (x, y), (0.72 * dx, 0.72 * dy), transform, textcoords="offset points",
                    ha="center", va="center", color=dark(color), annotation_clip=False,
                    parse_math=False, arrowprops=leader if abs(dy) > 15 else None,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5})


def _box(center, dx, dy, width, height):
    """(left, bottom, right, top) of a box around `center` moved by dx, dy, in pixels."""
    x, y = center[0] + dx, center[1] + dy
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _free_place(at, width, taken, frame) -> tuple[float, float]:
    """The offset of a name of `width` pixels from pixel `at`: near, free, inside the frame."""
    def cost(move):
        dx, dy = move
        box = _box(at, dx, dy, width, 14)
        over = sum(max(0, min(box[2], b[2]) - max(box[0], b[0]))
                   * max(0, min(box[3], b[3]) - max(box[1], b[1])) for b in taken)
        out = max(0, frame.x0 - box[0]) + max(0, box[2] - frame.x1 - 30) + \
            max(0, frame.y0 - box[1]) + max(0, box[3] - frame.y1 - 12)
        return over + 20 * out + 0.1 * math.hypot(dx, dy)

    return min(((side * (width / 2 + 10), step * 15) for step in (0, 1, -1, 2, -2, 3, -3, 4, -4)
                for side in (1, -1, 0) if step or side), key=cost)


def label_line_ends(ax, ends):
    """Write names next to the ends of lines, moved apart where they overlap, and shortened where
    the figure has no room."""
    from matplotlib.text import Text

    if not ends:
        return
    height = ax.get_position().height * ax.figure.get_size_inches()[1] * 72
    to_axes = ax.transScale + ax.transLimits
    heights = [to_axes.transform((x, y))[1] if math.isfinite(y) else 0.97 for x, y, *_ in ends]
    for (x, y, text, color), free in zip(ends, spread(heights, 11.5 / height), strict=True):
        end, units = ((x, y), "data") if math.isfinite(y) else ((1.0, 0.97), "axes fraction")
        leader = {"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3,
                  "linestyle": ":", "relpos": (0, 0.5)}  # dotted, unlike the curves
        note = ax.annotate(text, end, (1.03, free), units, textcoords="axes fraction", va="center",
                           color=dark(color), arrowprops=leader, annotation_clip=False,
                           parse_math=False)
        width = Text.get_window_extent(note).width
        room = ax.figure.bbox.x1 - ax.transAxes.transform((1.03, 0))[0]
        fits = int(len(text) * room / width) - 1
        if LEGIBLE <= fits < len(text) - 1:
            note.set_text(short(text, fits))


def row_axes(names, wide: float, right: float, row: float):
    """(figure, axes) with a row for each name, the first on top. In inches: wide, of the axes;
    right, of the room next to them; row, the height of a row."""
    left, high = 0.3 + 0.07 * max(map(len, names)), 0.65 + row * len(names)
    width = left + wide + right
    figure = new_figure(width, high)
    ax = figure.add_axes((left / width, 0.5 / high, wide / width, 1 - 0.6 / high))
    ax.set_yticks(range(len(names)), names, parse_math=False)
    ax.set_ylim(len(names) - 0.5, -0.5)
    return figure, ax


def draw_seeds(ax, rows, looks):
    """Draw a dot for each value, and mean ± one standard deviation, in a line for each row, the
    first on top. looks: index of color and marker for each row."""
    for y, (values, i) in enumerate(zip(rows, looks, strict=True)):
        finite = [v for v in values if math.isfinite(v)]
        color = COLORS[i % 7]
        copies = [finite[:k].count(v) for k, v in enumerate(finite)]
        # Equal values are spread above and below the line.
        heights = [y + 0.22 * ((n + 1) // 2) * (-1) ** n for n in copies]
        ax.plot(finite, heights, MARKERS[i % 6], color=color, alpha=0.6, markersize=7,
                markeredgecolor="white")
        if len(finite) > 1:
            mean, sd = mean_sd(finite)
            ax.errorbar(mean, y, xerr=sd, fmt="|", color=dark(color), markersize=16, capsize=4,
                        linewidth=1.4)
        if len(finite) < len(values):
            ax.text(1.0, y, "diverged", transform=ax.get_yaxis_transform(), ha="right",
                    va="center", color=dark(color))
    log_if_wide(ax, "x", [v for values in rows for v in values])
    ax.margins(x=0.12)
    ax.set_ylim(len(rows) - 0.5, -0.5)


def spread(positions: list[float], gap: float) -> list[float]:
    """The positions moved at least `gap` apart, in the same order and at most 1."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    out = list(positions)
    for lower, upper in zip(order, order[1:], strict=False):
        out[upper] = max(out[upper], out[lower] + gap)
    ceiling = 1.0
    for i in reversed(order):
        out[i] = ceiling = min(out[i], ceiling)
        ceiling -= gap
    return out


def dark(color: str) -> str:
    """A darker shade of a color, for text: pale text is hard to read, more so in gray."""
    return "#" + "".join(f"{int(color[i:i + 2], 16) * 2 // 3:02x}" for i in (1, 3, 5))


def short(text, width: int = 36) -> str:
    """Text shortened in the middle: names differ at the beginning and the end."""
    text, half = clean(text), (width - 1) // 2
    return text if len(text) <= width else f"{text[:half]}…{text[-half:]}"
