"""Before a run, under a real memory limit: what does not fit is refused with a change that runs,
what fits runs.

One process takes all configurations, each with FREE bytes free, in turn under `ulimit -d` and
`ulimit -v`; it reports a line of JSON for each.
"""

import contextlib
import gc
import json
import os
import random
import subprocess
import sys

import psutil
import pytest
from helpers import others_later

FREE = 600 * 2**20
TOO_BIG = [
    {"batch_size": 14}, {"batch_size": 14, "precision": "fp32"},
    {"batch_size": 14, "precision": "pure-bf16"}, {"batch_size": 14, "precision": "fp16"},
    {"batch_size": 14, "optim": "adamw_bnb_8bit"},
    {"batch_size": 14, "optim": "adafactor", "precision": "fp32"},
    {"batch_size": 56, "gradient_checkpointing": True},
    {"batch_size": 46, "max_length": 200}, {"batch_size": 22, "method": "lora"},
    {"batch_size": 14, "l2_sp": 0.01},
    {"batch_size": 18, "method": "lora", "target_modules": "q_proj,v_proj"},
    {"batch_size": 12, "method": "lora", "use_dora": True},
    {"batch_size": 15, "method": "lora", "optim": "adamw_bnb_8bit", "packing": True},
    {"batch_size": 14, "method": "qlora"},
    {"batch_size": 15, "method": "qlora", "precision": "pure-bf16"},
    {"batch_size": 14, "method": "qlora", "load_in_8bit": True},
]
FITTING = [
    {"batch_size": 2, "precision": "fp32"}, {"batch_size": 2},
    {"batch_size": 2, "precision": "fp32", "gradient_accumulation_steps": 2},
    {"batch_size": 1, "precision": "pure-bf16"}, {"batch_size": 1, "precision": "fp16"},
    {"batch_size": 2, "optim": "sgd"}, {"batch_size": 1, "optim": "adamw_bnb_8bit"},
    {"batch_size": 1, "optim": "adafactor", "precision": "fp32"},
    {"batch_size": 4, "gradient_checkpointing": True, "precision": "fp32"},
    {"batch_size": 8, "max_length": 64}, {"batch_size": 1, "early_stopping_patience": 1},
    {"batch_size": 2, "method": "lora"}, {"batch_size": 2, "method": "lora", "precision": "fp32"},
    {"batch_size": 1, "method": "lora", "r": 64}, {"batch_size": 2, "method": "lora",
                                                   "target_modules": "q_proj,v_proj"},
    {"batch_size": 4, "method": "lora", "gradient_checkpointing": True},
    {"batch_size": 1, "method": "qlora"}, {"batch_size": 2, "method": "qlora", "precision": "fp32"},
    {"batch_size": 1, "method": "qlora", "precision": "pure-bf16", "max_length": 128},
    {"batch_size": 1, "method": "qlora", "load_in_8bit": True},
]
UNCHECKED = [0, 8]  # of TOO_BIG, run with the check turned off

# `make test` takes each method that is too big once, and two runs that fit; the rest of the tables,
# two minutes, is part of `make test-all`.
OFTEN = {"too big": {3, 8, 13}, "fitting": {0, 16}, "unchecked": {8}}


