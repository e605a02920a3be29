"""The losses of post-training: one function each, on log-probabilities, without a model.

Of pairs. policy, reference: (2, pairs), summed log-probabilities (nats) of the chosen and rejected
answers under the trained and the initial model. lengths: (2, pairs), supervised tokens of these
answers. Each loss returns (loss, rewards): a scalar, and the implicit rewards (2, pairs), whose
difference is the margin. From rewards: see `grpo`. From a teacher: `divergence`.

Names, formulas and defaults are TRL's, with which the tests compare losses and gradients:
`DPOTrainer` (sigmoid, ipo, sft), `KTOTrainer`, `ORPOTrainer`, `CPOTrainer` (simpo, without its
cpo_alpha), `RewardTrainer`, `GRPOTrainer`, `RLOOTrainer` and `GKDTrainer`.
"""

import math

import torch
import torch.nn.functional as F

WITHOUT_REFERENCE = ("orpo", "simpo")


def sigmoid(policy, reference, beta: float):
    """DPO, Rafailov et al. 2023 (arXiv 2305.18290): logistic regression on the margin."""
    rewards = beta * (policy - reference)
    return -F.logsigmoid(rewards[0] - rewards[1]).mean(), rewards


def ipo(policy, reference, lengths, beta: float):
    """IPO, Azar et al. 2023 (arXiv 2310.12036), eq. 17: the gap of the log ratios is regressed on
    1 / (2 beta), so that it does not grow without bound. Log ratios are means over tokens, as in
    TRL (the authors advise this). beta is the paper's tau."""
    ratios = policy - reference
    gap = ratios / lengths
    return (gap[0] - gap[1] - 1 / (2 * beta)).square().mean(), beta * ratios


def kto(policy, reference, kl, beta: float):
    """KTO, Ethayarajh et al. 2024 (arXiv 2402.01306), eq. 7: each answer is compared with `kl`, an
    estimate of KL(policy || reference), not with the other answer. Both kinds have weight 1."""
    ratios = policy - reference
    signs = torch.tensor([[1.0], [-1.0]], device=ratios.device)
    return (1 - F.sigmoid(beta * signs * (ratios - kl))).mean(), beta * ratios


def orpo(policy, lengths, beta: float):
    """ORPO, Hong et al. 2024 (arXiv 2403.07691), eqs. 6 and 7: SFT on the chosen answers, plus beta
    (the paper's lambda) times a loss on the odds ratio. There is no reference. TRL's SFT term
    includes the prompt's tokens; here, as elsewhere in ftkit, it has only the answer's."""
    means = policy / lengths
    log_odds = means - torch.log(-torch.expm1(means.clamp(max=-1e-6)))  # log(p / (1 - p))
    penalty = -F.logsigmoid(log_odds[0] - log_odds[1]).mean()
    return sft(policy, lengths) + beta * penalty, beta * means


def simpo(policy, lengths, beta: float, gamma: float):
    """SimPO, Meng et al. 2024 (arXiv 2405.14734), eq. 6: the reward is beta times the mean token
    log-probability, and its target margin is gamma. There is no reference."""
    rewards = beta * policy / lengths
    return -F.logsigmoid(rewards[0] - rewards[1] - gamma).mean(), rewards


def sft(policy, lengths):
    """Mean loss over the tokens of the chosen answers; the rejected ones are not used."""
    return -policy[0].sum() / lengths[0].sum()


def reward_model(chosen, rejected, margin=0.0) -> torch.Tensor:
    """Bradley-Terry, Ouyang et al. 2022 (arXiv 2203.02155), eq. 1: the chosen answer wins with
    probability sigmoid(chosen - rejected - margin); chosen, rejected: (pairs,), scores of a reward
    model."""
    return -F.logsigmoid(chosen - rejected - margin).mean()


def of_pairs(config, policy, reference, lengths, kl=None) -> tuple[torch.Tensor, dict]:
    """Compute the loss `config.loss_type` and its measures.

    accuracy: fraction of the pairs whose chosen answer has the larger reward. margin: difference of
    the rewards. chosen, rejected: mean log-probability of an answer (nats).
    """
    beta = config.beta
    loss, rewards = {
        "sigmoid": lambda: sigmoid(policy, reference, beta),
        "ipo": lambda: ipo(policy, reference, lengths, beta),
        "kto": lambda: kto(policy, reference, kl, beta),
        "orpo": lambda: orpo(policy, lengths, beta),
        "simpo": lambda: simpo(policy, lengths, beta, config.simpo_gamma),
        "sft": lambda: (sft(policy, lengths), beta * (policy - reference)),
    }[config.loss_type]()
    seen = measures(policy, rewards)
    lengths = lengths.mean(1)
    seen |= {"chosen_length": lengths[0].item(), "rejected_length": lengths[1].item()}
    return loss, seen | ({} if kl is None else {"kl": kl.item()})


