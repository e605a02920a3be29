"""The table of runs under a what-if panel: sort, filter, choose, name, delete, compare, export.

The chosen runs are those in the chart. The actions under the table are for the chosen runs, too.
"""

from __future__ import annotations

import base64
import csv
import io
import shlex

import ipywidgets as W

from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean, duration, number, to_attribute, to_html
from ftkit.experiment import run_notes, run_query
from ftkit.experiment.run import TRAINERS_DATA
from ftkit.notebook import to_script, widgets
from ftkit.report import plots, series
from ftkit.report.table import Table

PAGE = 8  # rows at a time
ROOM, ROW = 2, 28  # rows for which there is room before the first run; pixels of one
BOX, RUN, NUMBER = 28, 120, 92  # pixels of a column; that of the runs takes what is left
TIPS = {
    "filter": ("filter", "Show runs for which all terms hold: lora, val_loss<0.5, seed=1, "
               "method!=full; then Enter"),
    "store": ("all stored runs", "Also list runs of other sessions, models and data"),
    "hidden": ("hidden runs", "Also list runs that you have hidden"),
    "name": ("name", "A name for the chosen run, then Enter"),
    "note": ("note", "A note on the chosen run, then Enter"),
    "reproduce": ("reproduce as", "Code that makes the chosen run again"),
}
BUTTONS = {  # name: icon, tooltip
    "Use values": ("sliders", "Set the controls to the Config of the chosen run"),
    "Make baseline": ("flag", "Compare all runs with the chosen one"),
    "Hide": ("eye-slash", "Leave the chosen runs out of the table, or bring hidden ones back"),
    "Delete": ("trash", "Move the chosen runs out of the store; Restore brings them back"),
    "Restore": ("undo", "Bring back the runs that were deleted last"),
    "Differences": ("columns", "List the fields in which the chosen runs differ"),
    "CSV": ("download", "The runs of the table as a file for a spreadsheet"),
}