def child(asked: dict[str, list[int]]):
    """What the process does with the configurations asked for, {which: numbers}; a line is
    [which, number, bytes too many, sentence, change, steps]."""
    import resource

    from ftkit.base import machine

    # As under `ulimit -d` from the start, before torch is loaded.
    limits = [(resource.RLIMIT_DATA, "data"), (resource.RLIMIT_AS, "vms")]
    most = {kind: resource.getrlimit(kind)[1] for kind, _ in limits}
    resource.setrlimit(resource.RLIMIT_DATA, (2**30, most[resource.RLIMIT_DATA]))
    machine.setup()
    import bitsandbytes  # noqa: F401

    from ftkit.experiment import experiment
    from ftkit.memory_use import preflight

    draw = random.Random(0)

    def text(n):
        return " ".join(draw.choices("the red cow had a small box and looked for a tree".split(),
                                     k=n))

    records = [{"instruction": text(20), "output": text(520)} for _ in range(60)]
    lab = experiment.Experiment("tiny", records, val=records[:1], probes=())

    def limit(number):
        """FREE bytes are left from here on."""
        for kind, _ in limits:
            resource.setrlimit(kind, (most[kind], most[kind]))
        gc.collect()
        kind, size = limits[number % 2]
        used = getattr(psutil.Process().memory_info(), size)
        resource.setrlimit(kind, (used + FREE, most[kind]))

    def take(fields):
        return len(lab.run(live=False, max_steps=1, **fields).rows)

    def tell(*line):
        print(json.dumps(line), file=sys.__stdout__, flush=True)

    take({"method": "qlora", "batch_size": 1, "precision": "fp32"})  # loads all libraries
    gc.freeze()  # of which no later collection frees anything
    for which, configs in (("too big", TOO_BIG), ("fitting", FITTING)):
        for number in asked.get(which, []):
            fields = configs[number]
            limit(number)
            over, said, change, steps = 0, "", {}, 0
            try:
                steps = take(fields)
            except preflight.TooBig as refused:
                said, change = str(refused), refused.change
                over = refused.needed - refused.free
            except (RuntimeError, MemoryError) as error:
                said = f"it ended in the middle: {error}"
            if change:
                try:
                    steps = take(fields | change)
                except (RuntimeError, MemoryError, ValueError) as error:
                    said += f" -- but that ended with: {error}"
            tell(which, number, over, said, change, steps)
    os.environ["FTKIT_PREFLIGHT"] = "0"
    for number in asked.get("unchecked", []):
        limit(number)
        try:
            steps, said = take(TOO_BIG[number]), ""
        except (RuntimeError, MemoryError) as error:
            steps, said = 0, str(error)
        tell("unchecked", number, 0, said, {}, steps)


@pytest.fixture(scope="module")
def told(request):
    """{(which, number): (bytes too many, sentence, change, steps)} of the tests that were asked
    for."""
    import torch  # not in the child, which has its limit before torch is there

    if sys.platform != "linux" or torch.cuda.is_available():
        pytest.skip("limits the memory of a process on CPU, which Linux can do")
    asked = {}
    for item in request.session.items:
        which = next((mark.args[0] for mark in item.iter_markers("measures")), None)
        if which:
            asked.setdefault(which, []).append(item.callspec.params["number"])
    done = subprocess.run([sys.executable, __file__, json.dumps(asked)], capture_output=True,
                          text=True, timeout=1800, env=os.environ | {
                              "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)})
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-3000:])
    return {(which, number): rest for which, number, *rest in lines}


@pytest.mark.measures("too big")
@pytest.mark.parametrize("number", others_later(range(len(TOO_BIG)), OFTEN["too big"]))
def test_what_needs_more_than_is_free_is_refused_and_the_change_runs(told, number):
    over, said, change, steps = told["too big", number]
    assert over > 0, f"{TOO_BIG[number]} was not refused, or for no good reason: {said}"
    assert "are free; with " in said and all(f"{k}={v}" in said for k, v in change.items())
    assert change and steps == 1, said


@pytest.mark.measures("fitting")
@pytest.mark.parametrize("number", others_later(range(len(FITTING)), OFTEN["fitting"]))
def test_what_fits_runs(told, number):
    _, said, _, steps = told["fitting", number]
    assert not said and steps == 1, f"{FITTING[number]}: {said}"


@pytest.mark.measures("unchecked")
@pytest.mark.parametrize("number", others_later(UNCHECKED, OFTEN["unchecked"]))
def test_without_the_check_it_would_have_ended_in_the_middle(told, number):
    _, said, _, steps = told["unchecked", number]
    assert steps == 0 and said


@pytest.fixture
def lab():
    from ftkit.experiment.experiment import Experiment

    return Experiment("tiny", "translation", probes=())


def test_the_forecast_of_the_panel_says_what_does_not_fit(lab, monkeypatch):
    from ftkit.base import free_memory, machine
    from ftkit.base.config import Config
    from ftkit.experiment.forecast import Forecast

    # a batch of 61 records has one part only, so that the search is short
    known, big, small = Forecast(lab), Config(batch_size=61), Config(batch_size=8)
    known.load()
    assert known.memory(big) is None
    monkeypatch.setattr(machine, "device", lambda: "cpu")
    monkeypatch.setattr(free_memory, "available", lambda: 300 * 2**20)
    known.estimate_memory(big)
    assert "this run needs about" in known.memory(big).refused and known.memory(big).bytes > 0
    monkeypatch.setattr(free_memory, "available", lambda: 16 * 2**30)
    known.estimate_memory(small)
    assert known.memory(small).refused == "" and known.memory(small).bytes > 0