def measures(policy, rewards) -> dict[str, float]:
    """Compute the measures of a batch of pairs; see `of_pairs`."""
    margins = rewards[0] - rewards[1]
    seen = {"accuracy": (margins > 0).float().mean(), "margin": margins.mean(),
            "chosen": policy[0].mean(), "rejected": policy[1].mean()}
    return {k: v.item() for k, v in seen.items()}


# ------------------------------------------------------------------------------ from rewards


def advantages(rewards: torch.Tensor, scale_rewards: str = "group") -> torch.Tensor:
    """Reward of each answer minus the mean of its group; rewards: (groups, answers).

    scale_rewards: "group" or "batch" divides by its standard deviation (equal rewards in a group
    give zeros); "none" follows Dr. GRPO, Liu et al. 2025 (arXiv 2503.20783).
    """
    centered = rewards - rewards.mean(1, keepdim=True)
    if scale_rewards == "none":
        return centered
    deviation = rewards.std() if scale_rewards == "batch" else rewards.std(1, keepdim=True)
    return centered / (deviation + 1e-4)


def leave_one_out(rewards: torch.Tensor) -> torch.Tensor:
    """RLOO, Ahmadian et al. 2024 (arXiv 2402.14740): the reward of each answer minus the mean of
    the others in its group; rewards: (groups, answers). A KL penalty is part of the reward."""
    others = rewards.shape[1] - 1
    return (rewards - rewards.mean(1, keepdim=True)) * (others + 1) / others


def gae(rewards, values, mask, gamma: float = 1.0, lam: float = 0.95):
    """Generalized advantage estimation, Schulman et al. 2015 (arXiv 1506.02438), eq. 16.

    rewards, values, mask: (answers, tokens): reward after each token, and the critic's prediction
    before it. Returns (advantages, returns), the latter being the critic's targets. lam 0 is the
    one-step error r + gamma V' - V; lam 1 is the sum of all later rewards minus V.
    """
    values = values * mask
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    errors = (rewards + gamma * following - values) * mask
    carried, columns = torch.zeros_like(errors[:, 0]), []
    for error in reversed(errors.unbind(1)):
        carried = error + gamma * lam * carried
        columns.append(carried)
    advantage = torch.stack(columns[::-1], 1) * mask
    return advantage, advantage + values


