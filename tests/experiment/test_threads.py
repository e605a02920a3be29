"""A run in one thread gives the bits that it gives alone, whatever the other threads do, and leaves
their random numbers alone."""

import itertools
import random
import shutil
import sys
import threading

import numpy as np
import pytest
import torch

import ftkit as ft
from ftkit.base import quiet
from ftkit.experiment import preferences
from ftkit.model import cache, loading
from ftkit.notebook import background

TASKS = ft.records("tasks")[:20]
PAIRS = ft.records("preferences")[:12]
SHORT = {"max_steps": 2, "eval_steps": 1, "batch_size": 2, "precision": "fp32"}
LORA = {"method": "lora", "learning_rate": 1e-2}
DROPOUT = {**LORA, "lora_dropout": 0.3}


def sft(config, **options):
    lab = ft.Experiment(data=TASKS, val=TASKS[:4], probes=(), **options)
    return lambda seed: (lab, ft.Config(**SHORT, **config, seed=seed))


def dpo():
    lab = preferences.DPO(data=PAIRS, val=PAIRS[:4], probes=())
    return lambda seed: (lab, preferences.DPOConfig(**SHORT, **DROPOUT, seed=seed))


def grpo():
    lab = preferences.GRPO(lambda answer, record: float(len(answer)), data=TASKS, val=TASKS[:4],
                           probes=())
    return lambda seed: (lab, preferences.GRPOConfig(
        **SHORT, **LORA, num_generations=2, max_completion_length=4, seed=seed))


KINDS = {
    "full": lambda: sft({"method": "full"}),
    "LoRA": lambda: sft(LORA),
    "dropout": lambda: sft(DROPOUT),
    "dropout, recomputed": lambda: sft({**DROPOUT, "gradient_checkpointing": True}),
    "dropout, packed": lambda: sft({**DROPOUT, "packing": True, "max_length": 64}),
    "noise": lambda: sft({"method": "full", "neftune_noise_alpha": 5.0}),
    "metric": lambda: sft(DROPOUT, metrics={"drawn": lambda *_: float(torch.rand(()))}),
    "DPO": dpo,
    "GRPO": grpo,
}


def trained(kind, seed):
    lab, config = KINDS[kind]()(seed)
    return lab.run(config, live=False)


def bits(run):
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in run.rows]
    return rows, run.before, run.after, [p.detach().clone() for p in run.model.parameters()
                                         if p.requires_grad]


def same(one, other) -> bool:
    return one[:3] == other[:3] and all(map(torch.equal, one[3], other[3]))


@pytest.fixture(scope="module")
def alone():
    """(kind, seed) → the bits of this run, trained with no other thread."""
    known = {}

    def of(kind, seed=0):
        if (kind, seed) not in known:
            known[kind, seed] = bits(trained(kind, seed))
        return known[kind, seed]

    return of


