"""Solutions of lesson 03, right variants, and the mistakes that people make."""


def ia3_forward(x, W, scale, on_input):
    return (x * scale) @ W.T if on_input else (x @ W.T) * scale


def by_merging(x, W, scale, on_input):
    return x @ (W * (scale if on_input else scale[:, None])).T


def by_diagonal(x, W, scale, on_input):
    from torch.nn.functional import linear
    return linear(linear(x, scale.diag()), W) if on_input else linear(linear(x, W), scale.diag())


def input_changed(x, W, scale, on_input):
    if on_input:
        x *= scale
        return x @ W.T
    return (x @ W.T) * scale


def dora_weight(W, A, B, magnitude, scaling):
    V = W + scaling * B @ A
    return magnitude[:, None] * V / V.norm(dim=1, keepdim=True)


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


def added_later(W, A, B, magnitude, scaling):
    return magnitude[:, None] * W / W.norm(dim=1, keepdim=True) + scaling * B @ A


def peft_parameters(method, layers, hidden, kv, inner, tokens):
    if method == "ia3":
        return layers * (2 * kv + inner)
    return tokens * hidden if method == "prompt" else tokens * layers * 2 * kv


def by_table(method, layers, hidden, kv, inner, tokens):
    return {"ia3": layers * (kv + kv + inner), "prompt": hidden * tokens,
            "prefix": sum(tokens * kv * 2 for _ in range(layers))}[method]


def by_match(method, **sizes):
    match method:
        case "ia3":
            return sizes["layers"] * (sizes["kv"] * 2 + sizes["inner"])
        case "prompt":
            return sizes["hidden"] * sizes["tokens"]
    return 2 * sizes["layers"] * sizes["tokens"] * sizes["kv"]


def counted(wrong, only):
    """Right except for one method."""
    def count(method, **sizes):
        return wrong(**sizes) if method == only else peft_parameters(method, **sizes)
    return count


def hidden_for_keys(method, layers, hidden, kv, inner, tokens):
    return peft_parameters(method, layers, hidden, hidden, inner, tokens)


SOLUTIONS = {
    "ia3_forward": {
        "right": ia3_forward,
        "variants": [by_merging, by_diagonal],
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
        "right": dora_weight,
        "variants": [dora_by_normalize, dora_by_rows],
        "wrong": {
            "columns": (dora(lambda W, V: V.norm(dim=0)), "those of the columns"),
            "one length": (dora(lambda W, V: V.norm()), "whole matrix"),
            "lengths of W": (dora(lambda W, V: W.norm(dim=1, keepdim=True)), "lengths of W;"),
            "added later": (added_later, "add it first"),
            "not divided": (dora(lambda W, V: 1), "not divided"),
            "no magnitude": (lambda W, A, B, m, s: dora_weight(W, A, B, m / m, s), "length 1"),
            "LoRA": (lambda W, A, B, m, s: W + s * B @ A, "this is LoRA"),
            "no scaling": (lambda W, A, B, m, s: dora_weight(W, A, B, m, 1), "by scaling"),
            "magnitude not a column": (lambda W, A, B, m, s: m * (W + s * B @ A), "[:, None]"),
        },
    },
    "peft_parameters": {
        "right": peft_parameters,
        "variants": [by_table, by_match],
        "wrong": {
            "IA3 with three equal vectors": (counted(
                lambda layers, hidden, **_: layers * 3 * hidden, "ia3"),
                "as wide as the MLP inside"),
            "IA3 without the MLP": (counted(lambda layers, kv, **_: layers * 2 * kv, "ia3"),
                                    "lacks the vector"),
            "a prompt in each layer": (counted(
                lambda layers, hidden, tokens, **_: layers * hidden * tokens, "prompt"),
                "first layer only"),
            "a prefix of keys only": (counted(
                lambda layers, kv, tokens, **_: layers * kv * tokens, "prefix"),
                "half of it"),
            "a prefix for one layer": (counted(lambda kv, tokens, **_: 2 * kv * tokens, "prefix"),
                                       "each layer has its own"),
            "keys as wide as the model": (hidden_for_keys, "keys and values are narrower"),
        },
    },
}
