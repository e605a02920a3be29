"""A sweep as a picture: the final value of each run against the value that was swept.

    svg("learning_rate", [Drawn("A learning_rate=0.001", 0, [run]), ...], ["val_loss"])
"""

import math
from collections.abc import Callable

from ftkit.base.formatting import mean_sd, number, to_attribute, to_float, to_html
from ftkit.report import chart, series
from ftkit.report.run_chart import Drawn
from ftkit.report.style import is_wide

WIDE, HIGH = 250, 176  # pixels of a measure's panel
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 34, 40  # pixels around its points
LOG_X = 8  # swept values whose ratio is at least this get a logarithmic axis
LETTER = 6.5  # pixels


def svg(field: str, drawn: list[Drawn], keys: list[str]) -> str:
    """A panel for each measure, with a point for each seed and a ring around the lowest mean.

    field: the swept field of Config. drawn: the seeds of one config each. keys: names of losses.
    Colors are classes (`chart.colors_css`), all else has the color of the text.
    """
    panels = [_panel(field, key, drawn, place * WIDE) for place, key in enumerate(keys)]
    text = "; ".join(f"{key} against {field}: " + ", ".join(
        f"{_label(value_of(one, field))} ends at {number(mean_sd(_ends(one, key))[0])}"
        for one in _in_order(field, drawn)) for key in keys)
    width = WIDE * len(keys)
    return (f'<svg role="img" aria-label="{to_attribute(text)}" viewBox="0 0 {width} {HIGH}" '
            f'style="width:100%;max-width:{round(1.2 * width)}px" fill="currentColor" '
            f'font-size="11">{"".join(panels)}</svg>')


def value_of(one: Drawn, field: str) -> object:
    return series.settings_of(one.runs[0]).get(field)


def _in_order(field: str, drawn: list[Drawn]) -> list[Drawn]:
    """The configs by size of their swept value; by arrival if one is not a number."""
    sizes = {one.index: to_float(value_of(one, field)) for one in drawn}
    known = all(math.isfinite(size) for size in sizes.values())
    return sorted(drawn, key=lambda one: sizes[one.index]) if known else drawn


def _ends(one: Drawn, key: str) -> list[float]:
    return [to_float(run.after.get(key)) for run in one.runs]


def _panel(field: str, key: str, drawn: list[Drawn], left: int) -> str:
    drawn = _in_order(field, drawn)
    values = [value_of(one, field) for one in drawn]
    ends = [_ends(one, key) for one in drawn]
    finite = [end for group in ends for end in group if math.isfinite(end)] or [0.0]
    where = [to_float(value) for value in values]
    if not all(map(math.isfinite, where)):  # names: at equal distances
        where = [float(place) for place in range(len(values))]
    x = _scale(where, min(where) > 0 and max(where) >= LOG_X * min(where), LEFT + 10,
               WIDE - RIGHT - 10)
    y = _scale(finite, is_wide(finite), HIGH - BOTTOM - 8, TOP + 8)
    means = [mean_sd(group)[0] for group in ends]
    parts = [_text(LEFT - 4, 14, key, "start", "bold"),
             _text((LEFT + WIDE - RIGHT) / 2, HIGH - 4, field, "middle")]
    parts += [_grid(y(end), number(end)) for end in sorted({min(finite), max(finite)})]
    parts += _names([(x(at), _label(value)) for at, value in zip(where, values, strict=True)])
    path = " ".join(f"{x(at):.1f},{y(mean):.1f}"
                    for at, mean in zip(where, means, strict=True) if math.isfinite(mean))
    parts.append(f'<polyline points="{path}" fill="none" stroke="currentColor" opacity=".45"/>')
    for one, at, group in zip(drawn, where, ends, strict=True):
        parts += [_point(one.index, x(at), y(end) if math.isfinite(end) else None)
                  for end in group]
    lowest = min((m for m in means if math.isfinite(m)), default=None)
    if lowest is not None:
        best = means.index(lowest)
        parts.append(_ring(drawn[best].index, x(where[best]), y(lowest), number(lowest)))
    return f'<g transform="translate({left} 0)">{"".join(parts)}</g>'


def _scale(values, log: bool, start: float, end: float) -> Callable[[float], float]:
    """A function from a value to a pixel; equal values are in the middle."""
    size = math.log if log else float
    low, high = size(min(values)), size(max(values))
    if low == high:
        return lambda value: (start + end) / 2
    return lambda value: start + (end - start) * (size(value) - low) / (high - low)


def _label(value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(x: float, y: float, text: str, anchor: str, weight: str = "normal") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
            f"{to_html(text)}</text>")


def _grid(y: float, text: str) -> str:
    return (f'<line x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="currentColor" opacity=".2"/>{_text(LEFT - 4, y + 4, text, "end")}')


def _names(places: list[tuple[float, str]]) -> list[str]:
    """The swept values under the axis, without those that would touch the one before."""
    parts, free = [], -math.inf
    for x, text in places:
        if x - LETTER / 2 * len(text) > free:
            free = x + LETTER / 2 * len(text) + 2
            parts.append(_text(x, HIGH - BOTTOM + 16, text, "middle"))
    return parts


def _point(index: int, x: float, y: float | None) -> str:
    """The sign of a run; a cross at the top for one that diverged."""
    text = "✕" if y is None else chart.mark(index)
    return (f'<text class="ftkit-c{index % 7}" x="{x:.1f}" y="{TOP if y is None else y:.1f}" '
            f'text-anchor="middle" dominant-baseline="central">{text}</text>')


def _ring(index: int, x: float, y: float, text: str) -> str:
    return (f'<circle class="ftkit-c{index % 7}" cx="{x:.1f}" cy="{y:.1f}" r="9" style="fill:none" '
            f'stroke="currentColor" stroke-width="1.6"/>'
            + _text(x, y - 13, text, "middle", "bold"))