class RunTable:
    """`.ui` are the widgets, `.chosen` the ids of the runs in the chart, in order of choice.

    lab: has runs, baseline, view, stored_runs(), and the methods runs_changed(), use_values(run),
    set_baseline(run), forget(ids) and remember(runs), as `WhatIf` has.
    """

    def __init__(self, lab):
        self.lab, self.chosen, self.sorted_by, self.pages = lab, [], "-id", 1
        self.entries: list[dict] = []  # facts of the runs in the table, in its order
        self._runs: dict = {}
        self._deleted: list[list] = []  # runs of each deletion, newest last
        narrow = W.Layout(width="190px")
        self.filter = W.Text(placeholder="filter: lora val_loss<0.5", layout=narrow,
                             continuous_update=False)
        self.store = W.Checkbox(description="all stored runs", indent=False,
                                layout=W.Layout(width="130px"))
        self.hidden = W.Checkbox(description="hidden runs", indent=False,
                                 layout=W.Layout(width="110px"))
        self.name, self.note = (W.Text(placeholder=text, continuous_update=False, layout=narrow)
                                for text in ("name of the chosen run", "note"))
        self.reproduce = W.Dropdown(options=[("reproduce as ...", ""), ("Python", "Python"),
                                             ("command line", "command line")],
                                    layout=W.Layout(width="150px"))
        self.inputs = {"filter": self.filter, "store": self.store, "hidden": self.hidden,
                       "name": self.name, "note": self.note, "reproduce": self.reproduce}
        for css, made in self.inputs.items():
            made.tooltip = TIPS[css][1]
            made.add_class(f"ftkit-{css}")
        for made in (self.filter, self.store, self.hidden):
            made.observe(self._guarded(lambda _: self.update()), "value")
        self.name.observe(self._guarded(lambda _: self._write("name")), "value")
        self.note.observe(self._guarded(lambda _: self._write("note")), "value")
        self.reproduce.observe(self._guarded(lambda _: self._reproduce()), "value")
        actions = {"Use values": self.use_values, "Make baseline": self.make_baseline,
                   "Hide": self.hide, "Delete": self.delete, "Restore": self.restore,
                   "Differences": self.differences, "CSV": self.csv}
        self.buttons = {name: widgets.button(
            name, icon, actions[name], tip, self._tell) for name, (icon, tip) in BUTTONS.items()}
        self.more = widgets.button("More rows", "", self._more, "Show more rows", self._tell)
        self.header, self.body = W.GridBox([]), W.VBox([])
        self.body.add_class("ftkit-runs")
        self.result, self.code = W.HTML(), widgets.Code(css="ftkit-reproduced")
        self.result.add_class("ftkit-result")
        wrap = W.Layout(flex_flow="row wrap", align_items="center")
        self.ui = W.VBox([
            W.HBox([self.filter, self.store, self.hidden], layout=wrap),
            W.VBox([self.header, self.body]), self.more,
            W.HBox([*self.buttons.values(), self.name, self.note, self.reproduce], layout=wrap),
            self.result, self.code])
        self.body.layout.min_height = f"{ROOM * ROW}px"
        self._draw()

    # ------------------------------------------------------------------- the rows

    def update(self):
        """Read the runs and the notes, and draw the table."""
        notes = run_notes.read()
        runs = {run.id: run for run in self.lab.runs}
        if self.store.value:
            runs = {run.id: run for run in self.lab.stored_runs()} | runs
        self._runs = runs
        entries = [self._entry(run, notes.get(run.id)) for run in runs.values()]
        run_query.check_names(self.filter.value, entries)
        matches = run_query.where(self.filter.value)
        entries = [e for e in entries if matches(e) and (self.hidden.value or not e["hidden"])]
        by = self.sorted_by
        if any(by.lstrip("-") in entry for entry in entries):
            entries = run_query.ordered(entries, by)
        self.entries = entries
        self.chosen = [id for id in self.chosen if id in runs]
        self._draw()

    def _entry(self, run, note) -> dict:
        known = run_query.facts(run, note)
        label = known["name"] or plots.name_over_baseline(run, self.lab.baseline or run)
        return known | {"run": ("⚑ " if run is self.lab.baseline else "") + label}

    def columns(self) -> list[str]:
        measures = dict.fromkeys(
            key for entry in self.entries for key in self._runs[entry["id"]].after)
        return ["run", *list(measures)[:3], "steps", "seconds"]

    def _draw(self):
        columns = self.columns()
        heads: list[W.Widget] = [W.Label("")]
        for name in columns:
            arrow = {name: " ▲", "-" + name: " ▼"}.get(self.sorted_by, "")
            head = widgets.button(name + arrow, "", lambda name=name: self.sort(name),
                                  f"Sort by {name}; again: the other way", self._tell,
                                  css="ftkit-sort")
            head.layout = W.Layout(width="auto", height="26px")
            heads.append(head)
        self.header.children = heads
        self.header.layout.grid_template_columns = f"{BOX}px {_grid(columns)}"
        listed = bool(self._runs or self._deleted)
        # On a narrow page the heads and the rows scroll sideways together.
        self.header.layout.min_width = self.body.layout.min_width = (
            f"{BOX + RUN + NUMBER * (len(columns) - 1) + 16}px" if listed else "0")
        shown = self.entries[:PAGE * self.pages]
        self.body.children = ([self._row(entry, columns) for entry in shown] if listed
                              else [widgets.empty("Your runs are listed here.")])
        self.more.layout.display = None if len(shown) < len(self.entries) else "none"
        self.buttons["Restore"].disabled = not self._deleted
        # Not by display: at the first run the page would move under the reader.
        self.ui.layout.visibility = None if listed else "hidden"
        self.body.layout.visibility = "visible"

    def _row(self, entry: dict, columns: list[str]) -> W.Widget:
        id = entry["id"]
        box = W.Checkbox(value=id in self.chosen, indent=False, layout=W.Layout(width="24px"))
        box.add_class("ftkit-choose")
        box.observe(self._guarded(lambda change: self.choose(id, change["new"])), "value")
        details = " · ".join(filter(None, [entry["note"], entry["stopped"],
                                           f"{entry['model']} on {entry['data']}", id]))
        cells = [f"<span class='ftkit-run-name' title='{to_attribute(details)}'>"
                 f"{to_html(clean(entry['run']))}"
                 f"<small>{self._aside(entry)}</small></span>"]
        for name in columns[1:]:
            text = duration(entry[name]) if name == "seconds" else cell(entry.get(name))
            cells.append(f"<span style='text-align:right'>{to_html(clean(text))}</span>")
        page = W.HTML(f"<div style='display:grid;line-height:1.3;grid-template-columns:"
                      f"{_grid(columns)}'>{''.join(cells)}</div>",
                      layout=W.Layout(flex="1 1 auto", min_width="0"))
        return W.HBox([box, page], layout=W.Layout(align_items="center", min_height="26px"))

    def _aside(self, entry: dict) -> str:
        parts = [entry["note"], entry["stopped"], "hidden" if entry["hidden"] else ""]
        text = "; ".join(clean(part) for part in parts if part)
        return f" · {to_html(text)}" if text else ""

    def sort(self, name: str):
        """Sort by a column; again: the other way."""
        self.sorted_by = "-" + name if self.sorted_by == name else name
        self.update()

    def _more(self):
        self.pages += 1
        self.update()

    # ------------------------------------------------------------------- actions

    def choose(self, id: str, on: bool = True):
        """Put a run into the chart, or take it out."""
        self.chosen = [old for old in self.chosen if old != id] + ([id] if on else [])
        run = self.chosen_runs()[-1:] or [None]
        note = run_notes.read().get(run[0].id, {}) if run[0] else {}
        self.name.value, self.note.value = note.get("name", ""), note.get("note", "")
        self.lab.runs_changed()

    def chosen_runs(self) -> list:
        return [self._runs[id] for id in self.chosen if id in self._runs]

    def _some(self, least: int = 1, most: int | None = None) -> list:
        runs = self.chosen_runs()
        if len(runs) < least or (most and len(runs) > most):
            asked = "one run" if most == 1 else f"{least} runs or more"
            raise UserError(f"{len(runs)} runs are chosen; tick the box of {asked} in the table")
        return runs

    def use_values(self):
        self.lab.use_values(self._some(1, 1)[0])

    def make_baseline(self):
        self.lab.set_baseline(self._some(1, 1)[0])

    def hide(self):
        notes = run_notes.read()
        runs = self._some()
        hidden = not all(notes.get(run.id, {}).get("hidden") for run in runs)
        for run in runs:
            run_notes.change(run.id, hidden=hidden)
        if hidden:
            self.chosen = []
        self.lab.runs_changed()

    def delete(self):
        runs = self._some()
        run_notes.delete([run.id for run in runs])
        self._deleted.append(runs)
        self.chosen = []
        self.lab.forget({run.id for run in runs})
        self.result.value = f"{len(runs)} deleted; <i>Restore</i> brings them back."

    def restore(self):
        if not self._deleted:
            raise UserError("nothing was deleted in this panel")
        runs = self._deleted.pop()
        run_notes.restore([run.id for run in runs])
        self.result.value = ""
        self.lab.remember(runs)

    def _write(self, what: str):
        """A name or a note was typed."""
        if not self.chosen:
            return
        run, text = self._some(1, 1)[0], self.inputs[what].value.strip()
        if run_notes.read().get(run.id, {}).get(what, "") != text:
            run_notes.change(run.id, **{what: clean(text)})
            self.update()

    def differences(self):
        runs = self._some(2)
        settings = [series.settings_of(run) for run in runs]
        names = [n for n in settings[0] if len({str(s.get(n)) for s in settings}) > 1]
        labels = {run.id: clean(e["run"]) for run in runs for e in [self._entry(run, None)]}
        rows = [{"field": name} | {f"{number(i + 1)}: {labels[run.id]}": str(s.get(name))
                                   for i, (run, s) in enumerate(zip(runs, settings, strict=True))}
                for name in names]
        self.result.value = (Table(rows)._repr_html_() if rows  # noqa: SLF001 - draws itself
                             else "These runs have the same settings.")

    def csv(self):
        """A link to the rows of the table, every fact a column."""
        text = csv_of(self.entries)
        data = base64.b64encode(text.encode()).decode()
        self.result.value = (f"<a download='runs.csv' href='data:text/csv;base64,{data}'>runs.csv"
                             f"</a>: {len(self.entries)} runs")

    def _reproduce(self):
        kind = self.reproduce.value
        self.code.show("")
        if kind:
            self.code.show(reproduced(self._some(1, 1)[0], kind))

    def _guarded(self, function):
        return widgets.guarded(function, self._tell)

    def _tell(self, text: str):
        self.lab.view.show_error(text)


