"""Lesson 00, start here."""

from __future__ import annotations

from ftkit.lessons.claims import exercise, near


@exercise("three_curves")
def _(curves):
    if not isinstance(curves, dict) or ... in curves.values():
        raise NotImplementedError
    names = ("loss", "val_loss", "general_loss")
    for said in curves.values():
        if said not in names:
            return f"{said!r} is not a curve; expected one of {', '.join(names)}"
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
    made = tokens_for(1000, 6.7e9)
    if near(made, wanted / 3600):
        return f"tokens_for(1000, 6.7e9) gave {made:.3g}: flops are per second, prices per hour"
    if near(made, wanted / 0.4):
        return f"tokens_for(1000, 6.7e9) gave {made:.3g}: only `share` of the flops is used"
    if near(made, wanted * 6):
        return f"tokens_for(1000, 6.7e9) gave {made:.3g}: a token costs 6 operations per parameter"
    if not near(made, wanted):
        return f"tokens_for(1000, 6.7e9) gave {made:.3g}; expected {wanted:.3g}"
    if not near(tokens_for(1000, 6.7e9, per_hour=4.0), wanted / 2):
        return "at twice the price per hour, 1000 dollars must buy half the tokens"


@exercise("gentle_run")
def _(run):
    steps, rise = len(run.rows), run.change("general_loss")
    if steps > 150:
        return f"{steps} steps; at most 150 are allowed"
    if not run.after["val_loss"] < GENTLE_VAL_LOSS:
        return (f"val_loss ended at {run.after['val_loss']:.2f}, wanted below {GENTLE_VAL_LOSS}; "
                "learn a little more, by more steps or a somewhat higher rate")
    if rise > GENTLE_RISE:
        return (f"general_loss rose by {rise:.2f}, allowed are {GENTLE_RISE}; take smaller steps, "
                "or mix in general text (replay)")


GENTLE_VAL_LOSS, GENTLE_RISE = 0.3, 0.1  # tuned to the embedded base; lesson 00 names them
