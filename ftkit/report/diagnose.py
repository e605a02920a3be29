"""The diagnosis of a run from its curves, with the evidence.

    [finding.kind for finding in diagnose(run)]   # ["overfitting", "forgetting"]
"""

import math
from typing import NamedTuple

from ftkit.base.formatting import clean, number, to_float
from ftkit.base.run_end import End
from ftkit.report import series

FORGOT = 0.1  # nats on a probe: its perplexity is a tenth higher
TURNED = 0.05  # fraction of its best value by which val_loss must have risen again
LEARNED = 0.1  # fraction by which val_loss must fall for the run to have learned something
BEHIND = 0.1  # fraction by which val_loss ends above that of the baseline
STILL = 0.05  # fraction by which val_loss fell in the last quarter: still improving
FITTED = 0.5  # fraction of the first training loss below which the training records are learned
FEW = 4  # with fewer validation records, val_loss is mostly the luck of their draw


class Finding(NamedTuple):
    """kind: diverged, underfitting, overfitting, forgetting, fine, or "too few" (validation records
    to tell). text: a sentence about it. advice: what to try next. evidence: its numbers."""

    kind: str
    text: str
    advice: str
    evidence: dict


def diagnose(run, baseline=None) -> list[Finding]:
    """What a Run shows: first its one main finding, then what it forgot.

    run: any object with the rows, before and after of a Run. baseline: a run to compare with, if a
    run is fine by its own curves but ends far above it on the same validation records.
    The thresholds are conventions of this kit, on losses in nats per token: a probe that rose by
    0.1, a val_loss 5 % above its best while the training loss kept falling, a val_loss that
    fell by less than 10 % although the training loss did not halve, or that ends 10 % above the
    baseline's. Fewer than 4 validation records decide nothing.
    """
    losses = series.points(run, "loss")
    if not losses:
        return [Finding("underfitting", "no step was taken, so nothing was learned", "start a run",
                        {"steps": 0})]
    diverged = _diverged(run, losses)
    if diverged:
        return [diverged]
    forgetting = _forgetting(run)
    learned = _too_few(run, losses) or _overfitting(run, losses) or _underfitting(run, losses)
    if forgetting and learned and learned.kind == "underfitting":
        forgetting = [finding._replace(advice="lower the learning rate, or replay general data")
                      for finding in forgetting]
        learned = learned._replace(  # after large updates that brought little, not more of them
            advice="take more steps" if "then" in learned.evidence else "lower the learning rate")
    return [*([learned] if learned else []), *forgetting] or [_fine(run, losses, baseline)]


def _too_few(run, losses) -> Finding | None:
    """What to say of too few validation records: their number, and what was seen."""
    data, ends = getattr(run, "data", None) or {}, _ends(run, "val_loss")
    count = min(data.get("validation_rows") or FEW,
                (data.get("held_still") or {}).get("eval_records") or FEW)
    if count >= FEW or ends is None:
        return None
    records = "1 validation record" if count == 1 else f"{count} validation records"
    return Finding(
        "too few", f"{records}: too few to tell. val_loss went from {number(ends[0])} to "
        f"{number(ends[1])}, the training loss to {number(_tail(losses))}",
        "validate on more records", {"records": count, "before": ends[0], "after": ends[1]})


def _diverged(run, losses) -> Finding | None:
    advice = "lower the learning rate, or warm up longer"
    bad = next((step for step, loss in losses if not math.isfinite(loss)), None)
    if bad is not None:
        return Finding("diverged", f"diverged at step {bad:g}: the loss is no longer a number",
                       advice, {"step": bad})
    start, end = _ends(run, "val_loss") or (losses[0][1], _tail(losses))
    if not math.isfinite(end):
        return Finding("diverged", f"diverged: val_loss is {end} at the end and was "
                       f"{number(start)} before the run", advice, {"first": start, "last": end})
    if end > 1.2 * start and _tail(losses) > 1.2 * losses[0][1]:
        first, last = losses[0][1], _tail(losses)
        return Finding("diverged", f"diverged: the loss is {number(last)} at the end and was "
                       f"{number(first)} at the first step", advice,
                       {"first": first, "last": last})
    return None


