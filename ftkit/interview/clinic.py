"""The clinic: runs that went wrong, to be diagnosed from their logs and curves alone.

    case = clinic.case(0); case.curves()
    case.name("warmup_too_long"); case.repair(warmup_steps=2)

A case is trained when it is opened; its number decides the fault. `name` judges your diagnosis.
`repair` runs it again with your changes, and that run must meet the target.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from ftkit.base import formatting
from ftkit.base.errors import UserError
from ftkit.base.formatting import to_html
from ftkit.data import schema, split_and_corrupt
from ftkit.lessons.bugs import causes as shared
from ftkit.lessons.bugs import zoo
from ftkit.lessons.bugs.bugs import BUGS, Bug
from ftkit.lessons.bugs.causes import Cause
from ftkit.report import plots, series
from ftkit.report.style import Picture
from ftkit.report.table import Table, table

BASELINE = {"max_steps": 32, "eval_steps": 4, "learning_rate": 1e-3, "precision": "fp32"}
SEEDS = 3  # runs of one fault; cases share them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting(Cause):
    """A wrong option of Config, or wrong records.

    broken: the options that cause it. repair: options that mend it; the remedy is made from them.
    draw: options of a case in a round. scenario: a name of SCENARIOS.
    """

    repair: dict
    draw: Callable[[Random], dict]
    broken: dict = dataclasses.field(default_factory=dict)
    scenario: str = "tasks"


# --------------------------------------------------------------------- runs of a scenario


class Scenario(NamedTuple):
    """experiment: makes an Experiment from the name of its records. options: of the baseline run.
    target: measure → the highest value that a repaired run may have."""

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
    """The Experiment of a scenario. records: "checked" or "as found"."""
    return SCENARIOS[scenario].experiment(records)


def run_scenario(scenario: str, records: str, seed: int, options: dict):
    """Train a run of a scenario with these options of Config."""
    from ftkit.base.config import Config

    baseline = Config(seed=seed, **BASELINE | SCENARIOS[scenario].options)
    return _train(scenario, records, baseline.but(**options))


@functools.cache
def _train(scenario: str, records: str, config):
    """Train a scenario. Cached, since most repairs lead to the same baseline run."""
    return experiment(scenario, records).run(config, live=False)


# ------------------------------------------------------------------------------- the faults


def _setting(name: str, title: str, sign: str, complaint: str, lesson: str, repair: dict,
             draw: Callable[[Random], dict], broken: dict, scenario: str = "tasks",
             **also: str) -> Setting:
    remedy = "; ".join(f"{option}={value}" for option, value in repair.items())
    return Setting(name=name, title=title, sign=sign, remedy=remedy, lesson=lesson,
                   complaint=complaint, also=also, repair=repair, draw=draw, broken=broken,
                   scenario=scenario)


SETTINGS = {setting.name: setting for setting in (
    _setting(
        "rate_too_high", "the learning rate is too high",
        "the training loss stays high, and general_loss ends far above where it began",
        "It learns something and then stays bad. More steps?", "07", {"learning_rate": 1e-3},
        lambda rng: {"learning_rate": rng.choice((2e-2, 3e-2, 4e-2))}, {"learning_rate": 3e-2},
        nothing_replayed="it forgot what it knew, because the steps were far too large"),
    _setting(
        "rate_too_low", "the learning rate is too low",
        "the learning rate peaks after its warm-up and falls again, the gradients have their usual "
        "length, and the loss has hardly moved",
        "The curve is smooth, but nothing happens.", "07", {"learning_rate": 1e-3},
        lambda rng: {"learning_rate": rng.choice((5e-6, 1e-5, 2e-5))}, {"learning_rate": 1e-5},
        too_few_steps="at this learning rate more steps would move it on, many more"),
    _setting(
        "warmup_too_long", "the warm-up is longer than the run",
        "the learning rate in the log still rises at the last step",
        "We took the warm-up of the pretraining paper. It learns slowly.", "08",
        {"warmup_steps": 2}, lambda rng: {"warmup_steps": rng.choice((300, 500, 1000))},
        {"warmup_steps": 500},
        rate_too_low="the learning rate that was reached is too low, because of the warm-up"),
    _setting(
        "too_few_steps", "the run is too short",
        "the log ends after a few steps, val_loss falling at each",
        "Small test run; the result is poor.", "08", {"max_steps": 32},
        lambda rng: {"max_steps": rng.choice((3, 4, 5))}, {"max_steps": 4, "eval_steps": 1}),
    _setting(
        "trained_too_long", "too many passes over few records",
        "the training loss keeps falling while val_loss rises",
        "The training loss is excellent, users are not happy.", "17", {"max_steps": 20},
        lambda rng: {"max_steps": rng.choice((48, 56))}, {"max_steps": 48}, "few"),
    _setting(
        "nothing_replayed", "a narrow task without replay",
        "val_loss falls as it should and the loss on the tasks it knew rises",
        "The new task works very well. Then support called.", "16", {"replay": 0.4},
        lambda rng: {"max_steps": rng.choice((24, 28))}, {}, "narrow"),
    _setting(
        "wrong_labels", "many training answers are wrong",
        "val_loss falls far, and the training loss stays above it until the end",
        "The loss does not go down any further, whatever the learning rate.", "18",
        {"records": "checked"},
        lambda rng: {"learning_rate": rng.choice((1e-3, 1.2e-3, 1.5e-3)), "max_steps": 40},
        {"records": "as found"}),
    _setting(
        "optimizer_changed", "plain SGD at the learning rate of AdamW",
        "the learning rate is a usual one, the gradients stay as long as at the start, and "
        "val_loss hardly falls",
        "We changed the optimizer to save memory.", "08", {"optim": "adamw_torch"},
        lambda rng: {"learning_rate": rng.choice((8e-4, 1e-3, 1.5e-3))}, {"optim": "sgd"},
        rate_too_low="SGD needs a larger one than AdamW; this is AdamW's"),
)}

# A log gives these bugs away. Their order decides the number of their cases.
FAULTS: dict[str, Setting | Bug] = SETTINGS | {name: BUGS[name] for name in (
    "double_shift", "all_masked", "mask_lost", "gradients_kept", "overlap", "padding_counted",
    "fresh_adapter", "pad_is_eos")}

# The instruments of the zoo that a case of code shows
READ = ("first_loss", "last_loss", "grad_norm", "label_share", "val_loss", "exact_match", "stops")

# ------------------------------------------------------------------------------------- cases


def causes() -> Table:
    """What may be wrong in a case, by category: settings (of Config) and code (of `pipeline`)."""
    return table([{"name": name, "cause": fault.title, "category": _category(fault)}
                  for name, fault in FAULTS.items()])


def _category(fault: Cause) -> str:
    return "code" if isinstance(fault, Bug) else "settings"


def fault_of(number: int) -> str:
    """The name of the fault in a case."""
    return shared.pick(FAULTS, "clinic", number=number)


def case(number: int) -> Case:
    """A run that went wrong. The number alone decides what is wrong with it."""
    fault = FAULTS[fault_of(number)]
    return CodeCase(number, fault) if isinstance(fault, Bug) else SettingsCase(number, fault)


class Case(shared.Case):
    """One broken run: its log, its curves and the target of a repair."""

    name = shared.Case.guess
    run: Any  # what the log and the curves show
    target: str  # what the repaired run must meet

    def __init__(self, number: int, fault: Setting | Bug):
        super().__init__(fault, FAULTS, f"clinic {number}", number)
        self.number, self.category, self._run_seed = number, _category(fault), number % SEEDS
        self.broken = self._rerun({})

    def log(self) -> Table:
        """The training log: a row every few steps, at most a dozen."""
        rows = self.run.rows
        keys = ["step", "learning_rate", "grad_norm", *series.loss_keys([self.run])]
        measured = [row for row in rows if "val_loss" in row] or rows[::max(1, len(rows) // 8)]
        shown = sorted({row["step"]: row for row in (*rows[:2], *measured, rows[-1])}.items())
        return table([{k: row[k] for k in keys if k in row} for _, row in shown])

    def curves(self) -> Picture:
        """The losses of the log as curves."""
        return plots.curves(self.run)

    def _facts(self) -> dict:
        raise NotImplementedError

    def _lines(self) -> list[str]:
        facts = ", ".join(f"{name} {formatting.number(value)}"
                          for name, value in self._facts().items())
        return [f"Case {self.number} ({self.category}). Target: {self.target}.", facts]

    def _repr_html_(self):
        head = "<br>".join(to_html(line) for line in self._lines())
        return f"{head}{self.log()._repr_html_()}"

    def __repr__(self):
        return "\n".join([*self._lines(), repr(self.log())])

    def against(self, named: Cause) -> str:
        """Explain why `named` is not the cause: it is of another category, or the log would show
        something else."""
        if _category(named) != self.category:
            return f"not {named.title!r}: this case is one of {self.category}"
        return super().against(named)


class SettingsCase(Case):
    """A case of settings. `repair` takes options of Config, or `records="checked"` for records
    with verified answers."""

    _cause: Setting

    def __init__(self, number: int, fault: Setting):
        super().__init__(number, fault)
        self.run = self.broken
        self.target = " and ".join(f"{key} at most {limit}" for key, limit in self._limits())

    def _limits(self):
        return SCENARIOS[self._cause.scenario].target.items()

    def _facts(self) -> dict:
        return {"trainable_parameters": self.run.trainable_parameters,
                "records": len(experiment(self._cause.scenario, "checked").train)}

    def _changes(self, what: str | None, changes: dict) -> dict:
        if what is not None:
            raise UserError(f"stage is {what!r}, but this case is about settings. Pass options, "
                            "such as learning_rate=1e-3.")
        if not changes:
            raise UserError("nothing is changed. Pass an option, such as learning_rate=1e-3.")
        if changes.get("records", "checked") not in ("checked", "as found"):
            raise UserError(f"records is {changes['records']!r}; expected 'checked'")
        return changes

    def _rerun(self, changes: dict):
        options = self._cause.broken | changes
        records = options.pop("records", "checked")
        return run_scenario(self._cause.scenario, records, self._run_seed, options)

    def misses(self, run) -> list[str]:
        """The measures of a run that do not meet the target, with their values."""
        return [f"{key} is {formatting.number(run.after[key])}" for key, limit in self._limits()
                if not run.after.get(key, math.nan) <= limit]


class CodeCase(Case, zoo.CodeCase):
    """A case of code. `repair` works as in the bug zoo."""

    target = "what a correct run of the pipeline reads, within the spread of its seeds"

    def __init__(self, number: int, fault: Bug):
        super().__init__(number, fault)
        symptoms = self.broken.symptoms
        self.run = dataclasses.replace(self.broken.trained, after={
            **{key: symptoms[key] for key in READ},
            "new_loss": symptoms["val_loss"] + symptoms["leak"]})

    def _facts(self) -> dict:
        return self.run.after
