"""Many runs give what each would give alone, wherever they run, and none is lost or kept twice."""

import os
import signal
import sys
import threading
import time
import types

import pytest
import torch

import ftkit as ft
from ftkit import elsewhere, run, sweep

RECORDS = [{"instruction": f"Name the number {n}.", "input": "", "output": f"number {n}"}
           for n in range(24)]
SHORT = ft.Config(max_steps=3, eval_steps=3, batch_size=4, precision="fp32")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make_lab(**options):
    return ft.Experiment(**{"data": RECORDS, "val": RECORDS[:4], "probes": (), **options})


@pytest.fixture
def lab():
    return make_lab()


def losses(run):
    return [[row[key] for row in run.rows] for key in ("loss", "grad_norm")] + [run.after]


def logits(run):
    ids = torch.tensor([run.tokenizer("The capital of France is")["input_ids"]])
    with torch.no_grad():
        return run.model(input_ids=ids).logits


def dies_once(flag):
    """A metric that kills the process it is first measured in, unless that is this one."""
    here = os.getpid()

    def metric(model, tokenizer):
        if os.getpid() == here:
            return 1.0
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return 1.0
        os.kill(os.getpid(), signal.SIGKILL)

    return metric


# ------------------------------------------------------------------------------ the grid


def test_a_single_value_is_a_list_of_one_and_an_empty_list_is_told(lab):
    done = lab.sweep(SHORT, method="lora", r=[2, 4], seed=1)
    assert [(r.config.method, r.config.r, r.config.seed) for r in done] == [
        ("lora", 2, 1), ("lora", 4, 1)]
    with pytest.raises(ValueError, match="learning_rate is empty"):
        lab.sweep(SHORT, learning_rate=[])
    with pytest.raises(ValueError, match="backend is 'spark'; expected None, 'dask' or 'ray'"):
        lab.sweep(SHORT, backend="spark", seed=[0, 1])


def test_processes_are_started_only_where_they_pay():
    def why(one, runs, parameters=10**6):
        return sweep._pays(types.SimpleNamespace(left=range(runs), parameters=parameters), one, 2)

    assert "too few" in why(one=1.0, runs=7) and "too few" in why(one=60.0, runs=1)
    assert why(one=60.0, runs=8) == ""
    assert "GiB are free" in why(one=60.0, runs=8, parameters=10**12)


# -------------------------------------------------------------------------- side by side


def test_side_by_side_gives_the_curves_and_models_of_one_after_the_other(lab):
    options = dict(method=["full", "lora"], lora_dropout=0.2, seed=[0, 1])
    seen = []
    alone = lab.sweep(SHORT, parallel=False, **options)
    both = lab.sweep(SHORT, parallel=2, on_row=seen.append, **options)
    assert both.how.endswith("side by side in 2 processes")
    for one, other in zip(alone, both, strict=True):
        assert one.config == other.config and other.model_name == "tiny"
        for a, b in zip(losses(one), losses(other), strict=True):
            assert a == pytest.approx(b, rel=1e-4)
        torch.testing.assert_close(logits(one), logits(other), rtol=1e-3, atol=1e-3)
    assert len(seen) == 12
    assert sorted(r.id for r in run.list_runs()) == sorted(r.id for r in [*alone, *both])


def test_a_process_that_dies_is_told_and_its_runs_start_once_more(tmp_path, capfd):
    lab = make_lab(metrics={"dies": dies_once(tmp_path / "flag")})
    done = lab.sweep(SHORT, parallel=2, seed=range(3))
    assert [r.config.seed for r in done] == [0, 1, 2]
    assert all(len(r.rows) == 3 and r.after["dies"] == 1 for r in done)
    assert "starts once more (" in capfd.readouterr().err
    assert len(run.list_runs()) == 3


