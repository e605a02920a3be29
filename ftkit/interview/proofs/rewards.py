"""Proofs about learning from rewards, and about rollouts: exact gradients and seeded draws."""

import copy
import math

import numpy
import torch

from ftkit.base.config import GRPOConfig
from ftkit.experiment import preference_losses
from ftkit.interview.proofs.evaluation import rng
from ftkit.interview.proofs.lora import base
from ftkit.interview.proofs.memory import cache_gb
from ftkit.interview.proofs.registry import Evidence, proof, register

LOGITS = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0])  # of the answers to a prompt
REWARDS = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0])
REFERENCE = torch.tensor([-1.0, 0.0, 0.5, 0.0, 1.0]).log_softmax(0)


def alike(a, b) -> torch.Tensor:
    """1 - ‖a - b‖ / ‖b‖: 1 if both are equal."""
    return 1 - (a - b).norm() / b.norm()


def gradient(loss, at=LOGITS) -> torch.Tensor:
    """Gradient of `loss` of the logits."""
    logits = at.clone().requires_grad_(True)
    return torch.autograd.grad(loss(logits), logits)[0]


def expected_gradient(term, at=LOGITS) -> torch.Tensor:
    """Expectation over the policy's own samples of the gradient of `term` of the log-probabilities,
    as if many answers were sampled."""
    return gradient(lambda logits: (logits.detach().softmax(0) * term(logits.log_softmax(0))).sum(),
                    at)


def exact_gradient(at=LOGITS) -> torch.Tensor:
    """Gradient of the expected reward."""
    return gradient(lambda logits: (logits.softmax(0) * REWARDS).sum(), at)


# ------------------------------------------------------------------ advantages of a group


def group_gradients(advantages) -> torch.Tensor:
    """Estimates (groups, answers) of the gradient, each from eight samples with these advantages
    of their rewards."""
    policy = LOGITS.double().softmax(0)
    drawn = torch.from_numpy(rng().choice(5, (100_000, 8), p=policy.numpy()))
    weights = advantages(REWARDS[drawn])
    score = torch.nn.functional.one_hot(drawn, 5) - policy.float()
    return (weights[..., None] * score).mean(1)


def length_along(estimates) -> torch.Tensor:
    """Mean of the estimates, projected on the exact gradient and divided by its length."""
    exact = exact_gradient()
    return estimates.mean(0) @ exact / exact.square().sum()


def spread(estimates) -> torch.Tensor:
    return estimates.var(0).sum().sqrt()


def centered(rewards):
    return preference_losses.advantages(rewards, "none")


def with_signal(success: float, size: int) -> torch.Tensor:
    """Percentage of the groups whose rewards give a gradient."""
    right = torch.from_numpy(rng().random((100_000, size)) < success).float()
    return 100 * (preference_losses.advantages(right).abs().max(1).values > 0).float().mean()


def weight_of_wrong(scale: str) -> torch.Tensor:
    """Advantage of the only wrong answer in eight, relative to the wrong ones in a group where half
    are wrong."""
    groups = torch.tensor([[0.0] + 7 * [1.0], 4 * [0.0] + 4 * [1.0]])
    found = preference_losses.advantages(groups, scale)[:, 0]
    return found[0] / found[1]


def nearly_equal(scale: str) -> torch.Tensor:
    """Largest advantage in a group whose rewards differ by a thousandth, next to a usual group."""
    groups = torch.tensor([[0.5, 0.5, 0.5, 0.501], [0.0, 1.0, 0.0, 1.0]])
    return preference_losses.advantages(groups, scale)[0].max()


register(
    "simulation",
    own_reward_scales=lambda: length_along(group_gradients(centered)),
    rloo_unbiased=lambda: length_along(group_gradients(preference_losses.leave_one_out)),
    # Rewards of 2 and 3, as a reward model may give them.
    group_baseline=lambda: (spread(group_gradients(lambda r: centered(r + 2))),
                            spread(group_gradients(lambda r: r + 2))),
    signal_by_rate=lambda: (with_signal(0.01, 8), with_signal(0.5, 8)),
    larger_groups=lambda: (with_signal(0.05, 8), with_signal(0.05, 32)),
)

