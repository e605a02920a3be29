"""`Watch`: what a run's caller displays, decides and stores during training."""

import dataclasses
from collections.abc import Callable

from ftkit.base.run_end import Stop


@dataclasses.dataclass(frozen=True)
class Watch:
    """The arguments of `Experiment.run`, without its Config.

    store: whether to store the run on disk; a cluster's worker returns it instead.
    """

    on_start: Callable | None = None
    on_row: Callable | None = None
    stop: Callable[[], bool | str | Stop | None] | None = None
    live: bool | None = None
    save_steps: int | None = None
    sample: int | list[str] = 0
    log: str | None = None
    store: bool = True
