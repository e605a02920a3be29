"""Proofs of the answers in the bank: a computation or a short run, and the claim it must meet.

    claim = prove("states_7b", {"op": "==", "number": 107.8, "within": 0.005, ...})
    claim.holds(); claim.found.bars; draw(claim)

The bank says what is claimed (operator, number, unit, tolerance); a proof finds the left side by
another road: counted by transformers or peft, weighed in bytes by torch, simulated, or measured on
the embedded model. A claim that holds must break when its number is changed by a tenth or its
comparison is turned round; `mutations` makes these, and a test holds every proof to it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable

from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, number
from ftkit.lessons.claims import OPERATORS

MODULES = ("memory", "lora", "numbers", "loss", "evaluation", "runs")
GAP = 0.05  # a comparison must hold by this share of its larger side, or chance could turn it
PROOFS: dict[str, Proof] = {}
SEED = 0


@dataclasses.dataclass(frozen=True)
class Proof:
    """`work` returns a number, a pair (left, right) for a comparison, or a Found; `trains` says
    that it runs the embedded model for seconds."""

    name: str
    work: Callable
    trains: bool = False


@dataclasses.dataclass(frozen=True)
class Found:
    """What a proof found: `right` for comparisons; `runs` (label → Run) with `keys` and `bars`
    (label → number) are for the picture."""

    left: float
    right: float | None = None
    bars: dict | None = None
    runs: dict | None = None
    keys: tuple = ()


@dataclasses.dataclass(frozen=True)
class Claim:
    """`left op right`, with what it says; "==" allows `within`, a share of the right side."""

    says: str
    left: float
    op: str
    right: float
    unit: str = ""
    within: float = 0.01
    found: Found | None = None

    def holds(self) -> bool:
        """Whether it is so; never for nan. A comparison needs a gap of 5 % of its larger side."""
        if not (math.isfinite(self.left) and math.isfinite(self.right)):
            return False
        if self.op in ("==", "!="):
            near = abs(self.left - self.right) <= self.within * abs(self.right)
            return near == (self.op == "==")
        gap = abs(self.left - self.right) > GAP * max(abs(self.left), abs(self.right))
        return gap and bool(OPERATORS[self.op](self.left, self.right))

    def mutations(self) -> list[Claim]:
        """False neighbors: the number 10 % up and down and "!=", or the comparison reversed."""
        if self.op == "==":
            return [dataclasses.replace(self, right=self.right * 1.1),
                    dataclasses.replace(self, right=self.right * 0.9),
                    dataclasses.replace(self, op="!=")]
        turned = {"<": ">", ">": "<", "!=": "=="}
        return [dataclasses.replace(self, op=turned[self.op])]

    def __repr__(self):
        unit = f" {self.unit}" if self.unit else ""
        sides = f"{number(self.left)} {self.op} {number(self.right)}{unit}"
        return clean(f"{'✓' if self.holds() else '✗'} {self.says}: {sides}")


def proof(name: str, trains: bool = False):
    """Register a function as the proof called `name`."""
    def register(work):
        if name in PROOFS:
            raise UserError(f"two proofs are called {name!r}")
        PROOFS[name] = Proof(name, work, trains)
        return work

    return register


@functools.cache
def load() -> dict[str, Proof]:
    """All proofs, name → Proof; torch is imported when one is run."""
    for module in MODULES:
        importlib.import_module(f"ftkit.interview.proofs.{module}")
    return PROOFS


def prove(stated: dict, seed: int = 0) -> Claim:
    """Run the proof that an entry of a question's "proofs" names; returns the claim, unjudged.

    seed: of the runs that a proof makes. Raises ValueError for a name that no proof has.
    """
    known = load()
    if stated["proof"] not in known:
        raise UserError(f"no proof is called {stated['proof']!r}; known: {', '.join(known)}")
    global SEED
    before, SEED = SEED, seed
    try:
        found = known[stated["proof"]].work()
    finally:
        SEED = before
    if isinstance(found, tuple):
        found = Found(*map(float, found))
    elif not isinstance(found, Found):
        found = Found(float(found))
    right = stated["number"] if "number" in stated else found.right
    if right is None:
        raise UserError(f"the proof {stated['proof']!r} has nothing to compare with")
    return Claim(stated["says"], float(found.left), stated["op"], float(right),
                 stated.get("unit", ""), stated.get("within", 0.01), found)


def sides(says: str, op: str) -> tuple[str, str]:
    """Names of the two sides of a claim, for its bars: "what: left, right" in a comparison."""
    if op == "==":
        return "found", "stated"
    names = says.rpartition(": ")[2].split(", ") if ": " in says else says.split(", ")
    return (names[0], names[-1]) if len(names) > 1 else ("left", "right")


def draw(claim: Claim):
    """A picture of a proof: the curves of its runs, or bars of its parts; its sentence below."""
    from ftkit.report import plots
    from ftkit.report.style import COLORS, Picture, log_if_wide, new_figure, short, style

    found = claim.found
    if found is not None and found.runs:
        picture = plots.curves(found.runs, *found.keys)
        return Picture(picture.figure, f"{claim!r}. {picture.text}")
    left, right = sides(claim.says, claim.op)
    bars = dict((found and found.bars) or {left: claim.left, right: claim.right})
    fine = {clean(k): v for k, v in bars.items() if math.isfinite(v)}
    with style():
        figure = new_figure(7.2, 0.55 + 0.38 * max(2, len(fine)))
        ax = figure.add_axes((0.36, 0.3, 0.5, 0.66))
        values = list(fine.values())
        ax.barh(range(len(fine)), values, height=0.62,
                color=[COLORS[i % len(COLORS)] for i in range(len(fine))])
        ax.set_yticks(range(len(fine)), [short(k, 42) for k in fine], parse_math=False)
        ax.invert_yaxis()
        if min(values) > 0:
            log_if_wide(ax, "x", values)
        for row, value in enumerate(values):
            ax.annotate(f"{number(value)} {claim.unit}".strip(), (value, row), (4, 0),
                        textcoords="offset points", va="center", parse_math=False,
                        annotation_clip=False)
        ax.set_xlabel(clean(claim.unit), parse_math=False)
    return Picture(figure, repr(claim))
