"""The state of a run between two steps, on disk, so that it can continue after an interrupt.

    home()/runs/<id>/checkpoint-<step>/state.safetensors    trained weights, optimizer, random state
                                       state.json           everything else
    home()/runs/<id>/source.json                            the experiment, if it consists of names

A checkpoint replaces the previous one only when it is complete on disk, so there is always a
complete one, and state.json has a checksum of both files. Nothing is pickled. State that follows
from seed and step, such as the order of the records, is recomputed.
"""

import hashlib
import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from ftkit.base import files, messages
from ftkit.base.errors import UserError
from ftkit.base.formatting import gb
from ftkit.engine import loop
from ftkit.experiment import store
from ftkit.experiment.run import Row, Run, plain

LIKE_WEIGHTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "state1", "state2"}
ARGUMENTS = {"model", "data", "val", "probes", "template", "replay_from", "eval_records"}
TENSORS, FACTS, SOURCE = "state.safetensors", "state.json", "source.json"


class Checkpoints:
    """Writes the state of one run while it trains, and restores it when the run continues.

    save_steps: steps between two checkpoints; 0 writes one only on an interrupt. saved: the state
    from `latest`. resumed: whether the run continues, possibly without a checkpoint.
    seconds, nbytes: cost so far.
    """

    def __init__(self, run: Run, save_steps: int, saved: dict | None = None,
                 resumed: bool = False):
        self.run, self.save_steps, self.saved, self.resumed = run, save_steps, saved, resumed
        self.folder = store.folder_of(run.id)
        self.update: Any = None
        self.best: Any = None
        self.own: Any = None  # the RandomState of the run
        self.random: dict[str, torch.Tensor] = {}
        self.count, self.nbytes, self.seconds = 0, 0, 0.0

    def begin(self, update: loop.Update) -> loop.Start:
        """Keep the run's Update, and restore its state if the run continues."""
        self.update = update
        if self.saved is None:
            self.random = self.own.state()
            return loop.Start(save_steps=self.save_steps)
        facts, tensors = self.saved["facts"], self.saved["tensors"]
        _restore(update, facts, tensors)
        self.random = {k: tensors[k] for k in tensors if k.startswith("random.")}
        self.own.restore(self.random)
        self.saved = None
        return loop.Start(**facts["start"], save_steps=self.save_steps)

    def after(self, row: Row):
        """Handle a recorded row: keep the random state, and write a checkpoint if one is due."""
        self.random = self.own.state()
        if self.save_steps and row["step"] % self.save_steps == 0 and (
                row["step"] < self.run.total_steps):
            self.write()

    def write(self) -> bool:
        """Write a checkpoint of the last recorded step. Returns False if weights and rows belong
        to different steps (an interrupt within a step), if sampled answers have steps left, or if
        the disk is full."""
        update, rows = self.update, self.run.rows
        if update is None or not rows or update.is_stepping or update.steps != rows[-1]["step"]:
            return False
        if update.steps % getattr(self.run.config, "num_iterations", 1):
            return False
        began, step = time.perf_counter(), int(rows[-1]["step"])
        new, place = (self.folder / f"{name}{step}" for name in (".new-", "checkpoint-"))
        tensors, facts = _state(update, self.best, self.run)
        tensors |= self.random
        try:
            if place.exists() and _read(place):  # the run was interrupted right after it
                return True
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            _write_tensors(tensors, new / TENSORS)
            facts["sha256"] = _checksum(facts, new / TENSORS)
            files.write_whole(new / FACTS, json.dumps(facts))
            shutil.rmtree(place, ignore_errors=True)
            os.replace(new, place)
            for older in self.folder.glob("checkpoint-*"):
                if older != place:
                    shutil.rmtree(older, ignore_errors=True)
        except Exception as error:
            if (reason := files.why_not_written(error)) is None:
                raise
            shutil.rmtree(new, ignore_errors=True)
            self._note(f"a checkpoint could not be written ({reason})")
            return False
        self.count += 1
        self.nbytes = sum(path.stat().st_size for path in place.iterdir())
        self.seconds += time.perf_counter() - began
        return True

    def cost(self) -> str | None:
        """State size and time of the checkpoints in a sentence; None if there are none."""
        if not self.count:
            return None
        what = "a checkpoint" if self.count == 1 else f"{self.count} checkpoints"
        return (f"{what} of {gb(self.nbytes)} took {self.seconds:.1f} s, which is not "
                "part of the seconds of the run")

    def _note(self, text: str):
        if text not in self.run.notes:
            self.run.notes.append(text)


