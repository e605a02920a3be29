"""Registering proofs: functions that compute one side of a claim, found by their names.

    @proof
    def fp16_max(): ...               # returns a number, a pair (left, right), or an Evidence

    @proof(trains=True)
    def leak_sign(seed): ...          # trains the embedded model; takes the seed of its runs

    register(to_gib=lambda: ...)      # proofs of one expression, as a table
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Proof:
    """compute: returns a number, a pair (left, right) for a comparison, or an Evidence; it takes
    the seed where `trains` says that it trains the embedded model, which takes seconds."""

    name: str
    compute: Callable[..., Any]
    trains: bool = False


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a proof computed: `right` for comparisons; `runs` (label → Run) with the measures
    `keys` to draw, or `bars` (label → number), are for the picture."""

    left: float
    right: float | None = None
    bars: dict[str, float] | None = None
    runs: dict[str, Any] | None = None
    keys: tuple[str, ...] = ()


PROOFS: dict[str, Proof] = {}


def register(trains: bool = False, **functions: Callable[..., Any]):
    """Register each function as the proof of that name."""
    for name, function in functions.items():
        if name in PROOFS:
            raise ValueError(f"two proofs are called {name!r}")
        PROOFS[name] = Proof(name, function, trains)


def proof(function: Callable | None = None, *, trains: bool = False) -> Callable:
    """Decorator: register a function as the proof of its own name."""
    def decorate(function):
        register(trains, **{function.__name__: function})
        return function

    return decorate(function) if function else decorate
