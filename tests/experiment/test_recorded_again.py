"""Recorded runs are found again: the first steps on SmolLM2, their config and the hash of their
data; and a changed learning rate, data file or mask is not taken for the recorded run."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
from helpers import ROOT

from ftkit.data import encoding
from ftkit.experiment.experiment import Experiment
from ftkit.experiment.run import plain

pytestmark = [pytest.mark.smollm2, pytest.mark.slow]

STEPS = 3
FP32 = 1e-3  # nats; 4e-6 between two processors at the first step, more where a step moved far
BF16 = 0.02  # of the loss of the first step, by which bf16 may differ from fp32; later steps start
# from other weights: an update of less than half a step of the bf16 grid is not seen by a product
FOLLOWS = ("base_dtype",)  # what the precision decides where nobody asked for it


def chosen(at_least: int = 6) -> list[tuple[str, int]]:
    """(file, place of a run in it): of each experiment a run that no other file has, and another
    one until there are enough."""
    folder, seen, found = ROOT / "data_samples" / "recorded", set(), []
    files = {path.stem: json.loads(path.read_text("utf-8"))["runs"]
             for path in sorted(folder.glob("*.json"))}
    while len(found) < at_least:
        before = len(found)
        for name, runs in files.items():
            place = next((i for i, run in enumerate(runs) if "in_fp32" in run
                          and run["key"] not in seen and run["model"] == "smollm2"
                          and "beta" not in run["config"]), None)
            if place is not None:
                seen.add(runs[place]["key"])
                found.append((name, place))
        if len(found) == before:
            break
    return found


@pytest.fixture(scope="module")
def maker(smollm2_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTKIT_HOME", str(smollm2_home))
        patch.syspath_prepend(str(ROOT / "data_samples" / "recipe"))
        yield importlib.import_module("recorded")
    for name in ("recorded", "plans"):
        sys.modules.pop(name, None)


def stored(name: str, place: int) -> dict:
    path = ROOT / "data_samples" / "recorded" / f"{name}.json"
    return json.loads(path.read_text("utf-8"))["runs"][place]


def differences(maker, saved: dict, experiment, config, steps=STEPS) -> list[str]:
    """What of a recorded run is not found again by this experiment and config."""
    found, replays = [], bool(config.replay)
    now = maker.kept_fixed(plain(experiment.fixed_settings()), replays)
    if now != maker.kept_fixed(saved["data"]["held_still"], replays):
        found.append("data")
    run, rows = maker.first_steps(experiment, config, steps)
    resolved = plain(run.config.to_dict()) | {"precision": config.precision}
    recorded = {k: v for k, v in saved["config"].items() if k not in FOLLOWS}
    if any(resolved[field] != value for field, value in recorded.items()):  # it may have got new
        found.append("config")
    if run.data["sha256"] != saved["data"]["sha256"]:
        found.append("data file")
    for row, was, in_bf16 in zip(rows, saved["in_fp32"], saved["history"], strict=False):
        off = abs(row["loss"] - was["loss"]) > FP32 * max(1, was["loss"])
        if off or (was["step"] == 1 and abs(in_bf16["loss"] / was["loss"] - 1) > BF16):
            found.append(f"loss of step {was['step']}")
        if abs(row["grad_norm"] / was["grad_norm"] - 1) > 0.01:
            found.append(f"gradient norm of step {was['step']}")
        if abs(row["learning_rate"] / in_bf16["learning_rate"] - 1) > 1e-4:
            found.append(f"learning rate of step {was['step']}")
    return found


@pytest.mark.parametrize("name, place", chosen(), ids=lambda given: str(given))
def test_the_first_steps_of_a_recorded_run_are_found_again(maker, name, place):
    saved, plan = stored(name, place), maker.PLANS[name]
    experiment = maker.experiment_of(plan, saved["arm"], saved["seed"])
    config = maker.config_of(plan, saved["arm"], saved["seed"])
    assert maker.key_of(name, saved["arm"], saved["seed"], experiment) == saved["key"]
    assert differences(maker, saved, experiment, config) == []


class WholeRecords(Experiment):
    """The same with another mask: the question is trained on too."""

    def encode(self, tokenizer, config):
        prepared = super().encode(tokenizer, config)
        examples = [e | {"labels": [-100, *e["input_ids"][1:]]} for e in prepared.units.examples]
        prepared.units = encoding.Units(examples)
        return prepared


@pytest.mark.parametrize("change, told", [
    ("learning rate", {"config", "learning rate of step 1"}), ("data file", {"data", "data file"}),
    ("mask", {"loss of step 1"})])
def test_a_change_is_noticed(maker, change, told):
    name, place = chosen()[0]
    saved, plan = stored(name, place), maker.PLANS[name]
    arm, seed = saved["arm"], saved["seed"]
    experiment, config = maker.experiment_of(plan, arm, seed), maker.config_of(plan, arm, seed)
    if change == "learning rate":
        config = config.but(learning_rate=config.learning_rate * 1.1)
    if change == "data file":
        records = [dict(record) for record in experiment.train]
        records[7]["output"] = "another answer"
        experiment.train = type(experiment)(model="tiny", data=records, val=records).train
    if change == "mask":
        experiment.__class__ = WholeRecords
    assert told <= set(differences(maker, saved, experiment, config, steps=1))
