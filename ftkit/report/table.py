"""Tables of dicts or of Runs, for a notebook and a terminal.

    table([{"rank": 8, "val_loss": 0.52}]); table(runs)     # one line for each config
"""

import itertools
import textwrap

from ftkit.base.formatting import cell, clean, to_float, to_html
from ftkit.report import series

NARROWEST = 12  # smallest width of a wrapped cell, in columns of a terminal


class Table:
    """A table that draws itself; `.rows` are its dicts."""

    def __init__(self, rows: list[dict], caption: str = ""):
        self.rows, self.caption = rows, clean(caption)
        self._columns = list(dict.fromkeys(key for row in rows for key in row))
        self._lines = [[clean(column) for column in self._columns]]
        self._lines += [[clean(cell(row.get(column))) for column in self._columns]
                        for row in rows]

    def _repr_html_(self) -> str:
        # Text is aligned left; a notebook aligns numbers right by itself.
        styles = [" style='text-align:left'" if any(isinstance(row.get(column), str)
                                                    for row in self.rows) else ""
                  for column in self._columns]
        tags = ["th"] + ["td"] * len(self.rows)
        lines = "".join(
            "<tr>" + "".join(_cell(tag if text else "td", text, style)  # a head has a text
                             for text, style in zip(line, styles, strict=True)) + "</tr>"
            for tag, line in zip(tags, self._lines, strict=True))
        named = self.caption and (  # left, to stay visible when a wide table scrolls
            f"<caption style='text-align:left'>{to_html(self.caption)}</caption>")
        return f"<table>{named}{lines}</table>"

    def __repr__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """The table as text. width: columns of the terminal; the widest cells are wrapped, down to
        `NARROWEST` columns."""
        widths = [max(map(len, column)) for column in zip(*self._lines, strict=True)]
        while width and sum(widths) + 2 * len(widths) - 2 > width and max(widths) > NARROWEST:
            widths[widths.index(max(widths))] -= 1
        lines = []
        for line in self._lines:
            cells = [textwrap.wrap(text, size, break_on_hyphens=False) or [""]
                     for text, size in zip(line, widths, strict=True)]
            for parts in itertools.zip_longest(*cells, fillvalue=""):
                lines.append("  ".join(map(str.ljust, parts, widths)).rstrip())
        return "\n".join([*lines, self.caption] if self.caption else lines)


def _cell(tag: str, text: str, style: str) -> str:
    return f"<{tag}{style}>{to_html(text).replace('± ', '±&nbsp;')}</{tag}>"


def table(rows) -> Table:
    """A table of dicts, or of Runs: a line for each config with its number of seeds.

    Lists of numbers, such as a measure over seeds, are shown as mean ± sample standard deviation.
    Raises UserError for anything else.
    """
    if isinstance(rows, list | tuple) and all(isinstance(row, dict) for row in rows):
        return Table(list(rows))
    lines, groups = [], series.grouped(rows)
    for name, members in groups:
        keys = dict.fromkeys(key for run in members for key in run.after)
        lines.append({"run": name, "seeds": len(members)} | {
            key: [to_float(run.after[key]) for run in members if key in run.after]
            for key in keys})
    return Table(lines, series.captions([run for _, group in groups for run in group]).strip())
