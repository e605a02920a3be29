"""Solutions of lesson 03, and the mistakes that people make."""


def trained_numbers(method, layers, hidden, kv, inner, tokens):
    if method == "ia3":
        return layers * (2 * kv + inner)
    return tokens * hidden if method == "prompt" else tokens * layers * 2 * kv


def three_equal_vectors(method, layers, hidden, kv, inner, tokens):
    return layers * 3 * hidden if method == "ia3" else trained_numbers(
        method, layers, hidden, kv, inner, tokens)


def keys_only(method, layers, hidden, kv, inner, tokens):
    made = trained_numbers(method, layers, hidden, kv, inner, tokens)
    return made // 2 if method == "prefix" else made


def one_layer(method, layers, hidden, kv, inner, tokens):
    made = trained_numbers(method, layers, hidden, kv, inner, tokens)
    return made // layers if method == "prefix" else made


def hidden_for_keys(method, layers, hidden, kv, inner, tokens):
    return trained_numbers(method, layers, hidden, hidden, inner, tokens)


def can_be_merged(method):
    return method in ("lora", "dora", "pissa", "ia3")


def best_rate(runs):
    losses = {}
    for run in runs:
        losses.setdefault((run["method"], run["rate"]), []).append(run["loss"])
    means = {key: sum(values) / len(values) for key, values in losses.items()}
    return {method: min((m for m in means if m[0] == method), key=means.get)[1]
            for method, _ in means}


def best_single_run(runs):
    best = {}
    for run in sorted(runs, key=lambda run: -run["loss"]):
        best[run["method"]] = run["rate"]
    return best


def one_rate_for_all(runs):
    return dict.fromkeys(["full", "lora"], 1e-3)


SOLUTIONS = {
    "trained_numbers": {
        "right": trained_numbers,
        "wrong": {
            "IA3 with three equal vectors": (three_equal_vectors, "as wide as the MLP inside"),
            "a prefix of keys only": (keys_only, "keys and values"),
            "a prefix for one layer": (one_layer, "one layer's"),
            "keys as wide as the model": (hidden_for_keys, "keys and values are narrower"),
        },
    },
    "can_be_merged": {
        "right": can_be_merged,
        "wrong": {
            "everything": (lambda method: True, "its vectors are input"),
            "only lora": (lambda method: method in ("lora", "pissa"), "rescaled"),
            "adapters too": (lambda method: method not in ("prompt", "prefix"), "nonlinear"),
            "ia3 not": (lambda method: method in ("lora", "dora", "pissa"), "diagonal"),
        },
    },
    "best_rate": {
        "right": best_rate,
        "wrong": {
            "the best single run": (best_single_run, "best single run"),
            "one rate for all": (one_rate_for_all, "the same rate"),
        },
    },
}
