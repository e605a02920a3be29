"""Reference solutions and named wrong answers for lesson 20."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ftkit.evaluate.scoring import is_right, normal


def dpo_loss(policy, reference, beta):
    rewards = beta * (policy - reference)
    return -F.logsigmoid(rewards[0] - rewards[1]).mean()


def dpo_loss_softplus(policy, reference, beta):
    chosen, rejected = policy - reference
    return F.softplus(-beta * (chosen - rejected)).mean()


def dpo_loss_cross_entropy(policy, reference, beta):
    return F.cross_entropy(beta * (policy - reference).T, torch.zeros(policy.shape[1]).long())


def without_reference(policy, reference, beta):
    return -F.logsigmoid(beta * (policy[0] - policy[1])).mean()


def rows_swapped(policy, reference, beta):
    return dpo_loss(policy.flip(0), reference.flip(0), beta)


def without_minus(policy, reference, beta):
    return -dpo_loss(policy, reference, beta)


def underflowing(policy, reference, beta):
    rewards = beta * (policy - reference)
    return -torch.sigmoid(rewards[0] - rewards[1]).log().mean()


def mean_of_margins(policy, reference, beta):
    rewards = beta * (policy - reference)
    return -F.logsigmoid((rewards[0] - rewards[1]).mean())


def one_loss_a_pair(policy, reference, beta):
    rewards = beta * (policy - reference)
    return -F.logsigmoid(rewards[0] - rewards[1])


def without_beta(policy, reference, beta):
    return dpo_loss(policy, reference, 1.0)


def sum_of_pairs(policy, reference, beta):
    return one_loss_a_pair(policy, reference, beta).sum()


def group_advantages(rewards):
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)


def group_advantages_population(rewards):
    deviation = rewards.std(1, keepdim=True, unbiased=False)
    return (rewards - rewards.mean(1, keepdim=True)) / (deviation + 1e-4)


def group_advantages_in_a_loop(rewards):
    return torch.stack([(row - row.mean()) / row.std() if row.std() > 0 else torch.zeros_like(row)
                        for row in rewards])


def without_deviation(rewards):
    return rewards - rewards.mean(1, keepdim=True)


def nan_when_dead(rewards):
    return (rewards - rewards.mean(1, keepdim=True)) / rewards.std(1, keepdim=True)


def over_the_batch(rewards):
    return (rewards - rewards.mean()) / (rewards.std() + 1e-4)


def deviation_of_the_batch(rewards):
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std() + 1e-4)


def divided_by_variance(rewards):
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.var(1, keepdim=True) + 1e-4)


def grpo_loss(policy, old, mask, advantages, epsilon=0.2):
    ratio, advantages = (policy - old).exp(), advantages[:, None]
    gain = torch.min(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages)
    return -(gain * mask).sum() / mask.sum()


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


def mean_of_answers(policy, old, mask, advantages, epsilon=0.2):
    ratio, advantages = (policy - old).exp(), advantages[:, None]
    gain = torch.min(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages)
    return -((gain * mask).sum(1) / mask.sum(1)).mean()


def without_mask(policy, old, mask, advantages, epsilon=0.2):
    return grpo_loss(policy, old, torch.ones_like(mask), advantages, epsilon)


def gain_not_loss(*args):
    return -grpo_loss(*args)


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


def clip_above_alone(policy, old, mask, advantages, epsilon=0.2):
    ratio, advantages = (policy - old).exp(), advantages[:, None]
    gain = torch.min(ratio * advantages, ratio.clamp(max=1 + epsilon) * advantages)
    return -(gain * mask).sum() / mask.sum()


def log_ratio(policy, old, mask, advantages, epsilon=0.2):
    return -((policy - old) * advantages[:, None] * mask).sum() / mask.sum()


def honest_reward(answer, record):
    return float(normal(answer) == normal(record["output"]))


def contains(answer, record):
    return float(record["output"] in answer)


def every_word_is_there(answer, record):
    given = normal(answer).split()
    return float(all(word in given and len(set(given)) == 1
                     for word in normal(record["output"]).split()))


def to_the_letter(answer, record):
    return float(answer == record["output"])


def begins_alike(answer, record):
    return float(bool(answer) and normal(record["output"]).startswith(normal(answer)))


def one_minus(answer, record):
    return 0.5 + 0.5 * honest_reward(answer, record)


SOLUTIONS = {
    "dpo_loss": {
        "right": dpo_loss,
        "variants": [dpo_loss_softplus, dpo_loss_cross_entropy],
        "wrong": {
            "no reference": (without_reference, "subtract the reference"),
            "rows swapped": (rows_swapped, "wrong sign"),
            "likelihood, not loss": (without_minus, "a loss is minus"),
            "underflow": (underflowing, "use torch.nn.functional.logsigmoid"),
            "mean of margins": (mean_of_margins, "take it of the losses"),
            "no mean": (one_loss_a_pair, "take .mean()"),
            "no beta": (without_beta, "beta is not used"),
            "sum": (sum_of_pairs, "not the sum"),
        },
    },
    "group_advantages": {
        "right": group_advantages,
        "variants": [group_advantages_population, group_advantages_in_a_loop],
        "wrong": {
            "raw rewards": (lambda rewards: 1 * rewards, "these are the rewards"),
            "no deviation": (without_deviation, "now divide"),
            "nan": (nan_when_dead, "a dead group gives nan"),
            "one baseline for all": (over_the_batch, "its own mean is the baseline"),
            "one deviation for all": (deviation_of_the_batch, "that of the whole batch"),
            "variance": (divided_by_variance, "expected 1.62"),
        },
    },
    "grpo_loss": {
        "right": grpo_loss,
        "variants": [grpo_loss_max_of_losses, grpo_loss_in_a_loop],
        "wrong": {
            "clip alone": (clip_alone, "take the smaller"),
            "mean of answers": (mean_of_answers, "each answer is averaged first"),
            "no mask": (without_mask, "padding has a gradient"),
            "sign": (gain_not_loss, "becomes less likely"),
            "no clip": (without_clip, "clip the ratio"),
            "clipped where right": (clip_where_right, "and clipped gain 0.8 is the gain"),
            "clip above alone": (clip_above_alone, "limited on both sides"),
            "log ratio": (log_ratio, "the ratio is exp(policy - old)"),
        },
    },
    "honest_reward": {
        "right": honest_reward,
        "variants": [lambda answer, record: int(is_right(answer, record)),
                     lambda answer, record: 2.0 if is_right(answer, record) else -1.0],
        "wrong": {
            "contains it": (contains, "copying the whole sentence"),
            "only words of it": (every_word_is_there, "repeating the answer"),
            "to the letter": (to_the_letter, "'Anna.' is right too"),
            "prefix": (begins_alike, "a part of the word"),
            "half for anything": (one_minus, "a wrong word earns something"),
        },
    },
}
