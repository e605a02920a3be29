"""What the curves of a run show, with the evidence: `diagnose(run)`.

    [finding.kind for finding in diagnose(run)]   # ["overfitting", "forgetting"]
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ftkit.base import formatting
from ftkit.report import series

FORGOT = 0.1  # nats on a probe: its perplexity is a tenth higher
TURNED = 0.05  # fraction of its best value by which val_loss must have risen again
LEARNED = 0.1  # fraction by which val_loss must fall for the run to have learned something
BOTH = {"underfitting": "take more steps",  # the two together, without contradiction
        "forgetting": "lower the learning rate, or replay general data"}
BEHIND = 0.1  # fraction by which val_loss ends above that of the baseline
STILL = 0.05  # fraction by which val_loss fell in the last quarter: still improving


class Finding(NamedTuple):
    """`kind`: diverged, underfitting, overfitting, forgetting or fine. `text` says it with its
    evidence, `advice` what to try next; `evidence` are the numbers."""

    kind: str
    text: str
    advice: str
    evidence: dict


def diagnose(run, baseline=None) -> list[Finding]:
    """What is wrong with a Run, worst first; one Finding "fine" when nothing is.

    run: anything with rows, before and after, as Run has them. baseline: another; a run that is
    fine by its own curves and ends far above it on the same validation records says so.
    The thresholds are conventions of this kit, on losses in nats per token: a probe that rose by
    0.1, a val_loss 5 % above its best while the training loss went on falling, a val_loss that
    fell by less than 10 %, or that ends 10 % above the baseline's.
    """
    losses = series.points(run, "loss")
    if not losses:
        return [Finding("underfitting", "no step was taken, so nothing was learned", "start a run",
                        {"steps": 0})]
    found = _diverged(run, losses)
    if found:
        return [found]
    forgot = _forgetting(run)
    found = [*filter(None, [_overfitting(run, losses), _underfitting(run, losses)])] + forgot
    if forgot and any(finding.kind == "underfitting" for finding in found):
        found = [finding._replace(advice=BOTH.get(finding.kind, finding.advice))
                 for finding in found]
        if "then" not in found[0].evidence:  # it moved far and learned hardly anything
            found[0] = found[0]._replace(advice="lower the learning rate")
    return found or [_fine(run, losses, baseline)]


def _diverged(run, losses) -> Finding | None:
    advice = "lower the learning rate, or keep max_grad_norm at 1 and warm up longer"
    bad = next((step for step, loss in losses if not math.isfinite(loss)), None)
    if bad is not None:
        return Finding("diverged", f"diverged at step {bad:g}: the loss is no longer a number",
                       advice, {"step": bad})
    start, end = _ends(run, "val_loss") or (losses[0][1], _tail(losses))
    if not math.isfinite(end) or (end > 1.2 * start and _tail(losses) > 1.2 * losses[0][1]):
        return Finding(
            "diverged",
            f"diverged: the loss is {formatting.number(_tail(losses))} at the "
            f"end and was {formatting.number(losses[0][1])} at the first step",
            advice,
            {"first": losses[0][1], "last": _tail(losses)},
        )
    return None


def _overfitting(run, losses) -> Finding | None:
    points = [p for p in series.points(run, "val_loss") if math.isfinite(p[1])]
    if len(points) < 4:
        return None
    step, best = min(points, key=lambda p: p[1])
    last = points[-1][1]
    then = [loss for at, loss in losses if at <= step][-5:]
    if not step or last < best * (1 + TURNED) or last - best < 0.01 or not then:
        return None
    before, now = sum(then) / len(then), _tail(losses)
    if now >= before:
        return None
    return Finding(
        "overfitting", f"overfitting since step {step:g}: val_loss rose from "
        f"{formatting.number(best)} to {formatting.number(last)} while the training loss fell from "
        f"{formatting.number(before)} to {formatting.number(now)}",
        "stop earlier (early_stopping_patience), take fewer epochs or more records",
        {"step": step, "best": best, "last": last, "loss_then": before, "loss_now": now})


def _underfitting(run, losses) -> Finding | None:
    ends = _ends(run, "val_loss")
    start, end = ends or (losses[0][1], _tail(losses))
    name = "val_loss" if ends else "the loss"
    evidence = {"before": start, "after": end}
    if end > start * (1 - LEARNED):
        cut = (getattr(run, "stopped", None) or "").startswith(("stopped by hand", "interrupted"))
        return Finding(
            "underfitting",
            f"underfitting{' so far' if cut else ''}: {name} went from "
            f"{formatting.number(start)} to {formatting.number(end)} only",
            "let it finish"
            if cut
            else "raise the learning rate or take more steps; if no learning rate helps, look "
            "at the data",
            evidence,
        )
    points = [
        p for p in series.points(run, "val_loss" if ends else "loss") if math.isfinite(p[1])
    ]
    quarter = [y for x, y in points if x <= 0.75 * points[-1][0]]
    if len(points) < 8 or end > quarter[-1] * (1 - STILL) or end < 0.05 * start:
        return None
    return Finding(
        "underfitting",
        f"still improving: {name} fell from "
        f"{formatting.number(quarter[-1])} to {formatting.number(end)} in the last quarter",
        "take more steps or a higher learning rate",
        evidence | {"then": quarter[-1]},
    )


def _forgetting(run) -> list[Finding]:
    found = []
    for key in series.loss_keys([run]):
        ends = _ends(run, key)
        if key in ("loss", "val_loss") or not ends or not ends[1] - ends[0] >= FORGOT:
            continue
        rise = ends[1] - ends[0]
        times = formatting.number(math.exp(rise)) if rise < 50 else "very many"
        found.append(
            Finding(
                "forgetting",
                f"forgetting by {formatting.number(rise)}: {formatting.clean(key)} rose from "
                f"{formatting.number(ends[0])} to {formatting.number(ends[1])}, "
                f"its perplexity {times} times as high",
                "lower the learning rate, take fewer steps, or replay general data",
                {"key": key, "before": ends[0], "after": ends[1], "by": rise},
            )
        )
    return found


def _fine(run, losses, baseline) -> Finding:
    ends = _ends(run, "val_loss")
    start, end = ends or (losses[0][1], _tail(losses))
    kept = [key for key in series.loss_keys([run]) if key not in ("loss", "val_loss")]
    probes = " and no probe rose by more than 0.1" if kept else "; no probe was watched"
    best = _ends(baseline, "val_loss") if _same_validation(run, baseline) and ends else None
    if best and end > best[1] * (1 + BEHIND) and end - best[1] > 0.05:
        return Finding(
            "fine",
            f"fine by its own curves, but val_loss ends at {formatting.number(end)} "
            f"and the baseline's at {formatting.number(best[1])}",
            "compare the two: ft.compare shows what differs",
            {"before": start, "after": end, "baseline": best[1]},
        )
    return Finding("fine", f"fine: {'val_loss' if ends else 'the loss'} fell from "
                   f"{formatting.number(start)} to {formatting.number(end)}{probes}",
                   "change one thing and compare", {"before": start, "after": end})


def _same_validation(run, baseline) -> bool:
    ours, theirs = ((getattr(r, "data", None) or {}).get("held_still") or {}
                    for r in (run, baseline))
    return run is not baseline and bool(ours) and ours.get("validation") == theirs.get("validation")


def _ends(run, key) -> tuple[float, float] | None:
    if key not in run.before or key not in run.after:
        return None
    return formatting.to_float(run.before[key]), formatting.to_float(run.after[key])


def _tail(losses) -> float:
    return sum(loss for _, loss in losses[-5:]) / len(losses[-5:])
