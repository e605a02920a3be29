"""The bug zoo: a correct pipeline and fourteen real bugs, each one wrong stage of it.

    case = zoo.case(seed=1)      # a run with one of the bugs, which it does not name
    case.curve(); case.batch(); case.answers()
    case.guess("pad_is_eos"); case.repair("pad_is_eos")

    zoo.run("double_shift", seed=0).symptoms      # the run of a named bug
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from ftkit.base import formatting
from ftkit.base.errors import UserError
from ftkit.data import encoding, schema
from ftkit.lessons.bugs import causes, pipeline
from ftkit.lessons.bugs.bugs import BUGS, INSTRUMENTS, Bug
from ftkit.report import plots
from ftkit.report.style import Picture
from ftkit.report.table import Table, table

SEEDS = 3  # baseline runs that all cases share


class Run(NamedTuple):
    """A run of the pipeline: the trained model and its measures."""

    trained: pipeline.Trained
    symptoms: dict
    answers: list[str]


def stages(*bugs: str, **replaced) -> dict:
    """The stages with these bugs in them. replaced: stage → a function of your own."""
    all_stages = dict(pipeline.STAGES)
    for name in bugs:
        bug = causes.find(name, BUGS)
        all_stages[bug.stage] = bug.function
    for name in replaced:
        if name not in all_stages:
            raise UserError(f"the pipeline has no stage {name!r}; expected one of "
                            f"{', '.join(all_stages)}")
    return all_stages | replaced


def run(bug: str | None = None, seed: int = 0) -> Run:
    """The pipeline with one bug or none, trained and measured. The result is cached."""
    return _run(bug and causes.find(bug, BUGS).name, seed)


@functools.cache
def _run(bug: str | None, seed: int) -> Run:
    all_stages = stages(*[bug] if bug else [])
    stage = BUGS[bug].stage if bug else ""
    if stage not in pipeline.AFTER_TRAINING:
        return _measured(pipeline.train(all_stages, seed), all_stages)
    baseline = _run(None, seed)
    instruments = pipeline.served if stage == "serve" else pipeline.validated
    trained = baseline.trained
    symptoms = baseline.symptoms | {"answers": baseline.answers} | instruments(trained, all_stages)
    return Run(trained, symptoms, symptoms.pop("answers"))


def rerun(bug: str, seed: int, replaced: dict) -> Run:
    """Rerun a bug with some stages replaced."""
    changed = stages(bug, **replaced)
    for known in (None, bug):
        if changed == stages(*[known] if known else []):
            return run(known, seed)
    return _measured(pipeline.train(changed, seed), changed)


def _measured(trained, all_stages) -> Run:
    symptoms = pipeline.measure(trained, all_stages)
    return Run(trained, symptoms, symptoms.pop("answers"))


def deviations(symptoms: dict, baseline: dict) -> dict[str, str]:
    """Measures that differ from a baseline run by more than their margin: name → lower or
    higher. The margins of INSTRUMENTS are wider than the spread over seeds."""
    return {name: "higher" if symptoms[name] > baseline[name] else "lower"
            for name, (_, margin) in INSTRUMENTS.items()
            if not abs(symptoms[name] - baseline[name]) <= margin}


# ----------------------------------------------------------------------------- the cases


def names() -> Table:
    """The bugs one may guess, and what each does."""
    return table([{"name": name, "bug": bug.title, "what it does": bug.what}
                  for name, bug in BUGS.items()])


def bug_of(seed: int) -> str:
    """The name of the bug in a case."""
    return causes.pick(BUGS, "zoo", seed=seed)


def case(seed: int) -> Case:
    """A broken run to diagnose. The seed alone decides which bug it has."""
    return Case(seed, bug_of(seed))


class CodeCase(causes.Case):
    """A case of the pipeline. `repair` takes a stage ("collate") or a bug, and corrects that stage,
    or your own stages (`label=my_label`). The run must match the baseline run of its seed.
    """

    _cause: Bug
    _run_seed: int

    def _changes(self, what: str | None, changes: dict) -> dict:
        if (what is None) == (not changes):
            raise UserError("nothing is changed. Pass a stage, or stages of your own such as "
                            "label=my_function.")
        if what in pipeline.STAGES:
            return {what: pipeline.STAGES[what]}
        if what is not None:
            try:
                bug = causes.find(what, BUGS)
            except UserError as error:
                raise UserError(f"{error}, or a stage: {', '.join(pipeline.STAGES)}") from None
            return {bug.stage: pipeline.STAGES[bug.stage]} if bug is self._cause else {}
        return changes

    def _rerun(self, changes: dict) -> Run:
        return rerun(self._cause.name, self._run_seed, changes)

    def misses(self, run: Run) -> list[str]:
        """How a run differs from the baseline run of the same seed."""
        baseline = _run(None, self._run_seed)
        worst = max(abs(a["loss"] - b["loss"]) for a, b in
                    zip(run.trained.rows, baseline.trained.rows, strict=True))
        curves = [f"the curves are up to {formatting.number(worst)} apart"]
        return (curves if not worst < 1e-3 else []) + [
            f"{name} is {way}"
            for name, way in deviations(run.symptoms, baseline.symptoms).items()]


class Case(CodeCase):
    """A run with one bug; shows its measurements next to those of a baseline run."""

    def __init__(self, seed: int, bug: str):
        super().__init__(BUGS[bug], BUGS, seed, seed)
        self.seed, self._run_seed = seed, seed % SEEDS
        self._broken = run(bug, self._run_seed)
        # Another seed: a project never has the correct twin of a faulty run.
        self._baseline = run(None, (self._run_seed + 1) % SEEDS)

    @property
    def symptoms(self) -> dict:
        """The measures of the run: name → number."""
        return dict(self._broken.symptoms)

    def table(self) -> Table:
        """Each measure in this run and in a baseline run with another seed, how far correct runs
        may differ (margin), and whether this run differs more."""
        off = deviations(self._broken.symptoms, self._baseline.symptoms)
        return table([
            {"instrument": name, "what it reads": text,
             "this run": self._broken.symptoms[name],
             "a baseline run": self._baseline.symptoms[name],
             "margin": margin, "off": off.get(name, "")}
            for name, (text, margin) in INSTRUMENTS.items()])

    def _repr_html_(self):
        return f"<b>Case {self.seed}</b>: one bug is in it{self.table()._repr_html_()}"

    def __repr__(self):
        return f"Case {self.seed}: one bug is in it\n{self.table()!r}"

    def curve(self) -> Picture:
        """The training loss, next to that of a baseline run."""
        return plots.curves({"this run": self._broken.trained,
                             "a baseline run": self._baseline.trained}, "loss")

    def batch(self, n: int = 2) -> object:
        """Padded records as the model sees them, with the tokens in the loss marked."""
        tokenizer, examples = pipeline.base_model()[1], self._broken.trained.examples
        some = [examples[i * (len(examples) - 1) // max(1, n - 1)] for i in range(n)]
        batch = stages(self._cause.name)["collate"](some, tokenizer)
        rows = [batch[key].tolist() for key in ("input_ids", "labels")]
        return encoding.show_batch([{"input_ids": ids, "labels": labels}
                                  for ids, labels in zip(*rows, strict=True)], tokenizer)

    def answers(self, n: int = 8) -> Table:
        """Some prompts for the served model, the expected answers, and its own."""
        test = pipeline.records()[2]
        rows = [{"prompt": schema.prompt_of(r), "expected": r["output"], "answer": a}
                for r, a in zip(test, self._broken.answers, strict=True)]
        return table(rows[:: max(1, len(rows) // n)][:n])

    def explain(self) -> str:
        """The bug and what it does."""
        return f"{self._cause.title}. {self._cause.what}"

    def against(self, named: Bug) -> str:
        """A sentence about the measure that would show the named bug."""
        off = deviations(self._broken.symptoms, self._baseline.symptoms)
        instrument, way = named.shown_by
        if off.get(instrument) != way:
            value = formatting.number(self._broken.symptoms[instrument])
            return (f"not {named.title!r}: {instrument} would be {way} than in a baseline run; "
                    f"here it is {value}")
        return (f"not {named.title!r}, which would show in {instrument} too; compare how "
                "far it is off, and read the batch and the answers")
