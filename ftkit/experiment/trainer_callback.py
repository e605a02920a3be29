"""`LiveCallback`: ftkit's live figure for training with transformers' Trainer or TRL.

    trainer = SFTTrainer(..., callbacks=[ft.LiveCallback()]); trainer.train()
"""

import contextlib
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ftkit.base import formatting, machine
from ftkit.base.config import SCHEDULES, Config
from ftkit.base.config_fields import parameters_of
from ftkit.base.errors import UserError
from ftkit.base.run_end import End
from ftkit.experiment import store
from ftkit.experiment.run import TRAINERS_DATA, Run
from ftkit.experiment.store import Writer
from ftkit.model import loading
from ftkit.report.live import Live, final_picture

# Name in the logs of Trainer and TRL → column in our rows.
COLUMN_OF = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate",
             "epoch": "epoch", "num_tokens": "tokens", "num_input_tokens_seen": "tokens",
             "mean_token_accuracy": "accuracy", "entropy": "entropy"}


class LiveCallback(TrainerCallback):
    """Draws loss, evaluation losses and learning rate from the logs of a Trainer.

    In a notebook the figure grows in the cell that called `train()`. Elsewhere, `curves.png` and
    its description `curves.txt` are written to `out`, by default `args.output_dir`, at the end.
    There is a point every `logging_steps`; its loss is Trainer's mean over these steps, and
    `eval_loss` (here val_loss) is Trainer's mean of batch means.
    `.run` is the training as a Run, for `ft.curves` and `ft.table`. store: keep it like the runs of
    an Experiment, even if the training is killed; `ftkit runs` lists it. Drawing takes at most 5 %
    of the time and never stops the training.
    """

    def __init__(self, title: str = "", out: str | Path | None = None, store: bool = True):
        self.title, self.out, self.store = title, out, store
        self.writer: Writer | None = None
        self.live: Live | None = None  # while it trains
        self.run: Run | None = None

    def on_train_begin(self, args, state, control, model: Any = None, processing_class=None,
                       **others):
        if not state.is_world_process_zero:
            return
        self.began = time.perf_counter()
        self.run = Run(
            id=store.new_id(), config=_config(args, state), data={"name": TRAINERS_DATA},
            model_name=Path(getattr(model.config, "_name_or_path", "") or "model").name,
            total_steps=state.max_steps, model=model, tokenizer=processing_class,
            machine=machine.describe(), versions=machine.versions())
        self.run.trainable_parameters, self.run.total_parameters = loading.count(model)
        self.writer = Writer(self.run, self.store)
        self.live = Live(state.max_steps, self.title)

    def on_log(self, args, state, control, logs=None, **others):
        row = _row(logs or {})
        if self.run is None or not row:
            return
        if state.global_step == 0:  # an evaluation before the first step
            self.run.before |= {k: v for k, v in row.items() if k.endswith("_loss")}
        row |= {"step": state.global_step, "seconds": time.perf_counter() - self.began}
        if self.run.rows and self.run.rows[-1]["step"] == row["step"]:
            self.run.rows[-1] |= row
        elif row["step"]:
            self._store_last_row()  # it is complete now
            self.run.rows.append(row)
        if self.live:
            self.live.add(row)
            self.live.row = self.run.rows[-1] if self.run.rows else row
            self.live.paint_if_due()

    def on_train_end(self, args, state, control, **others):
        run, live = self.run, self.live
        if run is None or live is None:
            return
        run.seconds = time.perf_counter() - self.began
        for row in run.rows:
            run.after |= {k: v for k, v in row.items() if k.endswith("_loss")}
            run.tokens = int(row.get("tokens", run.tokens))
        run.end = End.FINISHED
        if state.global_step < state.max_steps:
            run.end = End.ENDED_EARLY
            run.stopped = f"ended after step {state.global_step} of {state.max_steps}"
        self._store_last_row()
        if self.writer is not None:
            self.writer.finish()
        live.finish(run)
        if live.show is None and not machine.in_notebook():
            live.safely(lambda: self._save_curves(run, Path(self.out or args.output_dir)))
        self.live = None  # what `trainer.evaluate()` logs later must not draw over the end

    def _store_last_row(self):
        if self.writer is not None and self.run is not None and self.run.rows:
            self.writer.row(self.run.rows[-1])

    def _save_curves(self, run: Run, folder: Path):
        picture = final_picture(run, formatting.clean(self.title))
        folder.mkdir(parents=True, exist_ok=True)
        picture.savefig(folder / "curves.png", dpi=144)
        (folder / "curves.txt").write_text(picture.text + "\n", encoding="utf-8")


def _row(logs: dict) -> dict:
    """Convert a Trainer log to a Run's row; its totals at the end become an empty row."""
    row = {column: formatting.to_float(logs[key])
           for key, column in COLUMN_OF.items() if key in logs}
    for key, value in logs.items():  # eval_loss, and eval_<name>_loss for several data sets
        if key == "eval_loss":
            row["val_loss"] = formatting.to_float(value)
        elif key.startswith("eval_") and key.endswith("_loss"):
            row[key.removeprefix("eval_")] = formatting.to_float(value)
    return row if row.keys() - {"epoch"} else {}


def _config(args, state) -> Config:
    schedule = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
    given = getattr(args, "lr_scheduler_kwargs", None) or {}
    asked = {name: getattr(args, parameter)
             for name, parameter in parameters_of(Config, "TrainingArguments").items()} | {
        "max_steps": max(1, state.max_steps), "num_decay_steps": given.get("num_decay_steps"),
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "lr_scheduler_type": schedule if schedule in SCHEDULES else "constant",
        "optim": getattr(args.optim, "value", args.optim),
        "max_grad_norm": args.max_grad_norm or 0.0}
    del asked["epochs"]  # max_steps overrides it
    config = Config()
    for name, value in asked.items():
        with contextlib.suppress(UserError):  # a value that only transformers knows
            config = config.but(**{name: value})
    return config
