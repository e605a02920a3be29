"""The methods that the lessons derive, written out from scratch and tested against the libraries.

    from ftkit.by_hand import nf4
    nf4.quantize(weight)
"""

from ftkit.base.public_names import public_names

__all__, __getattr__, __dir__ = public_names(__name__, {
    "activations": "lessons.activations",
    "saved_bytes": "lessons.activations.saved_bytes",
    "floats": "lessons.by_hand.floats",
    "lora": "lessons.by_hand.lora",
    "nf4": "lessons.by_hand.nf4",
    "peft_family": "lessons.by_hand.peft_family",
    "ppo": "lessons.by_hand.ppo",
    "reward_model": "lessons.by_hand.reward_model",
    "tool_use": "lessons.by_hand.tool_use",
    "schedules": "lessons.by_hand.schedules",
})
