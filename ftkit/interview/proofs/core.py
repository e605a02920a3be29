"""Proofs of the answers in the bank: a computation or a short run, and the claim it must meet.

    claim = prove({"proof": "states_7b", "op": "==", "number": 107.8, "within": 0.005, ...})
    claim.holds(); claim.kind; claim.evidence.bars; draw(claim)

The bank states a claim (operator, number, unit, tolerance). A proof computes the left side in
another way: counted by transformers or peft, measured in bytes by torch, simulated, or measured on
the embedded model. A comparison states between which factors its sides differ. A claim that holds
must fail when its number is changed by a tenth or its comparison is reversed; `mutations` makes
these changed claims, and a test checks every proof. `tests/interview/test_broken_proofs.py` breaks
the work behind most of them and sees them fail.
"""

from __future__ import annotations

import dataclasses
import math
import threading

from ftkit.base.errors import UserError
from ftkit.base.formatting import clean, number
from ftkit.interview.bank import StatedClaim
from ftkit.interview.proofs.registry import PROOFS, Evidence, Proof

ONE_AT_A_TIME = threading.Lock()  # proofs share models, a tokenizer and torch's random state


@dataclasses.dataclass(frozen=True)
class Claim:
    """`left op right`, and the sentence that states it.

    within: accepted relative error of "==". ratio: lowest and highest value of the side that is
    claimed to be smaller, divided by the other one.
    """

    says: str
    left: float
    op: str
    right: float
    unit: str = ""
    within: float = 0.01
    evidence: Evidence | None = None
    kind: str = ""  # of its proof, see `registry.KINDS`
    ratio: tuple[float, float] | None = None

    def holds(self) -> bool:
        """Whether it is true (never for nan)."""
        if not (math.isfinite(self.left) and math.isfinite(self.right)):
            return False
        if self.op in ("==", "!="):
            near = abs(self.left - self.right) <= self.within * abs(self.right)
            return near == (self.op == "==")
        small, large = (self.left, self.right) if self.op == "<" else (self.right, self.left)
        low, high = self.ratio or (-math.inf, math.inf)
        return small < large != 0 and low <= small / large <= high

    def mutations(self) -> list[Claim]:
        """False variants: the number 10 % up and down and "!=", or the comparison reversed."""
        if self.op == "==":
            return [dataclasses.replace(self, right=self.right * 1.1),
                    dataclasses.replace(self, right=self.right * 0.9),
                    dataclasses.replace(self, op="!=")]
        reversed_op = {"<": ">", ">": "<", "!=": "=="}[self.op]
        return [dataclasses.replace(self, op=reversed_op)]

    def __repr__(self):
        sides = f"{exact(self.left)} {self.op} {exact(self.right)} {self.unit}".strip()
        sides += f", {number(self.ratio[0])} to {number(self.ratio[1])} of it" if self.ratio else ""
        kind = f" ({self.kind})" if self.kind else ""
        return clean(f"{'✓' if self.holds() else '✗'} {self.says}: {sides}{kind}")


def exact(value: float) -> str:
    """A whole number from ten thousand on with all its digits: `39,976,960`."""
    return f"{value:,.0f}" if value >= 1e4 and value.is_integer() else number(value)


def load() -> dict[str, Proof]:
    """Map names to all Proofs. Imports torch and transformers."""
    from ftkit.interview.proofs import (  # noqa: F401
        evaluation,
        lora,
        loss,
        memory,
        numbers,
        preferences,
        rewards,
        runs,
    )

    return PROOFS


def prove(stated: StatedClaim, seed: int = 0) -> Claim:
    """Run the proof of a stated claim; `holds` of the result judges it.

    seed: for a proof that trains. One proof runs at a time. Raises UserError for an unknown name.
    """
    proofs = load()
    if stated["proof"] not in proofs:
        raise UserError(f"no proof is called {stated['proof']!r}; expected one of "
                        f"{', '.join(proofs)}")
    proof = proofs[stated["proof"]]
    with ONE_AT_A_TIME:
        result = proof.compute(seed) if proof.trains else proof.compute()
    if isinstance(result, Evidence):
        evidence = result
    elif isinstance(result, tuple):
        evidence = Evidence(float(result[0]), float(result[1]))
    else:
        evidence = Evidence(float(result))
    right = stated.get("number", evidence.right)
    if right is None:
        raise ValueError(f"the proof {stated['proof']!r} has nothing to compare with")
    return Claim(stated["says"], float(evidence.left), stated["op"], float(right),
                 stated["unit"], stated.get("within", 0.01), evidence, proof.kind,
                 tuple(stated["ratio"]) if "ratio" in stated else None)  # type: ignore[arg-type]


def sides(says: str, op: str) -> tuple[str, str]:
    """Labels of the two bars of a claim. A comparison is written "title: left, right"."""
    if op == "==":
        return "computed", "stated"
    names = says.rpartition(": ")[2].split(", ") if ": " in says else says.split(", ")
    return (names[0], names[-1]) if len(names) > 1 else ("left", "right")


def draw(claim: Claim):
    """A Picture of a proof: the curves of its runs, or bars of its parts, and its sentence."""
    from ftkit.report import plots
    from ftkit.report.style import COLORS, Picture, log_if_wide, new_figure, short, style

    evidence = claim.evidence or Evidence(claim.left)
    if evidence.runs:
        picture = plots.curves(evidence.runs, *evidence.keys)
        return Picture(picture.figure, f"{claim!r}. {picture.text}")
    left, right = sides(claim.says, claim.op)
    bars = evidence.bars or {left: claim.left, right: claim.right}
    finite = {clean(name): value for name, value in bars.items() if math.isfinite(value)}
    with style():
        figure = new_figure(7.2, 0.55 + 0.38 * max(2, len(finite)))
        ax = figure.add_axes((0.36, 0.3, 0.5, 0.66))
        values = list(finite.values())
        ax.barh(range(len(finite)), values, height=0.62,
                color=[COLORS[i % len(COLORS)] for i in range(len(finite))])
        ax.set_yticks(range(len(finite)), [short(name, 42) for name in finite], parse_math=False)
        ax.invert_yaxis()
        if min(values) > 0:
            log_if_wide(ax, "x", values)
        for row, value in enumerate(values):
            ax.annotate(f"{number(value)} {claim.unit}".strip(), (value, row), (4, 0),
                        textcoords="offset points", va="center", parse_math=False,
                        annotation_clip=False)
        ax.set_xlabel(clean(claim.unit), parse_math=False)
    return Picture(figure, repr(claim))
