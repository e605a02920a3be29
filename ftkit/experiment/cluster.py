"""Runs of a sweep on the workers of a cluster, through joblib.

What they made is stored by the process that sent it, so that no run is in the store twice.
"""

from __future__ import annotations

import functools
import pickle
import threading

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.experiment import side_by_side


def train(job, backend: str):
    """All runs on the workers of a Dask or Ray cluster."""
    try:
        import cloudpickle
        import joblib
    except ImportError:
        raise UserError(f"backend={backend!r} needs joblib: pip install 'ftkit[scale]'") from None
    if backend == "dask":
        try:
            from dask.distributed import get_client
        except ImportError:
            raise UserError("backend='dask' needs dask: pip install 'ftkit[scale]'") from None
        try:
            get_client()
        except ValueError:
            raise UserError("backend='dask' needs a cluster; make one first: `from "
                            "dask.distributed import Client; client = Client()`, or "
                            "Client('scheduler-address:8786')") from None
    else:
        try:
            from ray.util.joblib import register_ray
        except ImportError:
            raise UserError("backend='ray' needs ray: pip install ray") from None
        register_ray()
    try:
        packed = cloudpickle.dumps(job.lab)
    except Exception as error:  # noqa: BLE001  whatever a user's metric raises when it is pickled
        raise UserError(f"this experiment cannot be sent to the cluster ({error})") from None
    job.notes.append(f"on {backend} (without their models)")
    if not job.left:
        return
    precision = "bf16" if machine.bf16_is_fast() else "fp32"  # of this machine, on every worker
    job.say(job.left[0])
    with joblib.parallel_config(backend, n_jobs=-1):
        # Some backends hand results over in order only; joblib says so, and nothing is lost by it.
        pool = joblib.Parallel(return_as="generator_unordered", batch_size=1)
        results = pool([
            joblib.delayed(_train)(packed, i, config.but(precision=config.precision or precision))
            for i, config in [(i, job.configs[i]) for i in job.left]])
        try:
            for i, happened in results:
                happened.notes.append("trained on the cluster; its model was not sent back")
                job.arrived(i, happened)
                if job.left:
                    job.say(job.left[0])
        finally:
            results.close()


_one_at_a_time = threading.Lock()  # torch's random state belongs to the whole process


def _train(packed: bytes, i: int, config):
    """One run on a worker: (place, Run without model)."""
    with _one_at_a_time, side_by_side.with_threads(1):
        *_, happened = _unpacked(packed).iterate(config, live=False, store=False)
    happened.model = happened.tokenizer = happened.experiment = None
    return i, happened


@functools.lru_cache(maxsize=1)
def _unpacked(packed: bytes):
    return pickle.loads(packed)
