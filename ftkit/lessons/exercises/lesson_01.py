"""Lesson 01, full fine-tuning."""

import math
from types import SimpleNamespace

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import check_parts

# ---------------------------------------------------------------------------- training_step

START = (0.5, -0.5, 0.25)  # two weights of one parameter, and one of another
X = (1.0, 2.0, 1.0), (3.0, -1.0, 2.0), (-2.0, 1.0, 3.0)  # one for each step
Y = 1.0, -2.0, 4.0


def _toy():
    """A model with two parameters and a squared loss, its SGD optimizer, a count of steps."""
    import torch

    class Toy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.u = map(torch.nn.Parameter, torch.tensor(START).split([2, 1]))

        def forward(self, x, y):
            return SimpleNamespace(loss=(self.w @ x[:2] + self.u @ x[2:] - y) ** 2)

    class Descent(torch.optim.SGD):
        steps = 0

        def step(self, *args, **options):
            self.steps += 1
            return super().step(*args, **options)

    model = Toy()
    return model, Descent(model.parameters(), lr=0.1)


def _train(step, max_grad_norm: float):
    """Weights after three steps, what each step returned, and the number of optimizer steps."""
    import torch

    model, optimizer = _toy()
    returned = []
    for x, y in zip(X, Y, strict=True):
        batch = {"x": torch.tensor(x), "y": torch.tensor(y)}
        returned.append(step(model, batch, optimizer, max_grad_norm))
    return torch.cat([model.w, model.u]).detach(), returned, optimizer.steps


def _reference(zero: bool = True, clip: str = "norm"):
    """A correct training step, or one with the given mistake."""
    import torch

    def step(model, batch, optimizer, max_grad_norm):
        if zero:
            optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        if clip == "norm":
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        if clip == "value":
            torch.nn.utils.clip_grad_value_(model.parameters(), max_grad_norm)
        for parameter in model.parameters() if clip == "each" else ():
            torch.nn.utils.clip_grad_norm_(parameter, max_grad_norm)
        optimizer.step()
        return loss.item()

    return step


@exercise("training_step")
def _(training_step):
    import torch

    weights, returned, steps = _train(training_step, 1.0)
    start = torch.tensor(START)
    if not steps:
        return "no weight was updated: optimizer.step() is missing"
    if steps > 3:
        return f"optimizer.step() was called {steps} times in 3 training steps"
    if torch.equal(weights, start):
        return ("optimizer.step() was called and no weight moved: there were no gradients at that "
                "moment; call backward() before it, and zero_grad() after it")
    mistakes = {
        "gradients of earlier steps are still there when the next ones are added; call "
        "optimizer.zero_grad() once in each step": _reference(zero=False),
        "the gradients were not clipped before the optimizer used them; call clip_grad_norm_ "
        "between backward() and step()": _reference(clip=""),
        "each gradient was clipped by its value; clip the norm of all of them, with "
        "clip_grad_norm_": _reference(clip="value"),
        "each parameter was clipped by its own norm, which changes the direction of the step; pass "
        "all of them to clip_grad_norm_ in one call": _reference(clip="each"),
        "gradients of earlier steps are still there, and the sum is not clipped either":
            _reference(zero=False, clip=""),
    }
    expected, losses, _ = _train(_reference(), 1.0)
    if not torch.allclose(weights, expected, atol=1e-5):
        for message, mistake in mistakes.items():
            if torch.allclose(weights, _train(mistake, 1.0)[0], atol=1e-5):
                return message
        return (f"three steps end at the weights {[round(w, 4) for w in weights.tolist()]}; "
                f"expected {[round(w, 4) for w in expected.tolist()]}: zero_grad, forward, "
                "backward, clip, step")
    if isinstance(returned[0], torch.Tensor):
        return ("the weights are right; return the loss as a number, loss.item(): a tensor keeps "
                "the graph of the step in memory")
    if returned[0] is None:
        return "the weights are right; return the loss, loss.item()"
    if not all(near(float(a), b) for a, b in zip(returned, losses, strict=True)):
        return (f"the weights are right; the first step returned {returned[0]:.4g}; the loss "
                f"before the update is {losses[0]:.4g}")
    if not torch.allclose(_train(training_step, 5.0)[0], _train(_reference(), 5.0)[0], atol=1e-5):
        return "with max_grad_norm=5 the weights are wrong: pass max_grad_norm on, not a constant"


