"""The one-minute race: the best exact match on 31 tasks for 60 processor seconds of training.

    result = run(read("docs/race/entries/replay.json"))

An entry is a JSON file, so that it can neither read the test records nor write its own score: the
fields of a Config; or "stages", a list of Configs that are trained one after the other, each on all
records or on its "tasks"; and "blend", the weight of the tuned model in a mean with the base.
"""

import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

from ftkit.base import files, formatting, significance
from ftkit.base.config import Config
from ftkit.base.errors import UserError
from ftkit.base.run_end import End, Stop
from ftkit.data import encoding, schema
from ftkit.evaluate import scoring
from ftkit.experiment.experiment import Experiment
from ftkit.model import cache, merge

SECONDS = 60.0  # of processor time, over all threads and stages; scoring is not counted
MORE_LOSS = 0.3  # nats by which general_loss may rise above the base's, as a mean over the seeds
FIRST_SEED, SEEDS = 900, 3  # no entry may be chosen with these
RESULTS = ("exact_match", "exact match", "score", "general_loss", "rise", "seconds")
FIXED = ("data", "val", "model", "records", "probes", "replay_from", "metrics")


class Entry(NamedTuple):
    """What a file asks for. stages: pairs of a Config and the tasks it trains on, () for all."""

    name: str
    stages: tuple[tuple[Config, tuple[str, ...]], ...]
    blend: float
    learned: str


@dataclasses.dataclass(frozen=True)
class Result:
    """Exact match, rise of general_loss in nats, and processor seconds, one value for each seed."""

    entry: Entry
    scores: list[float]
    rises: list[float]
    seconds: list[float]

    @property
    def counts(self) -> bool:
        return statistics.mean(self.rises) <= MORE_LOSS

    def row(self) -> dict:
        return {"entry": self.entry.name, "exact match": formatting.cell(self.scores),
                "rise of general_loss": formatting.cell(self.rises),
                "seconds": round(max(self.seconds), 1),
                "counts": "yes" if self.counts else f"no: above {MORE_LOSS}"}


def read(path: str | Path) -> Entry:
    """Read an entry. Raises UserError, naming the field, for one that the rules do not accept."""
    path = files.at_home(path)
    if path.suffix != ".json":
        raise UserError(f"{path.name} is not a .json file; expected the fields of a Config as "
                        "JSON. Code is not accepted, because it could read the test records.")
    try:
        given = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path.name} is not JSON ({error}). Compare it with one in docs/race/"
                        "entries.") from None
    if not isinstance(given, dict):
        raise UserError(f"{path.name} holds a {type(given).__name__}; expected one JSON object")
    blend, learned = given.pop("blend", 1.0), given.pop("learned", "")
    stages = given.pop("stages", None) or [given]
    if stages != [given] and given:
        raise UserError(f"{', '.join(given)} is given beside stages. Write it into each stage.")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise UserError(f"stages is {stages!r:.60}; expected a list of Configs")
    if isinstance(blend, bool) or not isinstance(blend, int | float) or not 0 <= blend <= 1:
        raise UserError(f"blend is {blend!r:.40}; expected a number from 0 (base) to 1 (tuned)")
    return Entry(path.stem, tuple(map(_stage, stages)), float(blend), str(learned))


def _stage(given: dict) -> tuple[Config, tuple[str, ...]]:
    fields = dict(given)
    tasks = fields.pop("tasks", [])
    for name in fields:
        if name in RESULTS:
            raise UserError(f"{name} is given; expected no results. They are measured by the "
                            "race. Leave it out.")
        if name in FIXED:
            raise UserError(f"{name} is given; every entry tunes `tiny` on the training records of "
                            "`tasks` and is scored on its test records. Leave it out.")
    if "seed" in fields:
        raise UserError(f"seed is {fields['seed']!r:.40}; the race takes seeds that no entry was "
                        "chosen with. Leave it out.")
    known = {record["task"] for record in schema.records("tasks")}
    if not isinstance(tasks, list) or not known.issuperset(map(str, tasks)):
        raise UserError(f"tasks is {tasks!r:.80}; expected a list of {', '.join(sorted(known))}")
    return Config().but(**{"precision": "fp32"} | fields), tuple(tasks)


def run(entry: Entry, first_seed: int = FIRST_SEED) -> Result:
    """Train and score an entry with three seeds, on the test records.

    Raises UserError for an entry that diverges, or that needs more than 60 processor seconds.
    """
    base, tokenizer = cache.fresh("tiny")
    test, result = schema.records("tasks", "test"), Result(entry, [], [], [])
    general = encoding.encode_all(schema.records("general", "test"), tokenizer).examples
    at_start = scoring.loss_on(base, general)
    for seed in range(first_seed, first_seed + SEEDS):
        begun = time.process_time()
        tuned = _trained(entry, seed, begun + SECONDS)
        result.seconds.append(time.process_time() - begun)
        model = tuned if entry.blend == 1 else merge.blend(base, tuned, entry.blend)
        result.scores.append(scoring.exact_match(model, tokenizer, test))
        result.rises.append(scoring.loss_on(model, general) - at_start)
    return result


def _trained(entry: Entry, seed: int, until: float):
    """The model after all stages; `until` is a value of the processor's clock."""
    def too_long():
        return time.process_time() > until and Stop(End.ENDED_EARLY, "the minute is over")

    model: Any = "tiny"
    for config, tasks in entry.stages:
        chosen = [record for record in schema.records("tasks")
                  if not tasks or record["task"] in tasks]
        given: dict[str, Any] = {"data": chosen, "val": schema.records("tasks", "validation")}
        lab = Experiment(model=model, **given)
        ended = lab.run(config.but(seed=seed), stop=too_long, live=False)
        if ended.end == End.ENDED_EARLY or too_long():
            raise UserError(f"{entry.name} needs more than {SECONDS:.0f} processor seconds (step "
                            f"{ended.last_step} of {ended.total_steps}). Take fewer steps.")
        if ended.end == End.DIVERGED:
            raise UserError(f"{entry.name} diverged with seed {seed}: {ended.stopped}. Lower its "
                            "learning rate.")
        model = ended.model, ended.tokenizer
    return model[0]


def standings(results: list[Result]) -> list[dict]:
    """Rows for a table: entries that count by exact match, then the others. Entries share a place
    where a paired test at 5 % sees no difference from the first one of that place."""
    ordered = sorted(results, key=lambda one: (not one.counts, -statistics.mean(one.scores)))
    rows, place, leader = [], 0, None
    for number, one in enumerate(ordered, start=1):
        if leader is None or significance.difference(leader.scores, one.scores, True).seen():
            place, leader = number, one
        rows.append({"place": place if one.counts else "-", **one.row()})
    return rows
