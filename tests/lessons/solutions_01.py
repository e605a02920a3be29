"""Solutions of lesson 01, right variants, and the mistakes that people make."""

import math

from shown_solutions import edited, shown

adamw_step = shown("adamw_step")


def _clip(model, norm):
    from torch.nn.utils import clip_grad_norm_
    return clip_grad_norm_(model.parameters(), norm)


def training_step(model, batch, optimizer, max_grad_norm=1.0):
    optimizer.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    _clip(model, max_grad_norm)
    optimizer.step()
    return loss.item()


def zero_at_the_end(model, batch, optimizer, max_grad_norm=1.0):
    loss = model(**batch).loss
    loss.backward()
    _clip(model, max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def zero_after_forward(model, batch, optimizer, max_grad_norm=1.0):
    loss = model(**batch).loss
    for parameter in model.parameters():
        parameter.grad = None
    loss.backward()
    _clip(model, max_grad_norm)
    optimizer.step()
    return loss.item()


def clipped_after_the_step(model, batch, optimizer, max_grad_norm=1.0):
    optimizer.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    _clip(model, max_grad_norm)
    return loss.item()


def clipped_by_value(model, batch, optimizer, max_grad_norm=1.0):
    from torch.nn.utils import clip_grad_value_
    optimizer.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    clip_grad_value_(model.parameters(), max_grad_norm)
    optimizer.step()
    return loss.item()


def step_before_backward(model, batch, optimizer, max_grad_norm=1.0):
    optimizer.zero_grad()
    loss = model(**batch).loss
    optimizer.step()
    loss.backward()
    _clip(model, max_grad_norm)
    return loss.item()


def adamw_shrinks_first(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    w *= 1 - lr * weight_decay
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g**2 - v)
    return [w - lr / (1 - beta1**t) * m / ((v / (1 - beta2**t)) ** 0.5 + eps), m, v]


def adamw_on_tensors(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    import torch
    w, g, m, v = (torch.tensor(x, dtype=torch.float64) for x in (w, g, m, v))
    new = adamw_step(w, g, m, v, t, lr, beta1, beta2, eps, weight_decay)
    return tuple(x.item() for x in new)


def adamw_without_correction(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return w - lr * m / (math.sqrt(v) + eps), m, v


def adamw_returns_corrected(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    m = (beta1 * m + (1 - beta1) * g) / (1 - beta1**t)
    v = (beta2 * v + (1 - beta2) * g * g) / (1 - beta2**t)
    return w - lr * m / (math.sqrt(v) + eps), m, v


def adamw_uphill(w, g, m, v, t, lr, **rest):
    new, m, v = adamw_step(w, g, m, v, t, lr, **rest)
    return w + (w - new), m, v


def adamw_that_forgets_its_state(w, g, m, v, t, lr, **rest):
    new, after, _ = adamw_step(w, g, 0.0, 0.0, t, lr, **rest)
    return new, after, v


def adam_with_l2(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    return adamw_step(w, g + weight_decay * w, m, v, t, lr, beta1, beta2, eps)


def decay_without_lr(w, g, m, v, t, lr, weight_decay=0.0):
    new, m, v = adamw_step(w, g, m, v, t, lr)
    return new - weight_decay * w, m, v


def divided_by_v(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return w - lr * m / (1 - beta1**t) / (v / (1 - beta2**t)), m, v


SOLUTIONS = {
    "training_step": {
        "variants": [zero_at_the_end, zero_after_forward],
        "wrong": {
            "gradients never cleared": (
                edited("training_step", "    optimizer.zero_grad()\n", ""),
                "gradients of earlier steps"),
            "cleared before the step": (edited(
                "training_step", "    optimizer.zero_grad()\n", "", "loss.backward()",
                "loss.backward()\n    optimizer.zero_grad()"), "no gradients at that moment"),
            "not clipped": (
                edited(training_step, "    _clip(model, max_grad_norm)\n", ""),
                "not clipped before the optimizer"),
            "clipped after the step": (clipped_after_the_step, "between backward() and step()"),
            "clipped by value": (clipped_by_value, "clip the norm"),
            "no optimizer step": (
                edited("training_step", "    optimizer.step()\n", ""),
                "optimizer.step() is missing"),
            "step before backward": (step_before_backward, "before it"),
            "loss as a tensor": (
                edited("training_step", "return loss.item()", "return loss"),
                "loss.item()"),
            "norm is a constant": (
                lambda model, batch, optimizer, max_grad_norm=1.0: (
                    training_step(model, batch, optimizer, 1.0)),
                "pass max_grad_norm on"),
            "each parameter clipped": (edited(
                training_step, "    _clip(model, max_grad_norm)\n",
                "    for p in model.parameters():\n"
                "        p.grad *= min(1, 1 / float(p.grad.norm()))\n"), "by its own norm"),
        },
    },
    "adamw_step": {
        "variants": [adamw_shrinks_first, adamw_on_tensors],
        "wrong": {
            "no correction for the start at zero": (adamw_without_correction, "both start at zero"),
            "corrected means returned": (adamw_returns_corrected, "before the correction"),
            "only w returned": (lambda *a, **k: adamw_step(*a, **k)[0], "return three values"),
            "uphill": (adamw_uphill, "subtract it"),
            "gradient descent": (lambda w, g, m, v, t, lr, **rest: (w - lr * g, m, v),
                                 "plain gradient descent"),
            "divided by v": (divided_by_v, "not by v"),
            "state thrown away": (adamw_that_forgets_its_state, "those of the step before"),
            "Adam with L2": (adam_with_l2, "acts on the weight itself"),
            "decay without learning rate": (decay_without_lr, "not multiplied by the learning"),
            "old means": (lambda w, g, m, v, t, lr, **rest: (
                w if t == 1 else w - lr, *adamw_step(w, g, m, v, t, lr, **rest)[1:]),
                "compute the new m and v first"),
            "decay after the step": (lambda w, g, m, v, t, lr, weight_decay=0.0, **rest: (
                adamw_step(w, g, m, v, t, lr, **rest)[0] * (1 - lr * weight_decay),
                *adamw_step(w, g, m, v, t, lr, **rest)[1:]), "the moved weight"),
            "epsilon in the root": (edited(
                "adamw_step", "(v_hat**0.5 + eps)", "(v_hat + eps) ** 0.5"), "outside of it"),
            "no epsilon": (
                lambda *a, eps=0.0, **k: adamw_step(*a, eps=0.0, **k), "gradient of 1e-8"),
            "a constant epsilon": (lambda *a, eps=0.0, **k: adamw_step(*a, **k),
                                   "the argument eps"),
            "constant betas": (lambda *a, beta1=0.0, beta2=0.0, **k: adamw_step(*a, **k),
                               "the arguments beta1 and beta2"),
        },
    },
}
