"""Lesson 20b, rewards."""

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import close, told


def _wrong_advantage(rewards, got, right, rest) -> str | None:
    """A mistake in the advantages of a right and a wrong answer of a group with 2 of 8 right."""
    if near(right, 1) and rest == 0:
        return "these are the rewards; subtract the mean of the group"
    if near(right, 0.75) and near(float(got[2, 7]), 0.375):
        return "divided by the range, max - min; divide by the group's standard deviation"
    if near(right, 0.75):
        return "0.75: right baseline; now divide by the group's standard deviation"
    if near(right, -1.620, 5e-3) or near(right, -1.732, 5e-3):
        return "wrong sign: reward minus mean, so that a right answer gets more than 0"
    if near(right, 1.62 * 8 / 7, 5e-3):
        return "the baseline is the mean of the OTHER answers, as in RLOO; take that of the group"
    if near(right, 0.612, 5e-3):
        return "divided by the norm; the deviation is the norm divided by the root of n or n - 1"
    if got[1].isnan().any():
        return "a dead group gives nan (0 / 0): add 1e-4 to the deviation"
    if got[1].abs().max() > 1e-6:
        return "group 2, in which all are right, gets more than 0: its own mean is the baseline"
    if near(right, 0.75 / float(rewards.std()), 1e-2):
        return "the deviation is that of the whole batch; each group has its own (dim=1)"
    if near(right, 6 / 7):
        return "this is RLOO: the mean of the OTHER answers is subtracted, and nothing divides"
    return None


@exercise("group_advantages")
def _(group_advantages):
    import torch

    rewards = torch.tensor([[1.0, 1, 0, 0, 0, 0, 0, 0], [1.0] * 8, [0.0, 0, 0, 2, 2, 2, 2, 2]])
    kept = rewards.clone()
    got = group_advantages(rewards)
    if not torch.equal(rewards, kept):
        return "rewards was changed: compute a new tensor"
    if not hasattr(got, "shape") or tuple(got.shape) != (3, 8):
        return (f"expected a tensor of shape (3, 8) as the rewards have, got "
                f"{tuple(getattr(got, 'shape', ())) or type(got).__name__}")
    right, rest = float(got[0, 0]), float(got[0, 7])
    if message := _wrong_advantage(rewards, got, right, rest):
        return message
    sample = near(right, 1.620, 5e-3)
    if not (sample or near(right, 1.732, 5e-3)):
        return f"2 of 8 right: {right:.3g} for a right one; expected 1.62 (or 1.73, population)"
    if not near(float(got[2, 0] * got[2, 7]), -(7 / 8 if sample else 1), 1e-2):
        return (f"5 of 8 earn 2: {got[2, 0]:.3g} for a wrong one and {got[2, 7]:.3g} for a right "
                "one, which do not belong together")
    four = group_advantages(torch.tensor([[1.0, 0, 0, 0], [0.1] * 4]))
    if not (near(float(four[0, 0]), 1.5, 5e-3) or near(float(four[0, 0]), 1.732, 5e-3)):
        return (f"a group of 4 with one right: {four[0, 0]:.3g}; expected 1.5 (or 1.73, "
                "population): a group has as many answers as it has columns, not always 8")
    if four[1].abs().max() > 1e-2:
        return "a dead group in which all earn 0.1 gets more than 0 (rounding): add 1e-4"


