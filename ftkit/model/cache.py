"""Small models loaded by name stay in memory, so that a second run need not read the disk."""

from __future__ import annotations

import copy
from typing import Any

from ftkit.model import loading, merge

KEEP_BYTES = 2**30  # weights of a model that is larger than this are read from the disk each time
_loaded: dict = {}  # name → (model, tokenizer), never trained


def fresh(name: str, dtype=None):
    """(model, tokenizer) as loaded from `name`, adapters merged; the caller may train the model.
    dtype: in which a model that is not kept is loaded, by default fp32."""
    if name not in _loaded:
        loaded, tokenizer = loading.load(name, dtype=dtype)
        model: Any = merge.unwrap(loaded)
        model.name_or_path = loading.locate(name)
        if dtype is not None or sum(p.nbytes for p in model.parameters()) > KEEP_BYTES:
            return model, tokenizer
        _loaded[name] = (model, tokenizer)
    model, tokenizer = _loaded[name]
    return copy.deepcopy(model), tokenizer


def will_keep(name: str, nbytes: float) -> bool:
    """Whether loading `name` will leave a copy of its weights in memory that is not there yet."""
    return nbytes <= KEEP_BYTES and name not in _loaded
