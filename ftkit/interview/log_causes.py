"""What is wrong with a run, from its log alone: causes, with what speaks for and against each.

    found = diagnose("trainer_state.json"); found["causes"][0]["name"]; print(text_of(found))

The causes are those of the clinic, with a few that only other programs have. The rules read curves,
never settings; their thresholds were chosen on the logs of tests/logs that are not held out.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ftkit.base.formatting import number, show
from ftkit.interview.clinic_cases import CAUSES
from ftkit.lessons.bugs.causes import Cause
from ftkit.report import log_files
from ftkit.report.diagnose import FORGOT, TURNED
from ftkit.report.log_files import Log

SURE = 0.5  # a cause below this is a possibility; the run is not called faulty for it


def _own(name: str, title: str, sign: str, remedy: str, lesson: str) -> Cause:
    return Cause(name=name, title=title, sign=sign, remedy=remedy, lesson=lesson)


OWN = {cause.name: cause for cause in (
    _own("overflow", "numbers overflow in half precision",
         "the same run in fp32 or bf16: the loss stays a number",
         "train in bf16, or keep fp32 weights under fp16 autocast with loss scaling", "12"),
    _own("frozen", "no weight that matters is trained",
         "names and sizes of the parameters with requires_grad, and their gradients after a step",
         "make the adapter trainable (prepare the quantized base; enable_input_require_grads with "
         "gradient checkpointing) and give the optimizer those parameters", "02"),
    _own("rate_zero", "the learning rate is 0 in every row",
         "the scheduler's own value, and whether the optimizer skips its steps",
         "set warm-up and scheduler in one place; under fp16, look at skipped steps", "08"),
    _own("epoch_steps", "the loss drops where an epoch begins: records are memorized",
         "val_loss: as long as it falls, the steps are normal for repeated records",
         "fewer epochs or a lower learning rate, if val_loss rises", "17"),
    _own("outlier_batches", "single batches with huge gradients",
         "the records of those steps: length, number of trained tokens, template",
         "keep clipping at 1, remove or split those records", "08"),
    _own("loss_multiplied", "the logged loss is a sum over accumulation steps or devices",
         "the loss with gradient accumulation 1, and the loss before training by hand",
         "divide by the number of trained tokens of all micro-batches; update the trainer", "08"),
    _own("cut_answers", "answers are cut off before they end, so the reward is 0",
         "some samples: do they reach the final answer?",
         "allow more new tokens, or ask for shorter answers", "20b"),
    _own("reward_collapsed", "the policy left the region where it was good: the reward collapsed",
         "KL to the reference, entropy and length at the step where the reward fell",
         "a lower learning rate, a larger KL coefficient, clip the gradient", "20b"),
)}


class Found(NamedTuple):
    """score: from 0 to 1. pro, con: observations for and against."""

    name: str
    score: float
    pro: str
    con: str = ""


def diagnose(path: str | Path) -> dict:
    """Read a log and rank causes; returns file, rows, causes, verdict, notes and unread columns.

    verdict: "causes", "healthy" (it learns and nothing speaks against it) or "cannot tell". Raises
    UserError for a file that is no log.
    """
    log = log_files.read(path)
    found = sorted((one for rule in RULES for one in [rule(log)] if one), key=lambda f: -f.score)
    causes = [_as_dict(one) for one in found]
    if any(one.score >= SURE for one in found):
        verdict = "causes"
    else:
        verdict = "healthy" if _learns(log) else "cannot tell"
    return {"file": str(path), "rows": len(log.rows), "verdict": verdict, "causes": causes[:5],
            "notes": log.notes, "unread": log.unread[:20]}


def _as_dict(found: Found) -> dict:
    cause = OWN.get(found.name) or CAUSES[found.name]
    return {"name": found.name, "title": cause.title, "score": found.score, "for": found.pro,
            "against": found.con or "nothing in this log", "look at": cause.sign,
            "remedy": cause.remedy, "lesson": cause.lesson}


def text_of(result: dict) -> str:
    """The result of `diagnose` as text."""
    lines = [f"{show(result['file'])[1:-1]}: {result['rows']:,} rows"]
    lines += [f"Note: {note}" for note in result["notes"]]
    lines += {"causes": [], "healthy": ["No cause is claimed: it learns, and nothing in the log "
                                        "speaks against it."],
              "cannot tell": ["Cannot tell: the log does not show whether the run learns. "
                              "Log val_loss, learning_rate and grad_norm, or more steps."]}[
                                  result["verdict"]]
    for place, one in enumerate(result["causes"][:3], 1):
        maybe = "" if one["score"] >= SURE else " (possible, not shown)"
        lines += [f"{place}. {one['title']}{maybe} [{one['name']}]", f"   for: {one['for']}",
                  f"   against: {one['against']}", f"   look at: {one['look at']}",
                  f"   then: {one['remedy']}; lesson {one['lesson']}"]
    if result["unread"]:
        lines.append(f"Columns not used: {', '.join(show(n)[1:-1] for n in result['unread'])}")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------- readings


def _mean(values) -> float:
    return sum(values) / len(values) if values else math.nan


def _ends(values: list[float], part: float = 0.1) -> tuple[float, float]:
    """Means of the first and the last tenth; (nan, nan) without values."""
    n = max(1, int(len(values) * part))
    return _mean(values[:n]), _mean(values[-n:])


def _fall(log: Log, name: str = "loss") -> float:
    """The fraction by which a loss fell; nan without two values."""
    values = log.values(name)
    first, last = _ends(values)
    return 1 - last / first if len(values) > 1 and first > 0 else math.nan


def _is_rl(log: Log) -> bool:
    return bool(log.values("reward"))


def _learns(log: Log) -> bool:
    if _is_rl(log):
        first, last = _ends(log.values("reward"), 0.2)
        return last > first
    falls = [_fall(log, name) for name in ("loss", "val_loss")]
    return any(fall > 0.05 for fall in falls)


def _is_broken(log: Log) -> list[bool]:
    """Of each row with a loss: whether it is no number, or exactly 0 where a loss cannot be."""
    may_be_0 = _is_rl(log) or bool(log.values("margin"))
    return [not math.isfinite(row["loss"]) or (row["loss"] == 0 and not may_be_0)
            for row in log.rows if "loss" in row]


# ------------------------------------------------------------------------------------- rules


def _all_masked(log):
    bad = _is_broken(log)
    if bad and bad[0] and _mean(bad) > 0.9:
        return Found("all_masked", 0.9, "the loss is 0 or nan from the first row on: no token is "
                     "trained on", "an overflow in the first forward pass looks the same")


def _overflow(log):
    bad = _is_broken(log)
    if not any(bad):
        return None
    first = bad.index(True)
    rose = first > 3 and log.all("loss")[first - 1] > 1.2 * log.all("loss")[0]
    return Found("overflow", 0.6 if rose or not first else 0.9,
                 f"the loss is 0 or nan in {_mean(bad):.0%} of the rows, from row {first + 1} on",
                 "the loss rose before: the learning rate may be the reason" if rose else "")


def _rate_zero(log):
    rates = log.values("learning_rate")
    if len(rates) > 2 and not any(rates):
        return Found("rate_zero", 0.95, f"learning_rate is 0 in all {len(rates)} rows")


def _warmup_too_long(log):
    rates = log.values("learning_rate")
    if len(rates) > 4 and rates[-1] > 1.5 * rates[0] and rates == sorted(rates) and (
            rates[-1] > 1.02 * rates[len(rates) * 3 // 4]):
        return Found("warmup_too_long", 0.9, f"the learning rate still rises at the last row, from "
                     f"{number(rates[0])} to {number(rates[-1])}", "a run that is not over yet "
                     "looks the same")


def _frozen(log):
    norms, losses = log.values("grad_norm"), log.values("loss")
    if _is_rl(log) or not any(losses):
        return None
    if len(norms) > 2 and not any(norms):
        return Found("frozen", 0.85, f"grad_norm is 0 in all {len(norms)} rows and the loss is "
                     f"{number(losses[-1])}")
    for period in range(2, len(losses) // 2 + 1):
        if len(losses) > 7 and losses[period:] == losses[:-period]:
            return Found("frozen", 0.9, f"the losses repeat exactly every {period} rows: the "
                         "weights do not change")


def _rate_too_high(log):
    losses, broken = log.values("loss"), any(_is_broken(log))
    if _is_rl(log) or len(losses) < 4:
        return None
    first, last = _ends(losses)
    window = max(2, len(losses) // 10)
    smooth = [_mean(losses[i:i + window]) for i in range(len(losses) - window + 1)]
    lowest = min(smooth)
    if last > 1.5 * lowest and last > 0.5 * first and last - lowest > 0.3:
        return Found("rate_too_high", 0.9, f"the loss rose from {number(lowest)} to {number(last)} "
                     "and stayed there", "broken weights in half precision look the same"
                     if broken else "")
    early, peak = smooth[: len(smooth) // 2 + 1], max(smooth[1:])
    rise = max((log.after[k] - log.before[k] for k in _others(log)), default=0.0)
    if early.index(max(early)) > 0 and (peak > 1.3 * first or (peak > 1.15 * first and rise > 1)):
        return Found("rate_too_high", 0.85, f"the loss rose from {number(first)} to {number(peak)} "
                     "before it fell" + (f", and another loss rose by {number(rise)}" if rise > 0
                                         else ""), "more steps do not mend what was lost")
    if rise > 1.5 and log.before.get("val_loss", 0) < log.after.get("val_loss", math.inf) + 2.0:
        return Found("rate_too_high", 0.7, f"another loss rose by {number(rise)} nats",
                     f"the training loss fell by {_fall(log):.0%}")


def _rate_too_low(log):
    name = "val_loss" if len(log.values("val_loss")) > 2 else "loss"
    fall, norms = _fall(log, name), log.values("grad_norm")
    losses, rates = log.values("loss"), log.values("learning_rate")
    far = bool(rates) and max(rates) <= 5e-5 and _ends(log.values(name))[1] > 4  # no LLM ends there
    limit = 0.35 if far else 0.1
    if _is_rl(log) or log.values("margin") or len(losses) < 8 or not -0.05 < fall < limit:
        return None
    if not any(norms or [1]) or not any(rates or [1]) or any(_is_broken(log)):
        return None
    small = bool(rates) and max(rates) <= 5e-5
    return Found("rate_too_low", 0.75 if small else 0.55,
                 f"the loss fell by {max(fall, 0):.0%} in {len(losses)} rows"
                 + (f", at a learning rate of at most {max(rates):.2g}" if rates else ""),
                 "" if small else "the learning rate is a usual one: look at optimizer and data")


def _too_few_steps(log):
    losses, vals = log.values("loss"), log.values("val_loss")
    line = vals if len(vals) > 2 else losses
    steps = log.rows[-1]["step"]
    if _is_rl(log) or len(line) < 3 or not line == sorted(line, reverse=True):
        return None
    if len(losses) <= 12 and steps <= 12 and line[-1] < 0.97 * line[-2]:
        return Found("too_few_steps", 0.8, f"{number(steps)} steps, and the loss fell at each "
                     f"measurement, last from {number(line[-2])} to {number(line[-1])}",
                     "a log of a run that is not over looks the same")


def _trained_too_long(log):
    vals = log.values("val_loss")
    if len(vals) < 4:
        return None
    best = min(vals)
    at = vals.index(best)
    last = _mean(vals[-2:]) if at < len(vals) - 2 else vals[-1]
    if at < len(vals) - 2 and last > max(best * (1 + TURNED), best + 0.02) and _fall(log) > 0.1:
        return Found("trained_too_long", 0.9, f"val_loss rose from {number(best)} to "
                     f"{number(vals[-1])} while the training loss fell by {_fall(log):.0%}",
                     "a learning rate that is too high can do the same within the first epoch")


def _epoch_steps(log):
    pairs = [(row["epoch"], row["loss"]) for row in log.rows if {"epoch", "loss"} <= row.keys()
             and math.isfinite(row["loss"])]
    epochs: dict[int, list[float]] = {}
    for epoch, loss in pairs:
        epochs.setdefault(math.ceil(epoch - 1e-6), []).append(loss)
    parts = [part for part in epochs.values() if len(part) >= 6]
    if len(parts) < 2 or _is_rl(log):
        return None
    drops = [_ends(a, 0.34)[1] - _ends(b, 0.34)[0] for a, b in zip(parts, parts[1:], strict=False)]
    inside = [_ends(part, 0.34)[0] - _ends(part, 0.34)[1] for part in parts[1:]]
    if min(drops) > 0.08 * parts[0][0] and min(drops) > 2.5 * max(max(inside), 0):
        return Found("epoch_steps", 0.75, f"the loss drops by {number(_mean(drops))} where an "
                     f"epoch begins, and within later epochs by {number(_mean(inside))}",
                     "normal as long as val_loss falls" if not log.values("val_loss") else "")


def _outlier_batches(log):
    norms = sorted(log.values("grad_norm"))
    losses = log.values("loss")
    if len(norms) < 20 or not norms[len(norms) // 2]:
        return None
    high = [norm for norm in norms if norm > 20 * norms[len(norms) // 2]]
    late = log.values("grad_norm")[len(norms) // 10:]  # large at the start is usual
    if high and len(high) <= 0.1 * len(norms) and high[-1] in late and _fall(log) > 0:
        return Found("outlier_batches", 0.7, f"grad_norm is up to {number(high[-1])} in "
                     f"{len(high)} of {len(norms)} rows, usually {number(norms[len(norms) // 2])}",
                     f"the loss falls all the same, to {number(losses[-1])}")


def _loss_multiplied(log):
    losses, vals = log.values("loss"), log.values("val_loss")
    if _is_rl(log) or not losses or not vals:
        return None
    ratio = _mean(losses[len(losses) // 2:]) / max(1e-9, _mean(vals[len(vals) // 2:]))
    if ratio > 3 and losses[0] > 8 and _fall(log) > 0:
        return Found("loss_multiplied", 0.8, f"the training loss is {ratio:.1f} times val_loss",
                     "training records that are much harder look the same")


def _others(log) -> list[str]:
    return [key for key in log.before if key != "val_loss" and key.endswith("_loss")]


def _nothing_replayed(log):
    rises = {key: log.after[key] - log.before[key] for key in _others(log)}
    key = max(rises, key=lambda k: rises[k], default=None)
    if key is None or rises[key] < FORGOT or not (_fall(log) > 0.1 or _fall(log, "val_loss") > 0.1):
        return None
    return Found("nothing_replayed", 0.65 if rises[key] > 3 * FORGOT else 0.4,
                 f"{key} rose from {number(log.before[key])} to {number(log.after[key])} while the "
                 "loss on the task fell",
                 "a lower learning rate also forgets less")


def _dead_groups(log):
    stds, dead = log.values("reward_std"), log.values("dead")
    if (dead and _mean(dead) > 0.8) or (stds and max(stds) < 1e-3):
        return Found("dead_groups", 0.8, "the answers of nearly every group earn the same reward: "
                     "no advantage and no gradient")


def _cut_answers(log):
    cut, rewards = log.values("cut"), log.values("reward")
    if cut and rewards and _mean(cut) > 0.8:
        return Found("cut_answers", 0.85, f"{_mean(cut):.0%} of the answers are cut off",
                     f"the reward is {number(rewards[-1])}" if rewards[-1] else "")


def _reward_collapsed(log):
    rewards = log.values("reward")
    if len(rewards) < 8:
        return None
    window = max(2, len(rewards) // 10)
    top = max(_mean(rewards[i:i + window]) for i in range(len(rewards) - window + 1))
    kls = log.values("kl")
    if top > 0 and _mean(rewards[-window:]) < 0.5 * top:
        return Found("reward_collapsed", 0.8, f"the reward fell from {number(top)} to "
                     f"{number(_mean(rewards[-window:]))}"
                     + (f", KL rose to {number(kls[-1])}" if kls else ""))


def _chosen_falls(log):
    (first, last), (before, after) = _ends(log.values("chosen")), _ends(log.values("margin"))
    if last < first - 0.2 and after > before:
        return Found("chosen_falls", 0.85, f"the reward of chosen answers fell from "
                     f"{number(first)} to {number(last)} while the margin grew to {number(after)}",
                     "DPO asks for the margin only; see whether the answers got worse")


RULES: tuple[Callable[[Log], Found | None], ...] = (
    _all_masked, _overflow, _rate_zero, _warmup_too_long, _frozen, _rate_too_high, _rate_too_low,
    _too_few_steps, _trained_too_long, _epoch_steps, _outlier_batches, _loss_multiplied,
    _nothing_replayed, _dead_groups, _cut_answers, _reward_collapsed, _chosen_falls)
