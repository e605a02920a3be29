"""`run_report`: what some runs show, as one page for others to read, made from the store.

    ft.run_report(runs).save("report.html")          # or report.md
    ft.run_report(["20261128", "20261129"], claim="replay keeps what the base knew")
"""

import base64
import statistics
from pathlib import Path

from ftkit.base import files, formatting
from ftkit.base.errors import UserError
from ftkit.base.formatting import to_markdown
from ftkit.experiment import comparison, store
from ftkit.report import plots, series

SEEDS = 3  # fewer seeds of a config leave a difference open
STYLE = ("body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
         "img{max-width:100%}table{border-collapse:collapse}td,th{padding:.2em .7em;"
         "border-bottom:1px solid #ccc;text-align:left}")


class Report:
    """A report; displays itself. `.markdown` and `.html` are its text, with the picture inside."""

    def __init__(self, title: str, parts: list[str], picture: plots.Picture):
        self.title, self.parts, self.picture = title, parts, picture

    @property
    def markdown(self) -> str:
        data = base64.b64encode(self.picture.png(dpi=100)).decode()
        image = f"![the curves of the runs](data:image/png;base64,{data})\n\n{self.picture.text}"
        parts = [f"# {to_markdown(self.title)}", *self.parts[:2], image, *self.parts[2:]]
        return "\n\n".join(parts) + "\n"

    @property
    def html(self) -> str:
        import mistune  # comes with Jupyter

        body = mistune.create_markdown(renderer=_renderer(), plugins=["table"])(self.markdown)
        return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>'
                f"{formatting.to_html(self.title)}</title><style>{STYLE}</style>{body}</html>\n")

    def save(self, path: str | Path) -> Path:
        """Write the page and return its path. Raises UserError unless it ends in .html or .md."""
        path = files.at_home(path)
        if path.suffix not in (".html", ".md"):
            raise UserError(f"{path.name} is no page; expected a name that ends in .html or .md")
        files.write_whole(path, self.html if path.suffix == ".html" else self.markdown)
        return path

    def __repr__(self):
        return "\n\n".join([self.title, *self.parts])

    def _repr_markdown_(self):
        return self.markdown


def _renderer():
    import mistune

    class Renderer(mistune.HTMLRenderer):
        def safe_url(self, url: str) -> str:  # it refuses every data: address, the picture's too
            return url if url.startswith("data:image/png;base64,") else super().safe_url(url)

    return Renderer(escape=True)


def run_report(runs, title: str = "Report", claim: str = "") -> Report:
    """A page about runs: claim, settings, results, curves, comparisons, versions, what is open.

    runs: a Run, several, or ids of stored ones; runs that differ only in their seed are one row.
    claim: the sentence that the runs are to support. Raises UserError if there are no runs.
    """
    given = [runs] if isinstance(runs, str) or hasattr(runs, "rows") else list(runs)
    found = [store.load_run(one) if isinstance(one, str) else one for one in given]
    if not found:
        raise UserError("runs is empty; expected a Run, several, or ids as `ftkit runs` lists them")
    groups = series.grouped(found)
    parts = [_summary(found, claim), f"## Results\n\n{_results(groups)}",
             f"## Differences\n\n{_differences(groups)}", f"## Settings\n\n{_settings(groups)}",
             "## What is open\n\n" + "\n".join(f"- {line}" for line in _open(groups))]
    return Report(title, parts, plots.curves(found if len(groups) == 1 else dict(groups)))


def _table(rows: list[dict]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[to_markdown(formatting.cell(row.get(name))) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _summary(runs, claim: str) -> str:
    models = ", ".join(dict.fromkeys(run.model_name for run in runs))
    data = ", ".join(dict.fromkeys(str(run.data.get("name")) for run in runs))
    text = f"{len(runs)} runs of {to_markdown(models)} on {to_markdown(data)}."
    return f"**Claim.** {to_markdown(claim)}\n\n{text}" if claim else text


def _results(groups) -> str:
    rows = []
    for name, members in groups:
        measures = [key for key in members[0].after if all(key in run.after for run in members)]
        rows.append({"run": name, "seeds": len(members), **{
            key: [formatting.to_float(run.after[key]) for run in members] for key in measures},
            "seconds": statistics.mean(run.seconds for run in members)})
    before = {"run": "before training", "seeds": None, **groups[0][1][0].before}
    return _table([before, *rows])


def _differences(groups) -> str:
    if len(groups) < 2:
        return "One configuration only: nothing is compared."
    first, members = groups[0]
    return "\n\n".join(
        f"**{to_markdown(first)}** and **{to_markdown(name)}**: "
        + "; ".join(map(to_markdown, str(comparison.compare(members, other)).splitlines()))
        for name, other in groups[1:])


def _settings(groups) -> str:
    runs = [run for _, members in groups for run in members]
    lines = [f"- {to_markdown(name)}: {to_markdown(members[0].config)}; runs "
             + ", ".join(run.id for run in members) for name, members in groups]
    machines = dict.fromkeys(series.as_pairs({
        name: value for name, value in (run.machine | run.versions).items()
        if name != "free_memory_bytes"}) for run in runs)
    return "\n".join([*lines, *(f"- made with {to_markdown(line)}" for line in machines)])


def _open(groups) -> list[str]:
    """What a reader may not conclude from these runs, one sentence each."""
    found = [f"{to_markdown(name)} has {len(members)} of {SEEDS} seeds: differences are not "
             "settled." for name, members in groups if len(members) < SEEDS]
    runs = [run for _, members in groups for run in members]
    found += [f"{run.id} did not reach its end: {to_markdown(run.stopped or run.end)}."
              for run in runs if not run.is_finished and (run.stopped or not run.changes)]
    if any("general_loss" not in run.after for run in runs):
        found.append("general_loss was not measured, so nothing is known about forgetting.")
    if all(name.endswith("loss") for run in runs for name in run.after):
        found.append("Only losses were measured: no answer was compared with an expected one.")
    if not all(series.on_same_scale(runs[0].data.get("held_still"), run.data.get("held_still"))
               for run in runs):
        found.append("The runs have other validation records or models: their losses are not "
                     "comparable.")
    found += map(to_markdown, dict.fromkeys(note for run in runs for note in run.notes))
    return found or ["Nothing that the runs themselves show: other data and larger models remain."]