def ppo(policy, old, mask, advantage, values, old_values, returns, epsilon: float = 0.2,
        value_range: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO, Schulman et al. 2017 (arXiv 1707.06347), eq. 7: (policy loss, value loss), means over
    tokens; all arguments (answers, tokens). The value loss is half the larger of the squared errors
    of the value and of the value clipped to `value_range` around the old one."""
    ratio = importance_ratio(policy, old, mask)
    gain = torch.min(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)
    near = old_values + (values - old_values).clamp(-value_range, value_range)
    error = torch.max((values - returns).square(), (near - returns).square()) / 2
    return -(gain * mask).sum() / mask.sum(), (error * mask).sum() / mask.sum()


def importance_ratio(policy, old, mask, level: str = "token") -> torch.Tensor:
    """Current probability divided by the probability at sampling: per token, (answers, tokens), or
    at level "sequence" the geometric mean over an answer, (answers, 1), as in GSPO, Zheng et al.
    2025 (arXiv 2507.18071). GSPO's clip range is about 3e-4."""
    change = policy - old
    if level == "sequence":
        change = (change * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return change.exp()


def clip_range(config) -> tuple[float, float]:
    """Return the (lower, upper) ratio beyond which a further gain has no gradient. CISPO limits the
    ratio itself, only from above, to `epsilon_high`, by default ScaleRL's 5 (arXiv 2510.13786)."""
    if config.loss_type == "cispo":
        return 0.0, 5.0 if config.epsilon_high is None else config.epsilon_high
    high = config.epsilon if config.epsilon_high is None else config.epsilon_high
    return 1 - config.epsilon, 1 + high


def grpo(policy, old, mask, advantage, config, reference=None, max_tokens: int = 0):
    """The loss of Shao et al. 2024 (arXiv 2402.03300): a clipped policy gradient, and the KL to the
    reference; `config.loss_type` selects a relative.

    policy, old, reference, mask: (answers, tokens): log-probabilities under the current model, at
    sampling, and under the initial model. advantage: (answers,). The KL is weighted by the ratio,
    as in DeepSeek-V3.2 and TRL, since otherwise its gradient would be biased; in "rloo" it is part
    of the reward.

    The mean: "grpo" and "sapo" in each answer and then over answers; "bnpo" over all tokens of the
    batch; "dapo" (Yu et al. 2025, arXiv 2503.14476), "cispo" and "vespo" likewise, as a batch is
    sampled for one step here; "dr_grpo" divides by a constant, max_tokens for each answer; "luspo"
    (arXiv 2602.05261) sums over an answer, for importance_sampling_level "sequence".
    """
    if config.loss_type == "rloo":
        return _rloo(policy, old, mask, advantage, config)
    ratio = importance_ratio(policy, old, mask, config.importance_sampling_level)
    gain = _gain(policy, old, mask, ratio, advantage[:, None], config)
    if config.beta:
        gain = gain - config.beta * ratio * k3(policy, reference)
    gain = gain * mask
    if config.loss_type in ("grpo", "sapo"):
        return -(gain.sum(1) / mask.sum(1)).mean()
    if config.loss_type == "luspo":
        return -gain.sum(1).mean()
    return -gain.sum() / (len(gain) * max_tokens if config.loss_type == "dr_grpo" else mask.sum())


def _gain(policy, old, mask, ratio, advantage, config) -> torch.Tensor:
    """What a token contributes; its gradient is a weight times that of its log-probability."""
    low, high = clip_range(config)
    if config.loss_type == "cispo":  # MiniMax-M1 (arXiv 2506.13585): no token loses its gradient
        return ratio.clamp(max=high).detach() * advantage * policy
    if config.loss_type == "sapo":  # arXiv 2511.20347: a soft gate, with TRL's temperatures
        heat = torch.where(advantage > 0, 1.0, 1.05)
        return torch.sigmoid(heat * (ratio - 1)) * 4 / heat * advantage
    if config.loss_type == "vespo":
        return _vespo_weight(policy, old, mask, advantage) * advantage * policy
    return torch.min(ratio * advantage, ratio.clamp(low, high) * advantage)


@torch.no_grad()
def _vespo_weight(policy, old, mask, advantage) -> torch.Tensor:
    """VESPO (arXiv 2602.10693): e^b w^a e^(-b w), which is 1 at w = 1, the ratio of the whole
    answer; (a, b) is (2, 3) where the advantage is at least 0, else (3, 2)."""
    log_w = ((policy - old).clamp(-20, 20) * mask).sum(1, keepdim=True).clamp(math.log(1e-8), 20)
    power = torch.where(advantage >= 0, 2.0, 3.0)
    decay = 5.0 - power
    return (decay + power * log_w - decay * log_w.exp()).exp()


def _rloo(policy, old, mask, advantage, config) -> torch.Tensor:
    """A clipped policy gradient whose ratio is the one of the whole answer, a product."""
    ratio = ((policy - old) * mask).sum(1).exp()
    return -torch.min(ratio * advantage, ratio.clamp(*clip_range(config)) * advantage).mean()


def clipped(policy, old, mask, advantage, config) -> float:
    """Fraction of the tokens whose gradient is zero because of clipping."""
    if config.loss_type in ("cispo", "sapo", "vespo"):
        return 0.0
    level = config.importance_sampling_level
    ratio = importance_ratio(policy, old, mask, level)
    if config.loss_type == "rloo":
        ratio = ((policy - old) * mask).sum(1, keepdim=True).exp()
    advantage, (low, high) = advantage[:, None], clip_range(config)
    outside = ((ratio > high) & (advantage > 0)) | ((ratio < low) & (advantage < 0))
    return float((outside * mask).sum() / mask.sum())


def k1(policy, reference) -> torch.Tensor:
    """Estimate of the KL from answers of the policy: unbiased, but negative for many answers."""
    return policy - reference


def k2(policy, reference) -> torch.Tensor:
    """Half the square of `k1`: biased, with little variance; its gradient is the one of the KL."""
    return (policy - reference).square() / 2


def k3(policy, reference) -> torch.Tensor:
    """Schulman's estimate of the KL from answers of the policy: unbiased, and never negative."""
    return (reference - policy).exp() - (reference - policy) - 1


# ----------------------------------------------------------------------------- from a teacher


def divergence(student, teacher, beta: float = 1.0, temperature: float = 1.0) -> torch.Tensor:
    """Generalized Jensen-Shannon divergence, Agarwal et al. 2023 (arXiv 2306.13649), eq. 1; a mean
    over tokens (nats). student, teacher: (tokens, vocabulary), logits.

    beta 0 is the forward KL(teacher || student), which covers all that the teacher may say; 1 the
    reverse KL, which stays where the teacher is sure.
    """
    ours, theirs = ((x / temperature).log_softmax(-1) for x in (student, teacher))
    if beta in (0, 1):
        p, q = (theirs, ours) if beta == 0 else (ours, theirs)
        return (p.exp() * (p - q)).sum(-1).mean()
    mixed = torch.logaddexp(ours + math.log1p(-beta), theirs + math.log(beta))
    from_theirs, from_ours = ((p.exp() * (p - mixed)).sum(-1) for p in (theirs, ours))
    return (beta * from_theirs + (1 - beta) * from_ours).mean()
