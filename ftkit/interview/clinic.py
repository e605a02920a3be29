"""The clinic: runs that went wrong, to be diagnosed from their logs and curves alone.

    case = clinic.case(0); case.curves()
    case.name("warmup_too_long"); case.repair(warmup_steps=2)

Each case is trained when it is opened; its number decides the fault. `name` judges your diagnosis;
`repair` runs it again with your changes, and that run must meet the target.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

from ftkit.base import formatting
from ftkit.base.errors import UserError
from ftkit.base.formatting import to_html
from ftkit.data import schema, split_and_corrupt
from ftkit.lessons import claims, progress_log
from ftkit.lessons.bugs import pipeline, zoo
from ftkit.report import plots, series
from ftkit.report.style import Picture
from ftkit.report.table import Table, table

BASELINE = {"max_steps": 32, "eval_steps": 4, "learning_rate": 1e-3, "precision": "fp32"}
SEEDS = 3  # runs of one fault; cases share them


@dataclasses.dataclass(frozen=True)
class Fault:
    """sign: what its log shows and no other fault's does; seen: the same as a function of the run;
    broken: options that cause it; right: a repair that works; wrong: repairs that do not."""

    title: str
    sign: str
    seen: Callable
    right: dict
    wrong: tuple[dict, ...]
    lesson: str
    broken: dict = dataclasses.field(default_factory=dict)
    scenario: str = "tasks"


# --------------------------------------------------------------------- runs of a scenario


class Scenario(NamedTuple):
    """experiment: from the name of its records; options: of its baseline run; target: measure →
    the highest value that a repaired run may have."""

    experiment: Callable
    options: dict
    target: dict[str, float]


def _experiment_on(data, **options):
    from ftkit.experiment.experiment import Experiment

    defaults = {"val": schema.records("tasks", "validation"), "eval_records": 48}
    return Experiment(data=data, **defaults | options)


def _tasks(records):
    train = schema.records("tasks")[:512]
    if records == "as found":
        train = split_and_corrupt.corrupt(train, "wrong", share=0.5, seed=0)
    return _experiment_on(train)


def _few(records):
    return _experiment_on(schema.records("tasks")[:48])


def _narrow(records):
    start = run_scenario("tasks", "checked", 0, {})
    return _experiment_on("contracts_task", model=(start.model, start.tokenizer), val=None,
                          probes={"tasks": schema.records("tasks", "validation")},
                          replay_from="tasks")


SCENARIOS = {
    "tasks": Scenario(_tasks, {}, {"val_loss": 1.1, "general_loss": 1.6}),
    "few": Scenario(_few, {}, {"val_loss": 1.6}),
    "narrow": Scenario(_narrow, {"max_steps": 24, "batch_size": 8},
                       {"val_loss": 0.5, "tasks_loss": 1.4}),
}


@functools.cache
def experiment(scenario: str, records: str):
    """The Experiment of a scenario; records: "checked" or "as found"."""
    return SCENARIOS[scenario].experiment(records)


def run_scenario(scenario: str, records: str, seed: int, options: dict):
    """A run of a scenario (a name of SCENARIOS) with these options of Config."""
    from ftkit.base.config import Config

    baseline = Config(seed=seed, **BASELINE | SCENARIOS[scenario].options)
    return _train(scenario, records, baseline.but(**options))


@functools.cache
def _train(scenario: str, records: str, config):
    """Cached, since most repairs lead to the same baseline run."""
    return experiment(scenario, records).run(config, live=False)


# ---------------------------------------------------------------------- what a fault shows


def learning_rates(run) -> list[float]:
    """The learning rate of each step."""
    return [row["learning_rate"] for row in run.rows]


def fell(run, key="val_loss") -> float:
    """The fraction of its first value by which a measure fell."""
    points = series.points(run, key)
    return 1 - points[-1][1] / points[0][1]


def end_loss(run) -> float:
    """Mean training loss of the last four steps."""
    return sum(row["loss"] for row in run.rows[-4:]) / 4


def rose(run, key) -> float:
    """How far a measure ends above its lowest value."""
    points = series.points(run, key)
    return points[-1][1] - min(y for _, y in points)


FAULTS = {
    "rate_too_high": Fault(
        "the learning rate is too high", "the training loss stays high, and general_loss ends "
        "far above where it began", lambda run: end_loss(run) > 3
        and run.after.get("general_loss", 0) > run.before.get("general_loss", 0) + 1,
        {"learning_rate": 1e-3}, ({"max_steps": 64}, {"warmup_steps": 8}), "07",
        {"learning_rate": 3e-2}),
    "rate_too_low": Fault(
        "the learning rate is too low", "the learning rate peaks after its warm-up and falls "
        "again, the gradients have their usual length, and the loss has hardly moved",
        lambda run: fell(run) < 0.3 and learning_rates(run)[-1] < max(learning_rates(run)) < 1e-4,
        {"learning_rate": 1e-3}, ({"max_steps": 64}, {"warmup_steps": 0}), "07",
        {"learning_rate": 1e-5}),
    "warmup_too_long": Fault(
        "the warm-up is longer than the run",
        "the learning rate in the log still rises at the last step",
        lambda run: len(run.rows) > 8 and learning_rates(run)[-1] == max(learning_rates(run)),
        {"warmup_steps": 2}, ({"learning_rate": 2e-3}, {"max_grad_norm": 0.0}), "08",
        {"warmup_steps": 500}),
    "too_few_steps": Fault(
        "the run is too short", "the log ends after a few steps, val_loss falling at each",
        lambda run: len(run.rows) <= 8,
        {"max_steps": 32}, ({"weight_decay": 0.1}, {"warmup_steps": 0}), "08",
        {"max_steps": 4, "eval_steps": 1}),
    "trained_too_long": Fault(
        "too many passes over few records", "the training loss keeps falling while val_loss rises",
        lambda run: rose(run, "val_loss") > 0.1 and end_loss(run) < 0.5,
        {"max_steps": 20}, ({"weight_decay": 0.1}, {"learning_rate": 2e-3}, {"records": "checked"}),
        "17",
        {"max_steps": 48}, "few"),
    "nothing_replayed": Fault(
        "a narrow task without replay", "val_loss falls as it should and the loss on the tasks it "
        "knew rises", lambda run: "tasks_loss" in run.after and rose(run, "tasks_loss") > 0.3,
        {"replay": 0.4}, ({"max_steps": 48}, {"weight_decay": 0.1}), "16", {}, "narrow"),
    "wrong_labels": Fault(
        "many training answers are wrong", "val_loss falls far, and the training loss stays "
        "above it until the end", lambda run: len(run.rows) > 8 and fell(run) > 0.6
        and end_loss(run) > run.after["val_loss"] + 0.15,
        {"records": "checked"}, ({"max_steps": 64}, {"learning_rate": 2e-3}), "18",
        {"records": "as found"}),
    "sgd": Fault(
        "plain SGD at the learning rate of AdamW", "the learning rate is a usual one, the "
        "gradients stay as long as at the start, and val_loss hardly falls",
        lambda run: fell(run) < 0.3 and max(learning_rates(run)) > 5e-4,
        {"optim": "adamw_torch"}, ({"warmup_steps": 0}, {"weight_decay": 0.1}), "08",
        {"optim": "sgd"}),
}

# -------------------------------------------------------------------------------------- code

def learned(readings: dict) -> bool:
    """Training, validation and new records agree that something was learned."""
    return 0.1 < readings["last_loss"] < 1.5 and 0.4 < readings["new_loss"] < 1.6


# Bugs of the zoo that a log gives away: name → (sign, seen in the readings)
SIGNS = {
    "double_shift": ("the first loss is far above that of guessing, ln(vocabulary) = 8.03",
                     lambda r: r["first_loss"] > 12),
    "all_masked": ("no token is trained on, and the loss is 0 from the first step",
                   lambda r: r["label_share"] == 0),
    "mask_lost": ("every token is trained on, questions included",
                  lambda r: r["label_share"] > 0.99),
    "gradients_kept": ("the gradients grow until the end",
                       lambda r: r["label_share"] > 0 and r["grad_norm"] > 15),
    "overlap": ("val_loss is far below the loss on new records",
                lambda r: 0 < r["val_loss"] < 0.8 * r["new_loss"]),
    "padding_counted": ("val_loss and the loss on new records are far below the training loss",
                        lambda r: 0 < r["new_loss"] < 0.5 * r["last_loss"]),
    "fresh_adapter": ("the losses are fine, most answers end, and hardly any is right",
                      lambda r: learned(r) and r["exact_match"] < 0.1 and r["stops"] > 0.7),
    "pad_is_eos": ("the losses are fine, and about half of the answers do not end",
                   lambda r: learned(r) and r["stops"] < 0.7),
}
READ = ("first_loss", "last_loss", "grad_norm", "label_share", "val_loss", "exact_match", "stops")


class PipelineRun:
    """A run of the pipeline with the fields of an experiment's Run that a log is made from."""

    def __init__(self, run: zoo.Run):
        self.symptoms, self.rows, self.before = run.symptoms, run.trained.rows, {}
        self.after = {key: run.symptoms[key] for key in READ}
        self.after["new_loss"] = run.symptoms["val_loss"] + run.symptoms["leak"]