# ------------------------------------------------------------------------------- adamw_step


def _first_step_mistake(w: float, decay: float) -> str | None:
    """The mistake behind the weight after one step from w = 0.5 with g = 2 and lr = 0.1."""
    kept = 0.5 * (1 - 0.1 * decay)
    if near(w, kept - 0.1 * 0.2 / math.sqrt(0.004), 1e-6):
        return ("the first step is too long: divide m by 1 - beta1 ** t and v by 1 - beta2 ** t, "
                "since both start at zero")
    if near(w, kept + 0.1, 1e-6):
        return "the step goes uphill: subtract it"
    if near(w, kept - 0.1 * 2.0, 1e-6):
        return "this is plain gradient descent: divide by the square root of v"
    if near(w, kept - 0.1 * 2.0 / 4.0, 1e-6):
        return "divide by the square root of v, not by v"
    if near(w, kept - 0.1 * math.sqrt(2), 1e-6):
        return "v is the mean of the squared gradients: g * g"
    if near(w, kept, 1e-6):
        return "no step was taken: compute the new m and v first, then move w by the new ones"
    if decay and near(w, 0.4 * (1 - 0.1 * decay), 1e-6):
        return "the decay is taken from the moved weight: it uses w as it was before the step"
    if decay and near(w, 0.4, 1e-6):
        return ("weight_decay has no effect on the first step. In AdamW it acts on the weight "
                "itself, w - lr * weight_decay * w; added to the gradient, the division by the "
                "square root of v removes it (that is Adam with an L2 penalty)")
    if decay and near(w, 0.4 - 0.5 * decay, 1e-6):
        return "the decay is not multiplied by the learning rate: lr * weight_decay * w"
    if decay and near(w, 0.4 + 0.1 * decay * 0.5, 1e-6):
        return "the decay increases the weight: subtract lr * weight_decay * w"


@exercise("adamw_step")
def _(adamw_step):
    import torch

    for decay in (0.0, 0.5):
        w, m, v = 0.5, 0.0, 0.0
        weight = torch.nn.Parameter(torch.tensor(w, dtype=torch.float64))
        optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=decay)
        for t, g in enumerate((2.0, -1.0, 0.5), 1):
            weight.grad = torch.tensor(g, dtype=torch.float64)
            optimizer.step()
            result = adamw_step(w, g, m, v, t, 0.1, weight_decay=decay)
            check_parts(result, 3, "return three values: the new w, m and v")
            w, m, v = result
            if t == 1 and near(w, weight.item(), 1e-6) and not near(m, 0.2):
                return ("w is right, m is not: return m and v as they are before the correction, "
                        "because the next step continues from them" if near(m, 2.0) else
                        f"w is right; m is {m:.4g} after the first step, expected 0.2")
            if near(w, weight.item(), 1e-6):
                continue
            mistake = _first_step_mistake(w, decay) if t == 1 else None
            return mistake or (f"step {t}, weight_decay {decay:g}: w is {w:.6f}, torch's AdamW "
                               f"gives {weight.item():.6f}" + (
                "; are m and v those of the step before, and is t the exponent of both betas?"
                if t > 1 else ""))
    return _other_settings(adamw_step)


def _other_settings(adamw_step) -> str | None:
    """The mistake of a step that is right with torch's defaults and a large gradient, or None."""
    moved = [-adamw_step(0.0, 1e-8, 0.0, 0.0, 1, 0.1)[0],
             -adamw_step(0.0, 1.0, 0.0, 0.0, 1, 0.1, eps=1.0)[0]]
    if near(moved[0], 0.1) or not near(moved[0], 0.05, 1e-3):
        return (f"a gradient of 1e-8 moved the weight by {moved[0]:.4g}; expected half the "
                "learning rate, 0.05: add eps to the square root, outside of it")
    if not near(moved[1], 0.05, 1e-6):
        return "eps=1 changes nothing: use the argument eps, not a constant"
    m, v = adamw_step(0.0, 2.0, 0.0, 0.0, 1, 0.1, beta1=0.5, beta2=0.75)[1:]
    if not (near(m, 1.0) and near(v, 1.0)):
        return (f"beta1=0.5, beta2=0.75, g=2: m and v are {m:.4g} and {v:.4g}, expected 1 and 1: "
                "use the arguments beta1 and beta2, not constants")
