"""Lesson 20a, preferences."""

import math

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import check_number


def _not_trainable(got, leaf, wanted, whose="") -> str | None:
    """Why `got`, a right value, is no tensor whose gradient to `leaf` is `wanted`, or None."""
    import torch

    if not isinstance(got, torch.Tensor):
        return f"expected a scalar tensor, which can be trained on; got a {type(got).__name__}"
    slope = None
    if got.requires_grad:
        slope = torch.autograd.grad(got, leaf, allow_unused=True, retain_graph=True)[0]
    if slope is None:
        return (f"the loss has no gradient{whose}, so nothing would be learned: no detach, no "
                "float, no item")
    if not slope.allclose(torch.tensor(wanted), atol=1e-4):
        return f"the value is right, its gradient {slope.tolist()} is not; expected {wanted}"


@exercise("reward_loss")
def _(reward_loss):
    import torch

    chosen = torch.tensor([3.0, 1.0], requires_grad=True)
    rejected = torch.tensor([1.0, 2.0], requires_grad=True)
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
         -1 / 2: "the difference alone has no limit: put it through log sigmoid",
         **_judged_alone(chosen.detach(), rejected.detach()),
         1.0: "this is a hinge, 1 - difference; Bradley-Terry is minus log sigmoid of it"})
    slopes = [(win - 1) / 2 for win in wins]
    message = (message or _not_trainable(got, chosen, slopes)
               or _not_trainable(got, rejected, [-slope for slope in slopes],
                                 " to the rejected scores"))
    if message:
        return message
    three = float(reward_loss(torch.tensor([3.0, 1.0, 1.0]), torch.tensor([1.0, 2.0, 2.0])))
    if not near(three, (first + 2 * second) / 3):
        return f"three pairs gave {three:.4g}: the mean is over all pairs, however many there are"
    lost = float(reward_loss(torch.tensor([-4000.0]), torch.tensor([0.0])))
    if not near(lost, 4000.0):
        return (f"a difference of -4000 gave {lost}; expected 4000. The sigmoid is rounded to 0 "
                "there, and exp(4000) is infinite: use torch.nn.functional.logsigmoid")


def _judged_alone(chosen, rejected) -> dict[float, str]:
    """Losses that look at each score by itself -> their message."""
    import torch

    log_sigmoid = torch.nn.functional.logsigmoid
    alone = float(-(log_sigmoid(chosen) + log_sigmoid(-rejected)).mean())
    message = "each score is judged by itself, against 0: subtract first, then ONE log sigmoid"
    return {alone: message, alone / 2: message, float(-log_sigmoid(chosen).mean()): message,
            float(-(log_sigmoid(chosen) - log_sigmoid(rejected)).mean()): message,
            float((1 + (rejected.sigmoid() / chosen.sigmoid())).log().mean()):
                "the scores became probabilities before they were compared: subtract the scores"}


def _start(loss, gaps) -> str | None:
    """The mistake in the loss of a policy that is the reference, beta 0.1, or None."""
    import torch

    softplus = torch.nn.functional.softplus
    return check_number(
        "policy = reference, so the loss is ln 2 = 0.693 whatever the answers. It",
        loss, math.log(2),
        {-math.log(2): "a loss is minus the log-likelihood",
         0.5: "the sigmoid itself; the loss is minus its logarithm",
         2 * math.log(2): "twice ln 2: a sum over the pairs, or two sigmoids for a pair. Take "
                          "one log sigmoid of the margin, and the mean over the pairs, not the sum",
         0: "the margin alone has no limit: put it through log sigmoid",
         1: "this is a hinge, 1 - margin; DPO is minus log sigmoid of the margin",
         float(softplus(-0.1 * gaps).mean()): "subtract the reference from both rows",
         float(softplus(0.9 * gaps).mean()):
             "beta multiplies the log ratio of policy and reference, not the policy alone",
         0.1 * math.log(2): "beta belongs into the sigmoid: it multiplies the gap, not the loss",
         (0.5 / 0.1) ** 2: "this is IPO, a squared distance to 1 / (2 beta); DPO is -log sigmoid"})


def _moved(got) -> str | None:
    """The mistake in the loss at chosen +1 nat, rejected -9 nats, beta 0.1, or None."""
    def loss(margin):
        return math.log(1 + math.exp(-margin))

    if got < 1e-6:
        return "the gap is divided by beta; multiply it"
    return check_number("chosen +1, rejected -9 nats, beta 0.1", got, loss(1), {
        loss(-1): "the better policy gets the larger loss: wrong sign of the margin",
        loss(10): "beta is not used: the margin is beta times the gap",
        math.log(2): "pairs are compared with each other: chosen answers are ROW 0, rejected ones "
                     "row 1",
        (loss(0.1) + loss(0.9)) / 2: "each answer is judged by itself: subtract the two rewards "
                                     "first, then take ONE log sigmoid",
        loss(0.1 * (math.e - math.exp(-9))): "the implicit reward is beta times the LOG of the "
                                             "ratio: policy - reference, no exp",
        loss(0.1): "the rejected answers are not used: the margin is row 0 minus row 1"})


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
    message = _moved(loss_of([[1.0, 1.0], [-9.0, -9.0]], 0.1))
    if message:
        return message
    mixed = loss_of([[10.0, -10.0], [0.0, 0.0]], 0.1)
    if near(mixed, math.log(2)):
        return ("margins of +1 and -1 gave ln 2: the mean is taken of the margins; take it of the "
                "losses of the pairs")
    if near(mixed, math.log(1 + math.exp(-1))):
        return ("margins of +1 and -1 gave the loss of +1 twice: the sign of the margin is lost "
                "(abs or square)")
    wanted = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    if not near(mixed, wanted):
        return f"margins of +1 and -1: {mixed:.4g}; expected {wanted:.4g}"
    lost = loss_of([[-4000.0, -4000.0], [0.0, 0.0]], 1.0)
    if near(lost, 400.0):
        return "beta is 0.1 whatever is given: use the argument"
    if not near(lost, 4000.0):
        return (f"a margin of -4000 gave {lost}; expected 4000. The sigmoid is rounded to 0 there, "
                "and exp(4000) is infinite: use torch.nn.functional.logsigmoid")
    one = float(dpo_loss(policy.detach()[:, :1], reference[:, :1], 0.1))
    if not near(one, math.log(2)):
        return f"one pair gave {one:.4g}: the mean is over all pairs, however many there are"
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
    message = check_number("two answers of 3 and 2 tokens", float(got),
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
            "e^d - d - 1: the - 1 is missing, so equal models are not at 0",
        float((policy.exp() * change * mask).sum(1).mean()):
            "weighted by the policy's probability; the tokens were drawn with it already",
        float((policy.exp() * each * mask).sum(1).mean()):
            "weighted by the policy's probability; the tokens were drawn with it already",
        float((each * mask).sum(0).mean()):
            "summed over the answers (dim 0); sum over the tokens of an answer, dim 1",
        float((each * mask).sum(1).max()): "one answer alone; take the mean over the answers",
        float((-change * mask).sum(1).mean()):
            "the mean of d is negative in expectation; e^d - d - 1 never is"})
    three = float(answer_kl(policy[[0, 1, 1]], (policy - change)[[0, 1, 1]], mask[[0, 1, 1]]))
    if message is None and not near(three, float((each * mask)[[0, 1, 1]].sum(1).mean())):
        return f"three answers gave {three:.4g}: the mean is over all answers, however many"
    return message
