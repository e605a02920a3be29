"""The box "At 135M": the main claim of a lesson, checked on recorded runs of a real LLM.

    from ftkit.teaching import at_135m
    at_135m("lora_vs_full", verdict)     # verdict: what the lesson's `ft.expect` returned

The verdict is computed from the recorded numbers each time, by the test of `ft.expect`.
"""

import math
from typing import NamedTuple

from ftkit.base import significance
from ftkit.base.errors import UserError
from ftkit.base.formatting import cell, number, with_code
from ftkit.experiment import recorded
from ftkit.lessons.pictures_of_runs import sweep_curves
from ftkit.report import plots, series
from ftkit.report import style as fig
from ftkit.report.table import Table

RULE = ("same: the recorded difference has the direction of the lesson's claim by the test of "
        "ft.expect (one-sided, 5 %); different: it has the other direction; else not settled")
RATES = 4  # learning rates of one method from which they are an axis
CURVE = 5  # evaluations from which a run is drawn as a curve
OTHERS = 4  # the index of color and marker of arms that the claim does not name
HERE = {"holds": "it held", "opposite": "the opposite was seen",
        "not settled": "it was not settled"}
# Names of measures that show the unit and which end is better.
UNITS = {"val_loss": "validation loss, nats", "english_loss": "loss on plain English, nats",
         "knowledge": "facts completed right", "exact_match": "exact match",
         "begins_right": "answers that begin right", "answer_tokens": "tokens of an answer",
         "val_loss_rise": "rise of the validation loss from its lowest, nats",
         "exact_match_change": "change of exact match since the lowest validation loss",
         "calibration_error": "expected calibration error",
         "token_accuracy": "answer tokens predicted right",
         "exact_match_what": "exact match on What-questions",
         "val_chosen": "log-probability of the chosen answers, nats",
         "val_rejected": "log-probability of the rejected answers, nats"}


class Side(NamedTuple):
    """One side of a claim: the label of an arm with a value per seed, or a number."""

    label: str
    values: dict[int, float] | float


class Judgment(NamedTuple):
    """state: "same", "different" or "not settled"; how: the evidence, as text."""

    state: str
    left: Side
    right: Side
    how: str


class Box:
    """The result of `at_135m`; displays itself."""

    def __init__(self, state: str, lines: list[str], table: Table | None = None, picture=None):
        self.state, self.lines, self.table, self.picture = state, lines, table, picture

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def __repr__(self) -> str:
        return self.text if self.table is None else f"{self.table}\n{self.text}"

    def _repr_html_(self) -> str:
        head, *rest = map(with_code, self.lines)
        # On a narrow page picture and table scroll by themselves, inside the border.
        shown = [part for part in (self.picture and self.picture.as_html(),
                                   self.table and self.table._repr_html_()) if part]
        shown = "".join(f"<div style='overflow-x:auto;margin:6px 0'>{part}</div>" for part in shown)
        shown_lines, how = (rest[:-2], rest[-2:]) if len(rest) > 2 else (rest, [])
        rest = "".join(f"<div>{line}</div>" for line in shown_lines)
        if how:
            rest += f"<details><summary>Rule and source</summary>{'<br>'.join(how)}</details>"
        # No colors of its own, so that it reads on a light and on a dark page.
        return ("<div role='group' aria-label='At 135M' style='border:1px solid currentColor;"
                "border-left-width:6px;border-radius:4px;padding:8px 12px'>"
                f"<strong>{head}</strong>{shown}{rest}</div>")


def at_135m(name: str, verdict=None) -> Box:
    """The recorded experiment `name` next to the lesson's own result.

    verdict: what the `ft.expect` of the lesson's main claim returned. If nothing is recorded, the
    box says so. Raises UserError for a damaged file.
    """
    if name not in recorded.names():
        return Box("not recorded", [f"At 135M: not recorded yet (make recorded {name})"])
    runs = recorded.read(name)
    found = judge(runs)
    if found is None:
        return Box("not recorded", ["At 135M: the runs of the claim are not all recorded yet "
                                    f"(make recorded {name})"], arms_table(runs))
    lines = [f"At 135M: {found.state}. The claim: {runs.claim['text']}", found.how]
    state = getattr(verdict, "state", "")
    if state in HERE:
        lines.append(f"In this lesson, on the small model: {HERE[state]}.")
    return Box(found.state, [*lines, f"Rule: {RULE}.", f"{runs.caption}."], arms_table(runs),
               arms_picture(runs, found))


