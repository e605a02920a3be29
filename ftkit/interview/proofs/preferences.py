"""Proofs about preferences and reward models: small problems solved exactly, and seeded draws."""

import functools
import math

import numpy
import torch

from ftkit.experiment import preference_losses
from ftkit.interview.proofs.evaluation import minimized, rng
from ftkit.interview.proofs.memory import bytes_each, scaled
from ftkit.interview.proofs.registry import Evidence, proof, register

REWARDS = torch.tensor([3.0, 2.0, 1.0, 0.5])  # of the four answers to a prompt
REFERENCE = torch.tensor([0.1, 0.2, 0.3, 0.4])  # their probabilities under the SFT model
ONES = torch.ones(2, 1)


def kl(p, q) -> torch.Tensor:
    return (p * (p / q).log()).sum()


def best_policy(rewards, reference, beta: float) -> torch.Tensor:
    """The policy of maximal expected reward minus beta KL(policy || reference)."""
    def loss(logits):
        policy = logits.softmax(0)
        return beta * kl(policy, reference) - (policy * rewards).sum()

    return minimized(torch.zeros(len(rewards)), loss, 500, 0.05).softmax(0)


# ------------------------------------------------------------------------ reward models


@functools.cache
def fitted_scores() -> torch.Tensor:
    """Scores of the four answers, fitted to 100,000 comparisons by people."""
    first, second = torch.from_numpy(rng().integers(0, 4, (2, 100_000)))
    wins = torch.from_numpy(rng(1).random(100_000)) < (REWARDS[first] - REWARDS[second]).sigmoid()
    chosen, rejected = torch.where(wins, first, second), torch.where(wins, second, first)
    return minimized(torch.zeros(4), lambda scores: preference_losses.reward_model(
        scores[chosen], scores[rejected]), 200, 0.05)


def expected(policy) -> float:
    return float((policy * REWARDS).sum())


def sft_policy() -> torch.Tensor:
    """The policy fitted to 100,000 demonstrations of writers who answer as REFERENCE says."""
    drawn = REFERENCE.multinomial(100_000, True, generator=torch.Generator().manual_seed(0))
    return minimized(torch.zeros(4), lambda logits: preference_losses.sft(
        logits.log_softmax(0)[drawn][None], torch.ones(1, 100_000)), 200, 0.05).softmax(0)


@proof("simulation")
def rm_pairs_leak():
    """Accuracy of a table of scores on held-out pairs of 300 prompts with four answers each. What
    people prefer follows no rule here. Pairs are held out at random, or by prompt."""
    quality = torch.from_numpy(rng().random((300, 4)))
    prompt, a, b = (torch.tensor(column) for column in zip(*(
        (p, i, j) for p in range(300) for i in range(4) for j in range(i)), strict=True))
    better = quality[prompt, a] > quality[prompt, b]
    chosen, rejected = torch.where(better, a, b), torch.where(better, b, a)

    def accuracy(held):
        scores = minimized(torch.zeros(300, 4), lambda s: preference_losses.reward_model(
            s[prompt, chosen][~held], s[prompt, rejected][~held]), 100, 0.1)
        gaps = (scores[prompt, chosen] - scores[prompt, rejected])[held]
        return 50 * (gaps.sign() + 1).mean()

    return accuracy(torch.from_numpy(rng(1).random(1800) < 0.3)), accuracy(prompt < 90)


def length_weight(bias: float) -> float:
    """Weight of length in a reward model that sees a noisy copy of the quality, by which people
    choose, and the length, which goes with the quality to the degree `bias`."""
    quality, noise, other = torch.from_numpy(rng().normal(size=(3, 2, 20_000))).float()
    seen = torch.stack([quality + noise, bias * quality + other])
    seen = torch.where(quality[0] > quality[1], seen, seen.flip(1))
    weights = minimized(torch.zeros(2), lambda w: preference_losses.reward_model(
        *torch.einsum("f,fpn->pn", w, seen)), 200, 0.05)
    return float(weights[1])