@pytest.mark.parametrize("parallel", [2, None])
def test_this_process_trains_while_the_others_start(tmp_path, monkeypatch, parallel):
    flag, here, calls = tmp_path / "flag", os.getpid(), []

    def pid(model, tokenizer):
        calls.append(0)
        if os.getpid() != here:
            flag.touch()
        elif len(calls) == 2:  # at the end of the first run: another one has begun
            deadline = time.monotonic() + 200
            while not flag.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        return float(os.getpid())

    monkeypatch.setattr(sweep, "_pays", lambda job, one, workers: "")
    monkeypatch.setattr(sweep, "_threads", lambda: 2)
    threads = torch.get_num_threads()
    done = make_lab(metrics={"pid": pid}).sweep(
        SHORT, max_steps=5, eval_steps=5, seed=range(4), parallel=parallel)
    assert torch.get_num_threads() == threads
    pids = [r.after["pid"] for r in done]
    assert pids[0] == here and len(set(pids)) == 2
    assert "side by side in 2 processes" in done.how
    assert all(r.model is not None for r in done)


def test_an_interrupt_side_by_side_keeps_what_is_whole_and_ends_the_others(lab):
    part = lab.sweep(SHORT, parallel=2, on_row=interrupt_at(5), seed=range(3))
    assert "interrupted" in part.how and len(part) <= 3
    assert [r.config.seed for r in part if len(r.rows) == 3]
    from loky import get_reusable_executor

    assert get_reusable_executor(1)._flags.shutdown is False  # new ones can start
    whole = lab.sweep(SHORT, parallel=2, resume=True, seed=range(3))
    assert [len(r.rows) for r in whole] == [3, 3, 3]
    assert len({r.config.seed for r in whole}) == 3


def test_what_cannot_be_sent_runs_here_and_says_why(capfd):
    lock = threading.Lock()
    lab = make_lab(metrics={"locked": lambda model, tokenizer: float(lock.locked())})
    done = lab.sweep(SHORT, parallel=2, seed=[0, 1])
    assert len(done) == 2 and "one after the other" in done.how
    assert "cannot be sent to another process" in capfd.readouterr().err


# ----------------------------------------------------------------------- interrupt, resume


def interrupt_at(count):
    seen = []

    def listen(row):
        seen.append(row)
        if len(seen) == count:
            raise KeyboardInterrupt

    return listen


def test_an_interrupt_keeps_what_is_finished_and_resume_goes_on(lab, capfd):
    part = lab.sweep(SHORT, on_row=interrupt_at(5), seed=range(3))
    assert [len(r.rows) for r in part] == [3, 2] and "interrupted" in part[1].stopped
    assert "1 of 3 runs are finished" in part.how and "resume=True" in capfd.readouterr().err
    whole = lab.sweep(SHORT, resume=True, seed=range(3))
    assert [len(r.rows) for r in whole] == [3, 3, 3] and whole[0].id == part[0].id
    assert whole[0].model is None and whole[1].model is not None
    assert "1 from the store (without their models)" in whole.how
    assert whole[0].after == pytest.approx(part[0].after)
    again = lab.sweep(SHORT, resume=True, seed=range(3))
    assert [r.id for r in again] == [r.id for r in whole]


def test_only_the_same_question_is_taken_from_the_store(lab):
    first = lab.run(SHORT)
    assert lab.sweep(SHORT, resume=True, seed=[0])[0].id == first.id
    assert lab.sweep(SHORT, seed=[0])[0].id != first.id  # not asked to resume
    for other in (make_lab(data=RECORDS[1:]), make_lab(val=RECORDS[:3]),
                  make_lab(probes={"p": RECORDS[:2]}), make_lab(eval_records=2),
                  make_lab(template="{instruction}\n{output}"),
                  make_lab(model=(first.model, first.tokenizer))):
        assert other.held_still() != lab.held_still()
    assert make_lab().held_still() == lab.held_still()
    assert lab.sweep(SHORT.but(weight_decay=0.1), resume=True, seed=[0])[0].model is not None


# -------------------------------------------------------------------------------- halving


