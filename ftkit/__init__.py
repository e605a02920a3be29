"""ftkit: learn to fine-tune language models by doing it.

The names below are the whole public surface, in the order the data flows. They are imported when
first used, so that `import ftkit` costs nothing beside the work that follows it.
"""

from __future__ import annotations

import importlib
import sys

_WHERE = {
    # the machine and the data
    "setup": "machine", "records": "data", "split": "data", "mix": "data", "corrupt": "data",
    # tokens and models
    "encode": "tokens", "show_batch": "tokens", "load": "models", "answers": "evaluate",
    # asking and answering
    "Config": "config", "Experiment": "experiment", "Run": "run", "runs": "run", "load_run": "run",
    # measuring
    "exact_match": "evaluate", "probe_scores": "evaluate", "loss_on": "evaluate",
    "load_probes": "evaluate",
    # looking
    "curves": "plots", "scatter": "plots", "table": "plots",
    "compare": "causal", "LiveCallback": "callback",
    "memory": "footprint",
    # playing
    "what_if": "whatif",
    # learning
    "predict": "claims", "expect": "claims", "check": "claims",
    "drill": "drilling",
}

__all__ = list(_WHERE)
__version__ = "0.1.0"


def __getattr__(name: str):
    if name not in _WHERE:
        known = ", ".join(__all__)
        raise AttributeError(f"module 'ftkit' has no attribute {name!r}; it has {known}")
    value = getattr(importlib.import_module(f"ftkit.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(list(globals()) + __all__)


if "ipykernel" in sys.modules:  # in a notebook, before its first widget
    from ftkit.kernel import keep_frontend_routing

    keep_frontend_routing()