register(
    "arithmetic",
    deviation_weights=lambda: (weight_of_wrong("none"), weight_of_wrong("group")),
    batch_scale=lambda: (nearly_equal("batch"), nearly_equal("group")),
)

# ------------------------------------------------------------------------ ratios and clips


def token_gradients(ratios, advantage: float, **options) -> torch.Tensor:
    """Gradient of the gain of each token, alone in an answer, with this ratio to the old policy."""
    old = torch.zeros(len(ratios), 1)
    policy = torch.as_tensor(ratios).log()[:, None].requires_grad_(True)
    loss = preference_losses.grpo(policy, old, torch.ones_like(old),
                                  torch.full((len(ratios),), advantage), GRPOConfig(**options))
    return -len(ratios) * torch.autograd.grad(loss, policy)[0][:, 0]


@proof("arithmetic")
def ppo_minimum():
    """Percentage of the four combinations of ratio 0.7 or 1.3 and advantage 1 or -1 that PPO's
    loss gives a gradient."""
    policy = torch.tensor([[0.7, 0.7, 1.3, 1.3]]).log().requires_grad_(True)
    zeros = torch.zeros(1, 4)
    loss, _ = preference_losses.ppo(policy, zeros, zeros + 1, torch.tensor([[1.0, -1, 1, -1]]),
                                    zeros, zeros, zeros)
    return 100 * (torch.autograd.grad(loss, policy)[0] != 0).float().mean()


def last_ratio(**options) -> torch.Tensor:
    """The largest ratio at which a token with a positive advantage still has a gradient."""
    ratios = torch.linspace(1, 2, 1001)
    return ratios[token_gradients(ratios, 1.0, **options) != 0].max()


def token_weight(**options) -> torch.Tensor:
    """Weight of a token in a wrong answer of 100 tokens, relative to one of 10 tokens."""
    policy = torch.zeros(2, 100, requires_grad=True)
    mask = torch.ones(2, 100)
    mask[1, 10:] = 0
    loss = preference_losses.grpo(policy, torch.zeros(2, 100), mask, torch.tensor([-1.0, -1.0]),
                                  GRPOConfig(**options), max_tokens=100)
    weights = torch.autograd.grad(loss, policy)[0]
    return weights[0, 0] / weights[1, 0]


@proof("arithmetic")
def ratio_unbiased():
    """Agreement of the gradient from samples of an old policy, weighted by the ratio, with the one
    of the expected reward."""
    old = REFERENCE
    found = gradient(lambda logits: (old.exp() * REWARDS * preference_losses.importance_ratio(
        logits.log_softmax(0)[:, None], old[:, None], torch.ones(5, 1))[:, 0]).sum())
    return alike(found, exact_gradient())


def drift(tokens: int, each: float = 0.1, answers: int = 20_000) -> torch.Tensor:
    """Log-ratios (answers, tokens) of two policies that differ by this much per token."""
    return torch.from_numpy(rng().normal(0, each, (answers, tokens))).float()


@proof("simulation")
def gspo_spread():
    """Standard deviation of the ratio of a whole answer of 400 tokens, and of a token."""
    change = drift(400, answers=2000)
    zeros, ones = torch.zeros_like(change), torch.ones_like(change)
    return tuple(preference_losses.importance_ratio(change, zeros, ones, level).std()
                 for level in ("sequence", "token"))


def effective(log_weights) -> torch.Tensor:
    """Percentage of samples that importance weights leave effective, Kish 1965."""
    weights = log_weights.exp()
    return 100 * weights.mean() ** 2 / weights.square().mean()


def clipped_after(updates: int) -> float:
    """Percentage of tokens that are clipped after updates that each move a token by 0.06 nats."""
    change = drift(20, 0.06 * updates**0.5)
    signs = torch.from_numpy(rng(1).choice([-1.0, 1.0], len(change))).float()
    return 100 * preference_losses.clipped(change, torch.zeros_like(change),
                                           torch.ones_like(change), signs, GRPOConfig())