def test_halving_ends_the_worse_half_early_and_the_winner_is_the_run_it_would_have_been(lab):
    config = SHORT.but(max_steps=8, eval_steps=1, method="lora", lora_dropout=0.3)
    rates = [1e-6, 1e-5, 1e-2, 1e-3]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    halved = lab.sweep(config, halving=True, learning_rate=rates)
    assert torch.equal(before, torch.get_rng_state())
    assert [r.config.learning_rate for r in halved] == rates
    assert sorted(len(r.rows) for r in halved) == [2, 2, 4, 8]  # 1/4, 1/2 and all of 8 steps
    whole = lab.sweep(config, parallel=False, learning_rate=rates)
    for one, other in zip(halved, whole, strict=True):
        assert [r["loss"] for r in one.rows] == [r["loss"] for r in other.rows[:len(one.rows)]]
    best = min(whole, key=lambda r: r.after["val_loss"])
    assert [len(r.rows) for r in halved][whole.index(best)] == 8
    early = [r for r in halved if r.stopped]
    assert all(r.stopped.startswith("ended early by halving at step ") for r in early)
    assert "of 4" in early[0].stopped and "3 ended early" in halved.how
    assert "ended early" in ft.curves(halved, "val_loss").text
    assert len({r.id for r in run.list_runs()} & {r.id for r in halved}) == 4


def test_seeds_are_halved_together_and_a_diverged_run_loses(lab):
    config = SHORT.but(max_steps=4, eval_steps=1, warmup_steps=0, max_grad_norm=0)
    done = lab.sweep(config, halving=True, learning_rate=[1e30, 1e-3], seed=[0, 1])
    assert [len(r.rows) for r in done[2:]] == [4, 4]
    assert all("diverged" in r.stopped or "ended early" in r.stopped for r in done[:2])


def test_halving_says_what_it_needs(lab):
    for wanted, options in (("a smaller eval_steps", dict(learning_rate=[1e-3, 1e-4])),
                            ("differ in more than their seed", dict(seed=[0, 1])),
                            ("leave out backend and parallel", dict(seed=[0, 1], parallel=2))):
        with pytest.raises(ValueError, match=wanted):
            lab.sweep(SHORT, halving=True, **options)


# -------------------------------------------------------------------------------- clusters


def test_32_runs_on_a_dask_cluster_survive_a_killed_worker(tmp_path, capfd):
    from dask.distributed import Client, LocalCluster

    lab = make_lab(eval_records=2, metrics={"dies": dies_once(tmp_path / "flag")})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                      local_directory=str(tmp_path)) as cluster, Client(cluster):
        done = lab.sweep(SHORT.but(max_steps=2), backend="dask", seed=range(32))
    assert (tmp_path / "flag").exists()
    assert [r.config.seed for r in done] == list(range(32))
    assert all(len(r.rows) == 2 and r.stopped is None and r.model is None for r in done)
    stored = run.list_runs()
    assert sorted(r.id for r in stored) == sorted(r.id for r in done)
    assert sorted(r.config.seed for r in stored) == list(range(32))
    alone = lab.run(SHORT.but(max_steps=2, seed=7))
    assert losses(alone)[0] == pytest.approx(losses(done[7])[0], rel=1e-4)


def test_without_a_cluster_or_its_package_the_next_step_is_told(lab, monkeypatch):
    with pytest.raises(ValueError, match="make one first: .*Client"):
        lab.sweep(SHORT, backend="dask", seed=[0, 1])
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="pip install ray"):
        lab.sweep(SHORT, backend="ray", seed=[0, 1])


def test_ray_is_reached_through_its_joblib_backend(lab, monkeypatch):
    """Ray itself is not installed; its registration is stood in for by one of joblib's own."""
    import joblib
    from joblib._parallel_backends import ThreadingBackend

    class Stand(ThreadingBackend):
        pass

    module = types.ModuleType("ray.util.joblib")
    module.register_ray = lambda: joblib.register_parallel_backend("ray", Stand)
    for name in ("ray", "ray.util"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "ray.util.joblib", module)
    done = lab.sweep(SHORT, backend="ray", seed=[0, 1])
    assert [r.config.seed for r in done] == [0, 1] and done.how.endswith(
        "on ray (without their models)")
    assert losses(done[1])[0] == pytest.approx(losses(lab.run(SHORT, seed=1))[0])


def test_only_the_trained_weights_travel(lab):
    tuned = lab.run(SHORT, method="lora", r=2)
    blob = elsewhere._trained(tuned.model)
    assert len(blob) < 2 * 4 * tuned.trainable_parameters + 100_000
