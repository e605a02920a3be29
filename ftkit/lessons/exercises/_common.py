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


def check_run(run, max_steps: int, val_loss: float, kept: str, rise: float, too_little: str,
              too_much: str) -> str | None:
    """A run must end below `val_loss` within `max_steps`, and its measure `kept` may rise by at
    most `rise`. too_little, too_much: the advice for a run that learns or changes so."""
    if len(run.rows) > max_steps:
        return f"{len(run.rows)} steps; at most {max_steps} are allowed"
    if not run.change(kept) <= rise:
        return f"{kept} rose by {run.change(kept):.2f}, at most {rise} is allowed: {too_much}"
    if not run.after["val_loss"] < val_loss:
        return f"val_loss ended at {run.after['val_loss']:.2f}, not below {val_loss}: {too_little}"
