"""Lesson 16, catastrophic forgetting."""

from __future__ import annotations

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_number


@exercise("l2_sp_gradient")
def _(l2_sp_gradient):
    import torch

    w, w0, g = torch.tensor([1.0, -2.0]), torch.tensor([0.5, -2.0]), torch.tensor([0.1, 0.2])
    made = l2_sp_gradient(w, w0, g, 4.0)

    def is_(*wanted):
        return torch.allclose(torch.as_tensor(made).float(), torch.tensor(wanted))

    if is_(4.1, -7.8):
        return "that pulls w to zero, as weight decay does; L2-SP pulls it to w0"
    if is_(-1.9, 0.2):
        return ("w is 0.5 above w0 and your gradient, -1.9, makes a step upwards: it pushes away "
                "from w0")
    if is_(1.1, 0.2):
        return "the pull is half of what it should be: the derivative of d²/2 is d, not d/2"
    if is_(2.0, 0.0):
        return "that is the pull alone; the gradient of the loss is to be added"
    if not is_(2.1, 0.2):
        return f"w 1 and -2, w0 0.5 and -2, g 0.1 and 0.2, lam 4 gave {made}, expected 2.1 and 0.2"


@exercise("choose_share")
def _(choose_share):
    validation = {0.0: (0.1, 0.9), 0.3: (0.5, 0.88), 0.6: (0.82, 0.7), 0.8: (0.9, 0.5),
                  1.0: (0.93, 0.1)}
    test = {0.0: (0.1, 0.88), 0.3: (0.55, 0.9), 0.6: (0.78, 0.68), 0.8: (0.86, 0.55),
            1.0: (0.95, 0.2)}
    share, pair = choose_share(dict(validation), dict(test), 0.8)
    if share == 0.8 and tuple(pair) == test[0.8]:
        return ("0.8 was chosen on the test data: a share chosen there is too good to be reported; "
                "choose on validation, where 0.6 reaches 0.8")
    if share == 0.0:
        return "share 0 keeps most but its target is 0.1: the floor is 0.8"
    if share == 1.0:
        return "share 1 has the best target but keeps 0.1; above the floor, kept decides"
    if share == 0.6 and tuple(pair) == validation[0.6]:
        return "the share is right; the pair on which it was chosen is not one to report: use test"
    if share != 0.6 or tuple(pair) != test[0.6]:
        return f"floor 0.8 gave share {share!r} with {pair!r}, expected 0.6 with (0.78, 0.68)"
    if choose_share(validation, test, 0.9)[0] != 0.8:
        return "share 0.8 has the target 0.9, which reaches the floor 0.9: at least, not above"


@exercise("backward_transfer")
def _(backward_transfer):
    matrix = [[0.8, 0.1, 0.0], [0.5, 0.9, 0.1], [0.4, 0.6, 0.7]]
    return check_number("-0.4 and -0.3", backward_transfer([list(row) for row in matrix]), -0.35, {
        0.35: "the sign: after minus before, so forgetting is negative",
        -0.7 / 3: "the last job was never followed by another: the mean is over the first two",
        (0.4 - 0.8 + 0.6 - 0.1) / 2: "job two is compared with its score after job one, before it "
                                     "was trained; take that after its own turn, on the diagonal",
        (0.5 - 0.8 + 0.6 - 0.9) / 2: "each job is compared with the row after its turn; take the "
                                     "last row, the end",
    }) or check_number("job one rose from 0.2 to 0.5, which",
                       backward_transfer([[0.2, 0.3], [0.5, 0.6]]), 0.3)