def _run_pipeline(bug: str, seed: int, replaced: dict) -> PipelineRun:
    """Run the pipeline with this bug and, in its place, these stages."""
    stages = zoo.stages(bug, **replaced)
    if stages == zoo.stages(bug):
        return PipelineRun(zoo.run(bug, seed))
    if stages == pipeline.STAGES:
        return PipelineRun(zoo.run(None, seed))
    trained = pipeline.train(stages, seed)
    symptoms = pipeline.measure(trained, stages)
    return PipelineRun(zoo.Run(trained, symptoms, symptoms.pop("answers")))


for _name, (_sign, _seen) in SIGNS.items():
    _stage = next(iter(zoo.CHANGES[_name]))
    FAULTS[_name] = Fault(
        zoo.BUGS[_name].title, _sign, lambda run, seen=_seen: seen(run.after), {"stage": _stage},
        tuple({"stage": other} for other in pipeline.STAGES if other != _stage)[:2],
        zoo.BUGS[_name].lesson, scenario="code")

# ------------------------------------------------------------------------------------- cases


def causes() -> Table:
    """What may be wrong in a case, by category: settings (of Config) and code (of `pipeline`)."""
    return table([{"name": name, "cause": fault.title, "category": _category(name)}
                  for name, fault in FAULTS.items()])


