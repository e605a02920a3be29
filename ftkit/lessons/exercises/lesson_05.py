"""Lesson 05, templates, special tokens, packing."""

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import check_parts, told

BOS, EOS = 1, 2
ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi?"}]
TURN = {"role": "assistant", "content": "Hello."}
OPEN = "<|im_start|>assistant\n"


@exercise("render_chatml")
def _(render_chatml):
    whole = ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n"
             "<|im_start|>assistant\nHello.<|im_end|>\n")
    made = render_chatml([*ASK, TURN], False)
    if not isinstance(made, str):
        return f"it returned {made!r}; expected one string"
    if made == whole + OPEN:
        return "a finished conversation ends with the opening of another turn; add it only if asked"
    for wrong, mistake in (
            (whole.replace("<|im_end|>", ""), "<|im_end|> is missing, so no turn has an end"),
            (whole.replace("<|im_end|>\n", "<|im_end|>"),
             "the newline after <|im_end|> is missing"),
            (whole.replace("system\n", "system").replace("user\n", "user")
             .replace("assistant\n", "assistant"), "the newline after the role is missing"),
            (whole.replace("<|im_end|>", "\n<|im_end|>"),
             "there is a newline before <|im_end|> that the format does not have"),
            (whole.removeprefix("<|im_start|>system\nBe brief.<|im_end|>\n"),
             "the system turn is missing"),
            (whole.removesuffix("\n"), "the newline after the last <|im_end|> is missing"),
            (whole.replace("<|im_start|>", "<|im_start|> "), "there is a space before the role")):
        if made == wrong:
            return f"{mistake}: {made!r}"
    if made != whole:
        return f"two turns and an answer gave {made!r}; expected {whole!r}"
    asked = render_chatml(list(ASK), True)
    expected = whole.removesuffix("Hello.<|im_end|>\n")
    if asked == expected.removesuffix(OPEN):
        return ("with add_generation_prompt=True the text must end with the opening of the "
                f"assistant's turn, {OPEN!r}")
    if asked.endswith("<|im_end|>\n") or asked == expected + "<|im_end|>":
        return f"the generation prompt {asked!r} is closed already; leave it open for the answer"
    if asked == expected.removesuffix("\n"):
        return "the generation prompt lacks the newline that the answer follows in training"
    if asked != expected:
        return f"with add_generation_prompt=True it gave {asked!r}; expected {expected!r}"


@exercise("labels_of")
def _(labels_of):
    ids = [BOS, 7, 8, 9, 5, 6, EOS, EOS, EOS]  # the last two are padding
    made = list(labels_of(list(ids), 4, 7))
    if len(made) != len(ids):
        return f"{len(made)} labels for {len(ids)} ids; expected one each"
    if made == [-100] * 3 + [5, 6, EOS, -100, -100, -100]:
        return "the labels are shifted by one; leave the shift to the loss"
    if made[4:6] == [-100, -100]:
        return "the answer is not trained on: expected the ids 5 and 6 at the indexes 4 and 5"
    if made[4:6] != [5, 6]:
        return f"the labels of the ids 5 and 6 are {made[4:6]}; a label is the id itself"
    if made[6] != EOS:
        if list(labels_of([BOS, 4, 5, 6, EOS], 2, 4))[3] != 6:
            return ("the last real token is not trained on: it is at index length - 1, here 6, and "
                    "your labels end one before it")
        return ("the real EOS (index 6, length 7) is not trained on: masking by id removes it "
                "with the padding; mask by length")
    if any(label != -100 for label in made[7:]):
        return f"padding is trained on: {made[7:]}; expected -100 from index 7 on"
    if any(label != -100 for label in made[:4]):
        return f"the question is trained on: {made[:4]}; expected -100 at the first 4 positions"
    if made != [-100] * 4 + [5, 6, EOS, -100, -100]:
        return f"labels {made}; expected the ids 5, 6, 2 at positions 4 to 6 and -100 elsewhere"
    if list(labels_of([BOS, 4, 5, EOS], 2, 4)) != [-100, -100, 5, EOS]:
        return "a row without padding lost or gained a label"
    if list(labels_of([BOS, 4, 5, EOS, 6, EOS, EOS], 2, 6)) != [-100, -100, 5, EOS, 6, EOS, -100]:
        return ("the labels end at the first EOS, but a row of several turns has more than one; "
                "`length` says where the row ends")


@exercise("packed_mask")
def _(packed_mask):
    made = packed_mask([2, 3])
    check_parts(made, 2, "expected a pair (see, positions)")
    if not hasattr(made[0][0], "__len__"):
        return "the order is the wrong way round; return (see, positions)"
    if isinstance(made[1][0], list | tuple | range):
        return "the positions are nested; one flat list has a position for each token of the row"
    see, positions = [[int(x) for x in row] for row in made[0]], [int(x) for x in made[1]]
    if len(see) != 5 or any(len(row) != 5 for row in see):
        return f"the mask of records of 2 and 3 tokens has {len(see)} rows; expected 5 by 5"
    if any(see[i][j] for i in range(5) for j in range(i + 1, 5)):
        return "a token looks ahead: see[i][j] must be 0 for j > i"
    if any(see[i][j] for i in (2, 3, 4) for j in (0, 1)):
        return "the second record sees the first: see[2][0] must be 0"
    if not all(see[i][i] for i in range(5)):
        return "a token must see itself: see[i][i] is 1"
    if sum(map(sum, see)) == 5:
        return "each token sees only itself; it may also see earlier tokens of its own record"
    if see != [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]:
        return f"the mask of records of 2 and 3 tokens is {see}"
    three = [[int(x) for x in row] for row in packed_mask([1, 1, 2])[0]]
    if three != [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]:
        return f"two records are right, but three records of 1, 1 and 2 tokens give {three}"
    return told(positions, [0, 1, 0, 1, 2], [
        ([0, 0, 1, 1, 1], "these are the numbers of the records; count the tokens within each"),
        ([1, 2, 1, 2, 3], "the positions start at 1; models count from 0"),
    ], f"positions {positions}; expected 0 1 0 1 2, they start anew in each record")
