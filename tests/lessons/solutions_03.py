"""Solutions of lesson 03, right variants, and the mistakes that people make."""

from shown_solutions import shown

ia3_forward = shown("ia3_forward")
dora_weight = shown("dora_weight")


def by_diagonal(x, W, scale, on_input):
    from torch.nn.functional import linear
    return linear(linear(x, scale.diag()), W) if on_input else linear(linear(x, W), scale.diag())


def input_changed(x, W, scale, on_input):
    if on_input:
        x *= scale
        return x @ W.T
    return (x @ W.T) * scale


def dora_by_normalize(W, A, B, magnitude, scaling):
    import torch
    return torch.nn.functional.normalize(W + scaling * (B @ A), dim=1) * magnitude.unsqueeze(1)


def dora_by_rows(W, A, B, magnitude, scaling):
    import torch
    update = scaling * B @ A
    return torch.stack([m * (w + u) / ((w + u) ** 2).sum().sqrt()
                        for m, w, u in zip(magnitude, W, update, strict=True)])


def dora(length):
    """DoRA with a wrong length."""
    def weight(W, A, B, magnitude, scaling):
        V = W + scaling * B @ A
        return magnitude[:, None] * V / length(W, V)
    return weight


SOLUTIONS = {
    "ia3_forward": {
        "variants": [
            lambda x, W, scale, on_input: x @ (W * (scale if on_input else scale[:, None])).T,
            by_diagonal],
        "wrong": {
            "no scale": (lambda x, W, s, on_input: x @ W.T, "frozen layer alone"),
            "added": (lambda x, W, s, on_input: x @ W.T + s, "not added"),
            "always on the output": (lambda x, W, s, on_input: (x @ W.T) * s, "two shapes"),
            "one plus": (lambda x, W, s, on_input: ia3_forward(x, W, 1 + s, on_input),
                         "1 is added"),
            "divided": (lambda x, W, s, on_input: ia3_forward(x, W, 1 / s, on_input), "divides"),
            "x changed": (input_changed, "itself was changed"),
        },
    },
    "dora_weight": {
        "variants": [dora_by_normalize, dora_by_rows],
        "wrong": {
            "columns": (dora(lambda W, V: V.norm(dim=0)), "those of the columns"),
            "one length": (dora(lambda W, V: V.norm()), "whole matrix"),
            "lengths of W": (dora(lambda W, V: W.norm(dim=1, keepdim=True)), "lengths of W;"),
            "added later": (
                lambda W, A, B, magnitude, scaling: (
                    magnitude[:, None] * W / W.norm(dim=1, keepdim=True) + scaling * B @ A),
                "add it first"),
            "not divided": (dora(lambda W, V: 1), "not divided"),
            "no magnitude": (lambda W, A, B, m, s: dora_weight(W, A, B, m / m, s), "length 1"),
            "LoRA": (lambda W, A, B, m, s: W + s * B @ A, "this is LoRA"),
            "no scaling": (lambda W, A, B, m, s: dora_weight(W, A, B, m, 1), "by scaling"),
            "magnitude not a column": (lambda W, A, B, m, s: m * (W + s * B @ A), "[:, None]"),
        },
    },
}