@proof("arithmetic")
def masked_tools():
    """Percentage of the gradient that falls on the policy's own tokens."""
    policy, mask = torch.zeros(2, 6, requires_grad=True), torch.tensor([[1.0, 1, 0, 0, 1, 1]] * 2)
    loss = preference_losses.grpo(policy, torch.zeros(2, 6), mask, torch.tensor([1.0, -1.0]),
                                  GRPOConfig())
    weights = torch.autograd.grad(loss, policy)[0].abs()
    return 100 * (weights * mask).sum() / weights.sum()


@proof("arithmetic")
def zero_loss():
    """Absolute loss of a group at the first step, and the norm of its gradient."""
    policy = torch.full((8, 5), -1.0, requires_grad=True)
    advantage = preference_losses.advantages(torch.tensor([[1.0, 0, 0, 1, 0, 0, 0, 1]]))[0]
    loss = preference_losses.grpo(policy, policy.detach(), torch.ones(8, 5), advantage,
                                  GRPOConfig())
    return loss.detach().abs(), torch.autograd.grad(loss, policy)[0].norm()


def tv_at_clip(probability: float) -> float:
    """Total variation when a token's probability grows by a fifth and the others shrink alike."""
    old = numpy.array([probability, *[(1 - probability) / 9] * 9])
    new = old * [1.2, *[(1 - 1.2 * probability) / (1 - probability)] * 9]
    return abs(new - old).sum() / 2


register(
    "arithmetic",
    clip_higher=lambda: last_ratio(epsilon=0.2, epsilon_high=0.28),
    cispo_gradient=lambda: 100 * (token_gradients(
        torch.linspace(1.5, 4, 100), 1.0, loss_type="cispo") != 0).float().mean(),
    grpo_long_answers=lambda: (token_weight(loss_type="grpo"), token_weight(loss_type="dapo")),
    dr_grpo_tokens=lambda: token_weight(loss_type="dr_grpo"),
    dapo_tokens=lambda: token_weight(loss_type="dapo"),
    tv_of_clip=lambda: (tv_at_clip(0.001), tv_at_clip(0.5)),
)

register(
    "simulation",
    products_of_ratios=lambda: (effective(drift(100).sum(1)), effective(drift(100)[:, 0])),
    stale_ratios=lambda: (clipped_after(1), clipped_after(8)),
    mismatch_compounds=lambda: (drift(1000, 0.02, 4000).std(),
                                drift(1000, 0.02, 4000).sum(1).std()),
)

# -------------------------------------------------------------------- KL, GAE, distillation


def kl_to_reference(logits):
    return (logits.softmax(0) * (logits.log_softmax(0) - REFERENCE)).sum()


def estimated(estimator, corrected: bool = False) -> torch.Tensor:
    """Gradient of an estimate of the KL as a loss; corrected: weighted by the ratio."""
    return expected_gradient(lambda logp: estimator(logp, REFERENCE) * (
        (logp - logp.detach()).exp() if corrected else 1))


@proof("simulation")
def kl_wrong_samples():
    """Estimate of the KL from samples of the policy, and from samples of the reference."""
    policy = LOGITS.log_softmax(0)
    return tuple(preference_losses.k3(policy, REFERENCE)[torch.from_numpy(rng().choice(
        5, 400_000, p=source.double().softmax(0).numpy()))].mean()
        for source in (policy, REFERENCE))


def gae_of_first(lam: float) -> torch.Tensor:
    """Advantage of the first of 40 tokens with a reward of 1 at the end, if the critic says 0."""
    rewards = torch.zeros(1, 40)
    rewards[0, -1] = 1
    zeros = torch.zeros(1, 40)
    return preference_losses.gae(rewards, zeros, zeros + 1, lam=lam)[0][0, 0]


