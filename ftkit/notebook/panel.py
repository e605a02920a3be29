"""The widgets of `ft.what_if`: controls, chart and text. What they do is in what_if.py.

    view = Panel({"Method": ["method", "r"]}, callbacks, {"model": "tiny"}); view.ui

From top to bottom: Start, Stop and the status; the line of the Config; controls and chart next to
each other; then the runs and their answers. One group of controls is shown at a time, by buttons of
our own: a Tab of ipywidgets inside a box no longer switches after the page was loaded anew.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
from pathlib import Path

import ipywidgets as W

from ftkit.data import schema
from ftkit.notebook import fields, to_script, widgets
from ftkit.notebook.chart_view import ChartView, Growing
from ftkit.notebook.presets import PRESETS
from ftkit.report import chart

ROOM = 590  # pixels for the chart and what is said of a run: the page does not move when they come
FEW = 8  # up to this many controls need no groups, no presets and no line of the Config
SEEDS, VALUES = 3, 5  # runs of the two buttons for several runs
TIPS = {
    "model": "tiny, smollm2, a folder written by save_pretrained, or a hub id; then Enter",
    "data": "A sample, or the path of your own JSONL file; then Enter",
    "config": "All changed fields as text. Paste name=value pairs, Config(...), JSON or options of "
              "the command line, then Enter",
    "start": "Train with these values; while another run is training, join the queue",
    "stop": "End the run after its current step, keep it, and empty the queue",
    "copy": "The values of the controls as text, to use elsewhere",
    "preset": "Settings that show one effect; the fields that a preset does not name stay",
    "undo": "Take back the last change of the controls",
    "reset": "Set the controls as they were when the panel was made",
    "seeds": f"Train these values with {SEEDS} seeds: the chart shows their mean with a band of "
             "one standard deviation",
    "knob": "The field that the next button changes",
    "sweep": f"Train {VALUES} neighboring values of this field, all else as the controls say",
}
STYLE = """<style>
.ftkit-what-if .ftkit-label {font-size: 12px; line-height: 1.15; overflow: hidden}
.ftkit-what-if .ftkit-label .widget-html-content {line-height: 1.15; white-space: normal}
.ftkit-what-if .ftkit-readout {font-size: 12px; margin: 0 0 0 6px}
.ftkit-what-if .ftkit-gray > .ftkit-label, .ftkit-what-if .ftkit-gray > .ftkit-readout {opacity: .6}
.ftkit-what-if .ftkit-help {min-height: 3em; font-size: 12px; line-height: 1.35}
.ftkit-what-if .ftkit-error:not(:empty) {color: #d0342c}
.ftkit-what-if .noUi-handle:focus-visible, .ftkit-what-if button:focus-visible,
.ftkit-what-if button.jupyter-button:focus-visible:enabled,
.ftkit-what-if :is(input, select, textarea):focus-visible {
  outline: 3px solid #2b86be; outline-offset: 1px}
.ftkit-what-if ::placeholder {color: var(--jp-ui-font-color2); opacity: 1}
.ftkit-what-if .ftkit-told {position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%)}
.ftkit-what-if .ftkit-empty {align-items: center; justify-content: center; min-height: 52px;
  border: 1px dashed var(--jp-border-color1, #999); border-radius: 4px; font-size: 12px}
.ftkit-what-if .ftkit-empty .widget-html-content {flex: none; align-self: auto}
.ftkit-what-if .ftkit-answers .widget-html-content {line-height: 1.4}
.ftkit-what-if .ftkit-answers caption {text-align: left}
.ftkit-what-if .ftkit-sort {padding: 0 2px; font-size: 12px}
.ftkit-what-if .ftkit-groups button {padding: 0 7px; font-size: 12px}
.ftkit-what-if .ftkit-help .widget-html-content {line-height: 1.35}
.ftkit-what-if .ftkit-groups button.mod-active {font-weight: bold; text-decoration: underline}
.ftkit-chart-output:has(.ftkit-chart[data-drawn]) + .ftkit-picture {display: none}
</style>"""


class Panel:
    """The widgets, `.ui` all of them. groups: title → fields of Config. picked: the initial model
    and data, empty without pickers. callbacks: by name, on_control, on_config_text, on_picker,
    on_preset, on_copy (each after a change by the learner), start, stop, undo, reset, seeds, sweep.
    below: more widgets, under the chart; tips: of them, class after `ftkit-` → (name, tip)."""

    def __init__(self, groups: dict, callbacks: dict, picked: dict, below=(), tips=None):
        self.more_tips = tips or {}
        self.css = f"ftkit-panel-{chart.new_id()}"
        self.error = widgets.TextLines(css="ftkit-error")
        self._set_by_program = threading.local()  # the training thread moves controls, too
        self.controls = {name: self.observed(widgets.field_control(name), callbacks["on_control"])
                         for names in groups.values() for name in names}
        self.rows = {name: widgets.FieldRow(made) for name, made in self.controls.items()}
        self.config_text = self.observed(
            W.Text(placeholder="Config: all fields at their defaults", tooltip=TIPS["config"],
                   continuous_update=False, layout=W.Layout(flex="1 1 200px", width="auto")),
            callbacks["on_config_text"], "line")
        offered = {"model": ["tiny", "smollm2"], "data": schema.sample_names()}
        self.pickers = {name: self.observed(
            W.Combobox(description=name, options=offered[name], value=value, tooltip=TIPS[name],
                       style={"description_width": "42px"}, continuous_update=False,
                       layout=W.Layout(flex="1 1 150px", width="auto")),
            callbacks["on_picker"], name) for name, value in picked.items()}
        press = functools.partial(widgets.button, show_error=self.show_error)
        self.start = press("Start", "play", callbacks["start"], TIPS["start"])
        self.stop = press("Stop", "stop", callbacks["stop"], TIPS["stop"])
        self.undo = press("Undo", "undo", callbacks["undo"], TIPS["undo"])
        self.reset = press("Reset", "refresh", callbacks["reset"], TIPS["reset"])
        self.seeds = press(f"× {SEEDS} seeds", "", callbacks["seeds"], TIPS["seeds"],
                           css="ftkit-seeds")
        self.sweep = press(f"over {VALUES} values", "", callbacks["sweep"], TIPS["sweep"],
                           css="ftkit-sweep")
        self.knob = W.Dropdown(options=[n for n in fields.USUAL_VALUES if n in self.controls],
                               tooltip=TIPS["knob"], layout=W.Layout(width="150px"))
        self.knob.add_class("ftkit-knob")
        self.preset = self.observed(
            W.Dropdown(options=[("presets ...", ""), *((n, n) for n in PRESETS)],
                       tooltip=TIPS["preset"], layout=W.Layout(width="170px")),
            callbacks["on_preset"], "preset")
        self.copy_as = self.observed(W.Dropdown(
            options=[("copy as ...", ""), *((kind, kind) for kind in to_script.KINDS)],
            tooltip=TIPS["copy"], layout=W.Layout(width="150px")), callbacks["on_copy"], "copy")
        self.copied = widgets.Code(css="ftkit-text")
        self.progress = W.IntProgress(layout=W.Layout(width="110px"))
        self.progress.add_class("ftkit-progress")
        self.status = widgets.TextLines("ready", css="ftkit-status")
        self.forecast = widgets.TextLines(css="ftkit-forecast")
        self.owner = widgets.TextLines(css="ftkit-owner", bold=True)
        self.diagnosis = widgets.TextLines(css="ftkit-diagnosis")
        self.help = W.HTML("<span>Rest the pointer on a name, or move with Tab: here it says what "
                           "a control does.</span>")
        self.help.add_class("ftkit-help")
        self.chart, self._drawing = ChartView(), threading.Lock()
        self._told = 0.0  # when the words next to the chart were last changed
        self.curves = Growing(self.chart)
        self.group = self._group_buttons(groups)
        self.below = W.VBox(list(below))
        self.ui = self._layout()
        self.update_buttons(False, 0)

    # ------------------------------------------------------------------- layout

    def _group_buttons(self, groups: dict) -> W.ToggleButtons:
        """Buttons that show one group of controls; the boxes are in `.boxes`."""
        self.boxes = {title: W.VBox([self.rows[name] for name in names])
                      for title, names in groups.items()}
        self.few = len(self.controls) <= FEW
        buttons = W.ToggleButtons(options=list(groups), style={"button_width": "auto"},
                                  tooltips=[f"Show the fields of {title}" for title in groups])
        buttons.add_class("ftkit-groups")

        def show(_=None):
            for title, box in self.boxes.items():
                box.layout.display = None if self.few or title == buttons.value else "none"

        buttons.observe(widgets.guarded(show, self.show_error), "value")
        show()
        return buttons

    def _layout(self) -> W.Widget:
        wrap = {"flex_flow": "row wrap", "align_items": "center"}
        top = W.HBox([self.start, self.stop, self.progress, self.status], layout=W.Layout(**wrap))
        tools = [self.preset, self.undo, self.reset, self.seeds, self.knob, self.sweep,
                 self.copy_as]
        if self.few:
            tools = [self.undo, self.reset, self.seeds, self.copy_as]
        lines = [W.HBox([*self.pickers.values(), *([] if self.few else [self.config_text])],
                        layout=W.Layout(**wrap)),
                 W.HBox(tools, layout=W.Layout(**wrap))]
        boxes = W.VBox(list(self.boxes.values()), layout=W.Layout(
            height=None if self.few else "396px", overflow="hidden auto"))
        left = W.VBox([*([] if self.few else [self.group]), boxes, self.help],
                      layout=W.Layout(flex="1 1 330px", max_width="440px", min_width="0"))
        right = W.VBox([self.forecast, self.owner, self.chart.empty, self.chart.ui,
                        self.diagnosis],
                       layout=W.Layout(flex="1.3 1 340px", min_width="0",
                                       min_height=None if self.few else f"{ROOM}px"))
        ui = W.VBox([top, self.error, *lines,
                     W.HBox([left, right], layout=W.Layout(flex_flow="row wrap")),
                     self.copied, self.below, self._page()])
        ui.add_class("ftkit-what-if")
        ui.add_class(self.css)
        return ui

    def _page(self) -> W.Output:
        """The script that adds names, tips and live regions to the page."""
        known = {f".ftkit-{name}": (name, fields.FIELDS[name].metadata["tip"])
                 for name in self.controls}
        known |= {f".ftkit-{name}": (name, TIPS[name]) for name in ("model", "data", "preset",
                                                                    "knob", "copy")}
        known[".ftkit-line"] = ("Config", TIPS["config"])
        known |= {f".ftkit-{name}": (name, TIPS[name])
                  for name in ("start", "stop", "undo", "reset", "seeds", "sweep")}
        known |= {f".ftkit-{name}": pair for name, pair in self.more_tips.items()}
        source = (Path(__file__).parent / "panel.js").read_text("utf-8")
        page = f"{STYLE}<script>({source})({json.dumps(self.css)}, {chart.encoded(known)})</script>"
        return W.Output(outputs=({"output_type": "display_data", "metadata": {},
                                  "data": {"text/html": page, "text/plain": ""}},))

    def observed(self, control, callback, css=None):
        """A control that calls `callback` when the learner, not the program, has changed it."""
        def changed(_):
            if not getattr(self._set_by_program, "now", False):
                callback()

        control.observe(widgets.guarded(changed, self.show_error), "value")
        if css:
            control.add_class(f"ftkit-{css}")
        return control

    @contextlib.contextmanager
    def by_program(self):
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
        with self.by_program():
            for name, control in self.controls.items():
                widgets.write(control, getattr(config, name))

    def set_pickers(self, picked: dict):
        """Show the names of the model and the data in use."""
        with self.by_program():
            for name, picker in self.pickers.items():
                picker.value = picked[name]

    def show_config(self, config, resolved=None):
        """Show the Config as text. Fields without effect are grayed out; "auto" says its value,
        once `resolved`, the Config as the run would store it, is known."""
        with self.by_program():
            self.config_text.value = str(config)
        reasons = fields.without_effect(config)
        for name, row in self.rows.items():
            row.show(resolved and getattr(resolved, name), reasons.get(name, ""))

    def show_owner(self, text: str, verdict: list[str]):
        """Whose the chart and the verdict are, and the verdict itself."""
        self.owner.show(text)
        self.diagnosis.show(*verdict)

    def update_buttons(self, running: bool, waiting: int):
        """While a run is training, Start is called Queue, and Stop shows how many runs wait."""
        self.start.description = "Queue" if running or waiting else "Start"
        self.stop.disabled = not (running or waiting)
        self.stop.description = f"Stop ({waiting} waiting)" if waiting else "Stop"

    def draw_live(self, task, behind, owner: str, also=lambda run: None):
        """Draw the run of a TrainingTask as it trains; returns at its end.

        behind: (name, run) drawn pale behind it, or None. also: called with the run now and then.
        Meant for a thread of its own.
        """
        with self._drawing:  # an earlier run may still be drawn
            total = 0
            while not task.done.wait(0.03):
                run = task.started_run
                if not total and run is not None and not run.before and run.activity:
                    self.status.show(f"before the first step: {run.activity}")
                if not total and run is not None and run.before:
                    self.progress.max = total = run.total_steps
                    self.show_owner(owner, [])
                    self.curves.begin(total, run.before, behind)
                if total:
                    self._draw_rows(task.rows)
                also(run)
            also(task.run)
            if task.run is not None:
                self.progress.max, self.progress.value = total or 1, len(task.run.rows)

    def _draw_rows(self, rows):
        while rows:
            self.curves.add(rows.popleft())
        if self.curves.shown:
            return
        # The bar and the words are messages of their own, and nobody reads 20 of them a second.
        if self.curves.paint_if_due() and time.perf_counter() - self._told > 0.25:
            self._told = time.perf_counter()
            self.progress.value = self.curves.row["step"]
            self.status.show(self.curves.progress())
