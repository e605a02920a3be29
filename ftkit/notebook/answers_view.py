"""Answers of the models under a what-if panel: to each prompt before training, after each run,
and on request at each evaluation of a run while it trains.

The prompts are validation records, or lines that the learner types. Words that differ from the
answer before training are marked.
"""

import difflib
from collections.abc import Callable

import ipywidgets as W

from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, to_html
from ftkit.data import encoding
from ftkit.evaluate import scoring
from ftkit.experiment import inputs
from ftkit.notebook import widgets
from ftkit.notebook.collection import RunCollection
from ftkit.notebook.pickers import ModelAndData

SMALL = 20_000_000  # up to this many parameters, a model answers while it trains by default
MOST, FIRST = 5, 3  # the largest number of prompts; the number taken from the data
BEFORE, EXPECTED = "before training", "expected"
STEPS = 1  # newest evaluations shown while a run trains, after the one before training
TIPS = {"during": ("while it trains", "Ask the prompts at each evaluation of the next runs "
                   "too; a run takes longer by the time of its answers"),
        "prompts": ("prompts", f"At most {MOST} prompts, one on each line. Empty: records of the "
                    "validation data")}
ASK_TIP = "Ask the model before training, and the models of the chosen runs, or of the newest one"


class Answers:
    """`.ui` has the widgets, `.rows` the displayed answers: a dict for each prompt.

    in_background(function, then): calls `function` when no run is training, and `then` after it.
    """

    def __init__(self, picked: ModelAndData, runs: RunCollection, in_background: Callable):
        self.error = widgets.ErrorLine()
        self._picked, self._runs, self._in_background = picked, runs, in_background
        self.rows: list[dict] = []
        self._known: dict[tuple[str, str], str] = {}  # (run id or "", prompt) → answer
        # Sent as a whole: letter by letter, the last ones may arrive after a click on Ask.
        self.prompts = W.Textarea(continuous_update=False, rows=2,
                                  placeholder="your own prompts, one on each line",
                                  layout=W.Layout(flex="1 1 200px", width="auto", height="48px"))
        self.prompts.add_class("ftkit-prompts")
        self.prompts.tooltip = TIPS["prompts"][1]
        self.ask_button = widgets.button("Ask", "comments", self.error.cleared(self.ask), ASK_TIP,
                                         self.error.report)
        self.during = W.Checkbox(description="while it trains", indent=False,
                                 tooltip=TIPS["during"][1], layout=W.Layout(width="130px"))
        self._own_choice = False
        self.during.observe(lambda _: setattr(self, "_own_choice", True), "value")
        self.during.add_class("ftkit-during")
        self._shown: tuple = ()  # id of a run and number of its samples
        self.table = W.HTML()
        self.table.add_class("ftkit-answers")
        self.table.layout.max_width = "100%"
        self.ui = W.VBox([W.HBox([self.prompts, self.ask_button, self.during],
                                 layout=W.Layout(flex_flow="row wrap", align_items="center")),
                          self.error, self.table], layout=W.Layout(min_width="0"))

    def ask_by_default(self, parameters: int):
        """Answer while a run trains if the model is small, unless the learner has decided."""
        if not self._own_choice:
            self.during.value, self._own_choice = parameters <= SMALL, False

    def forget(self):
        """Drop all answers, because the model or the data has changed."""
        self._known, self.rows = {}, []
        self.table.value = ""

    def lines(self) -> list[str]:
        """The prompts that the learner typed. Raises UserError for more than MOST."""
        lines = [line.strip() for line in self.prompts.value.splitlines() if line.strip()]
        if len(lines) > MOST:
            raise UserError(f"{len(lines)} prompts were given; expected at most {MOST}")
        return lines

    def sample(self) -> int | list[str]:
        """The `sample` argument of `Experiment.run`: the typed prompts, the number of validation
        records to answer if none are typed, or none if answers are off."""
        if not self.during.value:
            return 0
        without_questions = self._picked.experiment.val.kind == "text"
        return self.lines() or (0 if without_questions else FIRST)

    def records(self) -> list[dict]:
        """The records to answer. Raises UserError if there are none or too many."""
        experiment, lines = self._picked.experiment, self.lines()
        if lines:
            return inputs.questions(experiment.val, lines)
        if experiment.val.kind == "text":
            raise UserError("the validation records are plain texts without questions. Type "
                            "prompts of your own, one on each line.")
        return list(inputs.some(experiment.val, FIRST))

    def ask(self):
        records, runs = self.records(), self._runs.shown()
        self.table.value = "asking the models ..."
        self._in_background(lambda: self._collect(records, runs),
                            lambda: self._draw(records, runs))

    def show_during(self, run):
        """Draw the answers of a run so far, if there are new ones."""
        if run is None or not run.samples or self._shown == (run.id, len(run.samples)):
            return
        self._shown = run.id, len(run.samples)
        self.rows = rows_of(run.samples, self._runs.name_of(run).partition(" ")[0])
        self.table.value = page(self.rows)

    def _collect(self, records, runs):
        prompts = [_prompt(record) for record in records]
        for run in (None, *runs):
            id = "" if run is None else run.id
            missing = [i for i, prompt in enumerate(prompts) if (id, prompt) not in self._known]
            if not missing or (run is not None and run.model is None):
                continue
            model, tokenizer = (self._picked.experiment.fresh_model(Config()) if run is None
                                else (run.model, run.tokenizer))
            found = scoring.answers(model, tokenizer, [records[i] for i in missing],
                                    self._picked.experiment.template, inputs.LONGEST)
            for i, answer in zip(missing, found, strict=True):
                self._known[id, prompts[i]] = answer

    def _draw(self, records, runs):
        self.rows = []
        for record in records:
            prompt = _prompt(record)
            row = {"prompt": prompt, EXPECTED: encoding.answer(record),
                   BEFORE: self._known.get(("", prompt))}
            for run in runs:
                row[self._runs.name_of(run)] = self._known.get((run.id, prompt))
            self.rows.append(row)
        self.table.value = page(self.rows)


