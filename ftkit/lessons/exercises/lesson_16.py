"""Lesson 16, catastrophic forgetting."""

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import check_parts, close, told

# ----------------------------------------------------------------------------- with_replay


def _replay_mistake(n_old: int) -> str:
    """The message for a wrong number of old records among 90 new ones (expected: 0.25)."""
    return {
        22: "the fraction is of the mixture, not of the new records: 22 of 112 is 20 %; solve "
            "n_old / (n_new + n_old) = fraction for n_old",
        23: "the fraction is of the mixture, not of the new records: 23 of 113 is 20 %; solve "
            "n_old / (n_new + n_old) = fraction for n_old",
        0: "no old record is in the mixture",
        200: "all old records are in the mixture; draw the number that the fraction gives",
        270: "the fraction is that of the old records; here the new ones make up 25 %",
    }.get(n_old, f"{n_old} old records and 90 new ones is a fraction of "
                 f"{n_old / (n_old + 90):.2f}; expected 30 old ones")


@exercise("with_replay")
def _(with_replay):
    new, old = [f"new {i}" for i in range(90)], [f"old {i}" for i in range(200)]
    given = list(new), list(old)
    mixed = with_replay(new, old, 0.25, 0)
    if (new, old) != given:
        return "a list that was passed in was changed; build a new list, sorted or shuffled"
    if not isinstance(mixed, list | tuple):
        return f"it returned a {type(mixed).__name__}; return a list of records"
    drawn = [record for record in mixed if record.startswith("old")]
    kept = [record for record in mixed if record.startswith("new")]
    if sorted(kept) != sorted(new):
        return (f"{len(set(kept))} of the 90 new records are in the mixture, {len(kept)} times in "
                "all; each must be in it once: replay adds to the new data and replaces none")
    if len(drawn) != 30:
        return _replay_mistake(len(drawn))
    is_old = [record.startswith("old") for record in mixed]
    if all(is_old[:30]) or all(is_old[-30:]):
        where = "first" if is_old[0] else "last"
        return (f"all old records come {where}; shuffle the mixture, so that each batch holds "
                "some of both")
    if len(set(drawn)) < 30:
        return (f"only {len(set(drawn))} different old records among the 30, though 200 are there: "
                "draw each at most once (rng.sample) as long as there are enough")
    if sorted(drawn) == sorted(old[:30]):
        return "these are the first 30 old records; draw at random, so that all kinds can occur"
    if list(mixed) != list(with_replay(new, old, 0.25, 0)):
        return "the same seed gave another mixture; use random.Random(seed)"
    if list(mixed) == list(with_replay(new, old, 0.25, 1)):
        return "another seed gave the same mixture; use random.Random(seed)"
    try:
        few = with_replay(new, old[:5], 0.25, 0)
    except ValueError:
        return ("with 5 old records and 30 needed it raised ValueError: repeat records where there "
                "are too few, with rng.choices")
    repeated = sum(record.startswith("old") for record in few)
    if repeated != 30:
        return f"with 5 old records the mixture holds {repeated} of them; expected 30, repeated"
    if sorted(with_replay(new, old, 0.0, 0)) != sorted(new):
        return "with fraction 0 the mixture must be the new records"


# -------------------------------------------------------------------------- l2_sp_gradient


