"""The interactive chart of a panel: drawn once, then updated with new points.

    view = ChartView(); curves = Growing(view); curves.start(60, before, "B seed=1", 1, drawn)
    curves.add(row); curves.paint_if_due(); view.show(picture)

The page's script reads two hidden widgets (`ftkit.report.chart.wire`): one holds a whole chart, the
other the points added since. Updates are small, and a page that is reloaded during a run finds
everything.
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import ipywidgets as W

from ftkit.base.formatting import clean
from ftkit.experiment.run import Run
from ftkit.notebook import widgets
from ftkit.report import chart, run_chart
from ftkit.report.live import RATE, Live
from ftkit.report.style import Picture

MANY = 200  # new points to send at most, before the whole chart is sent again
_numbers = itertools.count(1)


class Growing(Live):
    """A `Live` whose updates go into a ChartView, among the lines of other runs. It has the panels
    and colors that the chart keeps when the run has ended (`run_chart`)."""

    def __init__(self, view: ChartView):
        self.view: ChartView | None = None  # nothing is shown before the first run
        self.drawn: list[run_chart.Drawn] = []
        self.ids: dict[str, str] = {}  # measure of the growing run → id of its line
        super().__init__(show=lambda _: None)
        self.view, self._begun = view, self.number

    def start(self, run: Run, name: str, index: int, others: list[run_chart.Drawn]):
        """Start a run with this name and number. others: finished runs to draw with it."""
        shown = SimpleNamespace(rows=[], before=run.before, after={}, changes=run.changes)
        self.drawn = [*others, run_chart.Drawn(name, index, [shown])]
        self.begin(run.total_steps, run.before)

    def add(self, row: dict):
        self.drawn[-1].runs[0].rows.append(row)
        super().add(row)

    def spec(self) -> dict:
        keys = run_chart.measures([run for one in self.drawn for run in one.runs])
        name = self.drawn[-1].name
        self.ids = {key: clean(f"{place}/{name}") for place, key in enumerate([*keys, RATE])}
        self.ids.setdefault("loss", f"0/{run_chart.TRAINING}")
        return run_chart.spec(self.drawn, "", training=True) | {
            "run": self.number, "total": self.total} | self.about()

    def _paint(self):
        if self.view is None:
            return
        if self._begun != self.number:
            self._begun = self.number
            self.view.begin(self)
        else:
            self.view.update(self)


class ChartView:
    """`.ui` has the widgets, `.shown` the chart's spec (see `chart.page`). `.empty` is a frame
    shown until there is a chart."""

    def __init__(self):
        self.uid = chart.new_id()
        self.shown: dict = {}
        self.base, self.more = (self._wire(part) for part in ("base", "more"))
        self.static = W.HTML(layout=W.Layout(display="none"))
        self.static.add_class("ftkit-picture")
        html = chart.page(None, "", self.uid)
        # Set as data instead of displayed, so that a reloaded page gets it with the panel.
        self.output = W.Output(outputs=({
            "output_type": "display_data", "metadata": {},
            "data": {"text/html": html, "text/plain": "a chart"}},))
        self.output.add_class("ftkit-chart-output")
        self.ui = W.VBox([self.output, self.static, self.base, self.more],
                         layout=W.Layout(display="none"))
        self.empty = widgets.empty("The curves of your runs appear here.")
        self._seq, self._sent = 0, {}

    def _wire(self, part: str) -> W.HTML:
        made = W.HTML(layout=W.Layout(display="none"))
        made.add_class(f"ftkit-wire-{self.uid}-{part}")
        return made

    def begin(self, live: Growing):
        """Send the whole chart."""
        spec = live.spec()
        self._send(spec)
        self._sent = {line["id"]: len(line["points"]) for line in spec["lines"]}

    def update(self, live: Growing):
        """Send only new points."""
        points = {id: [chart.plain_point(p) for p in live.data.get(key, [])[self._sent[id]:]]
                  for key, id in live.ids.items()}
        marks = len(run_chart.changes(live.drawn))
        if sum(map(len, points.values())) > MANY or marks > len(self.shown["marks"]):
            return self.begin(live)
        about = live.about()
        self.shown |= about
        self.more.value = chart.wire({"seq": self._seq, "about": about, "points": points})

    def clear(self):
        """Show the frame again, in place of a chart."""
        self.ui.layout.display, self.empty.layout.display = "none", None

    def show(self, picture: Picture):
        """Send the chart of a finished figure, and a static picture for pages without scripts."""
        if picture.chart is not None:
            self._send(picture.chart)  # the verdict of picture.text has lines of its own
        self.static.value = picture.as_html()

    def _send(self, spec: dict):
        self._seq = next(_numbers)
        self.shown = spec
        self.base.value = chart.wire({"seq": self._seq, "spec": spec})
        self.more.value = ""
        self.ui.layout.display, self.empty.layout.display = None, "none"
