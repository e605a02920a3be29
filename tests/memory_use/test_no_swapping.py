"""A memory trace must not change what trains in another thread: nothing is swapped at run time."""

from __future__ import annotations

import ast
import threading

import pytest
import torch
from helpers import ROOT

import ftkit as ft
from ftkit.memory_use import preflight

# What is traced meanwhile is small, so that it is traced often.
SMALL = {"model_type": "llama", "vocab_size": 500, "hidden_size": 32, "intermediate_size": 64,
         "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def compared(run) -> list[dict]:
    """The rows of a run without their seconds."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.rows]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_gives_the_same_rows_while_another_thread_traces(precision):
    experiment = ft.Experiment(data="tasks", val="tasks", probes=(), eval_records=8)
    config = ft.Config(max_steps=16, batch_size=2, max_length=64, eval_steps=8, max_grad_norm=0.1,
                       precision=precision, learning_rate=3e-3)
    alone = experiment.run(config, live=False)
    assert all(row["grad_norm"] > config.max_grad_norm for row in alone.rows)  # every step clips
    ended, traced, errors = threading.Event(), [], []

    def trace():
        while not ended.is_set():
            try:
                traced.append(ft.memory(
                    ft.Config(precision=precision, gradient_checkpointing=len(traced) % 2 == 1),
                    SMALL, lengths=[32 + len(traced) % 64] * 4, device="cpu").peak)
            except Exception as error:  # noqa: BLE001  reported below, in the main thread
                errors.append(error)

    thread = threading.Thread(target=trace)
    thread.start()
    try:
        meanwhile = experiment.run(config, live=False)
    finally:
        ended.set()
        thread.join()
    assert not errors and len(traced) > 2
    assert compared(meanwhile) == compared(alone)


def test_a_sweep_whose_preflight_traces_gives_the_rows_of_runs_one_after_the_other(monkeypatch):
    traced = []
    simulated = preflight.FitSearch.required_bytes
    monkeypatch.setattr(preflight, "step_upper_bound", lambda *args: 1e15)
    monkeypatch.setattr(preflight.FitSearch, "required_bytes",
                        lambda *args: traced.append(args) or simulated(*args))
    experiment = ft.Experiment(data="translation", probes=(), eval_records=8)
    config = ft.Config(max_steps=6, batch_size=4, max_length=48, eval_steps=6, max_grad_norm=0.1,
                       precision="fp32")
    rates = [3e-3, 1e-3, 2e-3]
    in_turn = [experiment.run(config, learning_rate=rate, live=False) for rate in rates]
    side_by_side = experiment.sweep(config, learning_rate=rates, parallel=2)
    assert len(traced) >= 2 * len(rates)
    for one, other in zip(in_turn, side_by_side, strict=True):
        assert len(one.rows) == len(other.rows) == 6
        for row, same in zip(compared(one), compared(other), strict=True):
            assert row == pytest.approx(same, abs=1e-6)


def swaps(tree: ast.AST) -> list[int]:
    """Lines that set an attribute of an imported module, function or class."""
    imported = {alias.asname or alias.name.partition(".")[0] for node in ast.walk(tree)
                if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}

    def root(node):
        while isinstance(node, ast.Attribute):
            node = node.value
        return node.id if isinstance(node, ast.Name) else None

    found = []
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else (
            [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else [])
        flat = [t for target in targets for t in ast.walk(target) if isinstance(t, ast.Attribute)
                and isinstance(t.ctx, ast.Store | ast.Del)]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and (
                node.func.id in ("setattr", "delattr") and node.args):
            flat.append(ast.Attribute(node.args[0]))
        found += [node.lineno for t in flat if root(t) in imported | defined]
    return found


# The kernel shim is meant to; the command line gives a process without streams some, at its start.
EXEMPT = ("notebook/kernel.py", "cli/main.py")


def test_no_module_of_the_package_sets_attributes_of_what_it_imports():
    found = {}
    for path in sorted((ROOT / "ftkit").rglob("*.py")):
        name = path.relative_to(ROOT / "ftkit").as_posix()
        if name not in EXEMPT and (lines := swaps(ast.parse(path.read_text("utf-8")))):
            found[name] = lines
    assert not found


@pytest.mark.parametrize("code", [
    "import torch\ntorch.get_rng_state = print", "from a import b\nb.c.d = 1",
    "import a.b as c\ndef f():\n    setattr(c, 'd', 1)", "from a import B\n(B.x, y) = 1, 2",
    "class A: pass\nA.b = 1", "import a\ndel a.b", "import a\na.b += 1",
])
def test_each_way_to_swap_is_seen(code):
    assert swaps(ast.parse(code))
