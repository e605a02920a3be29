"""Models of older runs rest on disk, and come back with the weights that they had."""

import copy
import dataclasses
import gc
import weakref

import pytest

import ftkit as ft
from ftkit.data import encoding
from ftkit.experiment import shelf
from ftkit.experiment.run import Run

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def own_home(home, monkeypatch):
    monkeypatch.setattr(shelf, "_kept", [])


def a_run(seed=0, model=None):
    torch.manual_seed(seed)
    model = torch.nn.Linear(1000, 250) if model is None else model  # 1 MB
    return Run(id=str(seed), config=ft.Config(seed=seed), model_name="m", data={"name": "d"},
               after={"val_loss": 1.0}, model=model)


def in_memory(runs):
    return [run.__dict__["_held"].model is not None for run in runs]


def test_the_models_used_last_stay_and_the_others_come_back_unchanged(monkeypatch):
    monkeypatch.setattr(shelf, "KEEP_BYTES", 2.5e6)
    runs = [a_run(seed) for seed in range(4)]
    gone = weakref.ref(runs[2].model)  # asked for, so it is the one used last
    assert in_memory(runs) == [False, False, True, True]
    torch.manual_seed(1)
    wanted = torch.nn.Linear(1000, 250).weight
    assert torch.equal(runs[1].model.weight, wanted)
    assert torch.equal(runs[0].model.weight, a_run(0).model.weight)
    assert torch.equal(copy.deepcopy(runs[1]).model.weight, wanted)
    gc.collect()
    assert gone() is None and in_memory(runs)[2:] == [False, False]


def test_a_model_in_training_stays_in_memory(monkeypatch):
    monkeypatch.setattr(shelf, "KEEP_BYTES", 0)
    training = [dataclasses.replace(a_run(), after={}) for _ in range(2)]
    a_run(3)
    assert [run.model for run in training] and in_memory(training) == [True, True]
    shelf.finished(training[0])
    shelf.finished(training[1])
    assert in_memory(training) == [False, True]


def test_a_model_that_somebody_else_still_has_is_not_doubled(monkeypatch):
    monkeypatch.setattr(shelf, "KEEP_BYTES", 0)
    run = a_run()
    model = run.model
    other = a_run(1)
    assert in_memory([run, other]) == [False, True]
    with torch.no_grad():
        model.weight.zero_()
    assert run.model is model


def test_a_model_that_cannot_be_written_stays(monkeypatch):
    monkeypatch.setattr(shelf, "KEEP_BYTES", 0)
    model = torch.nn.Linear(2, 2)
    model.hook = lambda: None  # is not pickled
    runs = [a_run(model=model), a_run(1)]
    assert in_memory(runs) == [True, True] and runs[0].model is model


def test_runs_without_a_model_and_other_objects_are_as_before(monkeypatch):
    assert a_run(model="stand-in").model == "stand-in"
    run = a_run()
    run.model = None
    assert run.model is None and Run.from_dict(run.to_dict()).model is None
    assert copy.copy(a_run(model="x")).model == "x" and "model" not in repr(run).split("Run(")[0]


def test_a_tuned_model_answers_the_same_after_its_rest(monkeypatch):
    monkeypatch.setattr(shelf, "KEEP_BYTES", 0)
    lab = ft.Experiment(data=ft.records("tasks")[:8], val=ft.records("tasks")[8:12], probes=())
    short = ft.Config(max_steps=1, batch_size=2, eval_steps=1, precision="fp32")
    full, lora, last = lab.run(short), lab.run(short, method="lora"), lab.run(short, seed=1)
    gc.collect()
    assert in_memory([full, lora, last]) == [False, False, True]
    for run in (full, lora):
        examples = encoding.encode_all(ft.records("tasks")[8:12], run.tokenizer).examples
        assert ft.loss_on(run.model, examples) == pytest.approx(run.after["val_loss"], rel=1e-3)
