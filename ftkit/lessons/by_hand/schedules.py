"""The learning-rate schedule of lesson 07. Steps count from 1 to `total`.

It rises linearly over `warmup` steps; the last of them and the next step have the peak. (In
transformers the first step of a warm-up has learning rate 0.)
"""

import math


def warmup_cosine(step: int, total: int, peak: float, warmup: int) -> float:
    """Learning rate of a step: a warm-up, then half a cosine wave that reaches 0 after `total`."""
    if step <= warmup:
        return peak * step / warmup
    progress = (step - 1 - warmup) / (total - warmup)
    return peak * (1 + math.cos(math.pi * progress)) / 2
