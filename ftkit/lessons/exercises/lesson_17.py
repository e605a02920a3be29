"""Lesson 17, overfitting."""

from __future__ import annotations

import math

from ftkit.lessons.claims import exercise


@exercise("stop_at")
def _(stop_at):
    falling = [5.0, 3.0, 2.0, 2.1, 1.9, 2.0, 2.2, 2.3, 1.0]
    made = tuple(stop_at(list(falling), 3, "val_loss"))
    if made == (8, 8):
        return "losses fell once more at 8, but by then three evaluations were no better: stop at 7"
    if made == (7, 7):
        return "the weights of the best evaluation are kept (4), not those of the last one (7)"
    if made in ((2, 5), (2, 6), (2, 4)):
        return "after the better value at 4 the count starts again; you counted on"
    if made == (4, 6):
        return "patience 3 is three evaluations without a better one: 5, 6 and 7; you stopped at 6"
    if made != (4, 7):
        return f"losses {falling} with patience 3 gave {made}, expected (4, 7): kept, stopped"
    rising = [0.1, 0.4, 0.5, 0.5, 0.5]
    made = tuple(stop_at(list(rising), 2, "exact match"))
    if made == (0, 2):
        return "exact match is better when it rises; only names that end in loss are better low"
    if made != (2, 4):
        return f"exact match {rising} with patience 2 gave {made}; equal is not better: (2, 4)"
    if tuple(stop_at([3.0, 2.0, 1.0], 5, "val_loss")) != (2, 2):
        return "a run that ends before its patience is used up stops at its last evaluation, 2"


@exercise("worse_and_better")
def _(pair):
    if ... in (*pair[0], *pair[1]):
        raise NotImplementedError
    before, after = (list(map(float, side)) for side in pair)
    if len(before) != 4 or len(after) != 4:
        return f"four probabilities each; you gave {len(before)} and {len(after)}"
    if any(not 0 < p < 1 for p in before + after):
        return "each probability lies between 0 and 1, both excluded"
    right = [sum(p > 0.5 for p in side) for side in (before, after)]
    nll = [-sum(map(math.log, side)) / 4 for side in (before, after)]
    said = f"right {right[0]} → {right[1]} of 4, NLL {nll[0]:.2f} → {nll[1]:.2f}"
    if right[1] < right[0]:
        return f"{said}: fewer are right after; it should be more"
    if right[1] == right[0]:
        return f"{said}: as many are right as before; it should be more"
    if nll[1] <= nll[0]:
        return f"{said}: the loss fell; make one wrong answer very sure of itself"


@exercise("split_by_source")
def _(split_by_source):
    records = [{"source": s, "text": f"{s} {i}"} for i in range(3) for s in "abcdefgh"]
    train, val = split_by_source([dict(r) for r in records], 0.25)
    sources = [{r["source"] for r in side} for side in (train, val)]
    both = sources[0] & sources[1]
    if both:
        return (f"source {min(both)} is on both sides: its rows are near copies, so val would "
                "measure memory")
    if len(train) + len(val) < len(records):
        return f"{len(records) - len(train) - len(val)} records are lost; each belongs to one side"
    if not val or not train:
        return "one side is empty"
    if len(val) != 6:
        return f"a quarter of 24 records is 6, your validation side has {len(val)}"
