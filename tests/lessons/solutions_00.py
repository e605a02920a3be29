"""Solutions of lesson 00, and the mistakes that people make."""

import functools

import ftkit as ft
from ftkit.experiment.run import Run

FALLS = "falls even while the model only memorizes its records"
UP = "turns up when the model memorizes its records"
LOST = "turns up when the model loses what it could do before"


def tokens_for(money, parameters, flops=312e12, share=0.4, per_hour=2.0):
    hours = money / per_hour
    return hours * 3600 * flops * share / (6 * parameters)


def tokens_for_in_hours(money, parameters, flops=312e12, share=0.4, per_hour=2.0):
    return money / per_hour * flops * share / (6 * parameters)


def tokens_for_at_peak(money, parameters, flops=312e12, share=0.4, per_hour=2.0):
    return money / per_hour * 3600 * flops / (6 * parameters)


def tokens_for_one_operation(money, parameters, flops=312e12, share=0.4, per_hour=2.0):
    return money / per_hour * 3600 * flops * share / parameters


def a_run(steps, val_loss, rise):
    """A Run that ended like this, without having been run."""
    return Run(id="made-up", config=ft.Config(), model_name="tiny", data={},
               rows=[{"step": i + 1, "loss": 1.0} for i in range(steps)],
               before={"val_loss": 5.0, "general_loss": 1.0},
               after={"val_loss": val_loss, "general_loss": 1.0 + rise})


def gentle():
    lab = ft.Experiment(model="tiny", data="tasks")
    return lab.run(learning_rate=5e-4, max_steps=150, replay=0.2, eval_steps=150)


SOLUTIONS = {
    "three_curves": {
        "right": {FALLS: "loss", UP: "val_loss", LOST: "general_loss"},
        "wrong": {
            "all in the training loss": (
                {FALLS: "val_loss", UP: "loss", LOST: "general_loss"}, "does not fall then"),
            "overfitting looked for in general text": (
                {FALLS: "loss", UP: "general_loss", LOST: "val_loss"},
                "memorizing the records shows on"),
            "forgetting looked for in the task": (
                {FALLS: "loss", UP: "val_loss", LOST: "val_loss"}, "records of the new task"),
            "a typing slip": (
                {FALLS: "los", UP: "val_loss", LOST: "general_loss"}, "'los' is not one of loss"),
        },
    },
    "tokens_for": {
        "right": tokens_for,
        "wrong": {
            "seconds taken for hours": (tokens_for_in_hours, "prices per hour"),
            "peak taken for what is used": (tokens_for_at_peak, "only `share`"),
            "one operation per parameter": (tokens_for_one_operation, "6 operations"),
        },
    },
    "gentle_run": {
        "right": functools.partial(gentle),
        "wrong": {
            "too timid": (a_run(100, 3.0, 0.0), "learn a little more"),
            "too bold": (a_run(100, 0.2, 2.0), "take smaller steps"),
            "too long": (a_run(200, 0.2, 0.0), "at most 150"),
        },
    },
}
