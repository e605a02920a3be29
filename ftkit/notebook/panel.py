"""What `ft.what_if` looks like: its controls, its picture, its words. What they do is in whatif.py.

    view = Panel(groups, calls, picked={"model": "tiny", "data": "tasks"}); view.ui
"""

from __future__ import annotations

import contextlib
import threading

import ipywidgets as W

from ftkit.base import formatting
from ftkit.data import schema
from ftkit.notebook import to_script, widgets
from ftkit.report import live

RED = "#d0342c"  # reads on white and on dark
FEW = 8  # this many controls need no tabs
TIPS = {"model": "tiny, smollm2, a folder written by save_pretrained, or a hub id; Enter",
        "data": "A sample, or the path of your own JSONL file; Enter",
        "line": "What the controls say, in words: edit it or paste one, then Enter",
        "copy": "What the controls say, as text to take away"}


class Panel:
    """The widgets. calls: functions by name: moved, typed, picked, selected, copied (each called
    when the learner has changed something), start, stop, make_baseline."""

    def __init__(self, groups: dict, calls: dict, picked: dict):
        self.error = widgets.TextLines(css="ftkit-error")
        self.error.style.text_color = RED
        self._program = threading.local()  # the thread that trains moves controls too
        self.controls = {name: self._heard(widgets.field_control(name), calls["moved"])
                         for names in groups.values() for name in names}
        few = len(self.controls) <= FEW
        boxes = [W.VBox([self.controls[name] for name in names]) for names in groups.values()]
        narrow = {"style": {"description_width": "60px"}, "layout": W.Layout(width="auto")}
        self.line = self._heard(W.Text(
            description="Config", continuous_update=False, placeholder="all at their defaults",
            tooltip=TIPS["line"], **narrow), calls["typed"], "line")
        offered = {"model": ["tiny", "smollm2"], "data": schema.sample_names()}
        self.pickers = {name: self._heard(W.Combobox(
            description=name, options=offered[name], value=value, continuous_update=False,
            tooltip=TIPS[name], **narrow), calls["picked"], name) for name, value in picked.items()}
        tell = self.wrong
        self.start = widgets.button("Start", "play", calls["start"], "Train with these values; "
                                    "while a run goes on, wait in the queue", tell)
        self.stop = widgets.button("Stop", "stop", calls["stop"], "End the run after this step, "
                                   "keep it, and empty the queue", tell)
        self.bar = W.IntProgress(layout=W.Layout(width="160px"))
        self.status = widgets.TextLines("ready", css="ftkit-status")
        self.next = widgets.TextLines(css="ftkit-forecast")
        self.curves, self.pen = live.Live(show=lambda _: None), threading.Lock()
        self.image = W.Image(format="png", layout=W.Layout(width="100%", max_width="820px",
                                                           display="none"))
        self.verdict = widgets.TextLines(css="ftkit-diagnosis")
        self.list = self._heard(W.Select(
            options=[], rows=4, layout=W.Layout(width="auto", display="none")),
            calls["selected"], "runs")
        self.base = widgets.button("Make baseline", "flag", calls["make_baseline"],
                                   "Compare with the selected run from now on", tell)
        self.copy = self._heard(W.Dropdown(
            options=[("copy as ...", ""), *((kind, kind) for kind in to_script.KINDS)],
            tooltip=TIPS["copy"], layout=W.Layout(width="190px")), calls["copied"], "copy")
        self.text = widgets.Code(css="ftkit-text")
        left = [*self.pickers.values(), *([] if few else [self.line]),
                W.VBox(boxes) if few else W.Tab(boxes, titles=list(groups)), self.next,
                W.HBox([self.start, self.stop, self.bar]), self.status, self.error]
        right = [self.image, self.verdict, self.list, W.HBox([self.base, self.copy]), self.text]
        self.ui = W.HBox([W.VBox(left, layout=W.Layout(flex="0 1 450px")),
                          W.VBox(right, layout=W.Layout(flex="1 1 600px", min_width="0"))],
                         layout=W.Layout(flex_flow="row wrap"))
        self.ui.add_class("ftkit-what-if")
        self.runs([])
        self.buttons(False, 0)

    def _heard(self, control, call, css=None):
        """A control whose changes by the learner reach `call`."""
        def changed(change):
            if not getattr(self._program, "moves", False):
                call()

        control.observe(widgets.guarded(changed, self.wrong), "value")
        if css:
            control.add_class(f"ftkit-{css}")
        return control

    @contextlib.contextmanager
    def _by_program(self):
        """What this thread changes meanwhile was not the learner."""
        self._program.moves = True
        try:
            yield
        finally:
            self._program.moves = False

    # ------------------------------------------------------------------- what is shown

    def wrong(self, text: str):
        """A mistake in words; "" takes it away."""
        self.error.show(text and f"✗ {text}")

    def put(self, config):
        """Move all controls to where `config` is."""
        with self._by_program():
            for name, control in self.controls.items():
                widgets.write(control, getattr(config, name))

    def name(self, picked: dict):
        """Model and data as they are: what was left empty is filled in."""
        with self._by_program():
            for name, picker in self.pickers.items():
                picker.value = picked[name]

    def show_config(self, line: str, method: str):
        """The Config in words; fields without effect on this method are gray."""
        with self._by_program():
            self.line.value = line
        for name, control in self.controls.items():
            control.disabled = method not in widgets.USED_BY.get(name, (method,))

    def see(self, png: bytes):
        self.image.value = png
        self.image.layout.display = None

    def runs(self, rows: list[str]):
        """The list of runs, the newest last and chosen."""
        with self._by_program():
            self.list.options = [(formatting.clean(row), place) for place, row in enumerate(rows)]
            self.list.value = len(rows) - 1 if rows else None
        self.list.layout.display = None if rows else "none"
        self.base.layout.display = None if len(rows) > 1 else "none"

    def buttons(self, running: bool, queue: int):
        """Start queues while a run goes on; Stop tells how many wait."""
        self.start.description = "Queue" if running or queue else "Start"
        self.stop.disabled = not (running or queue)
        self.stop.description = f"Stop ({queue} waiting)" if queue else "Stop"

    def follow(self, job, behind):
        """Draw a job's run while it goes on; returns at its end.

        behind: (name, run) drawn pale. Meant for a thread of its own.
        """
        with self.pen:  # an earlier run may not be drawn to its end yet
            self._follow(job, behind, self.curves)

    def _follow(self, job, behind, figure):
        total = 0
        while not job.done.wait(0.03):
            happened = job.started
            if not total and happened is not None and happened.before:
                self.bar.max = total = happened.total_steps
                figure.begin(total, happened.before, behind)
                self.see(figure.png)
            if not total or not job.rows:
                continue
            while job.rows:
                figure.add(job.rows.popleft())
            shown = figure.png
            figure.paint_if_due()
            if figure.png is not shown:
                self.bar.value = figure.row["step"]
                self.see(figure.png)
                self.status.show(figure.progress())
        if job.run is not None:
            self.bar.max, self.bar.value = total or 1, len(job.run.rows)
