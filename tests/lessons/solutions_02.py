"""Solutions of lesson 02, and the mistakes that people make."""


def lora_parameters(layers, r):
    return sum(r * (n_in + n_out) for n_in, n_out in layers)


def only_one_factor(layers, r):
    return sum(r * n_in for n_in, _ in layers)


def all_square(layers, r):
    return sum(2 * r * n_out for _, n_out in layers)


def the_frozen_weights(layers, r):
    return sum(n_in * n_out for n_in, n_out in layers)


def merge_weight(W, A, B, r, alpha):
    return W + alpha / r * B @ A


def scale_forgotten(W, A, B, r, alpha):
    return W + B @ A


def not_divided(W, A, B, r, alpha):
    return W + alpha * B @ A


def in_place(W, A, B, r, alpha):
    W += alpha / r * B @ A
    return W


def transposed(W, A, B, r, alpha):
    return W.T + alpha / r * A.T @ B.T


def only_the_update(W, A, B, r, alpha):
    return alpha / r * B @ A


SOLUTIONS = {
    "lora_parameters": {
        "right": lora_parameters,
        "wrong": {
            "only one of A and B": (only_one_factor, "half of it"),
            "every matrix square": (all_square, "not square"),
            "the frozen weights": (the_frozen_weights, "r does not enter"),
        },
    },
    "merge_weight": {
        "right": merge_weight,
        "wrong": {
            "scale forgotten": (scale_forgotten, "alpha / r was forgotten"),
            "alpha not divided": (not_divided, "not divided by r"),
            "W changed in place": (in_place, "W itself was changed"),
            "transposed": (transposed, "expected that of W"),
            "W left out": (only_the_update, "off the adapted layer"),
        },
    },
    "alpha_for": {
        "right": lambda new_r, old_r, old_alpha: old_alpha * new_r / old_r,
        "wrong": {
            "alpha kept": (lambda new_r, old_r, old_alpha: old_alpha, "the scale falls"),
            "the scale instead": (lambda new_r, old_r, old_alpha: old_alpha / old_r,
                                  "the scale alpha / r itself"),
            "square root": (lambda new_r, old_r, old_alpha: old_alpha * (new_r / old_r) ** 0.5,
                            "expected 128"),
        },
    },
}
