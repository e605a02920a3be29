"""Solutions of lesson 16, right variants, and the mistakes that people make."""

import random

from shown_solutions import shown

with_replay = shown("with_replay")
choose_weight = shown("choose_weight")


def by_sample(new, old, fraction, seed):
    """Without repetition as long as there are enough old records."""
    rng = random.Random(seed)
    k = round(len(new) / (1 - fraction)) - len(new)
    drawn = []
    while len(drawn) < k:
        drawn += rng.sample(old, min(len(old), k - len(drawn)))
    return rng.sample([*new, *drawn], len(new) + k)


def by_sorting(new, old, fraction, seed):
    rng = random.Random(str(seed))
    n, few = round(fraction / (1 - fraction) * len(new)), sorted(old, key=lambda _: rng.random())
    mixed = new + (few * (n // max(1, len(few)) + 1))[:n]
    return sorted(mixed, key=lambda record: rng.random())


def one_old_record(new, old, fraction, seed):
    rng = random.Random(seed)
    mixed = [*new, *[rng.choice(old)] * round(len(new) * fraction / (1 - fraction))]
    rng.shuffle(mixed)
    return mixed


def fraction_of_new(new, old, fraction, seed):
    rng = random.Random(seed)
    mixed = list(new) + rng.choices(old, k=round(len(new) * fraction))
    rng.shuffle(mixed)
    return mixed


def replaces_new(new, old, fraction, seed):
    rng = random.Random(seed)
    n_old = round(len(new) * fraction)
    mixed = rng.sample(new, len(new) - n_old) + rng.choices(old, k=n_old)
    rng.shuffle(mixed)
    return mixed


def not_shuffled(new, old, fraction, seed):
    rng = random.Random(seed)
    return list(new) + rng.choices(old, k=round(len(new) * fraction / (1 - fraction)))


def old_first(new, old, fraction, seed):
    rng = random.Random(seed)
    return rng.choices(old, k=round(len(new) * fraction / (1 - fraction))) + list(new)


def first_ones(new, old, fraction, seed):
    n_old = round(len(new) * fraction / (1 - fraction))
    mixed = list(new) + (old * n_old)[:n_old]
    random.Random(seed).shuffle(mixed)
    return mixed


def changes_new(new, old, fraction, seed):
    rng = random.Random(seed)
    new += rng.choices(old, k=round(len(new) * fraction / (1 - fraction)))
    rng.shuffle(new)
    return new


def not_repeated(new, old, fraction, seed):
    rng = random.Random(seed)
    mixed = list(new) + rng.sample(old, round(len(new) * fraction / (1 - fraction)))
    rng.shuffle(mixed)
    return mixed


def by_autograd(w, w0, g, lam):
    import torch
    moved = w.clone().requires_grad_(True)
    (lam / 2 * (moved - w0).square().sum()).backward()
    return torch.add(g, moved.grad)


def by_sorted(validation, test, floor):
    ranked = sorted(((kept, weight) for weight, (target, kept) in validation.items()
                     if not target < floor), reverse=True)
    return [ranked[0][1], test[ranked[0][1]]]


def by_loop(validation, test, floor):
    best = None
    for weight, (target, kept) in validation.items():
        if target >= floor and (best is None or kept > validation[best][1]):
            best = weight
    return best, test[best]


def best_target(validation, test, floor):
    weight = max(validation, key=lambda weight: validation[weight][0])
    return weight, test[weight]


def smallest_above(validation, test, floor):
    weight = min(w for w in validation if validation[w][0] >= floor)
    return weight, validation[weight]


def best_sum(validation, test, floor):
    weight = max((w for w in validation if validation[w][0] >= floor),
                 key=lambda w: sum(validation[w]))
    return weight, test[weight]


SOLUTIONS = {
    "with_replay": {
        "variants": [by_sample, by_sorting],
        "wrong": {
            "fraction of the new records": (fraction_of_new, "of the mixture, not of the new"),
            "replaces new records": (replaces_new, "replaces none"),
            "not shuffled": (not_shuffled, "come last"),
            "old first": (old_first, "come first"),
            "the first old ones": (first_ones, "draw at random"),
            "changes its argument": (changes_new, "was changed"),
            "seed without effect": (
                lambda new, old, fraction, seed: with_replay(new, old, fraction, 0),
                "another seed gave the same"),
            "too few old records": (not_repeated, "repeat records"),
            "one old record": (one_old_record, "only 1 different"),
        },
    },
    "l2_sp_gradient": {
        "variants": [by_autograd, lambda w, w0, g, lam: g - lam * (w0 - w)],
        "wrong": {
            "weight decay": (lambda w, w0, g, lam: g + lam * w, "as weight decay does"),
            "wrong sign": (lambda w, w0, g, lam: g - lam * (w - w0), "away from w0"),
            "half of it": (lambda w, w0, g, lam: g + lam / 2 * (w - w0), "half of what it should"),
            "twice": (lambda w, w0, g, lam: g + 2 * lam * (w - w0), "twice what it should"),
            "pull alone": (lambda w, w0, g, lam: lam * (w - w0), "the pull alone"),
            "absolute value": (lambda w, w0, g, lam: g + lam * (w - w0).abs(), "absolute value"),
            "the penalty": (lambda w, w0, g, lam: g + lam * (w - w0) ** 2, "its derivative"),
            "one number": (lambda w, w0, g, lam: (g + lam * (w - w0)).sum(), "for each weight"),
            "lam left out": (lambda w, w0, g, lam: g + (w - w0), "lam is missing"),
            "sign alone": (lambda w, w0, g, lam: g + lam * (w - w0).sign(), "only its sign"),
            "gradient subtracted": (lambda w, w0, g, lam: -g + lam * (w - w0),
                                    "do not subtract it"),
            "a step": (lambda w, w0, g, lam: w - g - lam * (w - w0), "these are updated weights"),
        },
    },
    "choose_weight": {
        "variants": [by_sorted, by_loop],
        "wrong": {
            "chosen on test": (lambda validation, test, floor: choose_weight(test, test, floor),
                               "chosen on the test data"),
            "validation reported": (
                lambda validation, test, floor: choose_weight(validation, validation, floor),
                "too good to be reported"),
            "no floor": (lambda validation, test, floor: choose_weight(validation, test, 0.0),
                         "keeps most, but its target is 0.3"),
            "highest target": (best_target, "the best target"),
            "best sum": (best_sum, "kept alone decides"),
            "smallest above the floor": (smallest_above, "0.6 keeps more"),
            "strictly above": (
                lambda validation, test, floor: choose_weight(validation, test, floor + 1e-9),
                "at least, not above"),
            "the weight alone": (lambda v, t, floor: choose_weight(v, t, floor)[0],
                                 "return two values"),
        },
    },
}