def best_by(scores, true) -> float:
    """Mean true reward of the answers with the best score of each row."""
    return float(numpy.take_along_axis(true, scores.argmax(1)[:, None], 1).mean())


@proof("simulation")
def ensemble_min():
    """True reward of the best of 64 by the minimum of five reward models whose errors are equal,
    and independent."""
    true, errors = rng().normal(size=(1000, 64)), rng(1).normal(size=(5, 1000, 64))
    return best_by(true + 2 * errors[0], true), best_by((true + 2 * errors).min(0), true)


@proof("simulation")
def accuracy_not_gain():
    """True reward of the best of 256 by a reward model that overrates one answer in 100, and by a
    noisy one, which is right about fewer pairs."""
    true = rng().normal(size=(1000, 256))
    overrating = true + 10 * (rng(1).random(true.shape) < 0.01)
    noisy = true + rng(2).normal(size=true.shape)
    right = [((model[:, ::2] > model[:, 1::2]) == (true[:, ::2] > true[:, 1::2])).mean()
             for model in (overrating, noisy)]
    if right[0] < right[1]:
        return math.nan, math.nan
    return best_by(overrating, true), best_by(noisy, true)


@functools.cache
def optimized() -> tuple[numpy.ndarray, numpy.ndarray]:
    """Expected proxy and true reward of policies that are ever more optimized against the proxy,
    whose errors have heavy tails; 200 prompts with 5,000 answers each."""
    true = rng().normal(size=(200, 5000))
    proxy = true + rng(1).standard_t(3, true.shape)
    curves = []
    for strength in numpy.linspace(0, 4, 21):
        weights = numpy.exp(strength * (proxy - proxy.max(1, keepdims=True)))
        weights /= weights.sum(1, keepdims=True)
        curves.append([(weights * reward).sum(1).mean() for reward in (proxy, true)])
    proxies, trues = numpy.array(curves).T
    return proxies, trues


@proof("simulation")
def hack_in_top():
    """Percentage of answers that the proxy overrates by more than 3: of all answers, and of those
    with the highest rewards."""
    true, errors = rng().normal(size=200_000), rng(1).standard_t(3, 200_000)
    top = numpy.argsort(true + errors)[-2000:]
    return 100 * (errors > 3).mean(), 100 * (errors[top] > 3).mean()


def one_scalar():
    """Fitted gap between two answers on which 60 % and 40 % of the people disagree by 2 nats."""
    gap = torch.tensor(2.0)
    won = 0.6 * gap.sigmoid() + 0.4 * (-gap).sigmoid()
    fitted = minimized([0.0], lambda s: won * preference_losses.reward_model(s, 0 * s)
                       + (1 - won) * preference_losses.reward_model(0 * s, s), 400, 0.05)
    return fitted, gap


POTENTIAL, GAMMA = 5 * rng(2).normal(size=6), 0.9


def potential_shaping() -> numpy.ndarray:
    """Bonus of a transition (state, next state), Ng et al. 1999."""
    return GAMMA * POTENTIAL - POTENTIAL[:, None]


def best_actions(bonus) -> numpy.ndarray:
    """The best action in each state of a random environment with six states, by value iteration."""
    moves, rewards = rng().dirichlet(numpy.ones(6), (6, 2)), rng(1).normal(size=(6, 2, 6))
    value = numpy.zeros(6)
    for _ in range(400):
        q = (moves * (rewards + bonus[:, None] + GAMMA * value)).sum(2)
        value = q.max(1)
    return q.argmax(1)


