"""Solutions of lesson 16, and the mistakes that people make."""


def l2_sp_gradient(w, w0, g, lam):
    return g + lam * (w - w0)


def choose_share(validation, test, floor):
    fit = [share for share in validation if validation[share][0] >= floor]
    share = max(fit, key=lambda share: validation[share][1])
    return share, test[share]


def chosen_on_test(validation, test, floor):
    return choose_share(test, test, floor)


def reports_validation(validation, test, floor):
    return choose_share(validation, validation, floor)


def without_floor(validation, test, floor):
    return choose_share(validation, test, 0.0)


def best_target(validation, test, floor):
    share = max(validation, key=lambda share: validation[share][0])
    return share, test[share]


def strictly_above(validation, test, floor):
    return choose_share(validation, test, floor + 1e-9)


def backward_transfer(matrix):
    last = matrix[-1]
    return sum(last[j] - matrix[j][j] for j in range(len(last) - 1)) / (len(last) - 1)


def from_the_first_row(matrix):
    return sum(b - a for a, b in zip(matrix[0][:-1], matrix[-1][:-1], strict=True)) / (
        len(matrix) - 1)


def next_row(matrix):
    jobs = range(len(matrix) - 1)
    return sum(matrix[j + 1][j] - matrix[j][j] for j in jobs) / len(jobs)


SOLUTIONS = {
    "l2_sp_gradient": {
        "right": l2_sp_gradient,
        "wrong": {
            "weight decay": (lambda w, w0, g, lam: g + lam * w, "as weight decay does"),
            "wrong sign": (lambda w, w0, g, lam: g - lam * (w - w0), "pushes away from w0"),
            "half of it": (lambda w, w0, g, lam: g + lam / 2 * (w - w0), "half of what it should"),
            "pull alone": (lambda w, w0, g, lam: lam * (w - w0), "the pull alone"),
        },
    },
    "choose_share": {
        "right": choose_share,
        "wrong": {
            "chosen on test": (chosen_on_test, "chosen on the test data"),
            "validation reported": (reports_validation, "not one to report"),
            "no floor": (without_floor, "keeps most but its target is 0.1"),
            "highest target": (best_target, "kept decides"),
            "strictly above": (strictly_above, "at least, not above"),
        },
    },
    "backward_transfer": {
        "right": backward_transfer,
        "wrong": {
            "sign": (lambda matrix: -backward_transfer(matrix), "forgetting is negative"),
            "last job counted": (lambda matrix: backward_transfer(matrix) * (len(matrix) - 1)
                                 / len(matrix), "never followed by another"),
            "from the first row": (from_the_first_row, "on the diagonal"),
            "next row": (next_row, "take the last row"),
        },
    },
}
