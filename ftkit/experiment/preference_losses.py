"""The losses of preference tuning: one function each, on log-probabilities, without a model.

policy, reference: (2, pairs), summed log-probabilities (nats) of the chosen and rejected answers
under the trained and the initial model. lengths: (2, pairs), supervised tokens of these answers.
Each loss of pairs returns (loss, rewards): a scalar, and the implicit rewards (2, pairs), whose
difference is the margin.

Names, formulas and defaults are TRL's, with which the tests compare: `DPOTrainer` (sigmoid, ipo,
sft), `KTOTrainer`, `ORPOTrainer`, `CPOTrainer` (simpo, without its cpo_alpha) and `GRPOTrainer`.
"""

from __future__ import annotations

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


def of_pairs(config, policy, reference, lengths, kl=None) -> tuple[torch.Tensor, dict]:
    """Compute the loss `config.loss_type` and its measures.

    accuracy: fraction of the pairs whose chosen answer has the larger reward. margin: difference of
    the rewards. chosen, rejected: mean log-probability of an answer (nats).
    """
    beta = config.beta
    if config.loss_type == "sigmoid":
        loss, rewards = sigmoid(policy, reference, beta)
    elif config.loss_type == "ipo":
        loss, rewards = ipo(policy, reference, lengths, beta)
    elif config.loss_type == "kto":
        loss, rewards = kto(policy, reference, kl, beta)
    elif config.loss_type == "orpo":
        loss, rewards = orpo(policy, lengths, beta)
    elif config.loss_type == "simpo":
        loss, rewards = simpo(policy, lengths, beta, config.simpo_gamma)
    else:
        loss, rewards = sft(policy, lengths), beta * (policy - reference)
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
    give zeros); "none" follows Dr. GRPO, Liu et al. 2025 (arXiv 2503.20783). RLOO's leave-one-out
    advantage (arXiv 2402.14740) equals that of "none" times n / (n - 1).
    """
    centered = rewards - rewards.mean(1, keepdim=True)
    if scale_rewards == "none":
        return centered
    deviation = rewards.std() if scale_rewards == "batch" else rewards.std(1, keepdim=True)
    return centered / (deviation + 1e-4)


def importance_ratio(policy, old, mask, level: str = "token") -> torch.Tensor:
    """Current probability divided by the probability at sampling: per token, (answers, tokens), or
    at level "sequence" the geometric mean over an answer, (answers, 1), as in GSPO, Zheng et al.
    2025 (arXiv 2507.18071). GSPO's clip range is about 3e-4."""
    change = policy - old
    if level == "sequence":
        change = (change * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return change.exp()


def clip_range(config) -> tuple[float, float]:
    """Return the (lower, upper) ratio beyond which a further gain has no gradient."""
    high = config.epsilon if config.epsilon_high is None else config.epsilon_high
    return 1 - config.epsilon, 1 + high


def grpo(policy, old, mask, advantage, config, reference=None, max_tokens: int = 0):
    """The loss of Shao et al. 2024 (arXiv 2402.03300): a clipped policy gradient, and the KL to the
    reference.

    policy, old, reference, mask: (answers, tokens): log-probabilities under the current model, at
    sampling, and under the initial model. advantage: (answers,). The KL is weighted by the ratio,
    as in DeepSeek-V3.2 and TRL, since otherwise its gradient would be biased. `config.loss_type`
    determines the mean: "grpo" in each answer and then over answers; "bnpo" over all tokens of the
    batch; "dapo" likewise, as a batch is sampled for one step here (Yu et al. 2025, arXiv
    2503.14476); "dr_grpo" divides by a constant, max_tokens for each answer.
    """
    ratio = importance_ratio(policy, old, mask, config.importance_sampling_level)
    advantage = advantage[:, None]
    gain = torch.min(ratio * advantage, ratio.clamp(*clip_range(config)) * advantage)
    if config.beta:
        gain = gain - config.beta * ratio * k3(policy, reference)
    gain = gain * mask
    if config.loss_type == "grpo":
        return -(gain.sum(1) / mask.sum(1)).mean()
    return -gain.sum() / (len(gain) * max_tokens if config.loss_type == "dr_grpo" else mask.sum())


def clipped(policy, old, mask, advantage, config) -> float:
    """Fraction of the tokens whose gradient is zero because of clipping."""
    ratio = importance_ratio(policy, old, mask, config.importance_sampling_level)
    advantage, (low, high) = advantage[:, None], clip_range(config)
    outside = ((ratio > high) & (advantage > 0)) | ((ratio < low) & (advantage < 0))
    return float((outside * mask).sum() / mask.sum())


def k3(policy, reference) -> torch.Tensor:
    """Schulman's estimate of the KL from answers of the policy: unbiased, and never negative."""
    return (reference - policy).exp() - (reference - policy) - 1
