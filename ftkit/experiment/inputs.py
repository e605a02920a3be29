"""Checks of the arguments of an Experiment, before any model is loaded."""

import inspect
import os
import random
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from ftkit.base import config_fields
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.base.formatting import show
from ftkit.data import schema, split_and_corrupt


def with_validation(source, val):
    """Read the records; returns (training, validation)."""
    if val is not None:
        return schema.compact(source), schema.compact(val, "validation")
    if isinstance(source, str) and source in schema.sample_names():
        return schema.compact(source), schema.compact(source, "validation")
    if isinstance(source, Mapping) and "validation" in source:  # a DatasetDict
        return schema.compact(source), schema.compact(source, "validation")
    return split_and_corrupt.split(schema.compact(source), fraction=0.1, seed=0)


def named_probes(probes) -> dict:
    """Convert probes to name → records. Raises UserError if they are something else, or a name is
    already in use."""
    if not isinstance(probes, dict | list | tuple | str | Path | None):
        raise UserError(f"probes is {show(probes)}; expected names or files, or a dict of name → "
                        "records")
    named = probes.items() if isinstance(probes, dict) else [
        (Path(str(p)).stem, p)
        for p in ([probes] if isinstance(probes, str | Path) else probes or ())]
    records_of = {}
    for name, source in named:
        if isinstance(source, dict):
            raise UserError('probes has records without a name; expected {"mine": records}')
        if name in records_of or name == "val":
            what = "two probes are" if name in records_of else "a probe is"
            raise UserError(f"{what} called {name!r} (val is the validation records). Rename the "
                            "file, or pass probes as a dict of name → source.")
        records_of[name] = schema.compact(source, "validation")
    return records_of


LONGEST = 40  # tokens of an answer to a given prompt
COLUMNS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "supervised_tokens",
           "seconds", "val_loss")  # of every row


def named_metrics(metrics, probes, val, limit: int, template: str | None) -> dict:
    """Check metrics: name → function of (model, tokenizer), or of (answer, record), whose mean over
    the greedy answers to `limit` records of `val` is taken. Raises UserError if a name is a column
    of the rows."""
    metrics = {} if metrics is None else metrics
    if not isinstance(metrics, dict) or not all(map(callable, metrics.values())):
        raise UserError(f"metrics is {metrics!r:.60}; expected a dict of name → function of "
                        "(model, tokenizer) or (answer, record)")
    taken = metrics.keys() & {*COLUMNS, *(f"{name}_loss" for name in probes)}
    if taken:
        raise UserError(f"a metric is called {min(taken)!r}, which is the name of another column. "
                        "Give it another name.")
    return {name: _mean_over(metric, some(val, limit), template)
            if takes_answers(metric) else metric for name, metric in metrics.items()}


def takes_answers(metric: Callable) -> bool:
    try:
        names = list(inspect.signature(metric).parameters)
    except ValueError:  # built-in
        return False
    return names[:1] == ["answer"]


def _mean_over(metric: Callable, records, template: str | None) -> Callable:
    def mean(model, tokenizer) -> float:
        from ftkit.evaluate import scoring

        answers = scoring.answers(model, tokenizer, list(records), template)
        return statistics.fmean(map(metric, answers, records))

    return mean


def number(name: str, value) -> float:
    """Convert the result of a metric to a float. Raises UserError if it is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(f"the metric {name!r} returned {show(value)}; expected a number") from None


def check_kinds(model, template, eval_records):
    """Raise UserError if an argument has a wrong type."""
    pair = isinstance(model, tuple | list) and len(model) == 2 and hasattr(model[0], "parameters")
    if not (isinstance(model, str) or pair):
        raise UserError(f"model is {type(model).__name__}; expected a name, a folder, or a pair "
                        "(model, tokenizer)")
    if not isinstance(template, str | None):
        raise UserError(f"template is {show(template)}; expected text, or None")
    if isinstance(eval_records, bool) or not isinstance(eval_records, int) or eval_records < 1:
        raise UserError(f"eval_records is {eval_records!r}; expected a whole number of at least 1")


def some(records, n: int) -> schema.Records:
    """Choose `n` records at random (always the same ones), with their line numbers."""
    chosen = sorted(random.Random(0).sample(range(len(records)), min(n, len(records))))
    return schema.Records([records[i] for i in chosen], records.name, records.path,
                        [records.lines[i] for i in chosen])


def notes_on(config, total_steps: int) -> list[str]:
    """List a sentence for each given setting that has no effect in the run."""
    notes = []
    if config.warmup_steps > total_steps >= 1 and config.warmup_steps >= 1:
        notes.append(f"the warm-up takes {config.warmup_steps:g} steps and the run has "
                     f"{total_steps}, so the learning rate never reaches {config.learning_rate:g}")
    unused: dict[str, list[str]] = {}
    for name, reason in config_fields.without_effect(config).items():
        if name in config_fields.given(config):
            unused.setdefault(reason, []).append(name)
    return notes + [f"{', '.join(names)} had no effect: {reason}"
                    for reason, names in unused.items()]


def has_no_name(given: dict) -> bool:
    """Whether an Experiment got objects, such as records or a model, rather than only names."""
    probes = given["probes"]
    sources = [value for name, value in given.items() if name != "probes"]
    sources += probes.values() if isinstance(probes, dict) else (
        probes if isinstance(probes, list) else [probes])
    return not all(isinstance(source, str | Path | None) for source in sources)


def absolute(given):
    """Make the paths in arguments absolute, for a process in another folder."""
    if isinstance(given, dict):
        return {name: absolute(value) for name, value in given.items()}
    if isinstance(given, list):
        return [absolute(value) for value in given]
    if given is None or not os.path.exists(at_home(given)):
        return None if given is None else str(given)
    return str(at_home(given).absolute())


def questions(records: schema.RecordList, n: int | list[str]) -> list[dict]:
    """Choose the records to answer during a run: `n` of them (always the same), or given prompts.

    Raises UserError if the records are plain text, which contains no questions.
    """
    if isinstance(n, list | tuple) and all(isinstance(prompt, str) for prompt in n):
        return [{"instruction": prompt, "input": "", "output": ""} for prompt in n]
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise UserError(f"sample is {n!r:.60}; expected a whole number of at least 0, or a list of "
                        "prompts")
    if n and records.kind == "text":
        raise UserError(f"sample is {n}, but {records.name} has text records, which ask no "
                        "questions. Leave sample out, or pass validation records with an "
                        "instruction.")
    return list(some(records, n)) if n else []
