"""Runs of a sweep on the workers of a cluster, through joblib.

A run is stored by the process that sent it to a worker, so no run is in the store twice.
"""

from __future__ import annotations

import functools
import pickle
import threading

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.experiment import side_by_side
from ftkit.experiment.sweep_state import SweepState


def train(state: SweepState, backend: str):
    """All runs that are left on the workers of a Dask or Ray cluster."""
    try:
        import cloudpickle
        import joblib
    except ImportError:
        raise UserError(f"backend={backend!r} needs joblib: pip install 'ftkit[scale]'") from None
    if backend == "dask":
        _find_dask()
    else:
        try:
            from ray.util.joblib import register_ray
        except ImportError:
            raise UserError("backend='ray' needs ray: pip install ray") from None
        register_ray()
    try:
        pickled = cloudpickle.dumps(state.lab)
    except Exception as error:  # noqa: BLE001  whatever a user's metric raises when it is pickled
        raise UserError(f"this experiment cannot be sent to the cluster ({error})") from None
    state.notes.append(f"on {backend} (without their models)")
    if not state.remaining:
        return
    precision = "bf16" if machine.bf16_is_fast() else "fp32"  # of this machine, on every worker
    state.show_run(state.remaining[0])
    with joblib.parallel_config(backend, n_jobs=-1):
        # Some backends return results in order only; joblib warns of it, and nothing is lost.
        pool = joblib.Parallel(return_as="generator_unordered", batch_size=1)
        results = pool([
            joblib.delayed(_train)(pickled, i, config.but(precision=config.precision or precision))
            for i, config in [(i, state.configs[i]) for i in state.remaining]])
        try:
            for i, run in results:
                run.notes.append("trained on the cluster; its model was not sent back")
                state.add_remote(i, run)
                if state.remaining:
                    state.show_run(state.remaining[0])
        finally:
            results.close()


def _find_dask():
    try:
        from dask.distributed import get_client
    except ImportError:
        raise UserError("backend='dask' needs dask: pip install 'ftkit[scale]'") from None
    try:
        get_client()
    except ValueError:
        raise UserError("backend='dask' needs a cluster; make one first: `from dask.distributed "
                        "import Client; client = Client()`, or Client('scheduler-address:8786')"
                        ) from None


_one_at_a_time = threading.Lock()  # torch's random state belongs to the whole process


def _train(pickled: bytes, index: int, config):
    """One run on a worker: (index, Run without its model)."""
    with _one_at_a_time, side_by_side.with_threads(1):
        *_, run = _unpickled(pickled).iterate(config, live=False, store=False)
    run.model = run.tokenizer = run.experiment = None
    return index, run


@functools.lru_cache(maxsize=1)
def _unpickled(pickled: bytes):
    return pickle.loads(pickled)
