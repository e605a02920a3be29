"""The table of runs under a what-if panel: sort, filter, choose, name, delete, compare, export.

Chosen runs are drawn in the chart. The buttons under the table apply to them, too.
"""

import base64
import shlex
from collections.abc import Callable

import ipywidgets as W

from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, clean, duration, to_attribute, to_html
from ftkit.experiment import annotations, store_query
from ftkit.experiment.run import TRAINERS_DATA, Run
from ftkit.notebook import to_script, widgets
from ftkit.notebook.collection import RunCollection
from ftkit.report import chart, series
from ftkit.report.table import Table

FIELDS = 3  # up to this many differing fields get columns; more are in the names of the runs
PAGE = 8  # rows shown at first, and added by More rows
ROOM, ROW = 2, 28  # rows of reserved space before the first run; pixels of a row
BOX, RUN, NUMBER = 28, 120, 92  # pixels of a column; the column of runs grows
TIPS = {
    "more": ("more", "Filter, stored and hidden runs, baseline, names and notes, CSV, code"),
    "filter": ("filter", "Show runs that match all terms: lora, val_loss<0.5, seed=1, "
               "method!=full; then Enter"),
    "store": ("all stored runs", "Also list runs of other sessions, models and data"),
    "hidden": ("hidden runs", "Also list hidden runs"),
    "name": ("name", "A name for the chosen run, then Enter"),
    "note": ("note", "A note on the chosen run, then Enter"),
    "reproduce": ("reproduce as", "Code that repeats the chosen run"),
}
BUTTONS = {  # name: icon, tooltip
    "Use values": ("sliders", "Set the controls to the Config of the chosen run"),
    "Make baseline": ("flag", "Compare all runs with the chosen one"),
    "Hide": ("eye-slash", "Hide the chosen runs, or show them again if they are hidden"),
    "Delete": ("trash", "Move the chosen runs out of the store; Restore brings them back"),
    "Restore": ("undo", "Undo the last deletion"),
    "Differences": ("columns", "List the fields in which the chosen runs differ"),
    "CSV": ("download", "The runs of the table as a file for a spreadsheet"),
}