def of_run(lab, run: Run, save_steps: int | None, stored: Run | None) -> Checkpoints | None:
    """Create the Checkpoints of a run; None if it keeps none. stored: the run to continue; `run`
    gets its id, rows and measures."""
    if save_steps is None and stored is None:
        return None
    if isinstance(save_steps, bool) or not isinstance(save_steps, int) or save_steps < 0:
        raise UserError(f"save_steps is {save_steps!r}; expected a whole number of at least 0, or "
                        "None")
    if stored is None:
        return Checkpoints(run, save_steps)
    if run.total_steps != stored.total_steps:
        raise UserError(f"run {stored.id} has {stored.total_steps} steps, but it would have "
                        f"{run.total_steps} now. Set FTKIT_TIER to the value it had then.")
    run.id, saved = stored.id, latest(stored.id)
    for place in _places(run.id)[:1]:
        if saved is None or saved["place"] != place:
            run.notes.append(f"{place.name} is damaged, so the run continued from "
                             + ("its first step" if saved is None else saved["place"].name))
            messages.say(run.notes[-1])
    if saved is not None:
        facts = saved["facts"]
        run.rows = stored.rows[: facts["start"]["step"]]
        if [row.get("step") for row in run.rows] != list(range(1, facts["start"]["step"] + 1)):
            raise UserError(f"the rows of run {stored.id} are damaged, so it cannot continue. Run "
                            "it again from the start.")
        run.before = {k: math.nan if v is None else v for k, v in facts["before"].items()}
        run.samples = facts["samples"]
    return Checkpoints(run, save_steps, saved, resumed=True)


def latest(id: str) -> dict | None:
    """Load a run's newest complete checkpoint, {"place", "facts", "tensors"}; None if there is
    none."""
    return next(filter(None, map(_read, _places(id))), None)


def remove(run: Run):
    """Delete the checkpoints of a run that is stored as finished."""
    for place in _places(run.id):
        if run.is_finished and store.holds(run):
            shutil.rmtree(place, ignore_errors=True)


def _places(id: str) -> list[Path]:
    """The folders of a run's checkpoints, newest first."""
    steps = {place: place.name.rpartition("-")[2]
             for place in store.folder_of(id).glob("checkpoint-*")}
    return sorted((place for place, step in steps.items() if step.isdecimal()),
                  key=lambda place: int(steps[place]), reverse=True)


