"""Reference solutions and named wrong answers for lesson 20."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from shown_solutions import edited, shown

from ftkit.evaluate.scoring import is_right, normal

grpo_loss = shown("grpo_loss")
honest_reward = shown("honest_reward")


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


def group_advantages_population(rewards):
    deviation = rewards.std(1, keepdim=True, unbiased=False)
    return (rewards - rewards.mean(1, keepdim=True)) / (deviation + 1e-4)


def group_advantages_in_a_loop(rewards):
    return torch.stack([(row - row.mean()) / row.std() if row.std() > 0 else torch.zeros_like(row)
                        for row in rewards])


def grpo_loss_max_of_losses(policy, old, mask, advantages, epsilon=0.2):
    ratio = torch.exp(policy - old)
    losses = -ratio * advantages.unsqueeze(1)
    clipped = -torch.clamp(ratio, 1 - epsilon, 1 + epsilon) * advantages.unsqueeze(1)
    return torch.max(losses, clipped)[mask.bool()].mean()


def grpo_loss_in_a_loop(policy, old, mask, advantages, epsilon=0.2):
    total = 0
    for row in range(len(policy)):
        for t in range(int(mask[row].sum())):
            ratio = (policy[row, t] - old[row, t]).exp()
            clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
            total = total - torch.min(ratio * advantages[row], clipped * advantages[row])
    return total / mask.sum()


def without_mask(policy, old, mask, advantages, epsilon=0.2):
    return grpo_loss(policy, old, torch.ones_like(mask), advantages, epsilon)


def without_clip(policy, old, mask, advantages, epsilon=0.2):
    return -((policy - old).exp() * advantages[:, None] * mask).sum() / mask.sum()


def clip_alone(policy, old, mask, advantages, epsilon=0.2):
    clipped = (policy - old).exp().clamp(1 - epsilon, 1 + epsilon)
    return -(clipped * advantages[:, None] * mask).sum() / mask.sum()


def clip_where_right(policy, old, mask, advantages, epsilon=0.2):
    ratio, advantages = (policy - old).exp(), advantages[:, None]
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
    gain = torch.where(advantages > 0, clipped, ratio) * advantages
    return -(gain * mask).sum() / mask.sum()


def log_ratio(policy, old, mask, advantages, epsilon=0.2):
    return -((policy - old) * advantages[:, None] * mask).sum() / mask.sum()


def every_word_is_there(answer, record):
    given = normal(answer).split()
    return float(all(word in given and len(set(given)) == 1
                     for word in normal(record["output"]).split()))


SOLUTIONS = {
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
            "no beta": (lambda policy, reference, beta: dpo_loss(policy, reference, 1.0),
                        "beta is not used"),
            "sum": (lambda policy, reference, beta: one_loss_a_pair(policy, reference, beta).sum(),
                    "not the sum"),
        },
    },
    "group_advantages": {
        "variants": [group_advantages_population, group_advantages_in_a_loop],
        "wrong": {
            "raw rewards": (lambda rewards: 1 * rewards, "these are the rewards"),
            "no deviation": (lambda rewards: rewards - rewards.mean(1, keepdim=True), "now divide"),
            "nan": (
                lambda rewards: (
                    (rewards - rewards.mean(1, keepdim=True)) / rewards.std(1, keepdim=True)),
                "a dead group gives nan"),
            "one baseline for all": (
                lambda rewards: (rewards - rewards.mean()) / (rewards.std() + 1e-4),
                "its own mean is the baseline"),
            "one deviation for all": (
                lambda rewards: (rewards - rewards.mean(1, keepdim=True)) / (rewards.std() + 1e-4),
                "that of the whole batch"),
            "variance": (
                lambda rewards: ((rewards - rewards.mean(1, keepdim=True))
                                 / (rewards.var(1, keepdim=True) + 1e-4)),
                "expected 1.62"),
        },
    },
    "grpo_loss": {
        "variants": [grpo_loss_max_of_losses, grpo_loss_in_a_loop],
        "wrong": {
            "clip alone": (clip_alone, "take the smaller"),
            "mean of answers": (edited(
                "grpo_loss", "(gain * mask).sum() / mask.sum",
                "((gain * mask).sum(1) / mask.sum(1)).mean"), "each answer is averaged first"),
            "no mask": (without_mask, "padding has a gradient"),
            "sign": (lambda *args: -grpo_loss(*args), "becomes less likely"),
            "no clip": (without_clip, "clip the ratio"),
            "clipped where right": (clip_where_right, "and clipped gain 0.8 is the gain"),
            "clip above alone": (
                edited("grpo_loss", "1 - epsilon, 1", "max=1"),
                "limited on both sides"),
            "log ratio": (log_ratio, "the ratio is exp(policy - old)"),
        },
    },
    "honest_reward": {
        "variants": [lambda answer, record: int(is_right(answer, record)),
                     lambda answer, record: 2.0 if is_right(answer, record) else -1.0],
        "wrong": {
            "contains it": (lambda answer, record: float(record["output"] in answer),
                            "copying the whole sentence"),
            "only words of it": (every_word_is_there, "repeating the answer"),
            "to the letter": (lambda answer, record: float(answer == record["output"]),
                              "'Anna.' is right too"),
            "prefix": (
                lambda answer, record: (
                    float(bool(answer) and normal(record["output"]).startswith(normal(answer)))),
                "a part of the word"),
            "half for anything": (lambda answer, record: 0.5 + 0.5 * honest_reward(answer, record),
                                  "earns 0.5"),
            "pays for a short list": (
                lambda answer, record: (
                    1.0 * (len(answer.split()) < 4 and record["output"] in answer)),
                "listing two candidates"),
            "wrong words pay": (lambda answer, record: float(len(answer.split()) == 1) * (
                1 + is_right(answer, record)), "earns 1, the right answer 2"),
        },
    },
}
