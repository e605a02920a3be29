"""Solutions of lesson 01, and the mistakes that people make."""

import functools
import math

import ftkit as ft
from ftkit.experiment.run import Run


def adamw_step(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    step = (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
    return w - lr * step, m, v


def adamw_without_correction(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return w - lr * m / (math.sqrt(v) + eps), m, v


def adamw_uphill(w, g, m, v, t, lr, **rest):
    new, m, v = adamw_step(w, g, m, v, t, lr, **rest)
    return w + (w - new), m, v


def gradient_descent(w, g, m, v, t, lr, **rest):
    return w - lr * g, m, v


def adamw_that_forgets_its_state(w, g, m, v, t, lr, **rest):
    new, _, _ = adamw_step(w, g, m, v, t, lr, **rest)
    return new, m, v


def bytes_of_states(parameters, share=1.0):
    return 2 * parameters + (2 + 4 + 8) * parameters * share


def bytes_of_the_trained_alone(parameters, share=1.0):
    return 16 * parameters * share


def a_run(steps, val_loss, rise):
    """A Run that ended like this, without having been run."""
    return Run(id="made-up", config=ft.Config(), model_name="tuned", data={},
               rows=[{"step": i + 1, "loss": 1.0} for i in range(steps)],
               before={"val_loss": 5.0, "tasks_loss": 1.0},
               after={"val_loss": val_loss, "tasks_loss": 1.0 + rise})


def kept():
    general = ft.Experiment(model="tiny", data="tasks").run(max_steps=100, eval_steps=100)
    narrow = ft.Experiment(model=(general.model, general.tokenizer), data="contracts_task",
                           probes=("tasks",), replay_from="tasks")
    return narrow.run(learning_rate=5e-4, max_steps=40, replay=0.4, eval_steps=40)


SOLUTIONS = {
    "adamw_step": {
        "right": adamw_step,
        "wrong": {
            "no correction for the start at zero": (adamw_without_correction, "both start at zero"),
            "uphill": (adamw_uphill, "subtract it"),
            "gradient descent": (gradient_descent, "plain gradient descent"),
            "state thrown away": (adamw_that_forgets_its_state, "step 2: w is"),
        },
    },
    "bytes_of_states": {
        "right": bytes_of_states,
        "wrong": {
            "Adam is twice the model": (lambda p, share=1.0: (2 + 2 + 4) * p, "8 bytes per"),
            "no gradients": (lambda p, share=1.0: 12 * p, "12 bytes per parameter"),
            "frozen weights forgotten": (bytes_of_the_trained_alone, "frozen weights must"),
        },
    },
    "keep_what_it_knew": {
        "right": functools.partial(kept),
        "wrong": {
            "nothing learned": (a_run(20, 3.0, 0.0), "not learned yet"),
            "overwritten": (a_run(20, 0.1, 2.0), "being overwritten"),
            "too long": (a_run(60, 0.1, 0.0), "at most 40"),
        },
    },
}
