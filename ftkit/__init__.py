"""ftkit: learn to fine-tune language models by doing it.

The names below are the whole public surface, in the order the data flows. They are imported when
first used, so that `import ftkit` costs little compared with the work that follows it.
"""

from __future__ import annotations

import importlib
import sys

_WHERE = {
    "base.machine": ("setup",),
    "data.schema": ("records",),
    "data.split_and_corrupt": ("split", "corrupt"),
    "data.mixing": ("mix",),
    "data.encoding": ("encode", "show_batch"),
    "model.loading": ("load",),
    "base.config": ("Config",),
    "experiment.experiment": ("Experiment",),
    "experiment.run": ("Run",),
    "experiment.store": ("runs", "load_run"),
    "experiment.recorded": ("recorded",),
    "evaluate.scoring": ("answers", "exact_match", "probe_scores", "loss_on", "load_probes"),
    "report.plots": ("curves", "scatter"),
    "report.table": ("table",),
    "experiment.comparison": ("compare",),
    "experiment.trainer_callback": ("LiveCallback",),
    "memory_use.footprint": ("memory",),
    "notebook.what_if": ("what_if",),
    "lessons.predictions": ("predict",),
    "lessons.claims": ("expect",),
    "lessons.checks": ("check",),
    "lessons.hints": ("hint", "solution"),
    "lessons.glossary": ("glossary",),
    "interview.progress": ("progress",),
    "interview.drill": ("drill",),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = list(_MODULE)
__version__ = "0.2.0"


def __getattr__(name: str):
    if name not in _MODULE:
        known = ", ".join(__all__)
        raise AttributeError(f"module 'ftkit' has no attribute {name!r}; it has {known}")
    value = getattr(importlib.import_module(f"ftkit.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(list(globals()) + __all__)


if "ipykernel" in sys.modules:  # in a notebook, before its first widget
    from ftkit.notebook.kernel import keep_frontend_routing

    keep_frontend_routing()
