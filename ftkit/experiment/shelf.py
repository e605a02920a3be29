"""Limit the memory of finished runs' models: older models are moved to temporary files.

Otherwise a sweep of SmolLM2 would keep half a GB per run, though most lessons only use the
curves. `Run.model` is a descriptor (`Slot`) that loads a model when it is used.
"""

from __future__ import annotations

import gc
import tempfile
import threading
import weakref
from typing import Any

from ftkit.base import machine

KEEP_BYTES = 512 * 2**20  # of all finished models; the newest is always kept
_lock = threading.RLock()
_kept: list[weakref.ref[Held]] = []  # models of finished runs, the most recently used last


class Held:
    """A model that is in memory or in a temporary file."""

    def __init__(self, model):
        self.model, self.file = model, None
        self.elsewhere: Any = None  # a weak reference to the model that was written
        parameters = getattr(model, "parameters", list)  # any other object counts nothing
        self.nbytes = sum(p.nbytes for p in parameters())

    def get(self):
        """Return the model, loaded if necessary. If it is still referenced elsewhere, that object
        is returned, not a copy."""
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
        """Mark the model as finished and most recently used. Move the least recently used models
        to disk until the others fit into KEEP_BYTES."""
        with _lock:
            _kept[:] = [ref for ref in _kept if ref() not in (None, self)] + [weakref.ref(self)]
            held = [held for ref in _kept if (held := ref()) and held.model is not None]
            total = sum(each.nbytes for each in held)
            for older in held[:-1]:
                if total > KEEP_BYTES and older.write():
                    total -= older.nbytes
                    gc.collect()  # modules refer to themselves in circles

    def write(self) -> bool:
        """Move the model to a temporary file. Returns False if that fails; the model then stays in
        memory."""
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
    """Descriptor for `Run.model`, which stores the model as a `Held`."""

    def __get__(self, run, owner=None) -> Any:
        held = None if run is None else run.__dict__.get("_held")
        return held and held.get()

    def __set__(self, run, model):
        is_none = model is None or model is self  # self: the default of the field
        run.__dict__["_held"] = held = None if is_none else Held(model)
        if held and held.nbytes and run.__dict__.get("after"):  # a finished run, copied
            held.rest()


def finished(run):
    """Allow the model of a finished run to be moved to disk when others are used."""
    run.__dict__["_held"].rest()
