"""Sweeps on real clusters of this machine: Dask's and, where it is installed, Ray's. `make scale`
installs both."""

import contextlib
import os
import signal
import sys
from importlib.util import find_spec

import pytest
from helpers import numbers

import ftkit as ft
from ftkit.experiment import store

pytestmark = pytest.mark.usefixtures("home")
RECORDS = numbers(24)
SHORT = ft.Config(max_steps=2, eval_steps=2, batch_size=4, precision="fp32")
HAS_RAY = pytest.mark.skipif(not find_spec("ray"), reason="ray is not installed: make scale")
ENGINES = ["dask", pytest.param("ray", marks=HAS_RAY)]


def make_lab(**options):
    return ft.Experiment(**{"data": RECORDS, "val": RECORDS[:4], "probes": (), "eval_records": 2,
                            **options})


@pytest.mark.parametrize("backend, advice", [
    ("dask", "Make one: .*Client"),
    pytest.param("ray", r"Start one: .*ray.init\(\)", marks=HAS_RAY)])
def test_without_a_cluster_the_next_step_is_told(backend, advice):
    with pytest.raises(ValueError, match=advice):
        make_lab().sweep(SHORT, backend=backend, seed=[0, 1])


@pytest.mark.parametrize("backend, package", [("dask", "distributed"), ("ray", "ray")])
def test_without_its_package_the_command_that_installs_it_is_told(backend, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"pip install 'ftkit\[{backend}\]'"):
        make_lab().sweep(SHORT, backend=backend, seed=[0, 1])


# ---------------------------------------------------------------------------- on a cluster


@pytest.fixture(scope="module", params=ENGINES)
def backend(request, tmp_path_factory):
    """Two workers of one thread each, for all tests below: what takes long is to import torch."""
    if request.param == "dask":
        import dask
        from dask.distributed import Client, LocalCluster

        with (dask.config.set({"distributed.scheduler.allowed-failures": 1}),  # of a run; not 3
              LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                           local_directory=str(tmp_path_factory.mktemp("workers"))) as cluster,
              Client(cluster)):
            yield "dask"
    else:
        import ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield "ray"
        ray.shutdown()


def test_without_cloudpickle_the_command_that_installs_it_is_told(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(ValueError, match=rf"pip install 'ftkit\[{backend}\]'"):
        make_lab().sweep(SHORT, backend=backend, seed=[0, 1])


def dies(flag, times):
    """A metric that kills the process it is measured in, `times` times, unless that is this one."""
    here = os.getpid()

    def metric(model, tokenizer):
        if os.getpid() == here or not getattr(model, "was_measured", False):
            model.was_measured = True  # a worker dies at the second one, after steps of the run
            return 1.0
        for n in range(times):
            with contextlib.suppress(FileExistsError):
                os.close(os.open(f"{flag}{n}", os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
        return 1.0

    return metric


def test_12_runs_survive_a_worker_killed_in_the_middle_of_one(backend, tmp_path):
    lab = make_lab(metrics={"dies": dies(tmp_path / "flag", 1)})
    done = lab.sweep(SHORT, backend=backend, seed=range(12))
    assert (tmp_path / "flag0").exists()
    assert done.how.endswith(f"on {backend} (without their models)")
    assert [r.config.seed for r in done] == list(range(12))
    assert all(len(r.rows) == 2 and r.stopped is None and r.model is None for r in done)
    stored = store.list_runs()
    assert sorted(r.id for r in stored) == sorted(r.id for r in done)
    assert sorted(r.config.seed for r in stored) == list(range(12))
    for seed in (4, 11):
        alone = lab.run(SHORT, seed=seed)
        assert [row["loss"] for row in alone.rows] == pytest.approx(
            [row["loss"] for row in done[seed].rows], rel=1e-4)


def test_an_interrupt_keeps_what_is_finished_and_resume_trains_the_rest(backend):
    lab, rows = make_lab(), []

    def interrupt(row):
        rows.append(row)
        if len(rows) == 3:  # in the second run that comes back
            raise KeyboardInterrupt

    part = lab.sweep(SHORT, backend=backend, on_row=interrupt, seed=range(8))
    assert 2 <= len(part) < 8 and "resume=True" in part.how
    assert sorted(r.id for r in store.list_runs()) == sorted(r.id for r in part)
    whole = lab.sweep(SHORT, backend=backend, resume=True, seed=range(8))
    assert [r.config.seed for r in whole] == list(range(8))
    assert {r.id for r in part} < {r.id for r in whole}
    assert sorted(r.id for r in store.list_runs()) == sorted(r.id for r in whole)


def test_what_a_run_raises_on_a_worker_is_raised_here(backend):
    def breaks(model, tokenizer):
        raise OSError("the judge is not at home")

    with pytest.raises(OSError, match="the judge is not at home"):
        make_lab(metrics={"breaks": breaks}).sweep(SHORT, backend=backend, seed=[0, 1])


@pytest.mark.slow
def test_a_run_that_ends_every_worker_is_named_and_the_next_step_said(backend, tmp_path):
    lab = make_lab(metrics={"dies": dies(tmp_path / "flag", 99)})
    with pytest.raises(ValueError, match="run 1 of 1 .* ended repeatedly .*resume=True"):
        lab.sweep(SHORT, backend=backend, seed=[0])
