"""Lesson 22, the what-if lab."""

from __future__ import annotations

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_choices, check_run

VERDICTS = ("overfitting", "underfitting", "forgetting", "fine", "diverged")
WHY = {
    "overfitting": "val_loss rose again while the training loss continued to fall",
    "underfitting": "neither loss has moved",
    "forgetting": "the task is learned, but the probe is worse than before",
    "fine": "the task is learned and the probe has stayed",
    "diverged": "both losses are far above where they began",
}
RISE, VAL_LOSS = 0.1, 0.7


@exercise("verdicts")
def _(verdicts):
    if message := check_choices(verdicts, VERDICTS):
        return message
    for (text, answer), wanted in zip(verdicts.items(), VERDICTS, strict=True):
        if answer != wanted:
            return f"{text!r} is not {answer}: {WHY[wanted]}"


@exercise("changed")
def _(changed):
    from ftkit.base.config import Config

    base = Config(learning_rate=1e-3)
    cases = [(base, base.but(replay=0.25, seed=3), {"replay"}, "seed is not a change of method"),
             (base, base.but(method="lora", r=4), {"method", "r"}, "two fields differ"),
             (base, base, set(), "nothing differs")]
    for a, b, wanted, why in cases:
        made = changed(a, b)
        if made is None or isinstance(made, str) or set(made) != wanted:
            return (f"changed(Config({a}), Config({b})) gave {made!r}; expected the names "
                    f"{sorted(wanted)}: {why}")


@exercise("mend_by_one_change")
def _(run):
    from ftkit.base.config import Config

    fields = run.config.to_dict()
    base = Config(max_steps=60, learning_rate=1e-3).to_dict()
    free = ("seed", "eval_steps", "precision", "max_length")
    changed = [name for name in base if fields[name] != base[name] and name not in free]
    if len(changed) != 1:
        return (f"{len(changed)} fields differ from the baseline ({', '.join(changed) or 'none'}); "
                "exactly one may")
    return check_run(run, base["max_steps"], VAL_LOSS, "general_loss", RISE,
                     "it has not learned the task", "it still forgets")
