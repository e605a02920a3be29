"""Export a run as a folder that trains without ftkit: model, token ids, and a plan of the steps.

    write(lab, config, "my-run", copy_model=True)

The folder has `settings.json`, `steps.jsonl` (learning rate and batches of each step, as indexes
of rows), `data/train.jsonl` (token ids and labels, a row each), `data/NAME_loss.jsonl` for each
evaluation, `model/`, and `adapter/` unless the method is full. A script that reads it repeats the
run; `distributed.launch` and `notebook.to_script` add theirs.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from ftkit.base import machine, quiet
from ftkit.base.config import Config
from ftkit.engine import loop
from ftkit.memory_use import preflight
from ftkit.model import loading, rounding
from ftkit.model.random_state import RandomState


class Written(NamedTuple):
    """The result of `write`. config: with defaults filled in, as a run stores it. about: the
    run's `Run.data`. trainable, total: numbers of parameters. model: path or hub id; "model" if it
    is in the folder. steps: optimizer steps of the plan."""

    config: Config
    about: dict
    trainable: int
    total: int
    model: str
    steps: int


def write(lab, config: Config, folder: Path, copy_model: bool, ranks: int | None = None) -> Written:
    """Write an Experiment and a Config to `folder`.

    copy_model: copy a model that is a folder on this machine; otherwise settings.json has its
    path. ranks: stored for the script, which refuses another number.
    """

    # An adapter starts the same over quantized weights, which need a GPU to be loaded.
    loadable = config if config.method != "qlora" else config.but(method="lora", load_in_8bit=False)
    model, tokenizer = lab.fresh_model(loadable)
    config = preflight.ModelFacts.of_loaded(model).resolve(config)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    where = loading.locate(lab.model) if isinstance(lab.model, str) else None
    if where is None:
        loading.save(model, tokenizer, folder / "model")
    elif copy_model and Path(where).is_dir():
        shutil.copytree(where, folder / "model", ignore=shutil.ignore_patterns("SHA256", "*.gguf"))
        where = None
    with RandomState(config.seed):
        prepared = lab.encode(tokenizer, config)
        model = loading.adapt(model, config)
    rounding.rounding_note(model, config)
    if config.method != "full":
        with quiet.no_progress_bars():
            model.save_pretrained(folder / "adapter")
    places, rows = [], []
    for unit in prepared.units:  # a packed row is several examples that do not see each other
        places.append(range(len(rows), len(rows) + len(unit)))
        rows += unit
    total = machine.steps_in_tier(loop.steps_in(config, len(places)))
    order = loop.shuffled(len(places), config.batch_size, config.seed)
    peak = config.learning_rate or 0.0  # not None, as the Config is resolved
    plan = [{"learning_rate": peak * loop.schedule(step, total, config),
             "batches": [[row for unit in next(order) for row in places[unit]]
                         for _ in range(config.gradient_accumulation_steps)]}
            for step in range(1, total + 1)]
    settings = {"model": where, "ranks": ranks, "config": str(config), "seed": config.seed,
                "precision": config.precision, "base_dtype": config.base_dtype,
                "decay": config.weight_decay,
                "accumulation": config.gradient_accumulation_steps,
                "max_grad_norm": config.max_grad_norm,
                "gradient_checkpointing": config.gradient_checkpointing,
                "eval_steps": config.eval_steps or max(1, total // 10)}
    (folder / "settings.json").write_text(json.dumps(settings, indent=1), "utf-8")
    _write_lines(folder / "steps.jsonl", plan)
    _write_lines(folder / "data" / "train.jsonl", rows)
    for name, examples in prepared.evaluations.items():
        _write_lines(folder / "data" / f"{name}.jsonl", examples)
    return Written(config, prepared.about, *loading.count(model), where or "model", total)


def _write_lines(path: Path, rows: list[dict]):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
