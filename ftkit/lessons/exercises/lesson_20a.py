"""Lesson 20a, preferences."""

import math

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import check_number


def _not_trainable(got, leaf, wanted) -> str | None:
    """Why `got`, a right value, is no tensor whose gradient to `leaf` is `wanted`, or None."""
    import torch

    if not isinstance(got, torch.Tensor):
        return f"expected a scalar tensor, which can be trained on; got a {type(got).__name__}"
    slope = torch.autograd.grad(got, leaf, allow_unused=True)[0] if got.requires_grad else None
    if slope is None:
        return "the loss has no gradient, so nothing would be learned: no detach, no float, no item"
    if not slope.allclose(torch.tensor(wanted), atol=1e-4):
        return f"the value is right, its gradient {slope.tolist()} is not; expected {wanted}"


@exercise("reward_loss")
def _(reward_loss):
    import torch

    chosen, rejected = torch.tensor([3.0, 1.0], requires_grad=True), torch.tensor([1.0, 2.0])
    got = reward_loss(chosen, rejected)
    if getattr(got, "ndim", 0):
        return f"expected one loss for the batch, got {tuple(got.shape)}: take .mean()"
    first, second = (math.log(1 + math.exp(-gap)) for gap in (2, -1))
    wins = [1 / (1 + math.exp(-gap)) for gap in (2, -1)]
    message = check_number(
        "scores 3 and 1 against 1 and 2", torch.as_tensor(got).item(), (first + second) / 2,
        {math.log(1 + math.exp(-0.5)): "the mean is taken of the differences; take it of the "
                                       "losses of the pairs",
         first + second: "a sum over the pairs; take the mean",
         -(first + second) / 2: "a loss is MINUS the log-probability",
         sum(wins) / 2: "the probability itself; the loss is minus its logarithm",
         -sum(wins) / 2: "minus the probability; the loss is minus its LOGARITHM",
         (math.log(1 + math.exp(2)) + math.log(1 + math.exp(-1))) / 2:
             "the rejected answer is made to win: chosen minus rejected, not the reverse",
         -1 / 2: "the difference alone has no limit: put it through log sigmoid"})
    message = message or _not_trainable(got, chosen, [(win - 1) / 2 for win in wins])
    if message:
        return message
    lost = float(reward_loss(torch.tensor([-4000.0]), torch.tensor([0.0])))
    if not near(lost, 4000.0):
        return (f"a difference of -4000 gave {lost}; expected 4000. The sigmoid is rounded to 0 "
                "there: use torch.nn.functional.logsigmoid")


def _start(loss, gaps) -> str | None:
    """The mistake in the loss of a policy that is the reference, beta 0.1, or None."""
    import torch

    softplus = torch.nn.functional.softplus
    return check_number(
        "policy = reference, so the loss is ln 2 = 0.693 whatever the answers. It",
        loss, math.log(2),
        {-math.log(2): "a loss is minus the log-likelihood",
         0.5: "the sigmoid itself; the loss is minus its logarithm",
         2 * math.log(2): "take the mean over the pairs, not the sum",
         float(softplus(-0.1 * gaps).mean()): "subtract the reference from both rows",
         float(softplus(0.9 * gaps).mean()):
             "beta multiplies the log ratio of policy and reference, not the policy alone",
         0.1 * math.log(2): "beta belongs into the sigmoid: it multiplies the gap, not the loss",
         (0.5 / 0.1) ** 2: "this is IPO, a squared distance to 1 / (2 beta); DPO is -log sigmoid"})


@exercise("dpo_loss")
def _(dpo_loss):
    import torch

    reference = torch.tensor([[-3.0, -2.0], [-5.0, -9.0]])

    def loss_of(change, beta):
        """The loss when the policy differs from the reference by `change` (2, pairs)."""
        return float(dpo_loss(reference + torch.tensor(change), reference, beta))

    policy = reference.clone().requires_grad_()
    start = dpo_loss(policy, reference, 0.1)
    if getattr(start, "ndim", 0):
        return f"expected one loss for the batch, got {tuple(start.shape)}: take .mean()"
    message = _start(torch.as_tensor(start).item(), reference[0] - reference[1])
    if message:
        return message
    same, wanted = [[1.0, 1.0], [-9.0, -9.0]], math.log(1 + math.exp(-1))
    got = loss_of(same, 0.1)
    if near(got, math.log(1 + math.exp(1))):
        return "the better policy gets the larger loss: wrong sign of the margin"
    if near(got, math.log(1 + math.exp(-10))):
        return "beta is not used: the margin is beta times the gap"
    if near(got, math.log(2)):
        return "pairs are compared with each other: chosen answers are ROW 0, rejected ones row 1"
    if near(got, math.log(1 + math.exp(-0.1))):
        return "the rejected answers are not used: the margin is row 0 minus row 1"
    if got < 1e-6:
        return "the gap is divided by beta; multiply it"
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
    return _not_trainable(start, policy, [[-0.025] * 2, [0.025] * 2])


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
        float(((each * mask).sum(1) / mask.sum(1)).mean()):
            "each answer is averaged over its tokens; sum over them: nats per answer",
        float(estimates((-change * mask).sum(1)).mean()):
            "the estimate is made from the sum of d; make it for each token, then sum",
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
