"""Lesson 20a, preferences."""

import math

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import check_number


@exercise("reward_loss")
def _(reward_loss):
    import torch

    chosen, rejected = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])
    got = reward_loss(chosen, rejected)
    if getattr(got, "ndim", 0):
        return f"expected one loss for the batch, got {tuple(got.shape)}: take .mean()"
    first, second = (math.log(1 + math.exp(-gap)) for gap in (2, -1))
    wins = [1 / (1 + math.exp(-gap)) for gap in (2, -1)]
    message = check_number(
        "scores 3 and 1 against 1 and 2", float(got), (first + second) / 2,
        {math.log(1 + math.exp(-0.5)): "the mean is taken of the differences; take it of the "
                                       "losses of the pairs",
         first + second: "a sum over the pairs; take the mean",
         -(first + second) / 2: "a loss is MINUS the log-probability",
         sum(wins) / 2: "the probability itself; the loss is minus its logarithm",
         -sum(wins) / 2: "minus the probability; the loss is minus its LOGARITHM",
         (math.log(1 + math.exp(2)) + math.log(1 + math.exp(-1))) / 2:
             "the rejected answer is made to win: chosen minus rejected, not the reverse",
         -1 / 2: "the difference alone has no limit: put it through log sigmoid"})
    if message:
        return message
    lost = float(reward_loss(torch.tensor([-4000.0]), torch.tensor([0.0])))
    if not near(lost, 4000.0):
        return (f"a difference of -4000 gave {lost}; expected 4000. The sigmoid is rounded to 0 "
                "there: use torch.nn.functional.logsigmoid")


@exercise("dpo_loss")
def _(dpo_loss):
    import torch

    reference = torch.tensor([[-3.0, -2.0], [-5.0, -9.0]])

    def loss_of(change, beta):
        """The loss when the policy differs from the reference by `change` (2, pairs)."""
        return float(dpo_loss(reference + torch.tensor(change), reference, beta))

    start = dpo_loss(reference, reference, 0.1)
    if getattr(start, "ndim", 0):
        return f"expected one loss for the batch, got {tuple(start.shape)}: take .mean()"
    if near(start, -math.log(2)):
        return "at the start: -0.693; a loss is minus the log-likelihood"
    if near(start, 0.5):
        return "at the start: 0.5, the sigmoid itself; the loss is minus its logarithm, 0.693"
    if near(start, 2 * math.log(2)):
        return "at the start: 1.386 for two pairs; take the mean over the pairs, not the sum"
    if not near(start, math.log(2)):
        return (f"policy = reference, so the loss is ln 2 = 0.693 whatever the answers; got "
                f"{float(start):.3g}: subtract the reference from both rows")
    same, wanted = [[1.0, 1.0], [-9.0, -9.0]], math.log(1 + math.exp(-1))
    got = loss_of(same, 0.1)
    if near(got, math.log(1 + math.exp(1))):
        return "the better policy gets the larger loss: wrong sign of the margin"
    if near(got, math.log(1 + math.exp(-10))):
        return "beta is not used: the margin is beta times the gap"
    if not near(got, wanted):
        return f"chosen +1, rejected -9 nats, beta 0.1: {got:.4g}; expected {wanted:.4g}"
    mixed = loss_of([[10.0, -10.0], [0.0, 0.0]], 0.1)
    if near(mixed, math.log(2)):
        return ("margins of +1 and -1 gave ln 2: the mean is taken of the margins; take it of the "
                "losses of the pairs")
    wanted = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    if not near(mixed, wanted):
        return f"margins of +1 and -1: {mixed:.4g}; expected {wanted:.4g}"
    lost = loss_of([[-4000.0, -4000.0], [0.0, 0.0]], 1.0)
    if not near(lost, 4000.0):
        return (f"a margin of -4000 gave {lost}; expected 4000. The sigmoid is rounded to 0 there: "
                "use torch.nn.functional.logsigmoid")


@exercise("answer_kl")
def _(answer_kl):
    import torch

    policy = torch.tensor([[-1.0, -2.0, -0.5], [-1.0, -3.0, 0.0]])
    change = torch.tensor([[0.5, -1.0, 0.25], [1.0, 0.5, 7.0]])  # log pi - log pi_ref
    mask = torch.tensor([[1.0, 1, 1], [1.0, 1, 0]])
    got = answer_kl(policy, policy - change, mask)
    if getattr(got, "ndim", 0):
        return f"expected one number for the batch, got {tuple(got.shape)}: take the mean"

    def estimates(d):
        return torch.exp(d) - d - 1

    each = estimates(-change)
    return check_number("two answers of 3 and 2 tokens", float(got),
                        float((each * mask).sum(1).mean()), {
        float(each.sum(1).mean()): "padding counts: multiply by mask before you sum",
        float((each * mask).sum() / mask.sum()):
            "nats per token; sum over the tokens of an answer, then take the mean over answers",
        float((each * mask).sum()): "a sum over the answers; take their mean",
        float((each * mask).mean()): "a mean over all positions; sum over the tokens of an answer",
        float((estimates(change) * mask).sum(1).mean()):
            "d is log reference minus log policy, since the policy drew the tokens",
        float((change * mask).sum(1).mean()):
            "this is k1, log policy minus log reference: right in the mean, but it can be negative",
        float((change.square() / 2 * mask).sum(1).mean()):
            "this is k2, half the square, which is biased",
        float(((torch.exp(-change) - 1) * mask).sum(1).mean()): "e^d - d - 1: the - d is missing",
        float(((torch.exp(-change) + change) * mask).sum(1).mean()):
            "e^d - d - 1: the - 1 is missing, so equal models are not at 0"})