@exercise("grpo_loss")
def _(grpo_loss):
    import torch

    old = torch.tensor([[-1.0, -2.0, -3.0, -1.0], [-2.0, -1.0, 0.0, 0.0]])
    mask = torch.tensor([[1.0, 1, 1, 1], [1.0, 1, 0, 0]])

    def slope(change, advantages, **limit):
        """Loss and gradient when each log-probability has changed by `change`."""
        policy = (old + torch.tensor(change)).requires_grad_()
        loss = grpo_loss(policy, old, mask, torch.tensor(advantages), **limit)
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
        if near(slope(-1.0, [1.0, 1.0])[0], -0.8):
            return ("ratio 2.72, advantage 1: the larger of gain 2.72 and clipped gain 1.2 was "
                    "taken; take the smaller (torch.min)")
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
    for change, advantage, expected in ((1.0, 1.0, -1.5), (-1.0, -1.0, 0.5)):
        loss, _ = slope(change, [advantage] * 2, epsilon=0.5)
        if not near(loss, expected):
            return (f"epsilon 0.5, ratio {2.71828 ** change:.2f}, advantage {advantage:g}: the "
                    f"loss is {loss:.4g}; expected {expected}: the limits are 1 ± epsilon, "
                    "whatever is given")
    mixed = [[1.0, -0.1, -0.1, -0.1], [0.0, 0.0, 0.0, 0.0]]
    loss, grad = slope(mixed, [1.0, 1.0])
    if grad is None or grad[0, 0].abs() > 1e-6 or not near(loss, -(1.2 + 3 * 0.904837 + 2) / 6):
        return ("an answer with one token at ratio 2.72 and the others at 0.90: each TOKEN has its "
                "own ratio and its own clip; one ratio for the answer is GSPO")
    return None


@exercise("token_advantages")
def _(token_advantages):
    import torch

    rewards, values = torch.tensor([0.0, -0.5, 0.0, 1.0]), torch.tensor([0.2, 0.6, 0.4, 0.5])
    kept = rewards.clone(), values.clone()
    got = token_advantages(rewards, values, gamma=0.9, lam=0.5)
    for name, now, before in zip(("rewards", "values"), (rewards, values), kept, strict=True):
        if not torch.equal(now, before):
            return f"{name} was changed: work on a copy"
    if not hasattr(got, "shape") or tuple(got.shape) != (4,):
        return f"expected a tensor of 4 advantages, one for each token, got {got!r:.60}"

    def reference(gamma, lam, following):
        errors, carried, found = rewards + gamma * following - values, torch.tensor(0.0), []
        for error in reversed(errors):
            carried = error + gamma * lam * carried
            found.insert(0, carried)
        return torch.stack(found)

    after = torch.cat([values[1:], torch.zeros(1)])
    errors = rewards + 0.9 * after - values
    right, forward, carried = reference(0.9, 0.5, after), [], torch.tensor(0.0)
    for error in errors:
        carried = error + 0.45 * carried
        forward.append(carried)
    return told(got, right, [
        (right + values, "these are the critic's targets, advantage + value; return the advantage"),
        (errors, "these are the one-step errors; carry them back: A = error + gamma lam A of the "
                 "next token"),
        (torch.stack(forward), "carried from left to right: credit goes back, so start at the "
                               "last token"),
        (reference(0.9, 1.0, after), "lam is not used: each token back is a factor gamma * lam"),
        (reference(1.0, 0.5, after), "gamma is not used"),
        (reference(0.5, 0.9, after), "gamma and lam are exchanged: the error has gamma"),
        (reference(0.9, 0.5 / 0.9, after),
         "the carried advantage is weighted by lam alone; by gamma * lam"),
        (reference(0.9, 0.5, torch.zeros(4)),
         "the value of the next token is missing in the error: r + gamma V(next) - V"),
        (reference(0.9, 0.5, torch.cat([values[1:], values[-1:]])),
         "after the last token the answer is over, so the next value is 0"),
        (reference(0.9, 0.5, torch.cat([values[1:], values[:1]])),
         "after the last token the answer is over: the next value is 0, not the first one (roll)"),
        (-right, "wrong sign: the error is what came minus what was predicted"),
        (reference(0.9, 0.5, after) * 0.5, "scaled by 1 - lam, which GAE's recursion has not"),
        (right.flip(0), "right numbers in reversed order: turn the list round at the end"),
        (reference(1.0, 0.95, after), "the defaults are used: pass gamma and lam on"),
        (torch.stack([sum(0.9 ** (k - t) * rewards[k] for k in range(t, 4)) for t in range(4)]),
         "these are the returns; the critic's predictions are not used: the error subtracts V"),
        (rewards[-1] - values, "only the last reward counts here; rewards of other tokens do too"),
        ((right - right.mean()) / right.std(), "normalized, which is not asked here"),
    ], f"got {[round(float(x), 3) for x in got]}; expected "
       f"{[round(float(x), 3) for x in right]} for rewards {rewards.tolist()}, values "
       f"{values.tolist()}, gamma 0.9, lam 0.5", close)
