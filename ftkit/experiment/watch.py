"""`Watch`: what the caller of a run wants to see, decide and keep while it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ftkit.base.run_end import Stop


@dataclasses.dataclass(frozen=True)
class Watch:
    """The arguments of `Experiment.run` other than its Config; see there.

    store: whether the run is kept on disk; a worker of a cluster returns it instead.
    """

    on_start: Callable | None = None
    on_row: Callable | None = None
    stop: Callable[[], bool | str | Stop | None] | None = None
    live: bool | None = None
    save_steps: int | None = None
    sample: int | list[str] = 0
    log: str | None = None
    store: bool = True
