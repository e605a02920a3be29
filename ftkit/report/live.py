"""`Live`: the figure that grows while a run trains, in a notebook.

    live = Live(total_steps=60); live(row) after each step; live.finish(run)
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

from ftkit.base import formatting, machine
from ftkit.report import series
from ftkit.report import style as fig

RATE = "learning_rate"
RATE_LOOK = {"color": "#000000", "linewidth": 1.2}


class Live:
    """Curves that grow while a run trains: call it with each row, then `finish(run)`.

    Only in a notebook kernel, where it updates one display; elsewhere it draws nothing. At most
    one picture a second, and so far apart that one takes at most `SHARE` of the CPU time to the
    next; where the process hardly computes, of a quarter of the seconds. A drawing error is
    printed once and never reaches the training.
    before: measures of the untouched model, drawn at step 0. show: where pictures go instead of
    the display, a function of a MIME bundle; `png` then holds the bytes of the last picture.
    behind: (name, run) of a finished run, whose curves are drawn pale for comparison.
    keys: measures drawn next to the learning rate; by default all whose names end in loss.
    """

    HERTZ, SHARE = 1.0, 0.02

    def __init__(self, total_steps: int | None = None, title: str = "", before: dict | None = None,
                 show: Callable[[dict], None] | None = None, behind: tuple | None = None,
                 keys: tuple[str, ...] | None = None):
        self.keys, self.title, self.show = keys, formatting.clean(title), show or notebook_display()
        self.figure: Any = None  # a matplotlib Figure, from the first picture on
        self.png = b""
        self.begin(total_steps, before, behind)

    def begin(self, total_steps: int | None, before: dict | None = None,
              behind: tuple | None = None):
        """A run starts, the first or another one in the same figure; draws the empty axes."""
        self.total, self.behind = total_steps, behind
        self.pale = [] if behind is None else [
            (key, [p for p in series.points(behind[1], key)  # as far as this run goes
                   if not total_steps or p[0] <= total_steps])
            for key in series.loss_keys([behind[1]])]
        self.data: dict[str, list[tuple[float, float]]] = {
            key: [(0.0, formatting.to_float(v))] for key, v in (before or {}).items()
            if self._drawn(key)}
        self.last = self.worked = -math.inf
        self.cost, self.began, self.row = 0.0, None, {}
        self.background = None
        if self.show:
            self.safely(self._paint)  # imports matplotlib now, not in the training time

    def __call__(self, row: dict):
        if self.show:
            self.add(row)
            self.paint_if_due()

    def _drawn(self, key: str) -> bool:
        return key in self.keys if self.keys else key.endswith("loss")

    def add(self, row: dict):
        """Note a row without drawing it."""
        for key, v in row.items():
            if key == RATE or self._drawn(key):
                self.data.setdefault(key, []).append((row.get("step", 0), formatting.to_float(v)))
        if self.began is None:
            self.began = time.perf_counter()
        self.row = row

    def paint_if_due(self):
        """Draw what was added, unless that would be too often."""
        if not self.show:
            return
        passed = time.perf_counter() - self.last
        worked = max(time.process_time() - self.worked, passed / 4)
        if passed < 1 / self.HERTZ or worked < self.cost / self.SHARE:
            return
        began = time.thread_time()
        self.safely(self._paint)
        self.cost = time.thread_time() - began
        self.last, self.worked = time.perf_counter(), time.process_time()

    def finish(self, run):
        """Leave the whole picture and its sentence in the cell."""
        show = self.show
        if show:
            self.safely(lambda: show(
                final_picture(run, self.title, self.keys)._repr_mimebundle_()))

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

    def safely(self, work):
        try:
            work()
        except Exception as error:  # noqa: BLE001 no error of drawing may end the training
            self.show = None
            print(f"ftkit: the live figure stopped ({type(error).__name__}: {error}); "
                  "the training continues", file=sys.stderr)

    def _paint(self):
        """One frame: the kept background with the lines drawn on it."""
        if self.background is None or not self._fits():
            self._rescale()
        canvas, labels = self.figure.canvas, []
        canvas.restore_region(self.background)
        for key, points in self.data.items():
            line, label = self.artists.get(key) or self._add(key)
            steps, values = zip(*points, strict=True)
            if key == RATE:  # drawn as a fraction of the highest so far, so that it always fits
                top = max(values) or 1.0
                line.set_data(steps, [v / top for v in values])
                label.set_text(f"learning rate: {formatting.number(values[-1])}")
                label.axes.draw_artist(label)
            else:
                line.set_data(steps, values)
                now, finite = values[-1], [v for v in values if math.isfinite(v)]
                label.set_text(f"{fig.short(key, 24)}" + (
                    f": {formatting.number(now)}" if math.isfinite(now) else " diverged"))
                to_axes = label.axes.transScale + label.axes.transLimits
                labels.append((label, to_axes.transform((0, finite[-1]))[1] if finite else 1.0))
            line.axes.draw_artist(line)
        for (label, _), y in zip(labels, fig.spread([y for _, y in labels], 0.065), strict=True):
            label.set_y(y)
            label.axes.draw_artist(label)
        text, self.png = self.progress(), fig.quick_png(canvas.buffer_rgba())
        bar = f'<progress max="{self.total}" value="{self.row.get("step", 0)}"></progress>'
        page = fig.as_html(self.png, self.figure, text) + (bar if self.total else "")
        if self.show:
            self.show({"text/html": page, "text/plain": text})

    def _add(self, key):
        """The line of a new key and its label; both are left out of the background."""
        top, low = self.figure.axes
        ax, look = (low if key == RATE else top), RATE_LOOK
        if key != RATE:
            keys = [k for k in self.data if k != RATE]
            look = fig.look(fig.color_index(key, keys), 2 if key == "loss" else 1, key == "loss")
        with fig.style():
            line = ax.plot([], [], animated=True, **look)[0]
            label = ax.text(1.02, 0.5, "", transform=ax.transAxes, va="center", animated=True,
                            color=fig.dark(look["color"]), parse_math=False)
        self.artists[key] = line, label
        return line, label

    def _losses(self) -> list[float]:
        points = [p for key, points in self.data.items() if key != RATE for p in points]
        points += [p for _, pale in self.pale for p in pale]
        return [v for _, v in points if math.isfinite(v)]

    def _fits(self) -> bool:
        low, high = self.figure.axes[0].get_ylim()
        values = self._losses() or [low]
        return low <= min(values) and max(values) <= high and self.row.get("step", 0) <= self.span

    def _rescale(self):
        """Axes with room to grow into, drawn once and kept as the background."""
        step, values = self.row.get("step", 0), self._losses()
        with fig.style():
            if self.figure is None:
                self.figure, (_, low) = _two_panels(self.keys)
                low.set(ylim=(0, 1.1), yticks=[])
            top = self.figure.axes[0]
            if self.background is None:
                self._draw_behind(top)
            self.span = self.total if self.total and step <= self.total else max(20, 2 * step)
            fig.log_if_wide(top, "y", values)
            wide = top.get_yscale() == "log"
            top.set(xlim=(-0.01 * self.span, 1.01 * self.span),
                    ylim=(min(values) / 2 if wide else min(0.0, *values, 0.0),
                          1.3 * max(values, default=1.0) or 1.0))
            self.figure.canvas.draw()
        self.background = self.figure.canvas.copy_from_bbox(self.figure.bbox)

    def _draw_behind(self, top):
        """The run behind, in place of all that an earlier run has left in the figure."""
        for artist in [a for ax in self.figure.axes for a in (*ax.lines, *ax.texts)]:
            artist.remove()
        self.artists = {}
        top.set_yscale("linear")
        keys = [k for k in self.data if k != RATE]
        for key, points in filter(lambda pale: pale[1], self.pale):
            look = fig.look(fig.color_index(key, keys), 1, key == "loss")
            top.plot(*zip(*points, strict=True), color=look["color"], alpha=0.45, linewidth=1.0,
                     linestyle=look.get("linestyle", "-"))
        if self.behind:
            top.text(0.99, 0.98, f"pale: {fig.short(self.behind[0], 60)}", ha="right", va="top",
                     transform=top.transAxes, color=fig.QUIET, parse_math=False)


def _two_panels(keys=None):
    figure = fig.new_figure(8.2, 3.8)
    top = figure.add_axes((0.085, 0.30, 0.575, 0.67))
    low = figure.add_axes((0.085, 0.125, 0.575, 0.13), sharex=top)
    top.tick_params(labelbottom=False)
    if not keys:
        top.set_ylabel("loss (nats per token)")
    low.set_xlabel("step")
    return figure, (top, low)


def final_picture(run, title: str, keys=None) -> fig.Picture:
    """The two panels of the live figure, whole."""
    with fig.style():
        figure, (top, low) = _two_panels(keys)
        drawn = [key for key in keys or series.loss_keys([run]) if series.points(run, key)]
        fig.draw(top, fig.lines_of([("", [run])], drawn, "step"))
        rates = series.points(run, RATE)
        if rates:
            low.plot(*zip(*rates, strict=True), **RATE_LOOK)
        low.text(1.03, 0.5, "learning rate", transform=low.transAxes, va="center")
        peak = max((v for _, v in rates), default=0.0)
        low.set(ylim=(0, 1.1 * peak or 1.0))
        low.set_yticks([0, peak] if peak else [0], ["0", formatting.number(peak)][:1 + bool(peak)])
    return fig.Picture(figure, (f"{title}: " if title else "") + series.summary(run, keys))


def notebook_display() -> Callable[[dict], None] | None:
    """A function that shows a MIME bundle in one place of the running cell; None outside one."""
    if not machine.in_notebook():
        return None
    from IPython.display import DisplayHandle

    handle = DisplayHandle()
    shown = []

    def show(bundle: dict):
        (handle.update if shown else handle.display)(bundle, raw=True)
        shown.append(True)

    return show
