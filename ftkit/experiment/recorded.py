"""Recorded runs of SmolLM2-135M for the experiments of the lessons.

    runs = ft.recorded("lora_vs_full")     # curves, scatter, table and compare take them
    runs.arms["LoRA 0.001"]                # the Runs of one arm, one per seed
    ft.recorded()                          # a table of all recorded experiments

They are made by `make recorded` (`data_samples/recipe/recorded.py`) and stored as JSON in
`data_samples/recorded`, without their models. `data_samples/recorded/README.md` is their card.
"""

import difflib
import json
from pathlib import Path
from typing import Any

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.formatting import clean
from ftkit.experiment.run import Run
from ftkit.report.table import Table, table


class RecordedRun(Run):
    """A Run of a recorded experiment, without its model. `arm`: its condition. `answers`: a few
    records with the tuned model's answers. `caption`: when and how it was recorded."""

    arm: str = ""
    caption: str = ""
    answers: list[dict] = []  # noqa: RUF012  every instance from a file gets its own
    reliability: list[list[float]] | None = None  # per bin: tokens, mean probability, right

    @property
    def model(self) -> Any:
        raise UserError("a recorded run has no model, only numbers and a few answers (`run.after`, "
                        "`run.rows`, `run.answers`). To get a model, train it with "
                        f"`ft.Experiment(model={self.model_name!r}, ...).run(run.config)`")

    @model.setter
    def model(self, value):
        pass  # Run's constructor and `from_dict` set None


class Recorded(list):
    """The runs of one recorded experiment: a list of RecordedRun, shown by the names of its arms.

    arms: label → runs, one per seed. base: measure → number of the untouched model. claim: the
    lesson's main difference (`left`, `op`, `right`, `measure`, `text`, `beside`). card: model,
    weights, license, machine, versions. Also name, lesson, question, dates and caption.
    """

    def __init__(self, content: dict):
        self.name, self.lesson = content["name"], content["lesson"]
        self.question, self.claim = content["question"], content["claim"]
        self.card, self.base = content["card"], content["base"]["scores"]
        self.base_answers = content["base"]["answers"]
        dates = sorted({run["made"] for run in content["runs"]})
        self.dates = (dates[0], dates[-1]) if dates else ("", "")
        when = self.dates[0] if len(dates) < 2 else f"{dates[0]} to {dates[-1]}"
        self.caption = (f"{self.card['model']}, recorded on {when}, made by "
                        f"`{self.card['made_by']}`, no live run")
        super().__init__(self._run(saved) for saved in content["runs"])
        self.arms: dict[str, list[RecordedRun]] = {}
        for run in self:
            self.arms.setdefault(run.arm, []).append(run)

    def _run(self, saved: dict) -> RecordedRun:
        run = RecordedRun.from_dict(saved)
        run.arm, run.caption, run.answers = saved["arm"], self.caption, saved["answers"]
        run.reliability = saved.get("reliability")
        for measure, value in self.base.items():  # measured once, not before each run
            run.before.setdefault(measure, value)
        return run

    @property
    def seeds(self) -> list[int]:
        return sorted({run.config.seed for run in self})

    @property
    def seconds(self) -> float:
        """Total time of all runs, including evaluations."""
        return sum(run.seconds for run in self)

    def values(self, arm: str, measure: str) -> dict[int, float]:
        """Map seeds to the final measure in the runs of an arm."""
        return {run.config.seed: run.after[measure] for run in self.arms[arm]
                if run.after.get(measure) is not None}

    def __repr__(self) -> str:
        return (f"Recorded({self.name}: {len(self.arms)} arms, {len(self.seeds)} seeds; "
                f"{self.caption})")

    def _repr_html_(self) -> str:
        return table(self)._repr_html_()


def folder() -> Path:
    return machine.share("data_samples") / "recorded"


def names() -> list[str]:
    return sorted(path.stem for path in folder().glob("*.json"))


def recorded(name: str | None = None) -> Recorded | Table:
    """Load the recorded runs of an experiment; without a name, return a table of all experiments.

    Raises UserError if the name is unknown or the file is damaged.
    """
    if name is None:
        return Table([_line(read(known)) for known in names()])
    if name not in names():
        near = difflib.get_close_matches(str(name), names(), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names()) or 'none'}"
        raise UserError(f"no experiment was recorded as {name!r:.60}; {hint}")
    return read(name)


def read(name: str) -> Recorded:
    path = folder() / f"{name}.json"
    try:
        return Recorded(json.loads(path.read_text("utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the file {path} is damaged ({clean(str(error))}). Restore it, or make it "
                        f"again with make recorded {name}") from None


def _line(runs: Recorded) -> dict:
    return {"name": runs.name, "lesson": runs.lesson, "arms": len(runs.arms),
            "seeds": len(runs.seeds), "runs": len(runs), "minutes": round(runs.seconds / 60),
            "recorded": runs.dates[1], "question": runs.question}
