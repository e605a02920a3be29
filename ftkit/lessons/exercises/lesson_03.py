"""Lesson 03, the PEFT family."""

import math
from collections.abc import Sequence

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import close, told


def _random(*shapes: tuple[int, ...]):
    import torch

    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw) for shape in shapes]


def _wrong(given, right, mistakes: Sequence[tuple], case: str) -> str | None:
    """The message for a tensor that is not `right`. mistakes: (tensor, what it shows)."""
    if (shape := tuple(getattr(given, "shape", ()))) != tuple(right.shape):
        return f"{case}: the result has shape {shape}; expected {tuple(right.shape)}"
    off = (given - right).abs().max().item()
    message = told(given, right, mistakes, f"the result is off by up to {off:.2g}", close)
    return message and f"{case}: {message}"


@exercise("ia3_forward")
def _(ia3_forward):
    x, W, scale_out, scale_in = _random((3, 4), (5, 4), (5,), (4,))
    before, plain = (x.clone(), W.clone()), x @ W.T
    for on_input, scale, right in ((False, scale_out, plain * scale_out),
                                   (True, scale_in, (x * scale_in) @ W.T)):
        case = f"scale {tuple(scale.shape)}, on_input={on_input}"
        try:
            given = ia3_forward(x, W, scale, on_input)
        except RuntimeError as error:
            return (f"{case}: two shapes do not fit ({error}); with on_input the d_in values of "
                    "scale multiply x, without it the d_out values multiply x @ W.T")
        message = _wrong(given, right, [
            (plain, "this is the frozen layer alone; multiply by scale"),
            (plain + scale_out, "scale is multiplied, not added"),
            ((x + scale_in) @ W.T, "scale is multiplied, not added"),
            (plain * (1 + scale_out),
             "1 is added to scale; it starts at 1 and multiplies as it is"),
            ((x * (1 + scale_in)) @ W.T,
             "1 is added to scale; it starts at 1 and multiplies as it is"),
            (plain / scale_out, "this divides by scale; multiply"),
        ], case)
        if message:
            return message
    if any((a != b).any() for a, b in zip((x, W), before, strict=True)):
        return "x or W itself was changed; return a new tensor"


# Validation losses; the grids are not in order, and a run of B diverged.
SWEEP = {"A": {1e-3: 0.9, 3e-4: 1.4, 3e-3: 1.1},
         "B": {1e-1: math.nan, 3e-2: 0.95, 1e-2: 0.8, 3e-3: 1.2},
         "C": {1e-2: 1.3, 1e-3: 2.1, 3e-3: 1.7}}


def _test_loss(method: str, rate: float) -> float:
    """A loss on test records, which would choose other learning rates than the sweep does."""
    return {("A", 1e-3): 1.0, ("A", 3e-4): 0.7, ("B", 1e-2): 0.85, ("B", 3e-2): 0.6}.get(
        (method, rate), 1.5)


@exercise("fair_report")
def _(fair_report):
    called = []

    def test_loss(method, learning_rate):
        called.append((method, learning_rate))
        return _test_loss(method, learning_rate)

    report = fair_report({name: dict(losses) for name, losses in SWEEP.items()}, test_loss)
    if not isinstance(report, dict) or set(report) != set(SWEEP):
        return f"it returned {report!r:.80}; expected a dict with the methods {list(SWEEP)}"
    if any(row is not None and (not isinstance(row, tuple | list) or len(row) != 2)
           for row in report.values()):
        return f"the report is {report}; expected (learning rate, test loss) or None for a method"
    a, b, c = (report[name] and tuple(report[name]) for name in SWEEP)
    if len(called) > 3:
        return (f"test_loss was called {len(called)} times: the test records took part in the "
                "choice. Choose by the validation losses, then call it once for each method")
    if a and b and a[0] == b[0] and a[0] != 1e-2:
        return f"A and B both get {a[0]:g}; each method has its own best learning rate"
    if b and math.isnan(SWEEP["B"].get(b[0], 0)):
        return "B gets the learning rate at which it diverged: nan is not the lowest loss"
    for name, row, rate in (("A", a, 1e-3), ("B", b, 1e-2)):
        losses = SWEEP[name]
        if row is None:
            return (f"{name} is None, but its best learning rate, {rate:g}, is inside the grid "
                    f"{sorted(losses)}. Take the lowest loss that is not nan, and sort the grid by "
                    "learning rate: it comes in any order")
        if row[0] != rate:
            worst = losses.get(row[0]) == max(loss for loss in losses.values() if loss == loss)
            return f"{name} gets the learning rate {row[0]:g}; {rate:g} has " + (
                "the lowest validation loss, yours the highest" if worst else
                "the lowest validation loss")
        if row[1] == losses[rate]:
            return (f"{name}: {row[1]:g} is its validation loss, which chose the learning rate; "
                    "report the test loss")
        if row[1] != _test_loss(name, rate):
            return f"{name}: the loss is {row[1]}; test_loss gives {_test_loss(name, rate):g}"
    if c is not None:
        return ("C: 0.01 is the highest learning rate of its grid, so a better one may be outside; "
                "report None")
    if ("C", 1e-2) in called:
        return "test_loss was called for C, which has no report; it is expensive"
    edge = fair_report({"D": {1e-3: 0.5, 3e-3: 0.7, 1e-2: 0.9}}, test_loss)
    if edge != {"D": None}:
        return (f"with its best loss at the lowest learning rate D gives {edge}; both ends of a "
                "grid are edges: expected None")
