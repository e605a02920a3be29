"""Tasks of coding interviews, with one check for all of them.

A line of `interview.jsonl` has the level and the text of a task, code that makes `cases` (tuples of
arguments), and common mistakes: an edit of the shown solution, old and new text, and the sentence
that names it. A candidate is compared with the solution in `interview.md` on each case. If one of
the mistaken solutions gives what the candidate gives on all cases, its sentence is told.
"""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ftkit.base import json_lines, machine
from ftkit.lessons import hints
from ftkit.lessons.checks import _describe, exercise


class Task(NamedTuple):
    """name, level and text; `cases`: Python code; mistakes: [old, new, what is wrong] each."""

    name: str
    level: str
    prompt: str
    cases: str
    mistakes: list[list[str]]

    @property
    def stub(self) -> str:
        """The signature and docstring of the solution, and a gap."""
        head, quotes, rest = hints.read_all()[self.name].code.partition('"""')
        return f"{head}{quotes}{rest.partition(quotes)[0]}{quotes}\n    ...\n"

    def solution(self, old: str = "", new: str = "") -> Callable:
        """The shown solution, or one with a mistake put in."""
        return _defined(hints.read_all()[self.name].code.replace(old, new, 1))[self.name]

    def judge(self, candidate: Callable) -> str | None:
        """None for a right candidate, else its first failing case and what is wrong."""
        cases = _defined(self.cases)["cases"]
        right, given = (_results(function, cases) for function in (self.solution(), candidate))
        failing = next((i for i, r in enumerate(right) if not _same(given[i], r)), None)
        if failing is None:
            return None
        arguments = ", ".join(map(_describe, cases[failing]))
        why = next((f": {told}" for old, new, told in self.mistakes if all(map(
            _same, given, _results(self.solution(old, new), cases)))), "")
        return (f"{self.name}({arguments}) gave {_short(given[failing])}; expected "
                f"{_short(right[failing])}{why}")


@functools.cache
def tasks() -> dict[str, Task]:
    """Name → task, in the order of the file."""
    path = machine.package() / "lessons" / "exercises" / "interview.jsonl"
    return {line["name"]: Task(**line) for line in json_lines.read(path, damaged="raise")}


def _defined(code: str) -> dict[str, Any]:
    import torch

    names: dict[str, Any] = {"math": math, "torch": torch}
    exec(code, names)
    return names


def _results(function: Callable, cases) -> list:
    """What a function returns for each case; an exception of a mistaken solution is a result."""
    results = []
    for case in cases:
        try:
            results.append(function(*copy.deepcopy(case)))
        except Exception as error:  # noqa: BLE001  the candidate's code may raise anything
            if function.__code__.co_filename != "<string>":
                raise
            results.append(error)
    return results


def _same(a, b) -> bool:
    """Whether two results agree: tensors in shape and value, numbers nearly, the rest exactly."""
    import torch

    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and torch.allclose(a.double(), b.double(), 1e-4, 1e-6,
                                                     equal_nan=True)
    if isinstance(a, list | tuple) or isinstance(b, list | tuple):
        return (isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b)
                and all(map(_same, a, b)))
    if isinstance(a, bool | str | Exception) or isinstance(b, bool | str | Exception):
        return a == b
    try:
        return math.isclose(float(a), float(b), rel_tol=1e-4, abs_tol=1e-6)
    except (TypeError, ValueError):  # not two numbers
        return False


def _short(value) -> str:
    """A result in at most 120 characters, tensors with four digits."""
    import torch

    if isinstance(value, torch.Tensor):
        return str([round(v, 4) for v in value.flatten().tolist()[:9]])
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_short, value))})"[:120]
    return f"{value:.6g}" if isinstance(value, float) else repr(value)[:120]


for _task in tasks().values():
    exercise(_task.name)(_task.judge)
