"""ftkit: learn to fine-tune language models by doing it.

These are the names to build on, in the order the data flows. `ftkit.by_hand`, `ftkit.teaching` and
`ftkit.inside` have the others that lessons use; everything else may change without notice. Names
are imported when first used, so `import ftkit` is cheap.
"""

import sys

from ftkit.base.public_names import public_names

__all__, __getattr__, __dir__ = public_names(__name__, {
    "setup": "base.machine.setup",
    "records": "data.schema.records",
    "split": "data.split_and_corrupt.split",
    "corrupt": "data.split_and_corrupt.corrupt",
    "mix": "data.mixing.mix",
    "encode": "data.encoding.encode",
    "show_batch": "data.encoding.show_batch",
    "load": "model.loading.load",
    "Config": "base.config.Config",
    "Experiment": "experiment.experiment.Experiment",
    "Run": "experiment.run.Run",
    "runs": "experiment.store.runs",
    "load_run": "experiment.store.load_run",
    "recorded": "experiment.recorded.recorded",
    "answers": "evaluate.scoring.answers",
    "exact_match": "evaluate.scoring.exact_match",
    "probe_scores": "evaluate.scoring.probe_scores",
    "loss_on": "evaluate.scoring.loss_on",
    "load_probes": "evaluate.scoring.load_probes",
    "curves": "report.plots.curves",
    "scatter": "report.plots.scatter",
    "table": "report.table.table",
    "compare": "experiment.comparison.compare",
    "run_report": "experiment.run_report.run_report",
    "LiveCallback": "experiment.trainer_callback.LiveCallback",
    "memory": "memory_use.footprint.memory",
    "what_if": "notebook.what_if.what_if",
    "predict": "lessons.predictions.predict",
    "expect": "lessons.claims.expect",
    "check": "lessons.checks.check",
    "hint": "lessons.hints.hint",
    "solution": "lessons.hints.solution",
    "glossary": "lessons.glossary.glossary",
    "progress": "interview.progress.progress",
    "placement": "interview.placement.placement",
    "drill": "interview.drill.drill",
})
__version__ = "0.3.0"


if "ipykernel" in sys.modules:  # in a notebook, before its first widget
    from ftkit.notebook.kernel import keep_frontend_routing

    keep_frontend_routing()
