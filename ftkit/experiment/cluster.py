"""Train the runs of a sweep on the workers of a Dask or Ray cluster.

Only the process that submitted the runs stores them, and it collects each future once, so no run is
stored twice. Both engines restart the runs of a lost worker on another worker.
"""

import functools
import importlib
import math
import pickle
import threading
from concurrent import futures
from typing import Any

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.experiment import side_by_side
from ftkit.experiment.run import Watch
from ftkit.experiment.sweep_state import SweepState
from ftkit.memory_use import preflight

# An engine is (a function that puts bytes on the cluster, a function of these and a Config that
# submits a run and returns its future and what cancels it, exceptions for a lost worker).


def _dask():
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise _missing("dask") from None
    try:
        client = distributed.get_client()
    except ValueError:
        raise UserError("backend is 'dask', but no cluster is connected. Make one: `from "
                        "dask.distributed import Client; client = Client()`. Connect to an "
                        "existing one: Client('scheduler-address:8786').") from None
    pool = client.get_executor(pure=False)

    def submit(*arguments):
        future = pool.submit(_train, *arguments)
        return future, future.cancel

    # As a task, so that it survives the loss of a worker.
    put = functools.partial(client.submit, bytes, pure=False)
    return put, submit, (distributed.KilledWorker,)


def _ray():
    try:
        import ray
    except ImportError:
        raise _missing("ray") from None
    if not ray.is_initialized():
        raise UserError("backend is 'ray', but no cluster is connected. Start one: `import "
                        "ray; ray.init()`. Connect to a running one: ray.init(address='auto').")
    task: Any = ray.remote(_train)

    def submit(*arguments):
        ref = task.remote(*arguments)
        return ref.future(), functools.partial(ray.cancel, ref)

    errors = ray.exceptions
    return ray.put, submit, (errors.WorkerCrashedError, errors.OutOfMemoryError,
                             errors.NodeDiedError)


ENGINES = {"dask": _dask, "ray": _ray}


def _missing(name: str) -> UserError:
    return UserError(f"backend is {name!r}, but {name} is not installed. Run `pip install "
                     f"'ftkit[{name}]'`.")


def train(state: SweepState, backend: str):
    """Train the remaining runs on the workers of a Dask or Ray cluster.

    An interrupt keeps every run that has ended and cancels the others. Raises UserError if the
    engine is not installed, has no cluster, or repeatedly loses the workers of one run.
    """
    put, submit, lost = ENGINES[backend]()
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
    shipped, pending = put(pickled), {}
    try:
        for i in state.remaining:
            config = state.configs[i]
            config = config.but(precision=config.precision or precision)
            future, cancel = submit(shipped, config)
            pending[future] = i, cancel
        while pending:
            futures.wait(pending, return_when=futures.FIRST_COMPLETED)
            _collect(state, pending, lost)
    except KeyboardInterrupt:
        _collect(state, pending, lost)
        raise
    finally:
        for _, cancel in pending.values():
            cancel()


def _collect(state: SweepState, pending: dict, lost: tuple):
    """Move the runs that have ended from `pending` to the sweep."""
    for future in [future for future in pending if future.done()]:
        i, _ = pending.pop(future)
        try:
            run = future.result()
        except lost as error:
            raise UserError(
                f"the workers that trained run {i + 1} of {len(state.configs)} ({state.configs[i]})"
                f" ended repeatedly ({type(error).__name__}), perhaps for lack of memory. Finished "
                "runs are in the store. To continue, repeat the call with resume=True.") from None
        except Exception as error:  # noqa: BLE001  what the run raised; in Ray's error, its cause
            raise getattr(error, "cause", error) from None
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
