"""The chart that grows in a notebook while a run trains.

    live = Live(total_steps=60); live(row) after each step; live.finish(run)
"""

import itertools
import math
import time
from collections.abc import Callable

from ftkit.base import formatting, machine, messages
from ftkit.base.formatting import to_html
from ftkit.report import chart, series
from ftkit.report import style as fig

RATE = "learning_rate"
RATE_LOOK = {"color": "#000000", "linewidth": 1.2}
RATE_PANEL = "learning rate"
_runs = itertools.count(1)


class Live:
    """Curves that grow while a run trains: call it with each row, then `finish(run)`.

    It updates one display of a notebook kernel, and draws nothing elsewhere. The page draws the
    curves (`ftkit.report.chart`). It gets new numbers at most 20 times a second, and updates take
    at most `SHARE` of the CPU time (while the process waits, of a quarter of the elapsed time).
    An error is printed once and never reaches the training.

    before: measures of the untouched model, drawn at step 0. show: called with each MIME bundle,
    instead of the display. keys: measures to draw next to the learning rate; by default all whose
    names end in loss.
    """

    HERTZ, SHARE = 20.0, 0.02

    def __init__(self, total_steps: int | None = None, title: str = "", before: dict | None = None,
                 show: Callable[[dict], None] | None = None,
                 keys: tuple[str, ...] | None = None):
        self.keys, self.title, self.show = keys, formatting.clean(title), show or notebook_display()
        self.uid = chart.new_id()
        self.begin(total_steps, before)

    def begin(self, total_steps: int | None, before: dict | None = None):
        """Start a run in this chart and draw its empty axes."""
        self.total, self.number = total_steps, next(_runs)
        self.data: dict[str, list[tuple[float, float]]] = {
            key: [(0.0, formatting.to_float(v))] for key, v in (before or {}).items()
            if self._drawn(key)}
        self.last = self.worked = -math.inf
        self.cost, self.began, self.row = 0.0, None, {}
        self.shown = True  # whether the newest row was drawn
        if self.show:
            self.safely(self._paint)

    def __call__(self, row: dict):
        if self.show:
            self.add(row)
            self.paint_if_due()

    def _drawn(self, key: str) -> bool:
        return key in self.keys if self.keys else key.endswith("loss")

    def add(self, row: dict):
        """Add a row without drawing it."""
        for key, v in row.items():
            if key == RATE or self._drawn(key):
                self.data.setdefault(key, []).append((row.get("step", 0), formatting.to_float(v)))
        if self.began is None:
            self.began = time.perf_counter()
        self.row, self.shown = row, False

    def paint_if_due(self) -> bool:
        """Draw added rows unless the last update was too recent; returns whether it drew."""
        if not self.show:
            return False
        passed = time.perf_counter() - self.last
        worked = max(time.process_time() - self.worked, passed / 4)
        if passed < 1 / self.HERTZ or worked < self.cost / self.SHARE:
            return False
        began = time.thread_time()
        self.paint()
        spent = time.thread_time() - began
        # A running mean, so that one slow update does not delay the next ones.
        self.cost = self.cost + (spent - self.cost) / 4 if self.cost else spent
        self.last, self.worked = time.perf_counter(), time.process_time()
        return True

    def paint(self):
        self.shown = True
        self.safely(self._paint)

    def finish(self, run):
        """Replace the display by the whole chart, its static picture and its sentence."""
        show = self.show
        if show:
            self.safely(lambda: show(
                final_picture(run, self.title, self.keys).bundle(self.uid, self.number)))

    def progress(self) -> str:
        """One line of text: the step, the loss, the speed and the time left."""
        step, seconds = self.row.get("step", 0), self.row.get("seconds", 0.0)
        parts = [f"step {step}" + (f" of {self.total}" if self.total else "")]
        if step:
            parts.append(f"loss {formatting.number(formatting.to_float(self.row.get('loss')))}")
            parts.append(f"{seconds:.1f} s")
            if seconds > 0 and "tokens" in self.row:
                parts.append(f"{self.row['tokens'] / seconds:,.0f} tokens/s")
            if self.total and self.began is not None and step > 1:
                each = (time.perf_counter() - self.began) / (step - 1)
                parts.append(f"about {formatting.duration(max(0, self.total - step) * each)} left")
        return (f"{self.title}: " if self.title else "") + " · ".join(parts)

    def spoken(self) -> str:
        """The text for screen readers, which changes once in each tenth of the run."""
        step = self.row.get("step", 0)
        if not self.total or not step:
            return ""
        tenth = 10 * step // self.total
        values = [f"{key} {formatting.number(points[-1][1])}"
                  for key, points in self.data.items() if key != RATE]
        if tenth != getattr(self, "_tenth", None):
            self._tenth, self._sentence = tenth, f"step {step} of {self.total}: {', '.join(values)}"
        return self._sentence

    def spec(self) -> dict:
        """The spec of the chart with all points so far, for `chart.page`."""
        keys = [key for key in self.data if key != RATE]
        lines = [self._line(key, points, keys) for key, points in self.data.items()]
        # Lines without points are listed, too, because their points may be sent alone later.
        lines += [self._line(key, [], keys) for key in ((RATE,) if self.keys else ("loss", RATE))
                  if key not in self.data]
        return {"x": "step", "run": self.number, "total": self.total, "lines": lines, "panels": [
            {"label": ", ".join(self.keys) if self.keys else "loss (nats per token)",
             "log": not self.keys, "small": False},
            {"label": RATE_PANEL, "log": False, "small": True}], **self.about()}

    def about(self) -> dict:
        return {"text": self.progress(), "say": self.spoken()}

    def _line(self, key, points, keys) -> dict:
        look = RATE_LOOK if key == RATE else fig.look(
            fig.color_index(key, keys), 3, key == "loss")
        name = RATE_PANEL if key == RATE else fig.short(key, 24)
        return chart.line_spec(key, name, int(key == RATE), look, points, best=key == "val_loss")

    def safely(self, work):
        try:
            work()
        except Exception as error:  # noqa: BLE001 no error of drawing may end the training
            self.show = None
            messages.say(f"the live figure stopped ({type(error).__name__}: {error}); the training "
                         "continues")

    def _paint(self):
        text = self.progress()
        bar = f'<progress max="{self.total}" value="{self.row.get("step", 0)}"></progress>'
        static = f"<div>{to_html(text)}</div>" + (bar if self.total else "")
        if self.show:
            self.show({"text/html": chart.page(self.spec(), static, self.uid), "text/plain": text})


