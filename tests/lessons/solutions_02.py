"""Solutions of lesson 02, right variants, and the mistakes that people make."""

import math

from shown_solutions import edited


def functional(x, W, A, B, lora_alpha):
    from torch.nn.functional import linear
    return linear(x, W) + linear(linear(x, A), B).mul(lora_alpha / B.shape[1])


def merge_weight(W, A, B, r, lora_alpha):
    return W + lora_alpha / r * B @ A


def by_addmm(W, A, B, r, lora_alpha):
    import torch
    return torch.addmm(W, B, A, alpha=lora_alpha / r)


def cloned(W, A, B, r, lora_alpha):
    merged = W.clone()
    merged += B @ A * (lora_alpha / r)
    return merged


SOLUTIONS = {
    "lora_forward": {
        "variants": [functional,
                     lambda x, W, A, B, a: x @ W.T + (a / len(A) * B @ (A @ x.T)).T],
        "wrong": {
            "merged": (lambda x, W, A, B, a: x @ (W + a / len(A) * B @ A).T, "B A"),
            "B A first": (lambda x, W, A, B, a: x @ W.T + a / len(A) * (x @ (B @ A).T),
                          "as large as W, is built"),
            "scale forgotten": (lambda x, W, A, B, a: x @ W.T + x @ A.T @ B.T, "is missing"),
            "alpha not divided": (lambda x, W, A, B, a: x @ W.T + a * (x @ A.T @ B.T),
                                  "not divided by r"),
            "scale inverted": (lambda x, W, A, B, a: x @ W.T + len(A) / a * (x @ A.T @ B.T),
                               "wrong way round"),
            "rsLoRA": (lambda x, W, A, B, a: x @ W.T + a / math.sqrt(len(A)) * (x @ A.T @ B.T),
                       "rsLoRA"),
            "update only": (lambda x, W, A, B, a: a / len(A) * (x @ A.T @ B.T), "update alone"),
            "base only": (lambda x, W, A, B, a: x @ W.T, "frozen layer alone"),
            "both scaled": (lambda x, W, A, B, a: a / len(A) * (x @ W.T + x @ A.T @ B.T),
                            "frozen layer is scaled too"),
            "subtracted": (lambda x, W, A, B, a: x @ W.T - a / len(A) * (x @ A.T @ B.T),
                           "subtracted"),
            "not transposed": (lambda x, W, A, B, a: x @ W + a / len(A) * (x @ A @ B),
                               "multiply x (n, d_in) by A.T"),
        },
    },
    "lora_parameters": {
        "variants": [lambda layers, r: sum(r * n_in + n_out * r for n_in, n_out in layers),
                     lambda layers, r: r * sum(sum(layer) for layer in layers)],
        "wrong": {
            "only one of A and B": (lambda layers, r: sum(r * n for n, _ in layers), "half of it"),
            "every matrix square": (lambda layers, r: sum(2 * r * m for _, m in layers),
                                    "not square"),
            "the frozen weights": (lambda layers, r: sum(n * m for n, m in layers),
                                   "r does not occur"),
            "product": (lambda layers, r: sum(r * n * m for n, m in layers), "not multiplied"),
            "missing parentheses": (lambda layers, r: sum(r * n + m for n, m in layers),
                                    "r multiplies both"),
            "the first layer for all": (lambda layers, r: r * sum(layers[0]) * len(layers)
                                        if layers else 0, "the layers differ"),
            "one layer": (lambda layers, r: r * sum(layers[0]), "sum over all"),
            "twice": (lambda layers, r: sum(2 * r * (n + m) for n, m in layers), "twice too much"),
            "product with r twice": (lambda layers, r: sum(r * n * r * m for n, m in layers),
                                     "are added"),
            "with W": (lambda layers, r: sum(n * m + r * (n + m) for n, m in layers), "frozen"),
        },
    },
    "merge_weight": {
        "variants": [by_addmm, cloned],
        "wrong": {
            "scale forgotten": (lambda W, A, B, r, a: W + B @ A, "is missing"),
            "alpha not divided": (lambda W, A, B, r, a: W + a * B @ A, "not divided by r"),
            "W changed in place": (edited(
                merge_weight, "return W + lora_alpha / r * B @ A",
                "W += lora_alpha / r * B @ A\n    return W"), "W itself was changed"),
            "transposed": (lambda W, A, B, r, a: W.T + a / r * A.T @ B.T, "expected that of W"),
            "only the update": (lambda W, A, B, r, a: a / r * B @ A, "update alone"),
            "subtracted": (lambda W, A, B, r, a: W - a / r * B @ A, "subtracted"),
            "r over alpha": (lambda W, A, B, r, a: W + r / a * B @ A, "wrong way round"),
            "rsLoRA": (lambda W, A, B, r, a: W + a / math.sqrt(r) * B @ A, "rsLoRA"),
            "W scaled too": (lambda W, A, B, r, a: a / r * (W + B @ A), "W is scaled too"),
            "A B": (lambda W, A, B, r, a: W + a / r * A @ B, "B (d_out, r) times A"),
        },
    },
}
