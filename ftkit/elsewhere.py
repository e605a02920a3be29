"""Runs of a sweep in other processes: on this machine, or on the workers of a cluster.

Through joblib: its own processes need no `if __name__ == "__main__"` and start from a notebook.
What they made is stored by the process that sent them, so that no run is in the store twice.
"""

from __future__ import annotations

import functools
import pickle
import sys
import threading
from concurrent.futures.process import BrokenProcessPool

from ftkit import machine, models

KEEP_BYTES = 2**30  # tuned weights that are sent back from other processes, all runs together


def side_by_side(job, workers: int) -> str:
    """Train in processes of this machine; a process that dies is told, and its runs start once
    more. Returns why it cannot be done, if so."""
    import joblib

    if why := _not_sendable(job.lab):
        return why
    job.notes.append(f"side by side in {workers} processes")
    for attempt in (1, 2):
        try:
            with joblib.parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
                _collect(job, weights=True)
            break
        except OSError as error:  # no semaphores, no room for another process
            return f"no processes can be started here ({error})"
        except BrokenProcessPool:
            missing = len(job.left)
            if attempt == 2:
                raise RuntimeError(
                    f"a process that was training ended twice without a word, often for lack of "
                    f"memory; {len(job.done)} of {len(job.configs)} runs are in the store, and "
                    "resume=True, parallel=False goes on with the rest") from None
            print(f"ftkit: a process that was training ended without a word; the {missing} runs "
                  "that have not come back start once more", file=sys.stderr)
            job.notes.append("a process died, its runs were run again")
    return ""


def on_cluster(job, backend: str):
    """On the workers of a Dask or Ray cluster."""
    import joblib

    if backend == "dask":
        try:
            from dask.distributed import get_client
        except ImportError:
            raise ValueError("backend='dask' needs dask: pip install 'ftkit[scale]'") from None
        try:
            get_client()
        except ValueError:
            raise ValueError("backend='dask' needs a cluster; make one first: `from "
                             "dask.distributed import Client; client = Client()`, or "
                             "Client('scheduler-address:8786')") from None
    else:
        try:
            from ray.util.joblib import register_ray
        except ImportError:
            raise ValueError("backend='ray' needs ray: pip install ray") from None
        register_ray()
    if why := _not_sendable(job.lab):
        raise ValueError(f"the experiment cannot be sent to the cluster: {why}")
    job.notes.append(f"on {backend} (without their models)")
    if job.left:
        with joblib.parallel_config(backend, n_jobs=-1):
            _collect(job, weights=False)


def _not_sendable(lab) -> str:
    import cloudpickle

    try:
        cloudpickle.dumps(lab)
        return ""
    except Exception as error:  # whatever a metric of the user's own raises when it is pickled
        return f"this experiment cannot be sent to another process ({error})"


def _collect(job, weights: bool):
    """Hand out the runs that are left and take them in as they come back."""
    import cloudpickle
    import joblib

    precision = "bf16" if machine.bf16_is_fast() else "fp32"  # of this machine, on every worker
    packed = cloudpickle.dumps(job.lab)
    job.say(job.left[0])
    # Some backends hand results over in order only; joblib says so, and nothing is lost by it.
    pool = joblib.Parallel(return_as="generator_unordered", batch_size=1)
    configs = {i: job.configs[i] for i in job.left}
    tasks = [joblib.delayed(train)(
        packed, i, config.but(precision=config.precision or precision), weights)
        for i, config in configs.items()]
    kept = 0
    results = pool(tasks)
    try:
        for i, happened, blob in results:
            kept += len(blob or b"")
            if blob and kept <= KEEP_BYTES:
                happened.model, happened.tokenizer = _rebuilt(job.lab, happened.config, blob)
            else:
                happened.notes.append("trained elsewhere; its model was not sent back")
            job.arrived(i, happened)
            if job.left:
                job.say(job.left[0])
    finally:
        results.close()


_one_at_a_time = threading.Lock()  # torch's random state belongs to the whole process


def train(packed: bytes, i: int, config, weights: bool):
    """One run in another process: (place, Run without model, trained weights as safetensors)."""
    import torch

    with _one_at_a_time:
        if threading.current_thread() is threading.main_thread():
            import signal

            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who sent the runs decides
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            *_, happened = _unpacked(packed)._steps(config, live=False, store=False)
        finally:
            torch.set_num_threads(threads)
    model, happened.model, happened.tokenizer = happened.model, None, None
    happened.experiment = None
    return i, happened, _trained(model) if weights else None


@functools.lru_cache(maxsize=1)
def _unpacked(packed: bytes):
    return pickle.loads(packed)


def _trained(model) -> bytes:
    from safetensors.torch import save

    return save({name: p.detach().cpu().contiguous().clone()
                 for name, p in model.named_parameters() if p.requires_grad})


def _rebuilt(lab, config, blob: bytes):
    """The tuned model from its trained weights."""
    import torch
    from safetensors.torch import load

    with torch.random.fork_rng(devices=[]):
        model, tokenizer = lab._fresh(config)
        model = models.trainable(model, config)
    trained, named = load(blob), dict(model.named_parameters())
    with torch.no_grad():
        for name, value in trained.items():
            named[name].copy_(value)
    return model.eval(), tokenizer
