"""Registering proofs: functions that compute one side of a claim, found by their names.

    @proof("count")
    def fp16_max(): ...               # returns a number, a pair (left, right), or an Evidence

    @proof("run", trains=True)
    def leak_sign(seed): ...          # trains the embedded model; takes the seed of its runs

    register("count", to_gib=lambda: ...)   # proofs of one expression, as a table

The first argument says what a proof is, one of KINDS.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

KINDS = {
    "run": "a model is trained or evaluated",
    "count": "parameters, bytes, operations, tokens or outcomes of real objects are counted",
    "simulation": "random draws, or a schedule or rounding played through",
    "arithmetic": "a formula is evaluated",
}


@dataclasses.dataclass(frozen=True)
class Proof:
    """A registered proof.

    compute: returns a number, a pair (left, right) for a comparison, or an Evidence. trains: it
    trains the embedded model for some seconds, and takes the seed. kind: one of KINDS.
    """

    name: str
    compute: Callable[..., Any]
    trains: bool = False
    kind: str = "arithmetic"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The result of a proof. right: the other side of a comparison. The picture shows `bars`
    (label → number), or the measures `keys` of `runs` (label → Run)."""

    left: float
    right: float | None = None
    bars: dict[str, float] | None = None
    runs: dict[str, Any] | None = None
    keys: tuple[str, ...] = ()


PROOFS: dict[str, Proof] = {}


def register(kind: str, trains: bool = False, **functions: Callable[..., Any]):
    """Register functions as proofs by name. Raises ValueError for an unknown kind or a name that
    is taken."""
    if kind not in KINDS:
        raise ValueError(f"the kind of a proof is {kind!r}; expected one of {', '.join(KINDS)}")
    for name, function in functions.items():
        if name in PROOFS:
            raise ValueError(f"two proofs are called {name!r}")
        PROOFS[name] = Proof(name, function, trains, kind)


def proof(kind: str, trains: bool = False) -> Callable:
    """Decorator: register a function under its own name."""
    def decorate(function):
        register(kind, trains, **{function.__name__: function})
        return function

    return decorate