register(
    "simulation",
    bt_scores=lambda: (fitted_scores()[0] - fitted_scores()[3]) / (REWARDS[0] - REWARDS[3]),
    rm_length=lambda: (length_weight(0.0), length_weight(1.0)),
    overoptimized=lambda: (optimized()[1][-1], optimized()[1].max()),
    proxy_rises=lambda: (optimized()[0][-1], optimized()[0][optimized()[1].argmax()]),
    one_scalar=one_scalar,
    rlhf_in_small=lambda: (expected(best_policy(fitted_scores(), REFERENCE, 0.5)),
                           expected(REFERENCE)),
    sft_copies_writers=lambda: expected(sft_policy()) / expected(REFERENCE),
    shaping_potential=lambda: 100 * (
        best_actions(potential_shaping()) == best_actions(numpy.zeros((6, 6)))).mean(),
)

# ------------------------------------------------------------------------- direct losses


def of_all_pairs(logits, reference, weights, beta: float):
    """DPO's loss on all pairs (i, j), in which i is chosen as often as weights[i, j] says."""
    policy, reference = logits.log_softmax(0), reference.log()
    return sum(weights[i, j] * preference_losses.sigmoid(
        policy[[i, j]][:, None], reference[[i, j]][:, None], beta)[0]
        for i in range(len(logits)) for j in range(len(logits)) if i != j)


@functools.cache
def dpo_policy() -> torch.Tensor:
    """The policy that DPO finds where preferences follow Bradley-Terry."""
    wins = (REWARDS[:, None] - REWARDS).sigmoid()
    return minimized(torch.zeros(4), lambda logits: of_all_pairs(logits, REFERENCE, wins, 0.5),
                     400, 0.05).softmax(0)


def closed_form(beta: float = 0.5) -> torch.Tensor:
    return (REFERENCE.log() + REWARDS / beta).softmax(0)


@proof("simulation")
def spin_fixed_point():
    """Probability of an answer after six rounds of SPIN, relative to the SFT data."""
    data, policy = torch.tensor([0.7, 0.2, 0.1]), torch.ones(3) / 3
    for _ in range(6):
        weights = torch.outer(data, policy)
        policy = minimized(policy.log(), functools.partial(
            of_all_pairs, reference=policy, weights=weights, beta=2.0), 100, 0.05).softmax(0)
    return policy[0] / data[0]


# The logits of three answers are linear in two features. The first two answers are compared, the
# third one shares the feature in which they differ.
FEATURES = torch.tensor([[1.0, 0.2], [1.0, 0.0], [0.0, 1.0]])


def after_pair(loss) -> torch.Tensor:
    """Probabilities of the three answers after training on the pair, with the loss of its
    log-probabilities (2, 1); without a loss: before training."""
    weights = torch.tensor([3.0, 0.0])
    if loss:
        weights = minimized(weights, lambda w: loss((FEATURES @ w).log_softmax(0)[:2, None]),
                            300, 0.05)
    return (FEATURES @ weights).softmax(0)


def dpo_of_pair(policy):
    return preference_losses.sigmoid(policy, torch.full((2, 1), -0.718), 0.1)[0]


def margin_after(steps: int, loss) -> torch.Tensor:
    """Log-ratio of chosen minus rejected after training two answers on one pair."""
    logits = minimized([0.0, 0.0], lambda x: loss(x.log_softmax(0)[:, None],
                                                  torch.full((2, 1), -math.log(2))), steps, 0.01)
    return logits[0] - logits[1]


def kto_gradient(log_ratio: float) -> float:
    """Gradient of KTO's loss for a good answer with this log-ratio to the reference."""
    policy = torch.tensor([[log_ratio], [-1e3]], requires_grad=True)
    loss = preference_losses.kto(policy, torch.zeros(2, 1), 0.0, 0.1)
    return float(torch.autograd.grad(loss[0], policy)[0][0].abs())