@exercise("l2_sp_gradient")
def _(l2_sp_gradient):
    import torch

    # The middle weight is below its start, the last one has not moved.
    w, w0 = torch.tensor([1.0, -3.0, -2.0]), torch.tensor([0.5, -2.0, -2.0])
    g = torch.tensor([0.1, 0.2, 0.2])
    before = [tensor.clone() for tensor in (w, w0, g)]
    result = l2_sp_gradient(w, w0, g, 4.0)
    if not all(map(torch.equal, (w, w0, g), before)):
        return "a tensor that was passed in was changed; return a new one"
    if not isinstance(result, torch.Tensor) or result.shape != w.shape:
        return (f"it returned {result!r}; expected a tensor with one value for each weight, "
                "shape (3,)")

    return told(result.float(), torch.tensor([2.1, -3.8, 0.2]), [
        (torch.tensor(value), message) for value, message in (
            ([4.1, -11.8, -7.8],
             "this pulls w to zero, as weight decay does; L2-SP pulls it to w0"),
            ([-1.9, 4.2, 0.2], "the sign: the first weight is 0.5 above its start, and the "
                               "gradient -1.9 moves it up, away from w0"),
            ([1.1, -1.8, 0.2],
             "the pull is half of what it should be: the derivative of d²/2 is d, not d/2"),
            ([4.1, -7.8, 0.2],
             "the pull is twice what it should be: the penalty is lam/2 times the square"),
            ([2.0, -4.0, 0.0], "this is the pull alone; add the gradient of the loss"),
            ([2.1, 4.2, 0.2], "the second weight is below its start and must be pulled up, with a "
                              "negative gradient; use the difference w - w0, not its absolute "
                              "value"),
            ([1.1, 4.2, 0.2],
             "this is the penalty itself, (w - w0)²; the gradient is its derivative"),
            ([0.1, 0.2, 0.2], "the pull is missing: lam has no effect"),
            ([0.6, -0.8, 0.2], "lam is missing: it multiplies the distance w - w0"),
            ([4.1, -3.8, 0.2], "the pull grows with the distance; you used only its sign"),
            ([1.9, -4.2, -0.2], "add the gradient of the loss, do not subtract it"),
            ([-1.1, 0.8, -2.2], "these are updated weights; return the gradient, the optimizer "
                                "makes the step"))
    ], f"w = [1, -3, -2], w0 = [0.5, -2, -2], g = [0.1, 0.2, 0.2], lam = 4 gave "
       f"[{', '.join(f'{x:.4g}' for x in result.tolist())}]; expected [2.1, -3.8, 0.2]", close)


# --------------------------------------------------------------------------- choose_weight

VALIDATION = {0.0: (0.1, 0.9), 0.2: (0.3, 0.95), 0.4: (0.81, 0.6), 0.6: (0.82, 0.7),
              0.8: (0.9, 0.65), 1.0: (0.98, 0.45)}
TEST = {0.0: (0.1, 0.88), 0.2: (0.32, 0.9), 0.4: (0.84, 0.75), 0.6: (0.78, 0.68),
        0.8: (0.86, 0.55), 1.0: (0.95, 0.2)}


@exercise("choose_weight")
def _(choose_weight):
    result = choose_weight(dict(VALIDATION), dict(TEST), 0.8)
    check_parts(result, 2, "return two values: the weight, and the pair (target, kept) to report")
    weight, pair = result
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return f"the second value is {pair!r}; expected a pair (target, kept)"
    pair = tuple(pair)
    if weight == 0.4 and pair == TEST[0.4]:
        return ("0.4 was chosen on the test data, where it is best, or because it is the smallest "
                "weight that reaches the floor; choose by kept, on validation")
    if weight == 0.4:
        return "0.4 is the smallest weight that reaches the floor, but 0.6 keeps more"
    if weight == 0.2:
        return "weight 0.2 keeps most, but its target is 0.3: the floor is 0.8"
    if weight == 1.0:
        return "weight 1 has the best target, but keeps 0.45; above the floor, kept decides"
    if weight == 0.8:
        return ("weight 0.8: kept alone decides above the floor, not the sum of both; and the "
                "floor is for the validation target, which 0.6 reaches with 0.82, whatever it has "
                "on test")
    if weight == 0.6 and pair == VALIDATION[0.6]:
        return ("the weight is right; the pair on which it was chosen is too good to be reported: "
                "use test")
    if weight != 0.6 or pair != TEST[0.6]:
        return f"floor 0.8 gave weight {weight!r} with {pair!r}; expected 0.6 with (0.78, 0.68)"
    if choose_weight(dict(VALIDATION), dict(TEST), 0.9)[0] != 0.8:
        return "weight 0.8 has the target 0.9, which reaches the floor 0.9: at least, not above"
