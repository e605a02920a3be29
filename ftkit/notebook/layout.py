"""Where the parts of a what-if panel are on the page, its style, and the script that gives
ipywidgets the names, tips and live regions they lack.

From top to bottom: Start, Stop, what a run takes and the status; model, data and the line of the
Config; the tools; controls and answers next to the chart; copied code; the table of runs.
"""

import json
from pathlib import Path

import ipywidgets as W

from ftkit.notebook import answers_view, code_view, launcher, pickers, table_view, widgets
from ftkit.notebook.answers_view import Answers
from ftkit.notebook.code_view import CodeView
from ftkit.notebook.controls import Controls
from ftkit.notebook.forecast_view import ForecastView
from ftkit.notebook.launcher import Launcher
from ftkit.notebook.pickers import ModelAndData
from ftkit.notebook.results import Results
from ftkit.notebook.table_view import RunTable
from ftkit.report import chart

ROOM = 590  # pixels reserved for chart and verdict, so that the page does not move later
STYLE = """<style>
.ftkit-what-if .ftkit-label {font-size: 12px; line-height: 1.15; overflow: hidden}
.ftkit-what-if .ftkit-label .widget-html-content {line-height: 1.15; white-space: normal}
.ftkit-what-if .ftkit-readout {font-size: 12px; margin: 0 0 0 6px}
.ftkit-what-if button.ftkit-start {background: #0072B2; color: #fff; font-weight: 600}
.ftkit-what-if .ftkit-help {min-height: 3em; font-size: 12px; line-height: 1.35}
.ftkit-what-if .ftkit-error:not(:empty) {color: #d0342c}
[data-jp-theme-light=false] .ftkit-what-if .ftkit-error:not(:empty) {color: #ff8a80}
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
.ftkit-what-if .ftkit-forecast {margin: 0 8px}
.ftkit-what-if .ftkit-answers table, .ftkit-what-if .ftkit-preview {font-size: 12px}
.ftkit-what-if .ftkit-preview summary {cursor: pointer}
.ftkit-what-if .ftkit-sort {padding: 0 2px; font-size: 12px}
.ftkit-what-if .ftkit-groups button {padding: 0 7px; font-size: 12px}
.ftkit-what-if .ftkit-help .widget-html-content {line-height: 1.35}
.ftkit-what-if .ftkit-groups button.mod-active {font-weight: bold; text-decoration: underline}
""" + chart.colors_css() + """
.ftkit-chart-output:has(.ftkit-chart[data-drawn]) + .ftkit-picture {display: none}
</style>"""


def arrange(controls: Controls, picked: ModelAndData, forecast: ForecastView, launch: Launcher,
            results: Results, table: RunTable, answers: Answers, code: CodeView,
            errors: tuple[W.Box, W.Box, W.Box]) -> W.VBox:
    wrap = {"flex_flow": "row wrap", "align_items": "center"}
    few = controls.few
    tools = [controls.preset, controls.undo_button, controls.reset_button, launch.seeds_button,
             launch.knob, launch.sweep_button, code.kind]
    if few:
        tools = [controls.undo_button, controls.reset_button, launch.seeds_button, code.kind]
    help_line = W.HTML("<span></span>")
    help_line.add_class("ftkit-help")
    boxes = W.VBox(list(controls.boxes.values()), layout=W.Layout(
        max_height=None if few else "340px", flex="none", overflow="hidden auto"))
    left = W.VBox([*([] if few else [controls.group]), boxes, help_line, answers.ui],
                  layout=W.Layout(flex="1 1 330px", max_width="440px", min_width="0"))
    results.sweep.layout.flex, results.chart.ui.layout.flex = "1 1 340px", "1.4 1 380px"
    verdict = W.HBox([results.diagnosis, results.settle_button], layout=W.Layout(**wrap))
    pictures = W.HBox([results.sweep, results.chart.ui], layout=W.Layout(flex_flow="row wrap"))
    right = W.VBox([picked.preview, results.owner, verdict, results.chart.empty, pictures],
                   layout=W.Layout(flex="1.3 1 340px", min_width="0",
                                   min_height=None if few else f"{ROOM}px"))
    css = f"ftkit-panel-{chart.new_id()}"
    tips = (controls.tips | launcher.TIPS | pickers.TIPS | code_view.TIPS | table_view.TIPS
            | answers_view.TIPS)
    ui = W.VBox([
        W.HBox([launch.start_button, launch.pause_button, launch.step_button, launch.stop_button,
                forecast.text, results.progress, results.status],
               layout=W.Layout(**wrap)),
        errors[0],
        W.HBox([*picked.pickers.values(), *([] if few else [controls.line])],
               layout=W.Layout(**wrap)),
        errors[1],
        W.HBox(tools, layout=W.Layout(**wrap)),
        errors[2],
        W.HBox([left, right], layout=W.Layout(flex_flow="row wrap")),
        code.text, table.ui, _script(css, tips)])
    ui.add_class("ftkit-what-if")
    ui.add_class(css)
    return ui


def _script(css: str, tips: dict[str, tuple[str, str]]) -> W.Output:
    """The style and the script of the panel with this class; tips: class → (name, tip)."""
    known = {f".ftkit-{name}": pair for name, pair in tips.items()}
    source = (Path(__file__).parent / "panel.js").read_text("utf-8")
    page = f"{STYLE}<script>({source})({json.dumps(css)}, {chart.encoded(known)})</script>"
    return widgets.page(page)
