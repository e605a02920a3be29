"""`ftkit plan` says what it costs, measures what it advises, and continues after an interrupt."""

import json
import math
import shlex

import pytest
from helpers import numbers

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.cli import options
from ftkit.experiment import plan, store
from ftkit.experiment.experiment import Experiment

FAST = {"method": "lora", "max_steps": 2, "batch_size": 4, "precision": "fp32", "r": 2}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "my data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in numbers(60)))
    return path


def test_the_command_says_its_cost_first_and_trains_nothing_twice(ftkit, data, home):
    words = ("plan", data, "--max-steps", "2", "--batch-size", "4", "--precision", "fp32",
             "--gpu", "24GB")
    status, out, err = ftkit(*words, "--json")
    assert status == 0, err
    assert "at most 29 runs of 2 steps" in " ".join(err.split())
    found, runs = json.loads(out), len(store.ids())
    assert found["measure"] == "exact match" and len(found["records"]["curve"]) == 3
    rate = found["learning_rate"]
    assert rate["low"] <= rate["value"] <= rate["high"] and len(rate["losses"]) >= 7
    assert found["rank"]["value"] in (2, 8, 32)
    assert "Fits on 24GB" in found["memory"] and found["audit"]["rows"] == 60
    command = shlex.split(found["command"])
    args = options.parse(command[1:])  # what it says to type is understood
    config = options.config(args)
    assert (args.data, config.method, config.r) == (str(data), "lora", found["rank"]["value"])
    assert config.learning_rate == rate["value"]
    status, out, _ = ftkit(*words)
    assert status == 0 and len(store.ids()) == runs, "the second call trained again"
    text = " ".join(out.split())
    assert "would buy" in text and "not clearly worse" in text and "To start it: `ftkit run" in text


def test_an_interrupt_says_that_the_same_command_continues(ftkit, data, home, monkeypatch):
    whole, calls = Experiment.sweep, []

    def cut(lab, *args, **more):
        calls.append(more)
        return whole(lab, *args, **more)[:-1] if len(calls) == 2 else whole(lab, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "sweep", cut)
        status, _, err = ftkit("plan", data, "--max-steps", "1", "--r", "2", "--learning-rate",
                               "1e-3", "--batch-size", "4")
    assert status == 130 and "the same command continues" in " ".join(err.split())
    assert all(more["resume"] for more in calls) and store.ids()


def test_it_advises_against_a_fine_tune_that_a_prompt_equals(data, home):
    result = plan.plan(str(data), ft.Config(learning_rate=1e-9, **FAST))
    assert result["verdict"]["advice"] == "do not fine-tune" and result["rank"] is None
    assert plan.text(result).startswith("Do not fine-tune: a prompt does as well")


def test_long_answers_are_judged_by_their_loss_and_a_text_needs_no_prompt(tmp_path, home):
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"text": f"The {i}th line of a long text. " * 4}) + "\n"
                            for i in range(60)))
    result = plan.plan(str(path), ft.Config(learning_rate=1e-2, **FAST | {"max_steps": 8}))
    assert result["measure"] == "loss" and result["baseline"]["with_examples"] is None
    assert result["verdict"]["advice"] == "fine-tune"
    assert result["verdict"]["gain"] == pytest.approx(
        result["baseline"]["value"] - result["tuned"]["value"])


def test_a_file_that_cannot_be_planned_names_the_next_step(tmp_path, data, home):
    few = tmp_path / "few.jsonl"
    few.write_text("".join(json.dumps(record) + "\n" for record in numbers(12)))
    with pytest.raises(UserError, match="at least 24.*in the prompt"):
        plan.plan(str(few), ft.Config(**FAST))
    with data.open("a") as file:
        file.write('{"instruction": "a", "output": ""}\n')
    with pytest.raises(UserError, match=r"1 rows.*`ftkit convert '.*my data.jsonl' NEW.jsonl.*--s"):
        plan.plan(str(data), ft.Config(**FAST))
    assert not store.ids()


def test_the_choice_has_an_interval_that_the_noise_of_the_seeds_gives():
    losses = {1: [2.0], 2: [1.02, 1.0, 1.01], 4: [0.99, 1.01, 1.0], 8: [1.01], 16: [3.0]}
    found = plan._choose(losses)
    assert (found["value"], found["low"], found["high"]) == (4, 2, 8)
    with pytest.raises(UserError, match="every run diverged"):
        plan._choose({1: [math.inf] * 3, 2: [math.inf] * 3})


@pytest.mark.parametrize("baseline, value, advice", [
    (0.1, 0.9, "fine-tune"), (0.9, 0.9, "do not fine-tune"), (0.95, 0.8, "do not fine-tune"),
    (0.8, 0.85, "cannot tell")])
def test_the_advice_counts_the_noise_of_40_answers(baseline, value, advice):
    tuned = {"value": value, "margin": 0.01}
    assert plan._verdict(baseline, tuned, "exact match", 40)["advice"] == advice
    assert plan._verdict(1.0, {"value": 0.9, "margin": 0.05}, "loss", 40)["advice"] == "fine-tune"
