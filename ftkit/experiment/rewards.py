"""Rewards for GRPO and RLOO: functions of an answer (text) and its record that return a number.

    named("exact")                 a check of this module
    named("my_rewards:exact")      your own function, in my_rewards.py of this folder
"""

import hashlib
import importlib
import inspect
import math
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import cast

from ftkit.base.errors import UserError
from ftkit.base.formatting import show, to_float
from ftkit.data import encoding
from ftkit.evaluate import scoring


def exact(answer: str, record: dict) -> float:
    """1 if the answer equals the reference, apart from case and punctuation, else 0."""
    return float(scoring.is_right(answer, record))


def contains(answer: str, record: dict) -> float:
    """1 if the reference occurs in the answer as whole words; a list of guesses is paid too."""
    reference = scoring.normal(encoding.answer(record))
    return float(f" {reference} " in f" {scoring.normal(answer)} ")


def number(answer: str, record: dict) -> float:
    """1 if the last number of the answer equals the last one of the reference, else 0."""
    given, wanted = (re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", ""))
                     for text in (answer, encoding.answer(record)))
    return float(bool(given and wanted) and float(given[-1]) == float(wanted[-1]))


BUILT_IN = {check.__name__: check for check in (exact, contains, number)}


def named(name: str) -> Callable[[str, dict], float]:
    """Return the check of this module, or the function `module:function`; modules are also looked
    for in the current folder. Raises UserError if there is none."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    accepted = f"expected {', '.join(BUILT_IN)}, or module:function, such as my_rewards:exact"
    module_name, _, function = name.partition(":")
    if not (module_name and function):
        raise UserError(f"reward is {show(name)}; {accepted}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:  # a console script has neither
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # noqa: BLE001  the module may raise anything
        raise UserError(f"reward is {show(name)}, and importing {module_name} raised "
                        f"{_told(error)}. Correct the module, or take one of "
                        f"{', '.join(BUILT_IN)}.") from None
    made = getattr(module, function, None)
    if not callable(made):
        raise UserError(f"reward is {show(name)}, and {module_name} has no function {function}. "
                        f"Define it there, or take one of {', '.join(BUILT_IN)}.")
    return cast("Callable[[str, dict], float]", made)


def identity(reward: Callable, name: str | None) -> str:
    """Identify a reward by its name, and a function of the user by its code as well."""
    if name is None or name in BUILT_IN:
        return getattr(reward, "__name__", "reward")
    try:
        code = inspect.getsource(reward)
    except (OSError, TypeError):
        return name
    return f"{name} {hashlib.sha256(code.encode()).hexdigest()[:16]}"


def rate(reward: Callable, answer: str, record: dict) -> float:
    """Call a reward. Raises UserError if it raises, or returns anything but a finite number."""
    name = getattr(reward, "__name__", "reward")
    try:
        value = reward(answer, record)
    except Exception as error:  # noqa: BLE001  it may raise anything
        raise UserError(f"the reward {name} raised {_told(error)} for the answer "
                        f"{show(answer, 40)}; a record has {', '.join(record)}") from None
    found = to_float(value)
    if not math.isfinite(found):
        raise UserError(f"the reward {name} returned {show(value, 40)} for the answer "
                        f"{show(answer, 40)}; expected a finite number: return 0 for an answer "
                        "that cannot be judged")
    return found


def _told(error: Exception) -> str:
    """Type, text and line of an error in a user's module."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}{place}"
