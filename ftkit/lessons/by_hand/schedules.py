"""Learning-rate schedules as lesson 07 derives them: the learning rate of a step, from 1 to total.

Both rise linearly over `warmup` steps; the last of these and the step after it have the peak. (The
schedules of transformers spend the first step of a warm-up at learning rate 0.)
"""

from __future__ import annotations

import math


def warmup_cosine(step: int, total: int, peak: float, warmup: int) -> float:
    """Half a cosine wave from `peak` to 0, which step total + 1 would have."""
    if step <= warmup:
        return peak * step / warmup
    progress = (step - 1 - warmup) / (total - warmup)
    return peak * (1 + math.cos(math.pi * progress)) / 2


def wsd(step: int, total: int, peak: float, warmup: int, decay: int) -> float:
    """Warm-up, stable, decay: constant at `peak`, and the last `decay` steps fall linearly to 0,
    which step total + 1 would have."""
    if step <= warmup:
        return peak * step / warmup
    left = total + 1 - step
    return peak * min(1.0, left / decay)