def csv_of(entries: list[dict]) -> str:
    """Facts of runs as CSV. A text that a spreadsheet would take for a formula gets a quote."""
    names = list(dict.fromkeys(name for entry in entries for name in entry if name != "run"))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, extrasaction="ignore")
    writer.writeheader()
    for entry in entries:
        writer.writerow({name: f"'{value}" if isinstance(value, str) and value[:1] in "=+-@"
                         else value for name, value in entry.items()})
    return out.getvalue()


def reproduced(run, kind: str) -> str:
    """A Python cell or a command that makes this run again. Raises UserError for a run of another
    trainer (`LiveCallback`), whose data and model only its own script knows."""
    if run.data.get("name") == TRAINERS_DATA:
        raise UserError(f"run {run.id} was not made by an Experiment; the script that trained it "
                        "makes it again")
    data = str(run.data.get("name"))
    if kind == "Python":
        if run.experiment is not None:
            return to_script.cell(run.experiment, run.config)
        return (f"import ftkit as ft\n\nlab = ft.Experiment(model={run.model_name!r}, "
                f"data={data!r})\nrun = lab.run(ft.{run.config!r})\nrun\n")
    words = ["ftkit", "run", "--model", run.model_name, "--data", data]
    for name, value in run.config.differs().items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _grid(columns: list[str]) -> str:
    """The columns of heads and rows, without that of the boxes, in CSS."""
    return f"minmax({RUN}px, 1fr) repeat({len(columns) - 1}, {NUMBER}px)"
