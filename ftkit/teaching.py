"""What a lesson uses to draw and judge its results.

    from ftkit.teaching import direction, line_plot, sweep_curves
"""

from ftkit.base.public_names import public_names

__all__, __getattr__, __dir__ = public_names(__name__, {
    # judge
    "direction": "lessons.claims.direction",
    "difference": "base.significance.difference",
    "diagnose": "report.diagnose.diagnose",
    "working": "lessons.checks.working",
    # draw
    "at_135m": "lessons.at_135m.at_135m",
    "Frontier": "lessons.pictures_of_runs.Frontier",
    "best_values": "lessons.pictures_of_runs.best_values",
    "interval_plot": "lessons.pictures_of_runs.interval_plot",
    "line_plot": "lessons.pictures_of_runs.line_plot",
    "sweep_curves": "lessons.pictures_of_runs.sweep_curves",
})
