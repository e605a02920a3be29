"""`ftkit runs`: the stored runs as a table that fits the terminal.

Settings that all runs share are in a line above the table.
"""

from ftkit.base.errors import UserError
from ftkit.base.formatting import number, to_float
from ftkit.cli import terminal_text
from ftkit.experiment import annotations, store_query
from ftkit.report import series
from ftkit.report.table import Table

ROWS = 20  # of a list without --limit


def chosen(runs: list, where: str | None, sort: str | None, limit: int | None) -> list:
    """The runs that match `where`, sorted by `sort` (default: newest last). `limit` keeps the
    newest, or the first of the sorted ones. Raises UserError for an unknown name."""
    notes = annotations.read()
    known = {run.id: store_query.facts(run, notes.get(run.id)) for run in runs}
    entries = list(known.values())
    if where:
        entries = store_query.matching(where, entries)
    if sort:
        entries = store_query.ordered(entries, sort)
    if limit is not None and len(entries) > limit:
        entries = entries[:limit] if sort else entries[len(entries) - limit:]
    by_id = {run.id: run for run in runs}
    return [by_id[entry["id"]] for entry in entries]


def text(runs: list, left_out: int, columns: int | None) -> str:
    """The table, below a line with the shared settings."""
    notes = annotations.read()
    settings = [series.settings_of(run) for run in runs]
    same = {name: value for name, value in settings[0].items()
            if all(other.get(name) == value for other in settings)}
    defaults = type(runs[0].config)().to_dict()
    shared = [f"{name}={value}" for name, value in same.items()
              if value is not None and value != defaults.get(name, object())]
    rows = []
    for run, found in zip(runs, settings, strict=True):
        own = {name: value for name, value in found.items()
               if name not in same and value is not None and value != defaults.get(name)}
        note = notes.get(run.id, {})
        about = [note.get("name", ""), series.as_pairs(own), note.get("note", ""),
                 run.stopped or ""]
        rows.append({"id": run.id, "settings": "; ".join(filter(None, about)) or "-",
                     "steps": str(run.last_step),
                     **{key: _change(run, key) for key in list(run.after)[:3]}})
    lines = [f"{len(runs)} of {len(runs) + left_out} runs" if left_out else f"{len(runs)} runs"]
    if shared:
        lines[0] += f", all with {', '.join(shared)}"
    lines += ["", Table(rows).text(columns)]
    if left_out:
        lines += ["", f"{left_out} more: --limit {len(runs) + left_out} lists them, --where "
                  "\"val_loss<0.5\" chooses, --sort val_loss sorts"]
    return terminal_text.wrapped("\n".join(lines), columns)


def _change(run, key: str) -> str:
    after = number(to_float(run.after[key]))
    return f"{number(to_float(run.before[key]))} → {after}" if key in run.before else after


def check_limit(ids: list, *options):
    """Raise UserError if run ids are combined with options that filter the list."""
    if ids and any(option is not None for option in options):
        raise UserError("--where, --sort and --limit select from all runs and cannot be combined "
                        "with ids. Leave them out.")