class RunTable:
    """`.ui` has the widgets, `.entries` the facts on the listed runs, in table order, `.differing`
    the model, data and fields of Config in which they differ, filtered or not.

    use_values: called with a run, to set the controls to its Config.
    """

    def __init__(self, collection: RunCollection, use_values: Callable[[Run], None]):
        self._collection, self._use_values = collection, use_values
        self.error = widgets.ErrorLine()
        show_error, cleared = self.error.report, self.error.cleared
        self.sorted_by, self.pages = "-id", 1
        self.entries: list[dict] = []
        self.differing: list[str] = []
        self.steps_differ = False
        self._listed: dict[str, Run] = {}
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
        self._by_learner = widgets.ByLearner(show_error)
        for css, control, changed in (
                ("filter", self.filter, self.update), ("store", self.store, self.update),
                ("hidden", self.hidden, self.update),
                ("name", self.name, lambda: self._write("name", self.name)),
                ("note", self.note, lambda: self._write("note", self.note)),
                ("reproduce", self.reproduce, self._reproduce)):
            control.tooltip = TIPS[css][1]
            self._by_learner.watch(control, cleared(changed), css)
        actions = {"Use values": self.use_values, "Make baseline": self.make_baseline,
                   "Hide": self.hide, "Delete": self.delete, "Restore": self.restore,
                   "Differences": self.differences, "CSV": self.csv}
        self.buttons = {name: widgets.button(name, icon, cleared(actions[name]), tip, show_error)
                        for name, (icon, tip) in BUTTONS.items()}
        self.tools = W.ToggleButton(description="More", tooltip=TIPS["more"][1],
                                    layout=W.Layout(width="auto"))
        self.tools.add_class("ftkit-more")
        self.tools.observe(widgets.guarded(lambda _: self._draw(), show_error), "value")
        self.more = widgets.button("More rows", "", self._more, "Show more rows", show_error)
        self.clear = widgets.button("Clear filter", "", self._clear, "Show all runs again",
                                    show_error)
        self.header, self.body = W.GridBox([]), W.VBox([])
        self.body.add_class("ftkit-runs")
        self.result, self.code = W.HTML(), widgets.Code(css="ftkit-reproduced")
        self.result.add_class("ftkit-result")
        wrap = W.Layout(flex_flow="row wrap", align_items="center")
        also = [self.buttons[name] for name in ("Make baseline", "Hide", "CSV")]
        self.extra = W.HBox([self.filter, self.store, self.hidden, *also, self.name, self.note,
                             self.reproduce], layout=W.Layout(flex_flow="row wrap"))
        self.ui = W.VBox([
            W.VBox([self.header, self.body]), self.more,
            W.HBox([*(b for b in self.buttons.values() if b not in also), self.tools], layout=wrap),
            self.extra, self.error, self.result, self.code])
        self.body.layout.min_height = f"{ROOM * ROW}px"
        self._draw()

    def update(self):
        notes = annotations.read()
        runs = {run.id: run for run in self._collection.all}
        if self.store.value:
            runs = {run.id: run for run in self._collection.stored()} | runs
        self._listed = runs
        entries = [self._entry(run, notes.get(run.id)) for run in runs.values()]
        entries = [e for e in entries if self.hidden.value or not e["hidden"]]
        self.differing = [name for name in ("model", "data", *widgets.FIELDS)
                          if len({str(entry.get(name)) for entry in entries}) > 1]
        self.steps_differ = len({entry["steps"] for entry in entries}) > 1
        entries = store_query.matching(self.filter.value, entries)
        by = self.sorted_by
        if any(by.lstrip("-") in entry for entry in entries):
            entries = store_query.ordered(entries, by)
        self.entries = entries
        self._collection.chosen = [run for run in self._collection.chosen if run.id in runs]
        self._draw()

    def _entry(self, run: Run, note: dict | None) -> dict:
        return store_query.facts(run, note) | {"run": self._collection.name_of(run),
                                               "index": self._collection.index_of(run)}

    def columns(self) -> list[str]:
        """The differing fields unless they are many, and what was measured."""
        differing = self.differing if len(self.differing) <= FIELDS else []
        measures = dict.fromkeys(
            key for run in self._listed.values() for key in run.after)
        steps = ["steps"] if self.steps_differ and "max_steps" not in differing else []
        return ["run", *differing, *list(measures)[:3], *steps, "seconds"]

    def _draw(self):
        columns = self.columns()
        heads: list[W.Widget] = [W.Label("")]
        for name in columns:
            arrow = {name: " ▲", "-" + name: " ▼"}.get(self.sorted_by, "")
            head = widgets.button(name + arrow, "", lambda name=name: self.sort(name),
                                  f"Sort by {name}; again: in reverse", self.error.report,
                                  css="ftkit-sort")
            head.layout = W.Layout(width="auto", height="26px")
            heads.append(head)
        self.header.children = heads
        self.header.layout.grid_template_columns = f"{BOX}px {_grid(columns)}"
        listed = bool(self._listed or self._collection.deleted)
        # On a narrow page, heads and rows scroll sideways together.
        self.header.layout.min_width = self.body.layout.min_width = (
            f"{BOX + RUN + NUMBER * (len(columns) - 1) + 16}px" if listed else "0")
        shown = self.entries[:PAGE * self.pages]
        self.body.children = [self._row(entry, columns) for entry in shown] or [
            W.HBox([widgets.empty("No run matches."), self.clear]) if listed and self.filter.value
            else widgets.empty("Your runs are listed here.")]
        self.extra.layout.display = None if self.tools.value else "none"
        self.buttons["Restore"].layout.display = None if self._collection.deleted else "none"
        self.more.layout.display = None if len(shown) < len(self.entries) else "none"
        self.buttons["Restore"].disabled = not self._collection.deleted
        # Hidden, not removed: otherwise the page would move when the first run appears.
        self.ui.layout.visibility = None if listed else "hidden"
        self.body.layout.visibility = "visible"

    def _row(self, entry: dict, columns: list[str]) -> W.Widget:
        id = entry["id"]
        ticked = any(run.id == id for run in self._collection.chosen)
        box = W.Checkbox(value=ticked, indent=False, layout=W.Layout(width="24px"))
        box.add_class("ftkit-choose")
        self._by_learner.watch(
            box, self.error.cleared(lambda: self.choose(id, bool(box.value))))
        details = " · ".join(filter(None, [entry["note"], entry["stopped"],
                                           f"{entry['model']} on {entry['data']}", id]))
        color = f"ftkit-c{entry['index'] % 7}"
        cells = [f"<span class='ftkit-run-name' title='{to_attribute(details)}'>"
                 f"<b class='{color}' aria-hidden='true'>{chart.mark(entry['index'])}</b> "
                 f"{to_html(clean(self._name(entry, columns)))}"
                 f"<small>{self._aside(entry)}</small></span>"]
        for name in columns[1:]:
            text = duration(entry[name]) if name == "seconds" else cell(entry.get(name))
            cells.append("<span style='text-align:right;padding-left:8px'>"
                         f"{to_html(clean(text))}</span>")
        page = W.HTML(f"<div style='display:grid;line-height:1.3;grid-template-columns:"
                      f"{_grid(columns)}'>{''.join(cells)}</div>",
                      layout=W.Layout(flex="1 1 auto", min_width="0"))
        return W.HBox([box, page], layout=W.Layout(align_items="center", min_height="26px"))

    def _name(self, entry: dict, columns: list[str]) -> str:
        """The letter of a run, its given name, and its settings unless they have columns."""
        letter, _, settings = entry["run"].partition(" ")
        baseline = self._collection.baseline
        is_baseline = baseline is not None and entry["id"] == baseline.id
        if {*self.differing} <= {*columns}:
            settings = entry["name"] or ("baseline" if is_baseline else "")
        return f"{letter} {'⚑ ' if is_baseline else ''}{settings}".rstrip()

    def _aside(self, entry: dict) -> str:
        parts = [entry["note"], entry["stopped"], "hidden" if entry["hidden"] else ""]
        text = "; ".join(clean(part) for part in parts if part)
        return f" · {to_html(text)}" if text else ""

    def sort(self, name: str):
        """Sort by a column, or reverse the order if it is already sorted by it."""
        self.sorted_by = "-" + name if self.sorted_by == name else name
        self.update()

    def _clear(self):
        self.filter.value = ""  # which is watched: the table is drawn again

    def _more(self):
        self.pages += 1
        self.update()

    def choose(self, id: str, on: bool = True):
        """Put a run into the chart, or take it out."""
        runs = [run for run in self._collection.chosen if run.id != id]
        runs += [self._listed[id]] if on else []
        note = annotations.read().get(runs[-1].id, {}) if runs else {}
        with self._by_learner.paused():
            self.name.value, self.note.value = note.get("name", ""), note.get("note", "")
        self._collection.choose(runs)

    def _chosen(self, least: int = 1, most: int | None = None) -> list[Run]:
        runs = self._collection.chosen
        if len(runs) < least or (most and len(runs) > most):
            asked = "one run" if most == 1 else f"{least} runs or more"
            raise UserError(f"{len(runs)} runs are chosen; expected {asked}. Tick boxes in the "
                            "table to choose runs.")
        return runs

    def use_values(self):
        self._use_values(self._chosen(1, 1)[0])

    def make_baseline(self):
        self._collection.set_baseline(self._chosen(1, 1)[0])

    def hide(self):
        notes, runs = annotations.read(), self._chosen()
        hidden = not all(notes.get(run.id, {}).get("hidden") for run in runs)
        for run in runs:
            annotations.change(run.id, hidden=hidden)
        self._collection.choose([] if hidden else runs)

    def delete(self):
        runs = self._chosen()
        self._collection.delete(runs)
        self.result.value = f"{len(runs)} deleted; <i>Restore</i> brings them back."

    def restore(self):
        self._collection.restore()
        self.result.value = ""

    def _write(self, what: str, control: W.Text):
        if not self._collection.chosen:
            return
        run, text = self._chosen(1, 1)[0], control.value.strip()
        if annotations.read().get(run.id, {}).get(what, "") != text:
            annotations.change(run.id, **{what: clean(text)})
            self.update()

    def differences(self):
        runs = self._chosen(2)
        settings = [series.settings_of(run) for run in runs]
        names = [n for n in settings[0] if len({str(s.get(n)) for s in settings}) > 1]
        letters = [self._collection.name_of(run).partition(" ")[0] for run in runs]
        rows = [{"field": name} | {letter: str(one.get(name)) for letter, one
                                   in zip(letters, settings, strict=True)} for name in names]
        self.result.value = (Table(rows)._repr_html_() if rows  # noqa: SLF001 - draws itself
                             else "These runs have the same settings.")

    def csv(self):
        """Show a link to the table as a CSV file, with all facts of its runs."""
        text = csv_of(self.entries)
        data = base64.b64encode(text.encode()).decode()
        self.result.value = (f"<a download='runs.csv' href='data:text/csv;base64,{data}'>runs.csv"
                             f"</a>: {len(self.entries)} runs")

    def _reproduce(self):
        kind = self.reproduce.value
        self.code.show("")
        if kind:
            run = self._chosen(1, 1)[0]
            self.code.show(f"# {clean(self._collection.name_of(run))}\n{reproduced(run, kind)}")


def csv_of(entries: list[dict]) -> str:
    """Facts of runs as CSV; text that a spreadsheet would read as a formula is quoted."""
    import pandas as pd

    rows = [{name: f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" else value
             for name, value in entry.items() if name not in ("run", "index")} for entry in entries]
    return pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\r\n")


def reproduced(run, kind: str) -> str:
    """A Python cell or a command that repeats this run.

    Raises UserError for a run recorded by `LiveCallback`: only its own script has the data.
    """
    if run.data.get("name") == TRAINERS_DATA:
        raise UserError(f"run {run.id} was trained by your own script, through LiveCallback. Start "
                        "that script again to reproduce it.")
    code = _reproduced(run, kind)
    changed = [f"# {clean(note)}: this code does not repeat that\n" for note in run.notes
               if run.changes and note.startswith("learning_rate was changed")]
    return "".join(changed) + code


def _reproduced(run, kind: str) -> str:
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
    return f"minmax({RUN}px, 1fr) repeat({len(columns) - 1}, {NUMBER}px)"