def judge(runs) -> Judgment | None:
    """Judge a claim by the recorded numbers; None if a side is not recorded."""
    claim = runs.claim
    measure = claim["measure"]
    left = side(runs, claim["left"], measure)
    right = side(runs, claim["right"], claim.get("right_measure") or measure)
    if left is None or right is None:
        return None
    a, b, paired = aligned(left.values, right.values)
    found = significance.difference(a, b, paired)
    state = _state(found, claim["op"], claim.get("within"))
    counts = sorted({len(values) for values in (a, b) if isinstance(values, list)})
    unit = "seed" if counts[-1:] == [1] else "seeds"
    seeds = f"{' and '.join(map(str, counts)) or 1} {unit}"
    what, one, other = UNITS.get(measure, measure), _named(left, a), _named(right, b)
    if left.label == right.label:  # one setting, measured in two ways
        what, one = f"{left.label}, {what}", cell(a)
        other = f"{UNITS.get(claim['right_measure'], claim['right_measure'])} {cell(b)}"
    how = (f"{what}: {one} against {other} "
           f"({seeds}{', paired' if paired else ''}; "
           f"claimed: {claim['op']}{_p(found, claim['op'])})")
    return Judgment(state, left, right, how)


def _state(found, op: str, within: float | None) -> str:
    if op == "==":
        if within is None:
            raise UserError("the claim of a recorded experiment is '==', but `within` is missing; "
                            "expected the largest difference that counts as equal")
        apart = found.above(within, significance.LEVEL) or found.below(within, significance.LEVEL)
        return "same" if found.within(within) else "different" if apart else "not settled"
    seen = found.direction()
    return "not settled" if not seen else "same" if seen == op else "different"


def side(runs, asked, measure: str) -> Side | None:
    """The side that a claim names: an arm, "best PREFIX" (the arm with the lowest validation loss
    among those that start so), the untouched model ("base") or a number."""
    if isinstance(asked, int | float):
        return Side("", float(asked))
    if asked == "base":
        return Side("untouched model", runs.base[measure]) if measure in runs.base else None
    label = best(runs, asked[5:]) if asked.startswith("best ") else asked
    values = runs.values(label, measure) if label in runs.arms else {}
    return Side(str(label), values) if values else None


def best(runs, start: str) -> str | None:
    """The arm with the lowest mean validation loss among those that begin with `start`, over the
    seeds that all of them have."""
    losses = {label: runs.values(label, "val_loss") for label in runs.arms
              if label == start or label.startswith(start + " ")}
    common = set.intersection(*map(set, losses.values())) if losses else set()
    if not common:
        return None
    return min(losses, key=lambda label: sum(losses[label][seed] for seed in common))


def aligned(left, right):
    """Return both sides as arguments of the test, and whether they are paired (both have the same
    seeds, and so the same records)."""
    if isinstance(left, float) or isinstance(right, float):
        return (*(v if isinstance(v, float) else [v[s] for s in sorted(v)] for v in (left, right)),
                False)
    common = sorted(left.keys() & right.keys())
    if len(common) > 1:
        return [left[s] for s in common], [right[s] for s in common], True
    return list(left.values()), list(right.values()), False


def _named(one: Side, values) -> str:
    return " ".join(filter(None, (one.label, cell(values))))


def _p(found, op: str) -> str:
    """The one-sided p of the claimed direction, or ""."""
    if op == "==" or not found.error > 0 or not math.isfinite(found.error):
        return ""
    return f", p = {number((found if op == '>' else found.reversed()).p())}"


