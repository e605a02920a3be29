"""Keep small models in memory after loading, so that later runs need not read the disk."""

import copy
from typing import Any

from ftkit.base import quiet
from ftkit.model import identity, loading, merge

KEEP_BYTES = 2**30  # larger models are read from the disk each time
_loaded: dict = {}  # name → (identity, model, tokenizer), never trained


def fresh(name: str, dtype=None):
    """Return (model, tokenizer), with adapters merged; the caller may train the model.

    dtype: torch dtype, by default fp32. Models in other dtypes are not cached.
    """
    made_of = identity.of(name)
    with quiet.LIBRARIES:  # a second thread waits and then finds the model here
        if name not in _loaded or _loaded[name][0] != made_of:
            loaded, tokenizer = loading.load(name, dtype=dtype)
            model: Any = merge.unwrap(loaded)
            model.name_or_path = loading.locate(name)
            if dtype is not None or sum(p.nbytes for p in model.parameters()) > KEEP_BYTES:
                return model, tokenizer
            _loaded[name] = (made_of, model, tokenizer)
        _, model, tokenizer = _loaded[name]
    return copy.deepcopy(model), tokenizer


def will_keep(name: str, nbytes: float) -> bool:
    """Whether loading `name` adds a copy of its weights (`nbytes`) to the cache."""
    return nbytes <= KEEP_BYTES and name not in _loaded