def _prompt(record: dict) -> str:
    if "messages" in record:
        return clean(next((m["content"] for m in reversed(record["messages"])
                           if m["role"] == "user"), ""))
    return clean(f"{record.get('instruction', '')} {record.get('input', '')}".strip())


def rows_of(samples: list[dict], letter: str) -> list[dict]:
    """`Run.samples` as rows of the table: before training, and at the newest evaluations. letter:
    of the run."""
    steps = sorted({one["step"] for one in samples} - {0})
    names = {0: BEFORE} | {step: f"{letter}, step {step}" for step in steps[-STEPS:]}
    rows: dict[str, dict] = {}
    for one in samples:
        row = rows.setdefault(one["prompt"], {
            "prompt": clean(one["prompt"]), EXPECTED: one["reference"],
            **dict.fromkeys(names.values(), "")})
        if one["step"] in names:
            row[names[one["step"]]] = one["answer"]
    return list(rows.values())


def page(rows: list[dict]) -> str:
    names = list(rows[0]) if rows else []
    if not any(row[EXPECTED] for row in rows):
        names = [name for name in names if name != EXPECTED]
    style = "text-align:left;vertical-align:top;white-space:normal;max-width:24em"
    head = "".join(f"<th scope='col' style='{style}'>{to_html(clean(n))}</th>" for n in names)
    lines = [f"<tr>{''.join(_cell(name, row, style) for name in names)}</tr>" for row in rows]
    return (f"<div tabindex='0' role='region' aria-label='answers' style='overflow-x:auto'><table>"
            f"<caption title='greedy, at most {inputs.LONGEST} tokens'>marked: not in the answer "
            f"before training</caption><tr>{head}</tr>{''.join(lines)}</table>"
            "</div>")


def _cell(name: str, row: dict, style: str) -> str:
    if name == "prompt":
        return f"<th scope='row' style='{style};font-weight:normal'>{to_html(row[name])}</th>"
    if row[name] is None:
        text = "<i>the weights of this run are not kept: only runs of this session have them</i>"
    elif name in (BEFORE, EXPECTED):
        text = to_html(clean(row[name]))
    else:
        text = marked(row[BEFORE] or "", row[name])
    return f"<td style='{style}'>{text}</td>"


def marked(before: str, after: str) -> str:
    """Convert `after` to HTML, and mark the words that are not in `before`."""
    old, new = clean(before).split(), clean(after).split()
    parts = []
    for kind, _, _, start, end in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        words = to_html(" ".join(new[start:end]))
        if words:
            parts.append(words if kind == "equal" else f"<mark>{words}</mark>")
    return " ".join(parts)