def arms_table(runs) -> Table:
    """A table of the claim's measures, with mean ± sd over the seeds for each arm."""
    claim = runs.claim
    measures = [claim["measure"], claim.get("right_measure"), *claim["beside"]]
    measures = [m for m in dict.fromkeys(measures) if m]
    rows = []
    if not runs.base.keys().isdisjoint(measures):
        rows = [{"setting": "untouched model", "seeds": ""}
                | {UNITS.get(m, m): _untouched(runs, m) for m in measures}]
    rows += [{"setting": label, "seeds": len(members)}
             | {UNITS.get(m, m): list(runs.values(label, m).values()) for m in measures}
             for label, members in runs.arms.items()]
    title = f"{runs.card['model']}, recorded experiment {runs.name}: mean ± sd over the seeds"
    return Table(rows, title)


def _untouched(runs, measure: str) -> float | None:
    """A measure of the model before training. None if a run lacks it, or if runs differ by more
    than rounding does (a quantized base)."""
    if measure in runs.base:
        return runs.base[measure]
    values = [run.before[measure] for run in runs if measure in run.before]
    same = len(values) == len(runs) and max(values) - min(values) < 5e-3
    return values[0] if same else None


def arms_picture(runs, found: Judgment) -> fig.Picture:
    """The picture that fits the claim: curves if the runs were evaluated on the way; for a claim
    about forgetting, both losses against the learning rate or against each other; else a dot for
    each seed."""
    measure, sides = runs.claim["measure"], (found.left.label, found.right.label)
    if all(len(series.points(run, "val_loss")) >= CURVE for run in runs.arms[sides[0]]):
        return _curves({side: runs.arms[side] for side in dict.fromkeys(sides)
                        if side in runs.arms})
    if measure == "english_loss":
        rates: dict[str, set] = {}
        for run in runs:
            rates.setdefault(run.config.method, set()).add(run.config.learning_rate)
        if max(map(len, rates.values())) >= RATES:
            picture = sweep_curves(runs, "val_loss", measure)
            for ax, key in zip(picture.axes, ("val_loss", measure), strict=True):
                ax.set_ylabel(UNITS[key])
            picture.text = f"{runs.card['model']}, recorded: {picture.text}"
            return picture
        picture = plots.scatter(runs.arms, "val_loss", measure)
        picture.axes[0].set_xlabel(UNITS["val_loss"])
        picture.axes[0].set_ylabel(UNITS[measure])
        picture.text = (f"{UNITS[measure]} (kept) against {UNITS['val_loss']} (learned) of every "
                        "setting, mean ± sd over its seeds; lower and further left is better; "
                        "the star is the untouched model")
        return picture
    return _dots(runs, measure, sides)


def _curves(arms: dict[str, list]) -> fig.Picture:
    members = [run for runs in arms.values() for run in runs]
    keys = [key for key in ("val_loss", "exact_match")
            if all(len(series.points(run, key)) > 1 for run in members)]
    panels = [fig.lines_of(series.grouped(arms), [key], "step") for key in keys]
    figure = plots.draw_panels(panels, "step", [UNITS[key] for key in keys])
    return fig.Picture(figure, f"{' and '.join(UNITS[key] for key in keys)} of the recorded runs "
                               "while they trained, mean and ± sd over the seeds; the evaluations "
                               "on the way take fewer records than the one at the end")


def _dots(runs, measure: str, sides: tuple[str, str]) -> fig.Picture:
    """Draw a dot for each seed. The claim's two sides are colored; a dashed line marks the base."""
    labels = [label for label in runs.arms if runs.values(label, measure)]
    rows = [list(runs.values(label, measure).values()) for label in labels]
    looks = [sides.index(label) if label in sides else OTHERS for label in labels]
    with fig.style():
        figure, ax = fig.row_axes([fig.short(label) for label in labels], 4.4, 0.2, 0.27)
        if measure in runs.base:
            ax.axvline(runs.base[measure], color=fig.QUIET, linestyle="--", linewidth=1, zorder=0)
        fig.draw_seeds(ax, rows, looks)
        ax.set_xlabel(UNITS.get(measure, measure), parse_math=False)
    dashed = "; dashed: the untouched model" if measure in runs.base else ""
    return fig.Picture(figure, f"{UNITS.get(measure, measure)} of every recorded run: a dot for "
                               f"each seed, the bar is mean ± sd{dashed}")
