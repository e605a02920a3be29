"""The widgets of `ft.what_if`: controls, curves and text. What they do is in what_if.py.

    view = Panel({"Method": ["method", "r"]}, callbacks, {"model": "tiny"}); view.ui
"""

from __future__ import annotations

import contextlib
import threading

import ipywidgets as W

from ftkit.base import formatting
from ftkit.data import schema
from ftkit.notebook import fields, to_script, widgets
from ftkit.report import live

RED = "#d0342c"  # readable on white and on dark
FEW = 8  # up to this many controls need no tabs
TOOLTIPS = {
    "model": "tiny, smollm2, a folder written by save_pretrained, or a hub id; then Enter",
    "data": "A sample, or the path of your own JSONL file; then Enter",
    "config": "All changed fields as text: edit it or paste another, then Enter",
    "start": "Train with these values; while another run is training, join the queue",
    "stop": "End the run after its current step, keep it, and empty the queue",
    "baseline": "Compare all runs with the selected one",
    "copy": "The values of the controls as text, to use elsewhere",
}


class Panel:
    """The widgets, `.ui` all of them. groups: tab -> fields of Config. picked: the initial model
    and data, empty without pickers. callbacks: by name, on_control, on_config_text, on_picker,
    on_selected_run, on_copy (each after a change by the learner), start, stop, make_baseline."""

    def __init__(self, groups: dict, callbacks: dict, picked: dict):
        self.error = widgets.TextLines(css="ftkit-error")
        self.error.style.text_color = RED
        self._set_by_program = threading.local()  # the training thread moves controls, too
        self.controls = {name: self._observed(widgets.field_control(name), callbacks["on_control"])
                         for names in groups.values() for name in names}
        narrow = {"style": {"description_width": "60px"}, "layout": W.Layout(width="auto"),
                  "continuous_update": False}
        self.config_text = self._observed(
            W.Text(description="Config", placeholder="all fields at their defaults",
                   tooltip=TOOLTIPS["config"], **narrow), callbacks["on_config_text"], "line")
        offered = {"model": ["tiny", "smollm2"], "data": schema.sample_names()}
        self.pickers = {name: self._observed(
            W.Combobox(description=name, options=offered[name], value=value,
                       tooltip=TOOLTIPS[name], **narrow), callbacks["on_picker"], name)
            for name, value in picked.items()}
        self.start = widgets.button("Start", "play", callbacks["start"], TOOLTIPS["start"],
                                    self.show_error)
        self.stop = widgets.button("Stop", "stop", callbacks["stop"], TOOLTIPS["stop"],
                                   self.show_error)
        self.progress = W.IntProgress(layout=W.Layout(width="160px"))
        self.status = widgets.TextLines("ready", css="ftkit-status")
        self.forecast = widgets.TextLines(css="ftkit-forecast")
        self.curves, self._drawing = live.Live(show=lambda _: None), threading.Lock()
        self.image = W.Image(format="png", layout=W.Layout(width="100%", max_width="820px",
                                                           display="none"))
        self.diagnosis = widgets.TextLines(css="ftkit-diagnosis")
        self.run_list = self._observed(
            W.Select(options=[], rows=4, layout=W.Layout(width="auto", display="none")),
            callbacks["on_selected_run"], "runs")
        self.baseline = widgets.button("Make baseline", "flag", callbacks["make_baseline"],
                                       TOOLTIPS["baseline"], self.show_error)
        self.copy_as = self._observed(W.Dropdown(
            options=[("copy as ...", ""), *((kind, kind) for kind in to_script.KINDS)],
            tooltip=TOOLTIPS["copy"], layout=W.Layout(width="190px")), callbacks["on_copy"], "copy")
        self.copied = widgets.Code(css="ftkit-text")
        self.ui = self._layout(groups)
        self.show_runs([])
        self.update_buttons(False, 0)

    def _layout(self, groups: dict) -> W.Widget:
        boxes = [W.VBox([self.controls[name] for name in names]) for names in groups.values()]
        few = len(self.controls) <= FEW
        controls = [W.VBox(boxes)] if few else [self.config_text,
                                                W.Tab(boxes, titles=list(groups))]
        left = [*self.pickers.values(), *controls, self.forecast,
                W.HBox([self.start, self.stop, self.progress]), self.status, self.error]
        right = [self.image, self.diagnosis, self.run_list, W.HBox([self.baseline, self.copy_as]),
                 self.copied]
        ui = W.HBox([W.VBox(left, layout=W.Layout(flex="0 1 450px")),
                     W.VBox(right, layout=W.Layout(flex="1 1 600px", min_width="0"))],
                    layout=W.Layout(flex_flow="row wrap"))
        ui.add_class("ftkit-what-if")
        return ui

    def _observed(self, control, callback, css=None):
        """A control that calls `callback` when the learner, not the program, has changed it."""
        def changed(_):
            if not getattr(self._set_by_program, "now", False):
                callback()

        control.observe(widgets.guarded(changed, self.show_error), "value")
        if css:
            control.add_class(f"ftkit-{css}")
        return control

    @contextlib.contextmanager
    def _by_program(self):
        """Controls that this thread sets meanwhile call nothing back."""
        self._set_by_program.now = True
        try:
            yield
        finally:
            self._set_by_program.now = False

    # ------------------------------------------------------------------- what is shown

    def show_error(self, text: str):
        """Show an error message; "" removes it."""
        self.error.show(text and f"✗ {text}")

    def set_controls(self, config):
        """Set every control to its value in `config`."""
        with self._by_program():
            for name, control in self.controls.items():
                widgets.write(control, getattr(config, name))

    def set_pickers(self, picked: dict):
        """Show the names of the model and the data in use."""
        with self._by_program():
            for name, picker in self.pickers.items():
                picker.value = picked[name]

    def show_config(self, text: str, method: str):
        """Show the Config as text; fields that `method` does not use are grayed out."""
        with self._by_program():
            self.config_text.value = text
        for name, control in self.controls.items():
            control.disabled = method not in fields.USED_BY.get(name, (method,))

    def show_image(self, png: bytes):
        self.image.value = png
        self.image.layout.display = None

    def show_runs(self, rows: list[str]):
        """The list of runs: the last one is the newest, and selected."""
        with self._by_program():
            self.run_list.options = [(formatting.clean(row), i) for i, row in enumerate(rows)]
            self.run_list.value = len(rows) - 1 if rows else None
        self.run_list.layout.display = None if rows else "none"
        self.baseline.layout.display = None if len(rows) > 1 else "none"

    def update_buttons(self, running: bool, waiting: int):
        """While a run is training, Start is called Queue, and Stop shows how many runs wait."""
        self.start.description = "Queue" if running or waiting else "Start"
        self.stop.disabled = not (running or waiting)
        self.stop.description = f"Stop ({waiting} waiting)" if waiting else "Stop"

    def draw_live(self, task, behind):
        """Draw the run of a TrainingTask as it trains; returns at its end.

        behind: (name, run) drawn pale behind it, or None. Meant for a thread of its own.
        """
        with self._drawing:  # an earlier run may still be drawn
            total = 0
            while not task.done.wait(0.03):
                run = task.started_run
                if not total and run is not None and run.before:
                    self.progress.max = total = run.total_steps
                    self.curves.begin(total, run.before, behind)
                    self.show_image(self.curves.png)
                if total and task.rows:
                    self._draw_rows(task.rows)
            if task.run is not None:
                self.progress.max, self.progress.value = total or 1, len(task.run.rows)

    def _draw_rows(self, rows):
        while rows:
            self.curves.add(rows.popleft())
        before = self.curves.png
        self.curves.paint_if_due()
        if self.curves.png is not before:
            self.progress.value = self.curves.row["step"]
            self.show_image(self.curves.png)
            self.status.show(self.curves.progress())
