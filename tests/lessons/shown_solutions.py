"""The solutions that learners are shown, and mistakes that are small edits of these."""

from __future__ import annotations

import functools
import inspect
import math

import torch

from ftkit.lessons import hints
from ftkit.lessons.exercises import interview

SECTIONS = {name: section for name, section in hints.read_all().items()
            if name not in interview.tasks()}


@functools.cache
def shown(name: str):
    """What the solution of an exercise defines: the candidate that `ft.check` gets."""
    names: dict = {}
    exec(compile(SECTIONS[name].code, f"<solution of {name}>", "exec"), names)
    last = [value for defined, value in names.items() if defined != "__builtins__"][-1]
    return names.get(name, last)


def edited(base, *changes: str):
    """The solution `base` (the name of a shown one, or a function) with old, new, old, new, ...
    replaced in its code. Each old text must be there exactly once."""
    if isinstance(base, str):
        code, names = SECTIONS[base].code, {"math": math, "torch": torch}
    else:
        code, names, base = inspect.getsource(base), dict(base.__globals__), base.__name__
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert code.count(old) == 1, f"{base}: {old!r} is there {code.count(old)} times"
        code = code.replace(old, new)
    exec(code, names)
    return names[base]
