"""Lesson 03, the PEFT family."""

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


@exercise("dora_weight")
def _(dora_weight):
    import torch

    W, A, B, magnitude = _random((5, 4), (2, 4), (5, 2), (5,))
    magnitude, scaling = magnitude.abs() + 1, 3.0
    before, V = W.clone(), W + scaling * B @ A
    rows = V.norm(dim=1, keepdim=True)
    m = magnitude[:, None]
    try:
        given = dora_weight(W, A, B, magnitude, scaling)
    except RuntimeError as error:
        return (f"two shapes do not fit ({error}); magnitude has one value per row: "
                "magnitude[:, None] has shape (d_out, 1)")
    message = _wrong(given, m * V / rows, [
        (m * V / V.norm(dim=0), "the lengths are those of the columns; each row of torch's weight "
                                "belongs to one output: norm(dim=1)"),
        (m * V / V.norm(), "this divides by one length for the whole matrix; each row has its own"),
        (m * V / W.norm(dim=1, keepdim=True),
         "this divides by the lengths of W; divide by those of W + scaling * B A"),
        (m * W / W.norm(dim=1, keepdim=True) + scaling * B @ A,
         "the update is added after the scaling; add it first, then give each row its length"),
        (m * V, "the rows are not divided by their lengths"),
        (V / rows, "each row has length 1; multiply by magnitude"),
        (V, "this is LoRA; DoRA also gives each row the length in magnitude"),
        (m * (W + B @ A) / (W + B @ A).norm(dim=1, keepdim=True),
         "the update is not multiplied by scaling"),
        (m * V / rows**2, "this divides by the squared lengths"),
    ], "W (5, 4), scaling 3")
    if message:
        return message
    if not torch.equal(W, before):
        return "W itself was changed; return a new matrix"
    start = dora_weight(W, A, torch.zeros_like(B), W.norm(dim=1), scaling)
    if not torch.allclose(start, W, atol=1e-4):
        return "with B = 0 and the lengths of W's rows as magnitude the result must be W"
