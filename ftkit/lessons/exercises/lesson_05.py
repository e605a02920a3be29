"""Lesson 05, templates, special tokens, packing."""

from __future__ import annotations

from ftkit.lessons.claims import exercise

BOS, EOS = 1, 2


@exercise("labels_of")
def _(labels_of):
    ids = [BOS, 7, 8, 9, 5, 6, EOS, EOS, EOS]  # the last two are padding
    made = list(labels_of(list(ids), 4, 7))
    if len(made) != len(ids):
        return f"{len(made)} labels for {len(ids)} ids; expected one each"
    if made[6] != EOS:
        return ("the real EOS (index 6 of 9, length 7) is not trained on: masking by id removes it "
                "with the padding; mask by length")
    if any(label != -100 for label in made[7:]):
        return f"padding is trained on: {made[7:]}; expected -100 from place 7 on"
    if any(label != -100 for label in made[:4]):
        return f"the question is trained on: {made[:4]}; expected -100 at the first 4 places"
    if made != [-100] * 4 + [5, 6, EOS, -100, -100]:
        return f"labels {made}; expected the ids 5, 6, 2 at places 4 to 6 and -100 elsewhere"
    if list(labels_of([BOS, 4, 5, EOS], 2, 4)) != [-100, -100, 5, EOS]:
        return "a row without padding lost or gained a label"


@exercise("one_bos")
def _(one_bos):
    for given, what in (([5, 6], "no BOS"), ([1, 5, 6], "one BOS"), ([1, 1, 5, 6], "two BOS"),
                        ([5, 1, 6], "BOS inside, none in front"), ([], "nothing")):
        before, wanted = list(given), [1, *given[next((i for i, x in enumerate(given) if x != 1),
                                                      len(given)):]]
        made = list(one_bos(given, 1))
        if given != before:
            return "the list that was given was changed; return a new one"
        if made != wanted:
            return f"ids with {what}, {before}, gave {made}; expected {wanted}"


@exercise("cut")
def _(cut):
    prompt, answer = [BOS, 11, 12, 13, 14, 15], [21, 22, EOS]
    made = cut(list(prompt), list(answer), 6)
    if made is None:
        return "a record of 9 tokens and a limit of 6 gave None; the answer and BOS need only 4"
    ids, labels = map(list, made)
    if len(ids) > 6:
        return f"{len(ids)} tokens are left with a limit of 6"
    if ids[-3:] != answer:
        return f"the answer is cut: the row ends in {ids[-3:]}; expected {answer}, EOS included"
    if ids[:1] != [BOS]:
        return f"BOS is gone: the row begins with {ids[:1]}"
    if len(ids) < 6:
        return f"only {len(ids)} tokens are left with a limit of 6; keep as much as fits"
    if labels != [-100] * 3 + answer:
        return f"labels {labels}; expected -100 on the three of the prompt, then {answer}"
    short = cut([BOS, 11], [21, EOS], 9)
    if short is None or list(short[0]) != [BOS, 11, 21, EOS]:
        return f"a record that fits was changed: {short}"
    if cut([BOS, 11], [21, 22, 23, EOS], 4) is not None:
        return "BOS and an answer of 4 tokens do not fit into 4, yet something came back"


@exercise("packed_mask")
def _(packed_mask):
    see, positions = packed_mask([2, 3])
    see = [[int(x) for x in row] for row in see]
    if len(see) != 5 or any(len(row) != 5 for row in see):
        return f"the mask of records of 2 and 3 tokens has {len(see)} rows; expected 5 by 5"
    if any(see[i][j] for i in range(5) for j in range(i + 1, 5)):
        return "a token looks ahead: see[i][j] must be 0 for j > i"
    if any(see[i][j] for i in (2, 3, 4) for j in (0, 1)):
        return "the second record sees the first: see[2][0] must be 0"
    if not all(see[i][i] for i in range(5)):
        return "a token must see itself: see[i][i] is 1"
    if see != [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]:
        return f"the mask of records of 2 and 3 tokens is {see}"
    if list(positions) != [0, 1, 0, 1, 2]:
        return f"positions {list(positions)}; expected 0 1 0 1 2, they start anew in each record"
