"""Settings that show one effect each, for the what-if panel: `PRESETS["learning rate too high"]`.

A preset changes only the fields it names. `tests/notebook/test_presets.py` checks on the embedded
model that it shows the effect.
"""

from typing import NamedTuple


class Preset(NamedTuple):
    """`changes`: field of Config → value. `watch`: what to look at in the chart."""

    changes: dict
    watch: str


PRESETS = {
    "learning rate too high": Preset(
        {"method": "full", "learning_rate": 0.2, "max_steps": 40},
        "val_loss ends above where it began, and general_loss rises steeply"),
    "learning rate too low": Preset(
        {"method": "full", "learning_rate": 1e-6, "max_steps": 40},
        "val_loss hardly moves, and the verdict says underfitting"),
    "forgetting": Preset(
        {"method": "full", "learning_rate": 5e-3, "max_steps": 60, "replay": 0.0},
        "val_loss falls while general_loss rises"),
    "replay against forgetting": Preset(
        {"method": "full", "learning_rate": 5e-3, "max_steps": 60, "replay": 0.3},
        "general_loss rises less than in the run without replay"),
    "LoRA as full": Preset(
        {"method": "lora", "r": 8, "lora_alpha": 16.0, "learning_rate": 5e-3, "max_steps": 60},
        "val_loss at the end, next to that of full fine-tuning with the same steps"),
    "LoRA at the learning rate of full": Preset(
        {"method": "lora", "r": 8, "lora_alpha": 16.0, "learning_rate": 1e-3, "max_steps": 60},
        "val_loss falls more slowly than with the five times higher learning rate"),
}
