"""Train the runs of a sweep on the workers of a Dask or Ray cluster.

Only the process that submitted the runs stores them, and it collects each future once, so no run is
stored twice. Both engines restart the runs of a lost worker on another worker.
"""

from __future__ import annotations

import functools
import importlib
import math
import pickle
import threading
from typing import Any

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.experiment import side_by_side
from ftkit.experiment.sweep_state import SweepState
from ftkit.experiment.watch import Watch
from ftkit.memory_use import preflight


class Dask:
    """Adapter of this process's Dask client to the engine interface of `train`."""

    def __init__(self):
        try:
            distributed: Any = importlib.import_module("distributed")
        except ImportError:
            raise _missing("dask") from None
        self.module, self.lost = distributed, (distributed.KilledWorker,)
        try:
            self.client = distributed.get_client()
        except ValueError:
            raise UserError("backend is 'dask', but no cluster is connected. Make one: `from "
                            "dask.distributed import Client; client = Client()`. Connect to an "
                            "existing one: Client('scheduler-address:8786').") from None

    def put(self, pickled: bytes):
        """Put `pickled` on the cluster, as a task, so that it survives the loss of a worker."""
        return self.client.submit(bytes, pickled, pure=False)

    def submit(self, *arguments):
        return self.client.submit(_train, *arguments, pure=False)

    def finished(self, futures: list, wait: bool) -> list:
        """Return the futures that have ended; with `wait`, wait for at least one."""
        if wait:
            self.module.wait(futures, return_when="FIRST_COMPLETED")
        return [future for future in futures if future.done()]

    def result(self, future):
        return future.result()

    def cancel(self, futures: list):
        self.client.cancel(futures)


class Ray:
    """The Ray cluster that this process is connected to."""

    def __init__(self):
        try:
            import ray
        except ImportError:
            raise _missing("ray") from None
        if not ray.is_initialized():
            raise UserError("backend is 'ray', but no cluster is connected. Start one: `import "
                            "ray; ray.init()`. Connect to a running one: ray.init(address='auto').")
        self.ray, self.lost = ray, (ray.exceptions.WorkerCrashedError,
                                    ray.exceptions.OutOfMemoryError,
                                    ray.exceptions.NodeDiedError)
        self.task = ray.remote(_train)

    def put(self, pickled: bytes):
        return self.ray.put(pickled)

    def submit(self, *arguments):
        return self.task.remote(*arguments)

    def finished(self, futures: list, wait: bool) -> list:
        ready, _ = self.ray.wait(futures, num_returns=1 if wait else len(futures),
                                 timeout=None if wait else 0)
        return ready

    def result(self, future):
        try:
            return self.ray.get(future)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None  # what the run itself raised

    def cancel(self, futures: list):
        for future in futures:
            self.ray.cancel(future)


ENGINES = {"dask": Dask, "ray": Ray}


def _missing(name: str) -> UserError:
    return UserError(f"backend is {name!r}, but {name} is not installed. Run `pip install "
                     f"'ftkit[{name}]'`.")


def train(state: SweepState, backend: str):
    """Train the remaining runs on the workers of a Dask or Ray cluster.

    An interrupt keeps every run that has ended and cancels the others. Raises UserError if the
    engine is not installed, has no cluster, or repeatedly loses the workers of one run.
    """
    engine = ENGINES[backend]()
    try:
        import cloudpickle
    except ImportError:
        raise _missing(backend) from None
    try:
        pickled = cloudpickle.dumps(state.lab)
    except Exception as error:  # noqa: BLE001  whatever a user's metric raises when it is pickled
        raise UserError(f"this experiment cannot be sent to the cluster ({error})") from None
    state.notes.append(f"on {backend} (without their models)")
    if not state.remaining:
        return
    facts = preflight.ModelFacts.of(state.lab.model)
    size = facts.parameters if facts else math.inf
    precision = machine.fast_precision(size)  # of this machine, on every worker
    state.show_run(state.remaining[0])
    shipped, pending = engine.put(pickled), {}
    try:
        for i in state.remaining:
            config = state.configs[i]
            config = config.but(precision=config.precision or precision)
            pending[engine.submit(shipped, config)] = i
        while pending:
            _collect(state, engine, pending, wait=True)
    except KeyboardInterrupt:
        if pending:
            _collect(state, engine, pending, wait=False)
        raise
    finally:
        engine.cancel(list(pending))


def _collect(state: SweepState, engine, pending: dict, wait: bool):
    """Move the runs that have ended from `pending` to the sweep."""
    for future in engine.finished(list(pending), wait):
        i = pending.pop(future)
        try:
            run = engine.result(future)
        except engine.lost as error:
            raise UserError(
                f"the workers that trained run {i + 1} of {len(state.configs)} ({state.configs[i]})"
                f" ended repeatedly ({type(error).__name__}), perhaps for lack of memory. Finished "
                "runs are in the store. To continue, repeat the call with resume=True.") from None
        run.notes.append("trained on the cluster; its model was not sent back")
        state.add_remote(i, run)
        if state.remaining:
            state.show_run(state.remaining[0])


_one_at_a_time = threading.Lock()  # runs share the memory and number of threads of a process


def _train(pickled: bytes, config):
    """Train one run on a worker; returns the Run without its model."""
    with _one_at_a_time, side_by_side.with_threads(1):
        *_, run = _unpickled(pickled).iterate(config, Watch(live=False, store=False))
    run.model = run.tokenizer = run.experiment = None
    return run


_unpickled = functools.lru_cache(maxsize=1)(pickle.loads)
