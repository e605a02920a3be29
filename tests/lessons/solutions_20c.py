"""Reference solutions and named wrong answers for lesson 20c."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from shown_solutions import edited, shown

distill_loss = shown("distill_loss")
token_rewards = shown("token_rewards")
keep_right = shown("keep_right")


def distill_loss_by_kl_div(student, teacher, mask, reverse):
    ours, theirs = F.log_softmax(student, -1), F.log_softmax(teacher.detach(), -1)
    p, q = (ours, theirs) if reverse else (theirs, ours)
    return F.kl_div(q, p, log_target=True, reduction="none").sum(-1)[mask.bool()].mean()


@torch.no_grad()
def token_rewards_by_where(student, teacher, mask):
    return torch.where(mask > 0, teacher - student, 0.0)


def keep_right_in_a_loop(records, answers, is_right, most=1):
    kept = []
    for record, texts in zip(records, answers, strict=True):
        seen = set()
        for text in map(str.strip, texts):
            if len(seen) < most and text not in seen and is_right(text, record):
                seen.add(text)
                kept.append({**record, "output": text})
    return kept


def distinct_over_all(records, answers, is_right, most=1):
    found, seen = [], set()
    for kept in keep_right(records, answers, is_right, most):
        if kept["output"] not in seen:
            found.append(kept)
        seen.add(kept["output"])
    return found


def _all_kept(records, answers, is_right, most=1):
    return [r | {"output": t.strip()} for r, texts in zip(records, answers, strict=True)
            for t in texts if is_right(t.strip(), r)]


SOLUTIONS = {
    "distill_loss": {
        "variants": [distill_loss_by_kl_div, lambda s, t, m, reverse: distill_loss_by_kl_div(
            s.double(), t.double(), m, reverse).float()],
        "wrong": {
            "exchanged": (lambda s, t, m, reverse: distill_loss(s, t, m, not reverse),
                          "directions are exchanged"),
            "no mask": (lambda s, t, m, reverse: distill_loss(s, t, torch.ones_like(m), reverse),
                        "padding counts"),
            "all positions": (lambda s, t, m, reverse: distill_loss(s, t, m, reverse)
                              * m.mean(), "divided by all positions"),
            "sum": (lambda s, t, m, reverse: distill_loss(s, t, m, reverse) * m.sum(), "a sum;"),
            "answers first": (edited("distill_loss", "(each * mask).sum() / mask.sum()",
                                     "((each * mask).sum(1) / mask.sum(1)).mean()"),
                              "each answer is averaged first"),
            "mean of vocabulary": (edited("distill_loss", "(p - q)).sum(-1)", "(p - q)).mean(-1)"),
                                   "a mean over the vocabulary"),
            "cross-entropy": (edited("distill_loss", "p.exp() * (p - q)", "-p.exp() * q"),
                              "this is the cross-entropy"),
            "sign": (lambda s, t, m, reverse: -distill_loss(s, t, m, reverse), "wrong sign"),
            "teacher learns": (edited("distill_loss", "teacher.detach()", "teacher"),
                               "the teacher gets a gradient"),
            "weights detached": (edited("distill_loss", "p.exp() *", "p.exp().detach() *"),
                                 "its gradient is not"),
            "student detached in forward KL": (lambda s, t, m, reverse: distill_loss(
                s if reverse else s.detach(), t, m, reverse), "reverse=False: the loss does not"),
            "teacher learns in forward KL": (edited(
                "distill_loss", "teacher.detach()", "(teacher.detach() if reverse else teacher)"),
                "reverse=False: the teacher gets"),
            "log of softmax": (edited("distill_loss", "student.log_softmax(-1)",
                                      "student.softmax(-1).log()"), "use log_softmax"),
            "both": (lambda s, t, m, reverse: (distill_loss(s, t, m, True)
                                               + distill_loss(s, t, m, False)) / 2,
                     "the mean of both directions"),
            "batchmean": (lambda s, t, m, reverse: F.kl_div(
                s.log_softmax(-1), t.log_softmax(-1), log_target=True, reduction="batchmean"),
                "batchmean divides"),
            "squares": (lambda s, t, m, reverse: ((s - t.detach()).square().mean(-1) * m).sum()
                        / m.sum(), "squared differences"),
            "float": (lambda s, t, m, reverse: float(distill_loss(s, t, m, reverse)),
                      "got a float"),
            "no gradient": (lambda s, t, m, reverse: distill_loss(s.detach(), t, m, reverse),
                            "does not depend on student"),
        },
    },
    "token_rewards": {
        "variants": [token_rewards_by_where,
                     lambda s, t, m: -((s - t) * m).detach()],
        "wrong": {
            "sign": (lambda s, t, m: -token_rewards(s, t, m), "wrong sign"),
            "no mask": (lambda s, t, m: (t - s).detach(), "padding earns"),
            "teacher alone": (lambda s, t, m: t * m, "subtract its own"),
            "probabilities": (lambda s, t, m: (t.exp() - s.exp()).detach() * m,
                              "a difference of probabilities"),
            "one number": (lambda s, t, m: token_rewards(s, t, m).sum(1), "for each token"),
            "whole answer": (lambda s, t, m: token_rewards(s, t, m).sum(1, keepdim=True) * m,
                             "one reward for the whole answer"),
            "weighted": (lambda s, t, m: s.exp().detach() * token_rewards(s, t, m), "weighted by"),
            "ratio": (lambda s, t, m: (t - s).exp().detach() * m, "the ratio"),
            "gradient": (lambda s, t, m: (t - s) * m, "a gradient flows"),
            "quotient": (lambda s, t, m: (t / s).detach() * m, "a quotient of logarithms"),
            "student alone": (lambda s, t, m: -s.detach() * m, "rewards surprise"),
            "clamped": (lambda s, t, m: token_rewards(s, t, m).clamp(min=0), "no clamp"),
            "distance": (lambda s, t, m: -token_rewards(s, t, m).abs(), "the distance"),
            "k3": (lambda s, t, m: -((t - s).exp() - (t - s) - 1).detach() * m, "this is k3"),
            "return": (lambda s, t, m: token_rewards(s, t, m).flip(1).cumsum(1).flip(1) * m,
                       "later tokens are added"),
        },
    },
    "keep_right": {
        "variants": [keep_right_in_a_loop, lambda records, answers, is_right, most=1:
                     list(keep_right_in_a_loop(records, answers, is_right, most))],
        "wrong": {
            "not stripped": (lambda records, answers, is_right, most=1: [
                r | {"output": t} for r, ts in zip(records, answers, strict=True)
                for t in [t for t in ts if is_right(t.strip(), r)][:most]], "spaces around it"),
            "wrong ones kept": (lambda records, answers, is_right, most=1: [
                r | {"output": ts[1 % len(ts)].strip()}
                for r, ts in zip(records, answers, strict=True)], "has no right answer"),
            "the key": (lambda records, answers, is_right, most=1: [
                r for r, ts in zip(records, answers, strict=True)
                if any(is_right(t.strip(), r) for t in ts)], "the record's own output"),
            "most unused": (lambda records, answers, is_right, most=1:
                            keep_right(records, answers, is_right, 1), "most is not used"),
            "not limited": (_all_kept, "more than one answer"),
            "copies": (lambda records, answers, is_right, most=1: [
                r | {"output": t.strip()} for r, ts in zip(records, answers, strict=True)
                for t in [t for t in ts if is_right(t.strip(), r)][:most]], "kept twice"),
            "distinct over all questions": (distinct_over_all, "q3 is lost"),
            "only instruction and output": (lambda *given: [
                {"instruction": r["instruction"], "output": r["output"]}
                for r in keep_right(*given)], "the input of a record is lost"),
            "most frequent": (lambda records, answers, is_right, most=1: [
                r | {"output": t} for r, ts in zip(records, answers, strict=True)
                for t in sorted(dict.fromkeys(t.strip() for t in ts if is_right(t.strip(), r)),
                                key=lambda t: -[u.strip() for u in ts].count(t))[:most]],
                "the most frequent right answer"),
            "cut before the filter": (lambda records, answers, is_right, most=1: keep_right(
                records, [ts[:most] for ts in answers], is_right, most), "Filter first"),
            "most over all": (lambda records, answers, is_right, most=1: keep_right(
                records, answers, is_right, most)[:most], "only one record is left"),
            "texts": (lambda *given: [r["output"] for r in keep_right(*given)],
                      "it returned texts"),
            "a list a question": (lambda records, answers, is_right, most=1: [
                keep_right([r], [ts], is_right, most)
                for r, ts in zip(records, answers, strict=True)], "a list for each question"),
            "changed": (lambda records, answers, is_right, most=1: [
                r.update(output=ts[0]) or r for r, ts in zip(records, answers, strict=True)],
                "were changed"),
        },
    },
}
