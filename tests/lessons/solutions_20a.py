"""Reference solutions and named wrong answers for lesson 20a."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from shown_solutions import edited, shown

reward_loss = shown("reward_loss")
answer_kl = shown("answer_kl")


def reward_loss_by_softplus(chosen, rejected):
    return F.softplus(rejected - chosen).mean()


def reward_loss_by_cross_entropy(chosen, rejected):
    scores = torch.stack([chosen, rejected], 1)
    return F.cross_entropy(scores, torch.zeros(len(scores)).long())


def dpo_loss(policy, reference, beta):
    rewards = beta * (policy - reference)
    return -F.logsigmoid(rewards[0] - rewards[1]).mean()


def dpo_loss_softplus(policy, reference, beta):
    chosen, rejected = policy - reference
    return F.softplus(-beta * (chosen - rejected)).mean()


def dpo_loss_cross_entropy(policy, reference, beta):
    return F.cross_entropy(beta * (policy - reference).T, torch.zeros(policy.shape[1]).long())


def one_loss_a_pair(policy, reference, beta):
    rewards = beta * (policy - reference)
    return -F.logsigmoid(rewards[0] - rewards[1])


def answer_kl_in_a_loop(policy, reference, mask):
    total = 0
    for row in range(len(policy)):
        for t in range(int(mask[row].sum())):
            d = reference[row, t] - policy[row, t]
            total = total + d.exp() - d - 1
    return total / len(policy)


def answer_kl_by_ratio(policy, reference, mask):
    ratio = (reference - policy).exp()
    return torch.where(mask.bool(), ratio - 1 - ratio.log(), 0.0).sum() / len(policy)


SOLUTIONS = {
    "reward_loss": {
        "variants": [reward_loss_by_softplus, reward_loss_by_cross_entropy],
        "wrong": {
            "no mean": (lambda c, r: -F.logsigmoid(c - r), "take .mean()"),
            "sum": (lambda c, r: -F.logsigmoid(c - r).sum(), "a sum over the pairs"),
            "reversed": (lambda c, r: reward_loss(r, c), "chosen minus rejected"),
            "sign": (lambda c, r: -reward_loss(c, r), "MINUS the log-probability"),
            "probability": (lambda c, r: torch.sigmoid(c - r).mean(), "the probability itself"),
            "minus the probability": (lambda c, r: -torch.sigmoid(c - r).mean(),
                                      "minus its LOGARITHM"),
            "mean of differences": (lambda c, r: -F.logsigmoid((c - r).mean()),
                                    "the mean is taken of the differences"),
            "difference": (lambda c, r: (r - c).mean(), "the difference alone has no limit"),
            "underflow": (lambda c, r: -torch.sigmoid(c - r).log().mean(),
                          "use torch.nn.functional.logsigmoid"),
            "float": (lambda c, r: reward_loss(c, r).item(), "got a float"),
            "detached": (lambda c, r: reward_loss(c, r).detach(), "has no gradient,"),
            "rejected detached": (lambda c, r: reward_loss(c, r.detach()),
                                  "no gradient to the rejected scores"),
            "two pairs for ever": (lambda c, r: -F.logsigmoid(c - r).sum() / 2, "however many"),
            "each alone": (lambda c, r: -(F.logsigmoid(c) + F.logsigmoid(-r)).mean(),
                           "ONE log sigmoid"),
            "shares of sigmoids": (lambda c, r: -(c.sigmoid() / (c.sigmoid() + r.sigmoid()))
                                   .log().mean(), "before they were compared"),
            "hinge": (lambda c, r: F.relu(1 - (c - r)).mean(), "this is a hinge"),
            "overflow": (lambda c, r: torch.log1p((r - c).exp()).mean(), "exp(4000) is infinite"),
        },
    },
    "dpo_loss": {
        "variants": [dpo_loss_softplus, dpo_loss_cross_entropy],
        "wrong": {
            "no reference": (
                lambda policy, reference, beta: (
                    -F.logsigmoid(beta * (policy[0] - policy[1])).mean()),
                "subtract the reference"),
            "rows swapped": (
                lambda policy, reference, beta: dpo_loss(policy.flip(0), reference.flip(0), beta),
                "wrong sign"),
            "likelihood, not loss": (
                lambda policy, reference, beta: -dpo_loss(policy, reference, beta),
                "a loss is minus"),
            "underflow": (edited(dpo_loss, "F.logsigmoid(rewards[0] - rewards[1])",
                                 "torch.sigmoid(rewards[0] - rewards[1]).log()"),
                          "use torch.nn.functional.logsigmoid"),
            "mean of margins": (edited(
                dpo_loss, "(rewards[0] - rewards[1]).mean()",
                "((rewards[0] - rewards[1]).mean())"), "take it of the losses"),
            "no mean": (one_loss_a_pair, "take .mean()"),
            "detached": (lambda *given: dpo_loss(*given).detach(), "has no gradient"),
            "half detached": (edited(dpo_loss, "- rewards[1]", "- rewards[1].detach()"),
                              "its gradient"),
            "beta outside": (edited(dpo_loss, "return -F.logsigmoid(rewards[0] - rewards[1])",
                                    "return -beta * F.logsigmoid(rewards[0] - rewards[1])"),
                             "beta belongs into the sigmoid"),
            "beta on the policy": (edited(dpo_loss, "beta * (policy - reference)",
                                          "beta * policy - reference"), "not the policy alone"),
            "divided by beta": (edited(dpo_loss, "beta * (", "1 / beta * ("), "multiply it"),
            "ipo": (edited(dpo_loss, "-F.logsigmoid(rewards[0] - rewards[1])",
                           "((rewards[0] - rewards[1]) / beta - 0.5 / beta).square()"),
                    "this is IPO"),
            "columns": (edited(dpo_loss, "rewards[0] - rewards[1]",
                               "rewards[:, 0] - rewards[:, 1]"), "ROW 0"),
            "chosen alone": (edited(dpo_loss, " - rewards[1]", ""), "answers are not used"),
            "no beta": (lambda policy, reference, beta: dpo_loss(policy, reference, 1.0),
                        "beta is not used"),
            "sum": (lambda policy, reference, beta: one_loss_a_pair(policy, reference, beta).sum(),
                    "not the sum"),
            "two pairs for ever": (lambda policy, reference, beta: one_loss_a_pair(
                policy, reference, beta).sum() / 2, "however many"),
            "beta 0.1 for ever": (lambda policy, reference, beta: dpo_loss(policy, reference, 0.1),
                                  "whatever is given"),
            "hinge": (edited(dpo_loss, "-F.logsigmoid(rewards[0] - rewards[1])",
                             "F.relu(1 - (rewards[0] - rewards[1]))"), "this is a hinge"),
            "margin": (edited(dpo_loss, "-F.logsigmoid(rewards[0] - rewards[1])",
                              "-(rewards[0] - rewards[1])"), "the margin alone has no limit"),
            "ratio without log": (edited(dpo_loss, "beta * (policy - reference)",
                                         "beta * (policy - reference).exp()"), "no exp"),
            "each alone": (edited(dpo_loss, "-F.logsigmoid(rewards[0] - rewards[1])",
                                  "-0.5 * (F.logsigmoid(rewards[0]) + F.logsigmoid(-rewards[1]))"),
                           "each answer is judged by itself"),
            "size of the margin": (edited(dpo_loss, "(rewards[0] - rewards[1])",
                                          "((rewards[0] - rewards[1]).abs())"),
                                   "the sign of the margin is lost"),
        },
    },
    "answer_kl": {
        "variants": [answer_kl_in_a_loop, answer_kl_by_ratio],
        "wrong": {
            "no mask": (lambda p, r, m: answer_kl(p, r, torch.ones_like(m)), "padding counts"),
            "per token": (lambda p, r, m: answer_kl_by_ratio(p, r, m) * len(p) / m.sum(),
                          "nats per token"),
            "sum": (lambda p, r, m: answer_kl(p, r, m) * len(p), "a sum over the answers"),
            "mean of positions": (lambda p, r, m: answer_kl(p, r, m) / p.shape[1],
                                  "a mean over all positions"),
            "mean of each answer": (edited("answer_kl", ".sum(1).mean()",
                                           ".sum(1).div(mask.sum(1)).mean()"),
                                    "each answer is averaged"),
            "of the sum": (lambda p, r, m: (lambda d: d.exp() - d - 1)(
                ((r - p) * m).sum(1)).mean(), "make it for each token"),
            "reversed": (lambda p, r, m: answer_kl(r, p, m), "since the policy drew the tokens"),
            "k1": (lambda p, r, m: ((p - r) * m).sum(1).mean(), "this is k1"),
            "k2": (lambda p, r, m: ((p - r).square() / 2 * m).sum(1).mean(), "this is k2"),
            "without - d": (edited("answer_kl", "d.exp() - d - 1", "d.exp() - 1"),
                            "the - d is missing"),
            "without - 1": (edited("answer_kl", "d.exp() - d - 1", "d.exp() - d"),
                            "the - 1 is missing"),
            "two answers for ever": (lambda p, r, m: answer_kl(p, r, m) * len(p) / 2,
                                     "however many"),
            "over the answers": (edited("answer_kl", ".sum(1)", ".sum(0)"), "(dim 0)"),
            "one answer": (edited("answer_kl", ".mean()", ".max()"), "one answer alone"),
            "weighted": (edited("answer_kl", "* mask", "* mask * policy.exp()"),
                         "weighted by the policy's probability"),
            "mean of d": (lambda p, r, m: ((r - p) * m).sum(1).mean(), "negative in expectation"),
            "not summed": (lambda p, r, m: ((r - p).exp() - (r - p) - 1) * m, "take the mean"),
        },
    },
}