def _overfitting(run, losses) -> Finding | None:
    points = _finite(run, "val_loss")
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
        f"{number(best)} to {number(last)}, the training loss fell to {number(now)}",
        "stop earlier, or use more records",
        {"step": step, "best": best, "last": last, "loss_then": before, "loss_now": now})


def _underfitting(run, losses) -> Finding | None:
    ends = _ends(run, "val_loss")
    start, end = ends or (losses[0][1], _tail(losses))
    name = "val_loss" if ends else "the loss"
    evidence = {"before": start, "after": end}
    first, now = losses[0][1], _tail(losses)
    if end > start * (1 - LEARNED) and ends and now < first * FITTED:
        return Finding(
            "overfitting", f"overfitting: val_loss went from {number(start)} to {number(end)}, "
            f"the training loss from {number(first)} to {number(now)}",
            "use more records that resemble the validation records", evidence | {"loss_now": now})
    if end > start * (1 - LEARNED):
        cut = getattr(run, "end", None) in (End.STOPPED_BY_HAND, End.INTERRUPTED)
        so_far, advice = (" so far", "let it finish") if cut else (
            "", "raise the learning rate or train more steps; else look at the data")
        return Finding("underfitting", f"underfitting{so_far}: {name} went from {number(start)} to "
                       f"{number(end)} only", advice, evidence)
    points = _finite(run, "val_loss" if ends else "loss")
    quarter = [y for x, y in points if x <= 0.75 * points[-1][0]]
    if len(points) < 8 or end > quarter[-1] * (1 - STILL) or end < 0.05 * start:
        return None
    return Finding("underfitting", f"still improving: {name} fell from {number(quarter[-1])} to "
                   f"{number(end)} in the last quarter",
                   "train more steps, or raise the learning rate", evidence | {"then": quarter[-1]})


def _forgetting(run) -> list[Finding]:
    findings = []
    for key in series.probe_keys([run]):
        before, after = _ends(run, key) or (math.nan, math.nan)
        rise = after - before
        if rise >= FORGOT:
            times = number(math.exp(rise)) if rise < 50 else "very many"
            findings.append(Finding(
                "forgetting", f"forgetting by {number(rise)}: {clean(key)} rose from "
                f"{number(before)} to {number(after)}, perplexity {times} times as high",
                "lower the learning rate or replay general data",
                {"key": key, "before": before, "after": after, "by": rise}))
    return findings


def _fine(run, losses, baseline) -> Finding:
    ends = _ends(run, "val_loss")
    start, end = ends or (losses[0][1], _tail(losses))
    probes = (" and no probe rose by more than 0.1" if series.probe_keys([run])
              else "; no probe was watched")
    best = _ends(baseline, "val_loss") if _same_validation(run, baseline) and ends else None
    if best and end > best[1] * (1 + BEHIND) and end - best[1] > 0.05:
        return Finding("fine", f"fine by itself, but val_loss ends at {number(end)} and the "
                       f"baseline's at {number(best[1])}",
                       "run more seeds to see whether that is chance",
                       {"before": start, "after": end, "baseline": best[1]})
    return Finding("fine", f"fine: {'val_loss' if ends else 'the loss'} fell from "
                   f"{number(start)} to {number(end)}{probes}",
                   "change one thing and compare", {"before": start, "after": end})


def _same_validation(run, baseline) -> bool:
    ours, theirs = ((getattr(r, "data", None) or {}).get("held_still") or {}
                    for r in (run, baseline))
    return run is not baseline and bool(ours) and ours.get("validation") == theirs.get("validation")


def _ends(run, key) -> tuple[float, float] | None:
    if key not in run.before or key not in run.after:
        return None
    return to_float(run.before[key]), to_float(run.after[key])


def _finite(run, key) -> list[tuple[float, float]]:
    return [point for point in series.points(run, key) if math.isfinite(point[1])]


def _tail(losses) -> float:
    return sum(loss for _, loss in losses[-5:]) / len(losses[-5:])
