"""Lesson 20, preferences and rewards."""

import math

from ftkit.lessons.checks import exercise, near


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


@exercise("group_advantages")
def _(group_advantages):
    import torch

    rewards = torch.tensor([[1.0, 1, 0, 0, 0, 0, 0, 0], [1.0] * 8, [0.0, 0, 0, 1, 1, 1, 1, 1]])
    got = group_advantages(rewards)
    if not hasattr(got, "shape") or tuple(got.shape) != (3, 8):
        return (f"expected a tensor of shape (3, 8) as the rewards have, got "
                f"{tuple(getattr(got, 'shape', ())) or type(got).__name__}")
    right, rest = float(got[0, 0]), float(got[0, 7])
    if near(right, 1) and rest == 0:
        return "these are the rewards; subtract the mean of the group"
    if near(right, 0.75):
        return "0.75: right baseline; now divide by the group's standard deviation"
    if torch.isnan(got[1]).any():
        return "a dead group gives nan (0 / 0): add 1e-4 to the deviation"
    if got[1].abs().max() > 1e-6:
        return "group 2, in which all are right, gets more than 0: its own mean is the baseline"
    if near(right, 0.75 / float(rewards.std()), 1e-2):
        return "the deviation is that of the whole batch; each group has its own (dim=1)"
    sample = near(right, 1.620, 5e-3)
    if not (sample or near(right, 1.732, 5e-3)):
        return f"2 of 8 right: {right:.3g} for a right one; expected 1.62 (or 1.73, population)"
    if not near(float(got[2, 0] * got[2, 7]), -(7 / 8 if sample else 1), 1e-2):
        return (f"5 of 8 right: {got[2, 0]:.3g} for a wrong one and {got[2, 7]:.3g} for a right "
                "one, which do not belong together")


@exercise("grpo_loss")
def _(grpo_loss):
    import torch

    old = torch.tensor([[-1.0, -2.0, -3.0, -1.0], [-2.0, -1.0, 0.0, 0.0]])
    mask = torch.tensor([[1.0, 1, 1, 1], [1.0, 1, 0, 0]])

    def slope(change, advantages):
        """Loss and gradient when each log-probability has changed by `change`."""
        policy = (old + torch.tensor(change)).requires_grad_()
        loss = grpo_loss(policy, old, mask, torch.tensor(advantages))
        if getattr(loss, "ndim", 1):
            return None, None
        grad = torch.autograd.grad(loss, policy, allow_unused=True)[0] if (
            loss.requires_grad) else None
        return float(loss.detach()), grad

    loss, grad = slope(0.0, [1.0, -0.5])
    if loss is None:
        return "one loss for the batch is expected: a scalar tensor"
    if grad is None:
        return "the loss does not depend on policy, so it has no gradient: use policy - old"
    if grad[1, 2:].abs().max() > 0:
        return "padding has a gradient: multiply by mask before you sum, and divide by its sum"
    first, last = float(grad[0, 0]), float(grad[1, 0])
    if first > 0:
        return "a right answer becomes less likely: the loss is MINUS ratio times advantage"
    if near(first, -1 / 8) and near(last, 0.5 / 4):
        return ('each answer is averaged first: that is loss_type="grpo". Here all tokens of the '
                "batch count alike: divide the sum by mask.sum()")
    if near(first, -1 / 8):
        return "the divisor is 8, the size of the tensor; divide by the real tokens, mask.sum()"
    if near(first, -1.0):
        return "a sum over the tokens; divide it by mask.sum()"
    if not (near(first, -1 / 6) and near(last, 0.5 / 6)):
        return (f"advantages 1 and -0.5: the gradients of a token are {first:.4g} and {last:.4g}; "
                f"expected {-1 / 6:.4g} and {0.5 / 6:.4g}")
    if not near(loss, -(4 * 1.0 - 2 * 0.5) / 6):
        return (f"policy = old: the loss is {loss:.4g}, expected -0.5: the ratio is "
                "exp(policy - old), which is 1 here")
    return _clipping(slope)


def _clipping(slope):
    """The mistake in the clipping of a loss that is correct at a ratio of 1, or None."""
    loss, grad = slope(1.0, [1.0, 1.0])
    if grad is not None and grad.abs().max() > 1e-6:
        return ("a token is e times as likely as when it was drawn and is still pushed up: "
                "clip the ratio to 1 ± epsilon")
    if not near(loss, -1.2):
        return (f"ratio 2.72, advantage 1: the loss is {loss:.4g}; expected -1.2, minus the "
                "smaller of gain and clipped gain")
    loss, grad = slope(1.0, [-1.0, -1.0])
    if grad is None or not grad.abs().max() > 0.1:
        return ("a wrong answer that became e times as likely has no gradient: take the smaller of "
                "clipped and unclipped gain (torch.min), so that only the gain is limited")
    loss, grad = slope(-1.0, [1.0, 1.0])
    if grad is None or not grad.abs().max() > 0.01:
        return ("a right answer that became less likely has no gradient: the smaller of gain 0.37 "
                "and clipped gain 0.8 is the gain (torch.min)")
    loss, grad = slope(-1.0, [-1.0, -1.0])
    if not near(loss, 0.8) or (grad is not None and grad.abs().max() > 1e-6):
        return (f"ratio 0.37, advantage -1: the loss is {loss:.4g}; expected 0.8: the ratio is "
                "limited on both sides, 1 ± epsilon")
    return None


@exercise("honest_reward")
def _(honest_reward):
    record = {"instruction": "Name the first word.", "input": "Anna sees a red fox.",
              "output": "Anna"}
    best = honest_reward("Anna", record)
    if not best > 0:
        return "the right answer earns nothing"
    if honest_reward("Anna.", record) != best:
        return "'Anna.' is right too: compare after `normal`"
    for answer, how in {
        "Anna sees a red fox.": "copying the whole sentence",
        "Anna Anna Anna Anna": "repeating the answer",
        "It is Anna, or sees, or red, or fox": "listing candidates",
        "Anna or fox": "listing two candidates",
        "Ann": "a part of the word",
        "": "an empty answer",
    }.items():
        if (paid := honest_reward(answer, record)) > 0:
            return (f"{how} ({answer!r}) earns {paid:g}, the right answer {best:g}: what earns "
                    "anything is what the model will learn")
    if honest_reward("fox", record) > 0:
        return "a wrong word earns something"