def _category(name) -> str:
    return "code" if FAULTS[name].scenario == "code" else "settings"


def fault_of(number: int) -> str:
    """The name of the fault in a case."""
    return zoo.pick_cause(FAULTS, "clinic", number=number)


def case(number: int) -> Case:
    """A run that went wrong; what is wrong with it depends on the number alone."""
    return Case(number, fault_of(number))


class Case:
    """One broken run: its log, its curves, its target.

    It differs from the Case of the bug zoo, where a stage of the pipeline is wrong: here it may be
    options of Config or the records, and a repair must meet a target.
    """

    def __init__(self, number: int, fault: str):
        self.number, self._fault, self.tries = number, FAULTS[fault], 0
        self._name, self._seed = fault, number % SEEDS
        self.category = _category(fault)
        self.run = self._train({})

    def _train(self, changes: dict):
        """The run with the fault and with these changes."""
        scenario = self._fault.scenario
        if scenario == "code":
            return _run_pipeline(self._name, self._seed, changes)
        options = self._fault.broken | changes
        records = options.pop("records", "checked")
        return run_scenario(scenario, records, self._seed, options)

    # ------------------------------------------------------------------------------- display

    def log(self) -> Table:
        """What was printed while it ran: every few steps, at most a dozen lines."""
        keys = ["step", "learning_rate", "grad_norm", *series.loss_keys([self.run])]
        rows = self.run.rows
        measured = [row for row in rows if "val_loss" in row] or rows[::max(1, len(rows) // 8)]
        shown = sorted({row["step"]: row for row in (*rows[:2], *measured, rows[-1])}.items())
        return table([{k: row[k] for k in keys if k in row} for _, row in shown])

    def target(self) -> str:
        """What the repaired run must meet."""
        if self.category == "code":
            return "what a correct run of the pipeline reads, within the spread of its seeds"
        return " and ".join(f"{key} at most {limit}"
                            for key, limit in SCENARIOS[self._fault.scenario].target.items())

    def curves(self) -> Picture:
        """The losses of the log as curves."""
        return plots.curves(self.run)

    def _lines(self) -> list[str]:
        facts = self.run.after if isinstance(self.run, PipelineRun) else {
            "trainable_parameters": self.run.trainable_parameters,
            "records": len(experiment(self._fault.scenario, "checked").train)}
        readings = ", ".join(f"{name} {formatting.number(value)}" for name, value in facts.items())
        return [f"Case {self.number} ({self.category}). Target: {self.target()}.", readings]

    def _repr_html_(self):
        head = "<br>".join(to_html(line) for line in self._lines())
        return f"{head}{self.log()._repr_html_()}"

    def __repr__(self):
        return "\n".join([*self._lines(), repr(self.log())])

    # ------------------------------------------------------------------ diagnosis and repair

    def name(self, cause: str) -> claims.Verdict:
        """Name the cause; the verdict says what speaks against a wrong one. Kept as progress."""
        if cause in (None, ..., "..."):
            return self._verdict(False, "no cause named yet; clinic.causes() lists them", "○")
        if cause not in FAULTS:
            near = difflib.get_close_matches(str(cause), FAULTS, n=3, cutoff=0.4) or list(FAULTS)
            raise UserError(f"no cause is called {cause!r}; there is {', '.join(near)}")
        self.tries += 1
        right, fault = cause == self._name, FAULTS[cause]
        if right:
            text = f"{fault.title}: {fault.sign}. Lesson {fault.lesson}"
        elif _category(cause) != self.category:
            text = f"not {fault.title!r}: this case is one of {self.category}"
        else:
            text = f"not {fault.title!r}: then {fault.sign}"
        progress_log.add("bug", case=f"clinic {self.number}", guess=cause, right=right,
                     tries=self.tries, told="" if right else text)
        return self._verdict(right, text)

    def repair(self, stage: str | None = None, **changes) -> claims.Verdict:
        """Run it again with changes; it must meet the target.

        Settings: options of Config (`learning_rate=1e-3`), or `records="checked"` for records
        whose answers somebody has checked. Code: `stage`, the name of a stage to replace with the
        correct one, or stages of your own (`label=my_label`). Raises UserError if nothing is given.
        """
        if stage is ...:
            return self._verdict(False, "not repaired yet", "○")
        if self.category == "code":
            if stage is not None:
                zoo.stages(**{stage: None})  # UserError for an unknown stage
                changes |= {stage: pipeline.STAGES[stage]}
        elif stage is not None:
            raise UserError(f"stage is {stage!r}; this case is one of settings: give options "
                            "such as learning_rate=1e-3")
        if not changes:
            raise UserError("nothing is changed; give an option such as learning_rate=1e-3, or a "
                            "stage")
        if changes.get("records", "checked") not in ("checked", "as found"):
            raise UserError(f"records is {changes['records']!r}; expected 'checked'")
        missed = self.misses(self._train(changes))
        right = not missed
        text = f"misses the target: {', '.join(missed)}" if missed else "meets the target"
        progress_log.add(
            "repair", case=f"clinic {self.number}", right=right, name=str(changes)[:200]
        )
        return self._verdict(right, f"the repaired run {text}")

    def misses(self, run) -> list[str]:
        """The measures of a run that do not meet the target, with their values."""
        if self.category == "code":
            baseline = zoo.run(None, self._seed).symptoms
            return [f"{key} is {way}"
                    for key, way in zoo.deviations(run.symptoms, baseline).items()]
        return [f"{key} is {formatting.number(run.after[key])}"
                for key, limit in SCENARIOS[self._fault.scenario].target.items()
                if not run.after.get(key, math.nan) <= limit]

    def _verdict(self, right: bool, text: str, mark: str | None = None) -> claims.Verdict:
        return zoo.print_verdict(right, f"case {self.number}: {text}", mark)