def iterated(rounds: int) -> float:
    """Expected reward of a policy over 50 answers after DPO on 64 pairs, sampled in this number of
    rounds from the policy of the time."""
    rewards = torch.from_numpy(rng().normal(size=50)).float() + 3
    logits = torch.zeros(50)
    for part in range(rounds):
        pairs = torch.from_numpy(rng(part + 1).choice(
            50, (2, 64 // rounds), p=logits.double().softmax(0).numpy()))
        pairs = torch.where(rewards[pairs[0]] > rewards[pairs[1]], pairs, pairs.flip(0))
        before = logits.log_softmax(0)[pairs]
        logits = minimized(logits, lambda x, pairs=pairs, before=before: preference_losses.sigmoid(
            x.log_softmax(0)[pairs], before, 0.5)[0], 400 // rounds, 0.05)
    return float((logits.softmax(0) * rewards).sum())


# Probability that each of three answers beats each: a cycle, which no score can express.
CYCLE = torch.tensor([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])


@proof("simulation")
def nash_cycle():
    """Mean probability of the first of three answers that beat each other in a cycle, in play by
    multiplicative weights against itself."""
    logits, total = torch.tensor([1.0, 0.0, 0.0]), torch.zeros(3)
    for _ in range(4000):
        total += logits.softmax(0)
        logits = logits + 0.05 * CYCLE @ logits.softmax(0)
    return 100 * total[0] / 4000


def of_tokens(per_token: float) -> torch.Tensor:
    """Sums over answers of 200 and 100 tokens of one value per token, (2, 1)."""
    return per_token * torch.tensor([[200.0], [100.0]])


def simpo_rewards():
    return preference_losses.simpo(of_tokens(-1.0), of_tokens(1.0), 2.0, 0.5)[1]


def dpo_rewards():
    return preference_losses.sigmoid(of_tokens(-0.99), of_tokens(-1.0), 0.1)[1]


register(
    "simulation",
    dpo_optimum=lambda: dpo_policy()[0] / closed_form()[0],
    dpo_is_rlhf=lambda: dpo_policy()[0] / best_policy(REWARDS, REFERENCE, 0.5)[0],
    beta_kl=lambda: tuple(kl(best_policy(REWARDS, REFERENCE, beta), REFERENCE)
                          for beta in (2.0, 0.5)),
    small_beta_collapse=lambda: tuple(
        math.log(4) - kl(best_policy(REWARDS / 20, torch.ones(4) / 4, beta), torch.ones(4) / 4)
        for beta in (0.01, 0.1)),
    dpo_moves_mass=lambda: (after_pair(dpo_of_pair)[2], after_pair(None)[2]),
    orpo_holds_chosen=lambda: (
        after_pair(lambda policy: preference_losses.orpo(policy, ONES, 0.1)[0])[0],
        after_pair(dpo_of_pair)[0]),
    dpo_margin_unbounded=lambda: tuple(
        margin_after(steps, lambda new, old: preference_losses.sigmoid(new, old, 0.1)[0])
        for steps in (2000, 200)),
    ipo_target=lambda: margin_after(
        2000, lambda new, old: preference_losses.ipo(new, old, ONES, 0.1)[0]),
    iterated_dpo=lambda: (iterated(4), iterated(1)),
)

register(
    "arithmetic",
    kto_saturates=lambda: (kto_gradient(60.0), kto_gradient(0.0)),
    dpo_length_sum=lambda: tuple(dpo_rewards().flip(0)),
    simpo_mean=lambda: simpo_rewards()[0] / simpo_rewards()[1],
    ce_is_entropy_plus_kl=lambda: (
        (torch.nn.functional.cross_entropy(REWARDS, REFERENCE)
         + (REFERENCE * REFERENCE.log()).sum())
        / preference_losses.divergence(REWARDS[None], REFERENCE.log()[None], 0)),
)

# --------------------------------------------------------------------------- model copies


def copies(trained: int, frozen: int) -> Evidence:
    """GB of models of 7 billion parameters in training: trained ones, and frozen ones in bf16."""
    return scaled({"trained": trained * sum(bytes_each().values()),
                   "frozen": frozen * bytes_each()["weights"]}, 7)


register(
    "count",
    ppo_four=lambda: copies(2, 2),
    grpo_copies=lambda: copies(1, 2),
    dpo_two_models=lambda: (copies(1, 1).left, copies(2, 2).left),
)
