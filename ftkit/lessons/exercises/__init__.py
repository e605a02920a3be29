"""The checks behind `ft.check`: one module for each lesson, one function for each exercise.

    @exercise("double")
    def _(double):
        if double(3) != 6:
            return f"double(3) gave {double(3)!r}, expected 6"

A check gets what the learner wrote and returns None, or a message that names the failing case,
what was returned and what was expected. Hints and the solution are in `lesson_NN.md`; variants and
mistakes for the tests of lesson NN are in `tests/lessons/solutions_NN.py`. `interview` has the
tasks that interviews ask, for `ft.check` too.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