def test_counted_tokens_spare_the_simulation_and_stay_above_it(lab, monkeypatch):
    from ftkit.base import free_memory, machine
    from ftkit.base.config import Config
    from ftkit.memory_use import preflight, simulate

    monkeypatch.setattr(machine, "device", lambda: "cpu")
    facts = preflight.ModelFacts.of("tiny")
    for fields in ({}, {"method": "lora"}, {"precision": "bf16", "gradient_checkpointing": True}):
        config = facts.resolve(Config(**{"precision": "fp32", "batch_size": 64} | fields))
        search = preflight.FitSearch(lab, facts, "cpu", 0)
        simulated = search.required_bytes(config)
        counted = search.upper_bound(config)
        assert simulated < counted
        free = 1 + preflight._with_overhead(counted, "cpu")
        monkeypatch.setattr(free_memory, "available", lambda free=free: free)
        with monkeypatch.context() as patched:
            patched.setattr(simulate, "trace", lambda *a, **k: pytest.fail("simulated"))
            assert preflight.check(lab, config, facts) == round(counted)


PREFERRED = {"batch_size": 12, "max_steps": 1, "learning_rate": 1e-4}
OBJECTIVES = [("DPO", {}), ("DPO", {"precision": "bf16"}), ("DPO", {"method": "lora"}),
              ("GRPO", {"max_completion_length": 12}),
              ("GRPO", {"max_completion_length": 12, "beta": 0.1, "precision": "bf16"})]


def preferring(which):
    from ftkit.data import schema
    from ftkit.experiment import preferences

    if which == "DPO":
        return preferences.DPO(data=schema.records("preferences")[:12], probes=())
    return preferences.GRPO(preferences.exact, data=schema.records("to_past")[:12], probes=())


@pytest.mark.parametrize("which,fields", OBJECTIVES)
def test_a_step_of_preferences_takes_what_was_predicted(which, fields, monkeypatch):
    """Against a real step on all records there are, whose storages are counted."""
    import torch

    from ftkit.engine import loop, packed_batch
    from ftkit.experiment import preferences
    from ftkit.memory_use import preflight, simulate

    monkeypatch.setattr(
        preferences.packed_batch,
        "pack",  # as on a GPU: no token is shared
        lambda *a, pack=packed_batch.pack, **k: pack(*a, **k | {"share": False}),
    )
    # drawn answers as long as they may be, and different
    monkeypatch.setattr(preferences.generation, "generate",
                        lambda model, prompts, longest, *a, **k: [
        [5 + i % 7] * longest for i in range(len(prompts))])
    lab = preferring(which)
    lab.reward = lambda answer, record: len(answer) % 3
    config = lab.CONFIG(**{"precision": "fp32"} | PREFERRED | fields)
    found = preflight.ModelFacts.of(lab.model)
    asked = found.resolve(config)
    search = preflight.FitSearch(lab, found, "cpu", 0)
    predicted = search.required_bytes(asked) - found.kept_copy
    happened, prepared = lab.begin(config)
    update = loop.Update(happened.model.train(), happened.config)
    if which == "DPO":
        prepared.train.reference = torch.zeros(2, 12)
    add_gradients = lab.gradients(happened, prepared, update.scaler)
    simulate.fill_state(update)
    meter = simulate.watch(update, [])
    before = simulate.Meter(happened.model).total
    with meter:
        add_gradients()
        update.apply(1e-4)
    kept = before * bool(getattr(config, "beta", 0) and which == "GRPO")
    assert predicted == pytest.approx(meter.peak + kept, rel=0.04)
    assert search.upper_bound(asked) - found.kept_copy > predicted


@pytest.mark.parametrize("which", ["DPO", "GRPO"])
def test_preferences_that_do_not_fit_are_refused_before_the_model_is_loaded(which, monkeypatch):
    from ftkit.base import free_memory, machine
    from ftkit.memory_use import preflight

    lab = preferring(which)
    monkeypatch.setattr(machine, "device", lambda: "cpu")
    monkeypatch.setattr(free_memory, "available", lambda: 480 * 2**20)
    monkeypatch.setattr(lab, "fresh_model", lambda config: pytest.fail("loaded"))
    with pytest.raises(preflight.TooBig, match="are free; with batch_size=") as refused:
        lab.run(batch_size=61, precision="fp32")
    config = lab.CONFIG(batch_size=61, precision="fp32").but(**refused.value.change)
    facts = lab.model_facts()
    assert preflight.check(lab, facts.resolve(config), facts) <= 480 * 2**20


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        child(json.loads(sys.argv[1]))
