"""The models of finished runs within bounds: older ones rest on disk until they are asked for.

A sweep of SmolLM2 would otherwise keep half a GB for each run, though most lessons read only its
curves. `Run.model` is a `Slot`: nobody who reads it notices.
"""

from __future__ import annotations

import gc
import pickle
import tempfile
import threading
import weakref
from typing import Any

from ftkit.base import machine

KEEP_BYTES = 512 * 2**20  # of all models together; the newest is kept whatever its size
_lock = threading.RLock()
_kept: list[weakref.ref[Held]] = []  # those in memory, the one used last at the end


class Held:
    """A model, in memory or in a temporary file that disappears with it."""

    def __init__(self, model):
        self.model: Any = model
        self.file: Any = None
        self.elsewhere: Any = None  # a weak reference to the model that was put down
        self.nbytes = sum(p.nbytes for p in model.parameters())
        self.finished = False  # a model that is being trained stays where it is

    def get(self):
        with _lock:
            if self.model is None:
                # Who still has the model itself must not see a copy of it as well.
                self.model = self.elsewhere() or _read(self.file)
                self.file.close()
                self.file = self.elsewhere = None
            if self.finished:
                self.rest()
            return self.model

    def __reduce__(self):  # a copy of the run has a copy of the model
        return Held, (self.get(),)

    def rest(self):
        """From now on it may be put down; it is the one that was used last."""
        with _lock:
            self.finished = True
            _kept[:] = [ref for ref in _kept if ref() not in (None, self)] + [weakref.ref(self)]
            _trim()

    def put_down(self):
        """Write the model to disk and let go of it; one that cannot be written stays."""
        try:
            self.file = _write(self.model)
        except (OSError, RuntimeError, TypeError, AttributeError, pickle.PicklingError):
            return
        self.model, self.elsewhere = None, weakref.ref(self.model)


class Slot:
    """The attribute `Run.model`."""

    def __get__(self, run, owner=None) -> Any:
        held = None if run is None else run.__dict__.get("_held")
        return held and held.get()

    def __set__(self, run, model):
        if model is None or model is self:  # self: the default of the field
            run.__dict__["_held"] = None
        elif not hasattr(model, "parameters"):  # of a test
            run.__dict__["_held"] = Anything(model)
        else:
            run.__dict__["_held"] = held = Held(model)
            if run.__dict__.get("after"):  # a copy of a finished run with another model
                held.rest()


class Anything:
    """What is not a torch model is simply kept."""

    def __init__(self, model):
        self.model = model

    def get(self):
        return self.model

    def rest(self):
        pass


def finished(run):
    """The run is over, so its model may be put down when others are used."""
    run.__dict__["_held"].rest()


def _trim():
    """Put down models, the longest unused first, until the rest fit into KEEP_BYTES."""
    kept = [held for held in (ref() for ref in _kept) if held is not None]
    total, put_down = sum(held.nbytes for held in kept), False
    for held in kept[:-1]:
        if total <= KEEP_BYTES:
            break
        held.put_down()
        total -= held.nbytes
        put_down = True
    if put_down:
        gc.collect()  # modules refer to themselves in circles
    _kept[:] = [weakref.ref(held) for held in kept if held.model is not None]


def _write(model):
    import torch

    machine.home().mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=machine.home())  # noqa: SIM115  it is open while it is needed
    try:
        torch.save(model, file)
    except BaseException:
        file.close()
        raise
    return file


def _read(file):
    import torch

    file.seek(0)
    return torch.load(file, weights_only=False)  # written by this process
