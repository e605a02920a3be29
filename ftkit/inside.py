"""The parts of the package that lessons take apart, and that you can use in your own code.

    from ftkit.inside import collate, encode_all, shuffled
"""

from ftkit.base.public_names import public_names

__all__, __getattr__, __dir__ = public_names(__name__, {
    # from records to batches
    "shipped_folder": "base.machine.share",
    "audit": "data.audit",
    "convert": "data.convert",
    "problems_in": "data.schema.problems_in",
    "mixing": "data.mixing",
    "validation_sample": "experiment.inputs.some",
    "prompts": "data.encoding.prompts",
    "encode_all": "data.encoding.encode_all",
    "pack": "data.encoding.pack",
    "collate": "data.encoding.collate",
    # models and training
    "is_fetched": "model.download.has",
    "adapt": "model.loading.adapt",
    "count_parameters": "model.loading.count",
    "spacing": "model.rounding.spacing",
    "shuffled": "engine.loop.shuffled",
    "schedule": "engine.loop.schedule",
    "preferences": "experiment.preferences",
    "distillation": "experiment.distillation",
    "preference_losses": "experiment.preference_losses",
    "to_script": "notebook.to_script",
    # answers and measures
    "generate": "engine.generation.generate",
    "is_right": "evaluate.scoring.is_right",
    "normal": "evaluate.scoring.normal",
    "judge": "evaluate.pairwise.judge",
    "metrics": "evaluate.metrics",
    "perplexity": "evaluate.perplexity",
    # a tuned model in other programs
    "export": "model.export.export",
    "gguf_file": "model.gguf_file",
    "parity": "evaluate.parity",
    # memory, and several devices
    "Calculator": "notebook.memory_calculator.Calculator",
    "GPUS": "memory_use.model_shapes.GPUS",
    "Meter": "memory_use.meter.Meter",
    "charts": "memory_use.charts",
    "measure": "memory_use.measure",
    "zero_states": "memory_use.formula.zero_states",
    "zero_simulator": "distributed.zero_simulator",
    "launch": "distributed.launch",
    # faults to find
    "pipeline": "lessons.bugs.pipeline",
    "zoo": "lessons.bugs.zoo",
    "rl_runs": "lessons.bugs.rl_runs",
    "bank": "interview.bank",
    "clinic": "interview.clinic",
    "proofs": "interview.proofs.core",
})
