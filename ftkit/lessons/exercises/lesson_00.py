"""Lesson 00, start here."""

from __future__ import annotations

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_choices, check_number, check_run


@exercise("three_curves")
def _(curves):
    names = ("loss", "val_loss", "general_loss")
    if message := check_choices(curves, names):
        return message
    said = [curves.get(key) for key in (
        "falls even while the model only memorizes its records",
        "turns up when the model memorizes its records",
        "turns up when the model loses what it could do before")]
    if said[0] != "loss":
        return (f"{said[0]} does not fall then; only the curve of the records that are trained on "
                "falls while they are memorized")
    if said[1] == "general_loss":
        return ("general_loss is measured on other text than the task; memorizing the records "
                "shows on records of the same kind that are not trained on")
    if said[2] == "val_loss":
        return ("val_loss is measured on records of the new task; what the model could do before "
                "is measured on ordinary prose")
    if said != list(names):
        return f"you said {', '.join(map(str, said))}; each curve belongs in one place"


@exercise("tokens_for")
def _(tokens_for):
    wanted = 312e12 * 0.4 * 3600 * (1000 / 2.0) / (6 * 6.7e9)
    return check_number("tokens_for(1000, 6.7e9)", tokens_for(1000, 6.7e9), wanted, {
        wanted / 3600: "flops are per second, prices per hour",
        wanted / 0.4: "only `share` of the flops is used",
        wanted * 6: "a token costs 6 operations per parameter",
    }) or check_number("twice the price per hour, tokens_for(1000, 6.7e9, per_hour=4.0),",
                       tokens_for(1000, 6.7e9, per_hour=4.0), wanted / 2)


@exercise("gentle_run")
def _(run):
    return check_run(run, 150, GENTLE_VAL_LOSS, "general_loss", GENTLE_RISE,
                     "learn a little more, by more steps or a somewhat higher learning rate",
                     "take smaller steps, or mix in general text (replay)")


GENTLE_VAL_LOSS, GENTLE_RISE = 0.3, 0.1  # tuned to the embedded base; lesson 00 names them