register(
    "arithmetic",
    k3_gradient=lambda: alike(estimated(preference_losses.k3), gradient(
        lambda logits: (REFERENCE.exp() * (REFERENCE - logits.log_softmax(0))).sum())),
    k2_gradient=lambda: alike(estimated(preference_losses.k2), gradient(kl_to_reference)),
    corrected_k3=lambda: alike(estimated(preference_losses.k3, True), gradient(kl_to_reference)),
    gae_lambda_bias=lambda: (gae_of_first(0.95), gae_of_first(1.0)),
    # The student's own tokens, each with the teacher's log-probability minus its own as advantage.
    opd_gradient=lambda: alike(
        expected_gradient(lambda logp: (logp.detach() - REFERENCE) * logp),
        gradient(lambda logits: preference_losses.divergence(logits[None], REFERENCE[None], 1))),
)

# ----------------------------------------------------------------------- what RL amplifies


def entropy(logits) -> torch.Tensor:
    return -(logits.softmax(0) * logits.log_softmax(0)).sum()


@proof("arithmetic")
def entropy_covariance():
    """Change of the entropy in a small policy-gradient step, divided by minus the covariance of
    log-probability and change of the logit (Cui et al. 2025)."""
    logits = LOGITS.double()
    change = 1e-4 * exact_gradient().double()
    policy, logp = logits.softmax(0), logits.log_softmax(0)
    covariance = (policy * logp * change).sum() - (policy * logp).sum() * (policy * change).sum()
    return (entropy(logits + change) - entropy(logits)) / -covariance


def share_of_checks(steps: int) -> float:
    """Percentage of answers that check themselves. At first 10 % do; of these 60 % are right, of
    the others 20 %, and only right answers are rewarded."""
    logit = math.log(0.1 / 0.9)
    for _ in range(steps):
        share = 1 / (1 + math.exp(-logit))
        logit += share * (1 - share) * (0.6 - 0.2)  # gradient of the expected reward
    return 100 / (1 + math.exp(-logit))


@proof("simulation")
def pass_at_k_crossing():
    """Percentage of problems solved in 256 tries after and before an RL run that makes the problems
    with success above 0.05 reliable and loses the others."""
    before = rng().beta(0.3, 1.2, 100_000)
    after = numpy.where(before > 0.05, 0.95, 0.0)
    if after.mean() < before.mean():
        return math.nan, math.nan  # pass@1 has not improved
    return tuple(100 * (1 - (1 - p) ** 256).mean() for p in (after, before))


@proof("simulation")
def step_credit():
    """Signal of one of ten steps: covariance of its rightness with the reward, in standard
    deviations of the reward; of the outcome, and of the step."""
    right = rng().random((400_000, 10)) < 0.9
    return tuple(numpy.cov(right[:, 0], reward)[0, 1] / reward.std()
                 for reward in (right.all(1), right[:, 0]))


@proof("simulation")
def checker_errors():
    """Percentage of rewarded answers that are wrong, at 5 % right answers and 5 % of the wrong ones
    accepted."""
    right = rng().random(2_000_000) < 0.05
    accepted = right | (rng(1).random(right.shape) < 0.05)
    return 100 * (~right[accepted]).mean()


def share_of_easy(most: int) -> float:
    """Percentage of kept samples that come from easy prompts; half of the prompts are easy. Of 16
    samples per prompt at most `most` right ones are kept."""
    easy, hard = (numpy.minimum(rng().binomial(16, p, 50_000), most).sum() for p in (0.9, 0.1))
    return 100 * easy / (easy + hard)


@proof("count")
def bon_kl():
    """KL of best-of-16 from the base, among 2,000 equally likely answers."""
    ranks = numpy.arange(2001) / 2000
    policy = numpy.diff(ranks**16)
    return (policy * numpy.log(numpy.maximum(policy * 2000, 1e-300))).sum()


@proof("simulation")
def max_overestimates():
    """Value of the action that looks best among 32,000, and what a noisy critic says of it."""
    values = rng().normal(1.0, 0.1, 32_000)
    predicted = values + rng(1).normal(0, 0.5, 32_000)
    return values[predicted.argmax()], predicted.max()


