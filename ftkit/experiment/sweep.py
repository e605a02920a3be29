"""Many runs of one Experiment: one after the other, side by side, on a cluster, or by halving.

    runs = lab.sweep(base, learning_rate=[1e-4, 1e-3], seed=range(3)); runs.how

On two cores, two small models at a time with one core each finish sooner than one after the other
with both. SmolLM2-135M gains nothing, and a stack of models trained as one is slower.
"""

import itertools

from ftkit.base.errors import UserError
from ftkit.base.run_end import End
from ftkit.experiment import cluster, side_by_side, successive_halving
from ftkit.experiment.sweep_state import Sweep, SweepState


def sweep(lab, config, values: dict, *, on_row=None, parallel=None, backend=None, halving=False,
          resume=False) -> Sweep:
    """Train a run for every combination of `values` (field → list); see `Experiment.sweep`."""
    values = {name: _values(name, given) for name, given in values.items()}
    grid = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    configs = [config.but(**point) for point in grid]
    if backend is not None and backend not in cluster.ENGINES:
        raise UserError(f"backend is {backend!r}; expected None, 'dask' or 'ray'")
    if isinstance(parallel, int) and not isinstance(parallel, bool) and parallel < 1:
        raise UserError(f"parallel is {parallel}; expected True, False or a number of simultaneous "
                        "runs")
    if halving and backend:
        raise UserError(f"backend is {backend!r}, but halving compares the runs during training "
                        "and needs them in this process. Leave backend out.")
    state = SweepState(lab, configs, grid, on_row)
    if resume:
        state.take_stored()
    try:
        if backend:
            cluster.train(state, backend)
        else:
            _train_here(state, successive_halving.run_rounds if halving else _train_all, parallel)
    except KeyboardInterrupt:
        state.interrupted = True
    return state.result()


def _values(name: str, given) -> list:
    is_single = isinstance(given, str) or not hasattr(given, "__iter__")
    values: list = [given] if is_single else list(given)
    if not values:
        raise UserError(f"{name} is empty; expected at least one value")
    return [value.item() if hasattr(value, "item") else value for value in values]


def _train_here(state: SweepState, method, parallel):
    """Train the runs on this machine by `method`. Ends unfinished runs after an interrupt."""
    runs = [side_by_side.PausableRun(state, i) for i in range(len(state.configs))]
    try:
        method(state, runs, parallel)
    except BaseException:
        for each in runs:
            if run := each.run:
                each.finish(End.INTERRUPTED, f"interrupted after step {len(run.rows)} of "
                            f"{run.total_steps}")
        raise


def _train_all(state: SweepState, runs: list[side_by_side.PausableRun], parallel):
    remaining = [run for run in runs if not run.done]
    workers = side_by_side.choose_workers(state, remaining, parallel)
    last = len(remaining) % workers  # they share all threads, once the others have ended
    side_by_side.advance_all(remaining[: len(remaining) - last], workers)
    side_by_side.advance_all(remaining[len(remaining) - last :], last)
