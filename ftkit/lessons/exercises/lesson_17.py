"""Lesson 17, overfitting."""

import math

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import check_parts, told


@exercise("stop_at")
def _(stop_at):
    def call(values, patience, name):
        result = stop_at(list(values), patience, name)
        check_parts(result, 2, "expected two indices: of the evaluation whose weights are kept, "
                               "and of the last evaluation that was made")
        return tuple(result)

    falling = [5.0, 3.0, 2.0, 2.1, 1.9, 2.0, 2.2, 2.3, 1.0]
    result = call(falling, 3, "val_loss")
    continued = "after the better value at 4 the count starts again at zero; yours continued"
    wrong = told(result, (4, 7), [
        ((8, 8),
         "losses fell once more at 8, but by then three evaluations were no better: stop at 7"),
        ((7, 7), "the weights of the best evaluation are kept (4), not those of the last one (7)"),
        ((2, 5), continued), ((2, 6), continued), ((2, 4), continued),
        ((4, 6), "patience 3 is three evaluations in a row without a better one: 5, 6 and 7; you "
                 "stopped at 6. Does your count start again at zero at 4, which was better?"),
        ((4, 8), "after 5, 6 and 7 patience 3 is used up: stop at 7, you made one more evaluation"),
        ((7, 4),
         "the order of the two is wrong: first the kept evaluation (4), then the last one (7)"),
        ((5, 8), "indices begin at 0, as in the docstring: (4, 7)"),
        ((1.9, 2.3), "return the indices of the two evaluations, not their values"),
        ((0, 3), "a loss is better when it falls; you kept the highest value"),
    ], f"losses {falling} with patience 3 gave {result}, expected (4, 7): kept, stopped")
    if wrong:
        return wrong
    again = [2.0, 3.0, 2.5, 2.4, 2.3]
    if (result := call(again, 3, "eval_loss")) == (0, 4):
        return (f"losses {again} with patience 3: 2.5 is below 3 and no better than the best, 2; "
                "compare with the best so far, not with the previous evaluation")
    if result == (0, 2):
        return (f"eval_loss {again} with patience 3: evaluation 0 is the best so far and does not "
                "count as one without a better value; 1, 2 and 3 do: (0, 3)")
    if result != (0, 3):
        return (f"the measure eval_loss with {again} and patience 3 gave {result}; expected (0, "
                "3): lower is better for every name that ends in loss")
    rising = [0.1, 0.4, 0.5, 0.5, 0.5]
    result = call(rising, 2, "exact match")
    if result == (0, 2):
        return "exact match is better when it rises; only names that end in loss are better low"
    if result == (2, 5):
        return ("the list ends at index 4, and so does the run: the last evaluation is "
                "len(values) - 1")
    if result != (2, 4):
        return f"exact match {rising} with patience 2 gave {result}; equal is not better: (2, 4)"
    result = call([3.0, 2.0, 1.0], 5, "val_loss")
    if result != (2, 2):
        return (f"losses [3, 2, 1] with patience 5 gave {result}; a run that ends before its "
                "patience is used up stops at its last evaluation, 2")
    if call([0.1, 0.3, 0.2], 2, "loss-free answers") != (1, 2):
        return ("the measure 'loss-free answers' contains loss and does not end in it, so higher "
                "is better: use name.endswith")


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
    change = f"right {right[0]} → {right[1]} of 4, loss {nll[0]:.2f} → {nll[1]:.2f}"
    if right[1] < right[0]:
        return f"{change}: fewer are right after; it should be more"
    if right[1] == right[0]:
        return f"{change}: the same number is right as before; it should be more"
    if nll[1] <= nll[0]:
        return f"{change}: the loss fell; make the model very sure of one wrong answer"


@exercise("split_by_source")
def _(split_by_source):
    records = [{"source": s, "text": f"{s} {i}"} for i in range(3) for s in "abcdefgh"]
    result = split_by_source([dict(r) for r in records], 0.25)
    if not isinstance(result, tuple | list) or len(result) != 2:
        return f"it returned a {type(result).__name__}; return two lists: train, validation"
    train, val = result
    sources = [{r["source"] for r in side} for side in (train, val)]
    both = sources[0] & sources[1]
    if both:
        return (f"source {min(both)} is on both sides: its records are near copies, so the "
                "validation loss would measure memory")
    if len(train) + len(val) < len(records):
        return f"{len(records) - len(train) - len(val)} records are lost; each belongs to one side"
    if not val or not train:
        return "one side is empty"
    if len(val) == 18:
        return "the two sides are swapped: return train first, then validation"
    if len(val) != 6:
        return f"a quarter of 24 records is 6; your validation side has {len(val)}"
    uneven = [{"source": s} for s in "abcd"] + [{"source": "z"}] * 8
    for order in (uneven, uneven[::-1]):
        val = split_by_source(list(order), 1 / 3)[1]
        if len(val) < 4:
            return (f"sources of 8, 1, 1, 1 and 1 records, a third for validation: {len(val)} of "
                    "12 are in it, less than a third. Add whole sources, counting records, until "
                    "the fraction is reached, even if the last one goes beyond it")
        if len(val) == 12:
            return ("sources of 8, 1, 1, 1 and 1 records, a third for validation: all 12 are "
                    "in it; count records, not sources")
    inside = [{"source": s, "row": i} for s, n in (("p", 5), ("q", 3), ("r", 4)) for i in range(n)]
    train, val = split_by_source(list(inside), 0.5)
    if {r["source"] for r in train} & {r["source"] for r in val}:
        return ("sources of 5, 3 and 4 records, half for validation: source q is on both sides. "
                "The cut must not fall inside a source, sorted or not")
