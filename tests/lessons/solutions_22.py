"""Solutions of lesson 22, and the mistakes that people make."""

import functools

import ftkit as ft
from ftkit.experiment.run import Run
from ftkit.lessons.exercises.lesson_22 import VERDICTS


def verdicts(*names):
    return dict(zip([f"curves {n}" for n in range(len(names))], names, strict=True))


def changed(a, b):
    a, b = a.to_dict(), b.to_dict()
    return [name for name in a if a[name] != b[name] and name != "seed"]


def changed_with_seed(a, b):
    a, b = a.to_dict(), b.to_dict()
    return [name for name in a if a[name] != b[name]]


def changed_first_only(a, b):
    return changed(a, b)[:1]


def a_run(val_loss, rise, **fields):
    """A Run that ended like this, without having been run."""
    config = ft.Config(max_steps=60, learning_rate=1e-3).but(**fields)
    return Run(id="made-up", config=config, model_name="tiny", data={},
               rows=[{"step": i + 1, "loss": 1.0} for i in range(60)],
               before={"val_loss": 9.0, "general_loss": 0.85},
               after={"val_loss": val_loss, "general_loss": 0.85 + rise})


def mended():
    return ft.Experiment(model="tiny", data="tasks").run(max_steps=60, replay=0.25, eval_steps=60)


SOLUTIONS = {
    "verdicts": {
        "right": verdicts(*VERDICTS),
        "wrong": {
            "learned by heart": (verdicts("fine", *VERDICTS[1:]), "val_loss rose again"),
            "the probe overlooked": (verdicts(*VERDICTS[:2], "fine", *VERDICTS[3:]),
                                     "the probe is worse"),
            "a word of its own": (verdicts("too hot", *VERDICTS[1:]), "is not one of"),
        },
    },
    "changed": {
        "right": changed,
        "wrong": {
            "the seed counted": (changed_with_seed, "seed is not a change"),
            "the first one only": (changed_first_only, "two fields differ"),
        },
    },
    "mend_by_one_change": {
        "right": functools.partial(mended),
        "wrong": {
            "too timid": (a_run(5.2, 0.0, learning_rate=1e-5), "not learned the task"),
            "two at once": (a_run(0.4, 0.02, replay=0.25, epochs=2.0), "2 fields differ"),
            "the baseline again": (a_run(0.36, 0.37), "0 fields differ"),
            "still forgets": (a_run(0.3, 0.4, weight_decay=0.1), "still forgets"),
        },
    },
}