@pytest.fixture(autouse=True)
def often_switched():
    """Python switches between threads more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def both(*kinds_and_seeds):
    """The bits of two runs that train at once, each in a thread of its own."""
    start, made = threading.Barrier(2), [(), ()]

    def work(i):
        start.wait()
        made[i] = bits(trained(*kinds_and_seeds[2 * i : 2 * i + 2]))

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made


# ------------------------------------------------------------------- what the main thread does


def repeatedly(seed, draw, still):
    """Draw while `still()`, and again as often with nothing else going on: equal, or not."""
    seed()
    count = 0
    while still():
        last, count = draw(), count + 1
    seed()
    for _ in range(count):
        again = draw()
    return count == 0 or last == again


def draws_torch(still):
    return repeatedly(lambda: torch.manual_seed(7), lambda: torch.rand(9).tolist(), still)


def draws_numpy(still):
    return repeatedly(lambda: np.random.seed(7), lambda: np.random.rand(9).tolist(), still)


def draws_random(still):
    return repeatedly(lambda: random.seed(7), random.random, still)


def seeds_torch(still):
    while still():
        assert torch.manual_seed(3).initial_seed() == torch.initial_seed()
    return True


def loads_models(still):
    while still():
        loading.load("tiny", dtype=torch.bfloat16)
        with quiet.LIBRARIES:
            cache._loaded.pop("tiny", None)
    return True


BESIDE = {"torch.rand": draws_torch, "np.random": draws_numpy, "random": draws_random,
          "torch.manual_seed": seeds_torch, "loading": loads_models}


def beside(what, kind, seed=0):
    """Train in a thread while the main thread does something; whether both went as if alone."""
    made = []
    thread = threading.Thread(target=lambda: made.append(trained(kind, seed)))
    thread.start()
    undisturbed = BESIDE[what](thread.is_alive)
    thread.join()
    return undisturbed, bits(made[0])


def in_panel(what, kind, seed=0):
    """As `beside`, with a run in the queue of the panels; "a run" is one of the main thread."""
    lab, config = KINDS[kind]()(seed)
    task = background.TrainingTask(lab, config)
    background.QUEUE.submit(task)
    if what == "a run":
        undisturbed = bits(trained("dropout", 1))
    else:
        undisturbed = BESIDE[what](lambda: not task.done.is_set())
    background.QUEUE.join()
    return undisturbed, bits(task.run)


def test_the_kinds_draw_and_their_seeds_differ(alone):
    for kind in KINDS:
        if kind != "full":
            assert not same(alone(kind, 0), alone(kind, 1)), kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_makes_nothing_in_the_dtype_of_a_model_that_is_built_beside_it(kind, alone):
    expected = alone(kind)
    torch.set_default_dtype(torch.bfloat16)
    try:
        made = bits(trained(kind, 0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(made, expected)


@pytest.mark.parametrize("one, other", [
    ("LoRA", "LoRA"), ("full", "dropout"), ("dropout, recomputed", "dropout, recomputed"),
    ("noise", "dropout"), ("DPO", "GRPO"), ("metric", "GRPO")])
def test_two_runs_in_two_threads_are_those_of_one_thread(one, other, alone):
    expected = alone(one, 0), alone(other, 1)
    assert all(map(same, both(one, 0, other, 1), expected))


@pytest.mark.parametrize("what, kind", [
    ("torch.rand", "dropout"), ("torch.rand", "dropout, recomputed"), ("torch.rand", "GRPO"),
    ("torch.manual_seed", "LoRA"), ("np.random", "noise"), ("random", "DPO"),
    ("loading", "dropout")])
def test_a_run_and_the_cell_beside_it_do_not_notice_each_other(what, kind, alone):
    expected = alone(kind)
    undisturbed, made = beside(what, kind)
    assert undisturbed and same(made, expected)


@pytest.mark.parametrize("what", ["a run", "torch.rand"])
def test_a_run_of_a_panel_and_a_cell_do_not_notice_each_other(what, alone):
    expected, of_cell = alone("dropout"), alone("dropout", 1)
    of_main, made = in_panel(what, "dropout")
    assert same(made, expected)
    assert of_main is True if what != "a run" else same(of_main, of_cell)


def test_two_threads_that_load_models_find_them_whole(tmp_path):
    folders = [shutil.copytree(loading.tiny_path(), tmp_path / name) for name in ("one", "other")]
    found = []

    def load(folder):
        for _ in range(5):
            found.append(loading.load(str(folder))[0].get_input_embeddings().weight.std() > 0)

    threads = [threading.Thread(target=load, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 10 and all(found)


@pytest.mark.seeds
def test_two_hundred_pairs_are_those_of_one_thread(alone):
    different, count = [], 0
    for (one, other), seed in itertools.product(
            itertools.combinations_with_replacement(KINDS, 2), (2, 3, 4)):
        expected = alone(one, seed), alone(other, seed + 1)
        count += 1
        different += [(one, other, seed)] * (
            not all(map(same, both(one, seed, other, seed + 1), expected)))
    for what, kind in itertools.product(BESIDE, KINDS):
        expected = alone(kind)
        undisturbed, made = beside(what, kind)
        count += 1
        different += [(what, kind)] * (not (undisturbed and same(made, expected)))
    for what, kind in itertools.product(("a run", "torch.rand", "torch.manual_seed"), KINDS):
        expected, of_cell = alone(kind), alone("dropout", 1)
        of_main, made = in_panel(what, kind)
        fine = same(of_main, of_cell) if what == "a run" else of_main
        count += 1
        different += [("panel", what, kind)] * (not (fine and same(made, expected)))
    assert count >= 200 and different == []
