"""Solutions of lesson 09, and the mistakes that people make."""

OPTIMIZER = {"adamw": 8, "sgd": 0, "adamw_8bit": 2}


def state_bytes(parameters, trainable, optimizer):
    return 4 * parameters + (4 + OPTIMIZER[optimizer]) * trainable


def no_gradients(parameters, trainable, optimizer):
    return 4 * parameters + OPTIMIZER[optimizer] * trainable


def all_trained(parameters, trainable, optimizer):
    return (8 + OPTIMIZER[optimizer]) * parameters


def trained_alone(parameters, trainable, optimizer):
    return (8 + OPTIMIZER[optimizer]) * trainable


def most_parameters(gib, per=16):
    return (gib - 1) * 2**30 / per


def gigabytes(gib, per=16):
    return (gib - 1) * 1e9 / per


def the_whole_card(gib, per=16):
    return gib * 2**30 / per


def break_even(weights, activations, tokens):
    return weights / (activations / tokens)


def upside_down(weights, activations, tokens):
    return tokens * activations / weights


def difference(weights, activations, tokens):
    return weights - activations


SOLUTIONS = {
    "state_bytes": {
        "right": state_bytes,
        "wrong": {
            "no gradients": (no_gradients, "four numbers"),
            "frozen weights too": (all_trained, "neither gradients nor"),
            "no frozen weights": (trained_alone, "there as well"),
        },
    },
    "most_parameters": {
        "right": most_parameters,
        "wrong": {
            "GB for GiB": (gigabytes, "2**30"),
            "the whole card": (the_whole_card, "not yours"),
        },
    },
    "break_even": {
        "right": break_even,
        "wrong": {
            "upside down": (upside_down, "upside down"),
            "a difference": (difference, "tokens are asked for"),
        },
    },
}
