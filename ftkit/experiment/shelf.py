"""Keeps the models of finished runs within bounds: older ones wait in temporary files.

A sweep of SmolLM2 would otherwise hold half a GB per run, though most lessons read only its
curves. `Run.model` is a `Slot`, which reads a model back when it is used.
"""

from __future__ import annotations

import gc
import tempfile
import threading
import weakref
from typing import Any

from ftkit.base import machine

KEEP_BYTES = 512 * 2**20  # of all finished models; the newest is kept whatever its size
_lock = threading.RLock()
_kept: list[weakref.ref[Held]] = []  # models of finished runs, the one used last at the end


class Held:
    """A model, in memory or in a temporary file."""

    def __init__(self, model):
        self.model, self.file = model, None
        self.elsewhere: Any = None  # a weak reference to the model that was written
        parameters = getattr(model, "parameters", list)  # any other object counts nothing
        self.nbytes = sum(p.nbytes for p in parameters())

    def get(self):
        """The model. One that is still referenced elsewhere is returned itself, not a copy."""
        import torch

        with _lock:
            if self.file is not None:
                self.file.seek(0)
                self.model = self.elsewhere() or torch.load(self.file, weights_only=False)
                self.file.close()
                self.file = None
            if any(ref() is self for ref in _kept):
                self.rest()
            return self.model

    def rest(self):
        """Mark it as finished and used last; write others, the longest unused first, to disk until
        the rest fit into KEEP_BYTES."""
        with _lock:
            _kept[:] = [ref for ref in _kept if ref() not in (None, self)] + [weakref.ref(self)]
            held = [held for ref in _kept if (held := ref()) and held.model is not None]
            total = sum(each.nbytes for each in held)
            for older in held[:-1]:
                if total > KEEP_BYTES and older.write():
                    total -= older.nbytes
                    gc.collect()  # modules refer to themselves in circles

    def write(self) -> bool:
        """Move the model to a temporary file; False if it cannot be written and stays."""
        import torch

        file = None
        try:
            machine.home().mkdir(parents=True, exist_ok=True)
            file = tempfile.TemporaryFile(dir=machine.home())  # noqa: SIM115  open until it is read
            torch.save(self.model, file)
        except Exception:  # noqa: BLE001  no room, or something in it that cannot be pickled
            if file is not None:
                file.close()
            return False
        self.model, self.file, self.elsewhere = None, file, weakref.ref(self.model)
        return True

    def __reduce__(self):  # a copy of the run has a copy of the model
        return Held, (self.get(),)


class Slot:
    """The attribute `Run.model`."""

    def __get__(self, run, owner=None) -> Any:
        held = None if run is None else run.__dict__.get("_held")
        return held and held.get()

    def __set__(self, run, model):
        is_none = model is None or model is self  # self: the default of the field
        run.__dict__["_held"] = held = None if is_none else Held(model)
        if held and held.nbytes and run.__dict__.get("after"):  # a finished run, copied
            held.rest()


def finished(run):
    """Allow the model of a run that is over to be written to disk when others are used."""
    run.__dict__["_held"].rest()
