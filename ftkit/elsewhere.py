"""Runs of a sweep in other processes: beside this one, or on the workers of a cluster.

Beside this one through loky, whose processes start from a notebook and need no `if __name__ ==
"__main__"`; on a cluster through joblib. What they made is stored by the process that sent it,
so that no run is in the store twice.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool

from ftkit import machine, models

KEEP_BYTES = 2**30  # tuned weights that are sent back from other processes, all runs together
IDLE = 300  # seconds that a process waits for the next sweep
# One thread each; and growth is what training looks like, not a leak that calls for a new process.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
               "LOKY_MAX_MEMORY_LEAK_SIZE": "1e12"}


def side_by_side(job, workers: int, pays=None, many: bool = False) -> str:
    """Train here and in `workers - 1` other processes, each with one thread. Returns why the runs
    that are left should go one after the other, if so.

    pays: told how many seconds the first run takes, says why other processes would not pay, or
    "". They start while that run goes on; by default at once. many: that run has one thread too,
    since it would wait for the core on which the others start; else it has all.
    """
    if why := _not_sendable(job.lab):
        return why
    others = _Others(job, workers - 1)
    try:
        if pays is None:
            others.start()
        else:
            with _one_thread() if many else contextlib.nullcontext():
                why = _try_one(job, others, pays)
            if why:
                return why
        with _one_thread():
            while (mine := others.waiting()) and not others.why and not job.interrupted:
                job.train(mine[0], lambda row, total: others.feed())
                others.take()
            others.finish()
    finally:
        others.close()
    return others.why


def _try_one(job, others, pays) -> str:
    """The first run, which tells how long one takes; why other processes would not pay."""
    marks, began = [], time.perf_counter()

    def row(row, total):
        marks.append(time.perf_counter())  # the first step pays for what later ones do not
        if len(marks) > 3 and not others.started and not others.why:
            if not pays((marks[-1] - marks[0]) / (len(marks) - 1) * total):
                others.start()

    job.train(job.left[0], row)
    if not others.started and not others.why and not job.interrupted:
        if why := pays(time.perf_counter() - began):
            return why
        others.start()
    return others.why


@contextlib.contextmanager
def _one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Others:
    """Processes beside this one, each of which trains one run of the job at a time."""

    def __init__(self, job, count: int):
        self.job, self.count, self.started, self.why = job, count, False, ""
        self.flying: dict = {}  # future → place in the grid
        self.lost: set[int] = set()  # their process died: not for this one, which should not
        self.kept = 0

    def waiting(self) -> list[int]:
        """What nobody but this process trains, in order; the first is what it is at, or next."""
        taken = {*self.flying.values(), *self.lost}
        return [i for i in self.job.left if i not in taken]

    def start(self):
        """Start the processes, each with a run; if that cannot be, `why` says so."""
        import cloudpickle

        if self.started:
            return
        # Every process computes in the precision that this machine would take.
        self.precision = "bf16" if machine.bf16_is_fast() else "fp32"
        self.packed = cloudpickle.dumps(self.job.lab)
        try:
            self.feed()
        except OSError as error:  # no semaphores, no room for another process
            self.why = f"no processes can be started here ({error})"
            return
        self.started = True
        self.job.notes.append(f"side by side in {self.count + 1} processes")

    def feed(self):
        """Give the next runs to processes that have nothing to do."""
        from loky import get_reusable_executor

        idle = self.count - sum(not future.done() for future in self.flying)
        again = self.lost.difference(self.flying.values(), self.job.done)
        for i in [*sorted(again), *self.waiting()[1:]][:idle]:
            config = self.job.configs[i]
            config = config.but(precision=config.precision or self.precision)
            # Those of the last sweep, or new ones in place of what has gone.
            self.pool = get_reusable_executor(self.count, timeout=IDLE, env=ENVIRONMENT)
            with contextlib.suppress(BrokenProcessPool):  # gone just now: the next call mends it
                self.flying[self.pool.submit(train, self.packed, i, config, True)] = i

    def take(self):
        """Take in what has come back. A process that died is told, and its run starts once more."""
        broken = []
        for future in [future for future in self.flying if future.done()]:
            if isinstance(future.exception(), BrokenProcessPool):
                broken.append(self.flying.pop(future))
            else:
                self._arrived(*future.result())
                del self.flying[future]
        if broken and self.lost:
            raise RuntimeError(
                f"a process that was training ended twice without a word, often for lack of "
                f"memory; {len(self.job.done)} of {len(self.job.configs)} runs are in the store, "
                "and resume=True, parallel=False goes on with the rest")
        if broken:
            self.lost.update(broken)
            print("ftkit: a process that was training ended without a word; what had not come "
                  f"back starts once more ({len(broken)} of {len(self.job.configs)} runs)",
                  file=sys.stderr)
            self.job.notes.append("a process died, its runs were run again")

    def _arrived(self, i, happened, blob):
        self.kept += len(blob)
        if self.kept <= KEEP_BYTES:
            happened.model, happened.tokenizer = _rebuilt(self.job.lab, happened.config, blob)
        else:
            happened.notes.append("trained elsewhere; its model was not sent back")
        self.job.arrived(i, happened)

    def finish(self):
        """Wait for what is still going on."""
        while self.started and self.job.left and not self.job.interrupted:
            self.feed()
            self.job.say(min(self.job.left))
            wait(self.flying, timeout=1, return_when=FIRST_COMPLETED)
            self.take()

    def close(self):
        """After an error or an interrupt: keep what is whole, end what is not."""
        whole = [f for f in self.flying if f.done() and not f.exception()]
        if self.flying:
            self.pool.shutdown(kill_workers=True)
        for future in whole:
            self._arrived(*future.result())


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
    if not job.left:
        return
    import cloudpickle

    precision = "bf16" if machine.bf16_is_fast() else "fp32"  # of this machine, on every worker
    packed = cloudpickle.dumps(job.lab)
    job.say(job.left[0])
    with joblib.parallel_config(backend, n_jobs=-1):
        # Some backends hand results over in order only; joblib says so, and nothing is lost by it.
        pool = joblib.Parallel(return_as="generator_unordered", batch_size=1)
        results = pool([
            joblib.delayed(train)(packed, i, config.but(precision=config.precision or precision))
            for i, config in [(i, job.configs[i]) for i in job.left]])
        try:
            for i, happened, _ in results:
                happened.notes.append("trained elsewhere; its model was not sent back")
                job.arrived(i, happened)
                if job.left:
                    job.say(job.left[0])
        finally:
            results.close()


def _not_sendable(lab) -> str:
    import cloudpickle

    try:
        cloudpickle.dumps(lab)
        return ""
    except Exception as error:  # whatever a metric of the user's own raises when it is pickled
        return f"this experiment cannot be sent to another process ({error})"


_one_at_a_time = threading.Lock()  # torch's random state belongs to the whole process


def train(packed: bytes, i: int, config, weights: bool = False):
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
