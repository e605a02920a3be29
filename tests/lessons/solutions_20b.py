"""Reference solutions and named wrong answers for lesson 20b."""

from __future__ import annotations

import torch
from shown_solutions import edited, shown

grpo_loss = shown("grpo_loss")
token_advantages = shown("token_advantages")


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


def token_advantages_by_the_definition(rewards, values, gamma=1.0, lam=0.95):
    """A sum of later errors, each weighted by (gamma lam) to the power of its distance."""
    padded = torch.cat([values, torch.zeros(1)])
    errors = rewards + gamma * padded[1:] - padded[:-1]
    return torch.stack([sum((gamma * lam) ** k * error for k, error in enumerate(errors[t:]))
                        for t in range(len(errors))])


def token_advantages_as_a_matrix(rewards, values, gamma=1.0, lam=0.95):
    n = len(rewards)
    errors = rewards + gamma * torch.cat([values[1:], torch.zeros(1)]) - values
    distance = torch.arange(n)[None] - torch.arange(n)[:, None]
    return torch.where(distance >= 0, (gamma * lam) ** distance.clamp(min=0), 0.0) @ errors


SOLUTIONS = {
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
            "range": (
                lambda rewards: ((rewards - rewards.mean(1, keepdim=True))
                                 / (rewards.amax(1, True) - rewards.amin(1, True) + 1e-4)),
                "divided by the range"),
            "others": (
                lambda rewards: (rewards - rewards.mean(1, keepdim=True)) * 8 / 7, "this is RLOO"),
            "variance": (
                lambda rewards: ((rewards - rewards.mean(1, keepdim=True))
                                 / (rewards.var(1, keepdim=True) + 1e-4)),
                "expected 1.62"),
            "sign": (lambda rewards: -group_advantages_population(rewards), "wrong sign"),
            "groups of eight": (lambda rewards: (
                (rewards - rewards.sum(1, keepdim=True) / 8)
                / (rewards.std(1, keepdim=True) + 1e-4)), "a group of 4"),
            "others, divided": (lambda rewards: 8 / 7 * (
                rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4),
                "the mean of the OTHER answers"),
            "norm": (lambda rewards: (lambda centered: centered / (
                centered.norm(dim=1, keepdim=True) + 1e-4))(
                    rewards - rewards.mean(1, keepdim=True)), "divided by the norm"),
            "in place": (lambda rewards: rewards.sub_(rewards.mean(1, keepdim=True)).div_(
                rewards.std(1, keepdim=True) + 1e-4), "rewards was changed"),
            "right answers only": (lambda rewards: group_advantages_population(rewards).clamp(0),
                                   "do not belong together"),
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
            "larger gain": (edited("grpo_loss", "torch.min", "torch.max"), "larger of gain"),
            "clipped where right": (clip_where_right, "and clipped gain 0.8 is the gain"),
            "clip above alone": (
                edited("grpo_loss", "1 - epsilon, 1", "max=1"),
                "limited on both sides"),
            "fixed epsilon": (lambda policy, old, mask, advantages, epsilon=0.2: (
                grpo_loss(policy, old, mask, advantages)), "whatever is given"),
            "one ratio an answer": (lambda policy, old, mask, advantages, epsilon=0.2: grpo_loss(
                old + ((policy - old) * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True),
                old, mask, advantages, epsilon), "one ratio for the answer is GSPO"),
            "fixed lower limit": (edited("grpo_loss", "clamp(1 - epsilon", "clamp(0.8"),
                                  "epsilon 0.5, ratio 0.37"),
            "detached": (lambda policy, *rest: grpo_loss(policy.detach(), *rest),
                         "does not depend on policy"),
            "sum": (lambda policy, old, mask, *rest: grpo_loss(policy, old, mask, *rest)
                    * mask.sum(), "a sum over the tokens"),
            "ratio clipped before the sign": (
                lambda policy, old, mask, advantages, epsilon=0.2: -(torch.min(
                    (policy - old).exp(), (policy - old).exp().clamp(1 - epsilon, 1 + epsilon))
                    * advantages[:, None] * mask).sum() / mask.sum(),
                "so that only the gain is limited"),
            "log ratio": (log_ratio, "the ratio is exp(policy - old)"),
        },
    },
    "token_advantages": {
        "variants": [token_advantages_by_the_definition, token_advantages_as_a_matrix],
        "wrong": {
            "targets": (lambda r, v, gamma=1.0, lam=0.95: token_advantages(r, v, gamma, lam) + v,
                        "the critic's targets"),
            "one step": (lambda r, v, gamma=1.0, lam=0.95: token_advantages(r, v, gamma, 0.0),
                         "one-step errors"),
            "forward": (edited("token_advantages", "reversed(range(len(errors)))",
                               "range(len(errors))"), "from left to right"),
            "no lam": (lambda r, v, gamma=1.0, lam=0.95: token_advantages(r, v, gamma, 1.0),
                       "lam is not used"),
            "no gamma": (lambda r, v, gamma=1.0, lam=0.95: token_advantages(r, v, 1.0, lam),
                         "gamma is not used"),
            "lam alone": (edited("token_advantages", "gamma * lam * carried", "lam * carried"),
                          "weighted by lam alone"),
            "exchanged": (lambda r, v, gamma=1.0, lam=0.95: token_advantages(r, v, lam, gamma),
                          "exchanged"),
            "no next value": (edited("token_advantages", "rewards + gamma * following - values",
                                     "rewards - values"), "the next token is missing"),
            "last value kept": (edited("token_advantages", "values.new_zeros(1)", "values[-1:]"),
                                "so the next value is 0"),
            "roll": (edited("token_advantages", "torch.cat([values[1:], values.new_zeros(1)])",
                            "values.roll(-1)"), "not the first one (roll)"),
            "sign": (lambda r, v, gamma=1.0, lam=0.95: -token_advantages(r, v, gamma, lam),
                     "wrong sign"),
            "one number": (lambda r, v, gamma=1.0, lam=0.95: r.sum() - v[0], "4 advantages"),
            "rewards changed": (lambda r, v, gamma=1.0, lam=0.95: token_advantages(
                r.mul_(0.5), v, gamma, lam), "rewards was changed"),
            "returns": (lambda r, v, gamma=1.0, lam=0.95: token_advantages(r, 0 * v, gamma, 1.0),
                        "these are the returns"),
            "last reward": (lambda r, v, gamma=1.0, lam=0.95: r[-1] - v, "only the last reward"),
            "reversed": (lambda r, v, gamma=1.0, lam=0.95: token_advantages(r, v, gamma, lam)
                         .flip(0), "in reversed order"),
            "defaults": (lambda r, v, gamma=1.0, lam=0.95: token_advantages(r, v),
                         "the defaults are used"),
            "normalized": (lambda r, v, gamma=1.0, lam=0.95: (lambda a: (a - a.mean()) / a.std())(
                token_advantages(r, v, gamma, lam)), "normalized"),
        },
    },
}