def _read(place: Path) -> dict | None:
    """Load a checkpoint; None if it is incomplete or differs from its checksum."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        facts = json.loads((place / FACTS).read_text("utf-8"))
        if facts.pop("sha256") != _checksum(facts, place / TENSORS):
            return None
        return {"place": place, "facts": facts, "tensors": load_file(place / TENSORS)}
    except (OSError, ValueError, SafetensorError, KeyError, TypeError, AttributeError,
            RecursionError):
        return None


def _checksum(facts: dict, tensors: Path) -> str:
    with open(tensors, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()


def _state(update, best, run) -> tuple[dict[str, torch.Tensor], dict]:
    """Collect everything that the next step depends on, except what follows from the Config."""
    names = {p: name for name, p in update.model.named_parameters() if p.requires_grad}
    tensors = {f"weight.{name}": p.detach() for p, name in names.items()}
    numbers: dict[str, dict] = {}
    for p, state in update.optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{names[p]}/{key}"] = value.detach()
            elif isinstance(value, int | float):
                numbers.setdefault(names[p], {})[key] = value
    if best.weights:
        tensors |= {f"best.{name}": value for name, value in best.weights.items()}
    last = run.rows[-1]
    start = {"step": int(last["step"]), "tokens": int(last.get("tokens", 0)),
             "supervised_tokens": int(last.get("supervised_tokens", 0)),
             "seconds": float(last.get("seconds", 0.0))}
    facts = {"start": start, "optimizer": numbers, "scaler": update.scaler.state_dict(),
             "before": plain(run.before), "samples": run.samples,
             "best": {"value": best.value if math.isfinite(best.value) else None,
                      "step": best.step, "worse": best.worse}}
    return tensors, facts


def _restore(update, facts: dict, tensors: dict[str, torch.Tensor]):
    with torch.no_grad():
        for name, p in update.model.named_parameters():
            if not p.requires_grad:
                continue
            if f"weight.{name}" not in tensors or tensors[f"weight.{name}"].shape != p.shape:
                raise UserError(f"the checkpoint has no {name} of shape {tuple(p.shape)}, so "
                                "another version of ftkit wrote it. Run it again from the start.")
            p.copy_(tensors[f"weight.{name}"])
            start = f"optimizer.{name}/"
            state = {key.removeprefix(start): value.to(p.device) if value.ndim else value.clone()
                     for key, value in tensors.items() if key.startswith(start)}
            state |= facts["optimizer"].get(name, {})
            for key in LIKE_WEIGHTS & state.keys():  # a fused step would read beyond its end
                if state[key].shape != p.shape:
                    raise UserError(f"{key} of {name} in the checkpoint has shape "
                                    f"{tuple(state[key].shape)}, expected {tuple(p.shape)}. Run it "
                                    "again from the start.")
            if state:
                update.optimizer.state[p] = state
    if facts["scaler"]:
        update.scaler.load_state_dict(facts["scaler"])
    update.steps = facts["start"]["step"]


def restore_best(best, saved: dict):
    """Restore the best step so far into a fresh `training.Best`."""
    facts = saved["facts"]["best"]
    best.value = math.inf if facts["value"] is None else facts["value"]
    best.step, best.worse = facts["step"], facts["worse"]
    weights = {name.removeprefix("best."): value for name, value in saved["tensors"].items()
               if name.startswith("best.")}
    best.weights = weights or None


def _write_tensors(tensors: dict[str, torch.Tensor], path: Path):
    from safetensors.torch import save_file

    seen, separate = set(), {}
    for name, value in tensors.items():
        whole = value.contiguous()
        # Parameters share the quantization map of an 8-bit optimizer; safetensors refuses that.
        separate[name] = whole.clone() if whole.data_ptr() in seen else whole
        seen.add(whole.data_ptr())
    save_file(separate, path)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


# --------------------------------------------------------------- the experiment of a stored run


def keep_source(run: Run, source: dict | None):
    """Store the arguments of the experiment, so that the command line can rebuild it."""
    if source is not None:
        try:
            files.write_whole(store.folder_of(run.id) / SOURCE, json.dumps(source))
        except OSError as error:
            run.notes.append(f"{SOURCE} could not be written ({error.strerror}), so only "
                             "lab.resume can continue this run")


def source_of(id: str, first: str = "model") -> dict:
    """Read the arguments of a stored run's Experiment; `first` is the one that its kind needs.
    Raises UserError if they are not names or files, or damaged."""
    why = "its records or its model were not files"
    try:
        source = json.loads((store.folder_of(id) / SOURCE).read_text("utf-8"))
        unknown = source.keys() - ARGUMENTS - {first}
        if not unknown and isinstance(source[first], str):
            return source
        why = f"{SOURCE} in its folder has {'unknown' if unknown else 'wrong'} arguments"
    except (ValueError, AttributeError, KeyError, RecursionError):
        why = f"{SOURCE} in its folder is damaged"
    except OSError:
        pass
    raise UserError(f"run {id} cannot be rebuilt from the command line, because {why}. In Python, "
                    f"build the same Experiment and call lab.resume({id!r}).")


def stored(id: str) -> Run:
    """Load a stored run to continue it. Raises UserError if it is finished; with a checkpoint left,
    its process ended before its weights were saved."""
    run = store.load_run(id)
    if store.has_ended(run.id) and run.is_finished and not _places(run.id):
        raise UserError(f"run {run.id} has reached its end ({run.stopped or 'all steps'}), so "
                        "there is nothing to resume")
    if run.changes:
        raise UserError(f"the learning rate of run {run.id} was changed while it trained, so it "
                        "cannot be resumed. Start a new run.")
    return run
