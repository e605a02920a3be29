"""Checks that several lessons share: a number, a table to be filled in, a run with limits.

Each returns None for what is right, or the message that the learner reads.
"""

from __future__ import annotations

from collections.abc import Collection

from ftkit.lessons.claims import near


def check_number(case: str, number: float, expected: float,
                 mistakes: dict[float, str] | None = None, tolerance: float = 1e-3) -> str | None:
    """The number must be within a fraction `tolerance` of `expected`.

    case: the call that gave the number. mistakes: what a common mistake gives → what it is.
    """
    if near(number, expected, tolerance):
        return None
    for value, mistake in (mistakes or {}).items():
        if near(number, value, tolerance):
            return f"{case} gave {number:,.6g}: {mistake}"
    return f"{case} gave {number:,.6g}; expected {expected:,.6g}"


def check_choices(answers: dict[str, str], accepted: Collection[str]) -> str | None:
    """Every answer must be one of `accepted`. Raises NotImplementedError, which `ft.check` takes
    for "not solved yet", where the stub's `...` is left."""
    if not isinstance(answers, dict) or any(a in ("...", ..., None) for a in answers.values()):
        raise NotImplementedError
    for question, answer in answers.items():
        if answer not in accepted:
            return f"{question}: {answer!r} is not one of {', '.join(accepted)}"
