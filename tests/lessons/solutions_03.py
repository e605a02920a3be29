"""Solutions of lesson 03, right variants, and the mistakes that people make."""

import math

from shown_solutions import shown

ia3_forward = shown("ia3_forward")
fair_report = shown("fair_report")


def by_diagonal(x, W, scale, on_input):
    from torch.nn.functional import linear
    return linear(linear(x, scale.diag()), W) if on_input else linear(linear(x, W), scale.diag())


def input_changed(x, W, scale, on_input):
    if on_input:
        x *= scale
        return x @ W.T
    return (x @ W.T) * scale


def sorted_grid(sweep, test_loss):
    report = {}
    for method, losses in sweep.items():
        rates = sorted(losses)
        i = min(range(len(rates)), key=lambda i: (math.isnan(losses[rates[i]]), losses[rates[i]]))
        inside = 0 < i < len(rates) - 1
        report[method] = [rates[i], test_loss(method, rates[i])] if inside else None
    return report


def with_infinity(sweep, test_loss):
    best = {m: min(d, key=lambda r: math.inf if math.isnan(d[r]) else d[r])
            for m, d in sweep.items()}
    return {m: (r, test_loss(m, r)) if min(sweep[m]) < r < max(sweep[m]) else None
            for m, r in best.items()}


def chosen_by_test(sweep, test_loss):
    rates = {m: min(d, key=lambda r: test_loss(m, r)) for m, d in sweep.items()}
    return {m: (r, test_loss(m, r)) for m, r in rates.items()}


def one_rate(sweep, test_loss):
    return {m: (1e-3, test_loss(m, 1e-3)) for m in sweep}


def edge_by_position(sweep, test_loss):
    report = fair_report(sweep, test_loss)
    return {m: None if row and row[0] == list(sweep[m])[0] else row for m, row in report.items()}


def edges_reported(sweep, test_loss):
    clean = {m: {r: v for r, v in d.items() if v == v} for m, d in sweep.items()}
    return {m: (r := min(d, key=d.get), test_loss(m, r)) for m, d in clean.items()}


def upper_edge_only(sweep, test_loss):
    report = edges_reported(sweep, lambda *setting: setting)
    return {m: None if row[0] == max(sweep[m]) else (row[0], test_loss(*row[1]))
            for m, row in report.items()}


def asked_at_the_edge(sweep, test_loss):
    report = edges_reported(sweep, test_loss)
    return {m: row if min(sweep[m]) < row[0] < max(sweep[m]) else None
            for m, row in report.items()}


def nan_first(sweep, test_loss):
    rates = {m: min(d, key=d.get) for m, d in sweep.items()}
    return {m: (r, test_loss(m, r)) for m, r in rates.items()}


def validation_reported(sweep, test_loss):
    return {m: row and (row[0], sweep[m][row[0]])
            for m, row in fair_report(sweep, test_loss).items()}


def the_worst(sweep, test_loss):
    rates = {m: max(d, key=lambda r: -1 if math.isnan(d[r]) else d[r]) for m, d in sweep.items()}
    return {m: (r, test_loss(m, r)) for m, r in rates.items()}


def losses_alone(sweep, test_loss):
    return {m: row and row[1] for m, row in fair_report(sweep, test_loss).items()}


def the_middle(sweep, test_loss):
    rates = {m: sorted(d)[len(d) // 2] for m, d in sweep.items()}
    return {m: (r, test_loss(m, r)) for m, r in rates.items()}


SOLUTIONS = {
    "ia3_forward": {
        "variants": [
            lambda x, W, scale, on_input: x @ (W * (scale if on_input else scale[:, None])).T,
            by_diagonal],
        "wrong": {
            "no scale": (lambda x, W, s, on_input: x @ W.T, "frozen layer alone"),
            "added": (lambda x, W, s, on_input: x @ W.T + s, "not added"),
            "always on the output": (lambda x, W, s, on_input: (x @ W.T) * s, "on_input=True: two"),
            "one plus": (lambda x, W, s, on_input: ia3_forward(x, W, 1 + s, on_input),
                         "1 is added"),
            "always on the input": (lambda x, W, s, on_input: (x * s) @ W.T, "shapes do not fit"),
            "only the output": (lambda x, W, s, on_input: (x @ W.T) * (1 if on_input else s),
                                "on_input=True: this is the frozen"),
            "divided": (lambda x, W, s, on_input: ia3_forward(x, W, 1 / s, on_input), "divides"),
            "x changed": (input_changed, "itself was changed"),
        },
    },
    "fair_report": {
        "variants": [sorted_grid, with_infinity],
        "wrong": {
            "chosen by the test": (chosen_by_test, "took part in the choice"),
            "one learning rate": (one_rate, "each method has its own best"),
            "edge by position": (edge_by_position, "it comes in any order"),
            "edges reported": (edges_reported, "a better one may be outside"),
            "lower edge reported": (upper_edge_only, "both ends of a grid"),
            "edge asked for": (asked_at_the_edge, "it is expensive"),
            "nan kept by min": (lambda sweep, test_loss: {
                m: None if (r := min(d, key=d.get)) in (min(d), max(d)) else (r, test_loss(m, r))
                for m, d in sweep.items()}, "that is not nan"),
            "nan is the lowest": (nan_first, "nan is not the lowest"),
            "validation loss": (validation_reported, "is its validation loss"),
            "the highest loss": (the_worst, "yours the highest"),
            "losses alone": (losses_alone, "(learning rate, test loss) or None"),
            "the middle of the grid": (the_middle, "B gets the learning rate 0.03"),
        },
    },
}
