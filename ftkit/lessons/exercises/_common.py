"""Checks that several lessons share. Each returns None or a message for the learner."""

import operator
from collections.abc import Callable, Collection, Iterable

from ftkit.lessons.checks import near


def check_number(case: str, number: float, expected: float,
                 mistakes: dict[float, str] | None = None, tolerance: float = 1e-3) -> str | None:
    """Compare `number` with `expected`, within the fraction `tolerance`.

    case: the call that gave the number. mistakes: value of a common mistake → its explanation.
    """
    if near(number, expected, tolerance):
        return None
    for value, mistake in (mistakes or {}).items():
        if near(number, value, tolerance):
            return f"{case} gave {number:,.6g}: {mistake}"
    return f"{case} gave {number:,.6g}; expected {expected:,.6g}"


def check_choices(answers: dict[str, str], accepted: Collection[str]) -> str | None:
    """Check that all answers are in `accepted`. Raises NotImplementedError (not solved yet) if a
    `...` of the stub is left."""
    if not isinstance(answers, dict) or any(a in ("...", ..., None) for a in answers.values()):
        raise NotImplementedError
    for question, answer in answers.items():
        if answer not in accepted:
            return f"{question}: {answer!r} is not one of {', '.join(accepted)}"


def told(given, right, mistakes: Iterable[tuple], otherwise: str,
         same: Callable = operator.eq) -> str | None:
    """None if `given` is `right`, else the message of the first mistake that gives the same.

    mistakes: pairs of a value and its message. otherwise: the message of any other value.
    """
    if same(given, right):
        return None
    return next((message for value, message in mistakes if same(given, value)), otherwise)


def close(a, b) -> bool:
    """Whether two tensors have one shape and nearly the same values."""
    return a.shape == b.shape and a.allclose(b, atol=1e-5)


def check_parts(result, count: int, what: str):
    """Raise AssertionError unless `result` is a tuple or list of `count` things, `what`."""
    if not isinstance(result, tuple | list) or len(result) != count:
        raise AssertionError(f"it returned {result!r:.80}; {what}")