def final_picture(run, title: str, keys=None) -> fig.Picture:
    """The complete curves of a run, above its learning rate."""
    with fig.style():
        figure = fig.new_figure(8.2, 3.8)
        top = figure.add_axes((0.085, 0.30, 0.575, 0.67))
        low = figure.add_axes((0.085, 0.125, 0.575, 0.13), sharex=top)
        top.tick_params(labelbottom=False)
        label = ", ".join(keys) if keys else "loss (nats per token)"
        if not keys:
            top.set_ylabel(label)
        low.set_xlabel("step")
        drawn = [key for key in keys or series.loss_keys([run]) if series.points(run, key)]
        lines = fig.lines_of([("", [run])], drawn, "step")
        fig.draw(top, lines)
        rates = series.points(run, RATE)
        if rates:
            low.plot(*zip(*rates, strict=True), **RATE_LOOK)
        low.text(1.03, 0.5, "learning rate", transform=low.transAxes, va="center")
        peak = max((v for _, v in rates), default=0.0)
        low.set(ylim=(0, 1.1 * peak or 1.0))
        low.set_yticks([0, peak] if peak else [0], ["0", formatting.number(peak)][:1 + bool(peak)])
    text = (f"{title}: " if title else "") + series.summary(run, keys)
    rate = fig.Line(RATE_PANEL, [(x, y, 0.0) for x, y in rates], RATE_LOOK)
    return fig.Picture(figure, text, chart.of_lines(
        [lines, [rate] if rates else []], [label, RATE_PANEL], "step", text))


def notebook_display() -> Callable[[dict], None] | None:
    """A function that shows and updates a MIME bundle in the running cell; None outside a
    notebook."""
    if not machine.in_notebook():
        return None
    from IPython.display import DisplayHandle

    handle = DisplayHandle()
    shown = []

    def show(bundle: dict):
        (handle.update if shown else handle.display)(bundle, raw=True)
        shown.append(True)

    return show