register(
    "simulation",
    outcome_amplifies=lambda: (share_of_checks(60), share_of_checks(0)),
    easy_prompts=lambda: (share_of_easy(1), share_of_easy(16)),
)

# -------------------------------------------------------------------------------- rollouts


def lengths(*shape: int) -> numpy.ndarray:
    """Lengths of answers, most short and a few long."""
    return rng().lognormal(7, 1, shape)


@proof("simulation")
def early_stop_bias():
    """Mean length of the 512 answers that finish first of 768, and of all."""
    drawn = numpy.sort(lengths(200, 768), 1)
    return drawn[:, :512].mean(), drawn.mean()


def decoding_steps(continuous: bool, slots: int = 64) -> float:
    """Decoding steps until 1,024 answers are written. A slot takes the next answer at once, or when
    all answers of its batch are written."""
    waiting = lengths(1024)
    if not continuous:
        return waiting.reshape(-1, slots).max(1).sum()
    free = numpy.zeros(slots)
    for length in waiting:
        free[free.argmin()] += length
    return free.max()


def step_time(overlapped: bool) -> float:
    """Mean time of an RL step: generation takes as long as its longest answer."""
    generation = lengths(2000, 64).max(1)
    training = generation.mean() / 2
    return (numpy.maximum(generation, training) if overlapped else generation + training).mean()


@proof("simulation")
def router_flips():
    """Change of the output of a layer with 2 of 64 experts when its router logits change a little:
    of tokens that keep their experts, and of tokens that get another one."""
    draw = torch.Generator().manual_seed(0)
    experts, logits = torch.randn(64, 32, generator=draw), torch.randn(20_000, 64, generator=draw)

    def routed(logits):
        weights, chosen = logits.topk(2)
        return (weights.softmax(1)[..., None] * experts[chosen]).sum(1), chosen.sort(1).values

    before, old = routed(logits)
    after, new = routed(logits + 0.01 * torch.randn(logits.shape, generator=draw))
    kept, moved = (old == new).all(1), (after - before).norm(dim=1)
    return moved[kept].mean(), moved[~kept].mean()


def sums(tile: int) -> torch.Tensor:
    """Sums of 1,000 rows of 4,096 numbers in float32, added tile by tile."""
    rows = torch.from_numpy(rng().normal(size=(1000, 4096))).float()
    total = torch.zeros(1000)
    for part in rows.split(tile, 1):
        total = total + part.sum(1)
    return total


def percent_alike(tile: int, other: int) -> torch.Tensor:
    return 100 * (sums(tile) == sums(other)).float().mean()


def logits_after(model, cached_by) -> torch.Tensor:
    """Logits of the last token, with keys and values of the others by another model."""
    ids = base()[2]["input_ids"][:1, :40]
    with torch.no_grad():
        cache = cached_by(ids[:, :-1], use_cache=True).past_key_values
        return model(ids[:, -1:], past_key_values=cache).logits[0, -1]


@proof("run")
def stale_cache():
    """Error of the logits of an updated model whose keys and values it recomputed, and whose keys
    and values are from before the update."""
    old, new = base()[0], copy.deepcopy(base()[0])
    with torch.no_grad():
        for weight in new.parameters():
            weight.mul_(1.02)
        whole = new(base()[2]["input_ids"][:1, :40]).logits[0, -1]
    return tuple((logits_after(new, by) - whole).norm() for by in (new, old))


register(
    "simulation",
    long_tail_wait=lambda: (lengths(200, 512).mean(), lengths(200, 512).max(1).mean()),
    continuous_batching=lambda: (decoding_steps(True), decoding_steps(False)),
    async_steps=lambda: (step_time(True), step_time(False)),
    split_changes_sum=lambda: (percent_alike(4096, 256), percent_alike(256, 256)),
)

register("count", gqa_cache=lambda: Evidence(cache_gb(8), cache_gb(32), bars={
    "8 KV heads": cache_gb(8), "32 KV heads": cache_gb(32)}))
