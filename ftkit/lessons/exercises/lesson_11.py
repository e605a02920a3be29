"""Lesson 11, activations and checkpointing."""

from __future__ import annotations

from math import ceil

from ftkit.lessons.claims import exercise, near
from ftkit.lessons.exercises._common import check_number


@exercise("activation_bytes")
def _(activation_bytes):
    tokens, hidden, layers = 100, 64, 12
    one = tokens * hidden
    return check_number(
        "12 layers, all kept:", activation_bytes(tokens, hidden, layers, False), 34 * one * layers,
    ) or check_number("12 layers, checkpointed:", activation_bytes(tokens, hidden, layers, True),
                      (2 * layers + 34) * one, {
        34 * one * layers: "a layer keeps its input alone, 2 bytes for each hidden unit",
        2 * one * layers: "in the backward pass one layer is computed again, with all that it "
                          "keeps: the inputs are not all that is there",
        one * layers: "a number in 16 bits has 2 bytes"})


@exercise("best_segments")
def _(best_segments):
    def need(layers, inside, edge, segments):
        return segments * edge + ceil(layers / segments) * inside

    for layers, inside, edge in ((64, 1, 1), (16, 20, 1), (100, 5, 1), (8, 1, 100)):
        made = best_segments(layers, inside, edge)
        case = f"{layers} layers, inside {inside}, edge {edge}"
        if made not in range(1, layers + 1):
            return f"{case}: {made!r}; expected a whole number from 1 to {layers}"
        costs = {s: need(layers, inside, edge, s) for s in range(1, layers + 1)}
        least = min(costs, key=costs.__getitem__)
        if costs[made] == costs[least]:
            continue
        told = f"{case}: {made} segments need {costs[made]}, {least} would need {costs[least]}"
        if made == round(layers**0.5):
            return told + "; √n is for layers that keep as much as their input"
        if made == layers:
            return told + "; one checkpoint a layer is too many where the inputs weigh much"
        return told


@exercise("chunked_loss")
def _(chunked_loss):
    import torch

    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(10, 4, generator=draw)
    weight = torch.randn(50, 4, generator=draw)
    targets = torch.randint(0, 50, (10,), generator=draw)
    targets[[0, 1, 2, 8, 9]] = -100
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.T, targets)
    for rows in (10, 4):
        with _Rows(50) as watched:
            made = chunked_loss(hidden, weight, targets, rows)
        if made is None or made is ...:
            return "it gave nothing"
        if float(made) != float(made):
            return "nan: a chunk without any label has no mean; add sums, and divide once"
        if near(float(made), float(wanted) / 2, 1e-4):
            return "divided by all rows; those without a label do not count"
        if not near(float(made), float(wanted), 1e-4):
            return (f"10 rows in chunks of {rows}: {float(made):.4f}; expected {float(wanted):.4f} "
                    "(chunks with fewer labels count for less)")
        if watched.most > rows:
            return f"{watched.most} rows of logits lived at once; {rows} were allowed"


def _Rows(vocabulary: int):
    """A mode that notes the most rows of logits that one operation made."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.ndim == 2 and out.shape[1] == vocabulary:
                self.most = max(self.most, out.shape[0])
            return out

    return Watch()
