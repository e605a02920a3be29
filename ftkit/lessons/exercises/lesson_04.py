"""Lesson 04, instruction tuning."""

import math

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import check_number, check_parts, told

EOS = 2
TURNS = [("system", [1, 10]), ("user", [20, 21, 9]), ("assistant", [30, 31]),
         ("user", [22, 9]), ("assistant", [32])]
IDS = [1, 10, 20, 21, 9, 30, 31, EOS, 22, 9, 32, EOS]
LABELS = [-100] * 5 + [30, 31, EOS, -100, -100, 32, EOS]
SAME_LENGTH = "two lists of the same length, (input_ids, labels)"


@exercise("chat_labels")
def _(chat_labels):
    turns = [(role, list(ids)) for role, ids in TURNS]
    made = chat_labels(turns, EOS)
    check_parts(made, 2, f"expected {SAME_LENGTH}")
    if [list(ids) for _, ids in turns] != [ids for _, ids in TURNS]:
        return "the lists of the turns were changed; build new ones (`ids + [eos_id]`)"
    ids, labels = map(list, made)
    if ids == [i for _, turn in TURNS for i in turn]:
        return "input_ids have no EOS; without it the model never learns where an answer ends"
    if ids.count(EOS) > 2:
        return f"input_ids {ids} have EOS after other turns too; it belongs after answers only"
    if ids != IDS:
        return f"input_ids are {ids}; expected all turns in order, EOS after each answer: {IDS}"
    if len(labels) != len(ids):
        return f"{len(ids)} ids and {len(labels)} labels; expected {SAME_LENGTH}"
    if labels[:8] == [-100] * 8 and labels[8:] == LABELS[8:]:
        return "only the last answer is trained on; every answer of the conversation counts here"
    if labels[:2] == IDS[:2] and labels[2:] == LABELS[2:]:
        return "the system turn is trained on: every turn but the assistant's must be masked"
    if 0 in labels:
        return f"labels are {labels}: masked positions are -100, since 0 is the id of a token"
    return told(labels, LABELS, [
        (LABELS[1:] + [-100],
         "the labels are shifted by one; leave the shift to the loss, a label is at its token"),
        (ids, "the labels equal the ids: system and user turns must be masked with -100"),
        ([label if label != EOS else -100 for label in LABELS],
         "EOS is in input_ids but its label is -100, so nothing teaches the model to stop"),
    ], f"labels are {labels}; expected {LABELS}")


@exercise("sft_loss")
def _(sft_loss):
    import torch
    import torch.nn.functional as F

    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[-100, -100, 3, 4, 2], [6, 5, -100, -100, -100]])
    shifted, targets = logits[:, :-1], labels[:, 1:]
    kept = targets != -100
    each = F.cross_entropy(shifted[kept], targets[kept], reduction="none")
    expected = float(each.mean())
    try:
        made = sft_loss(logits.clone(), labels.clone())
    except RuntimeError as error:
        return (f"two shapes do not fit ({error}); cross_entropy takes (n, vocabulary) and (n,): "
                "select or flatten both after the shift")
    if getattr(made, "numel", lambda: 1)() != 1:
        return f"it returned a tensor of shape {tuple(made.shape)}; expected one number, the mean"
    made = float(made)
    every = F.cross_entropy(shifted[kept], targets[kept], reduction="sum")
    mistakes = {
        float(F.cross_entropy(logits[labels != -100], labels[labels != -100])):
            "nothing is shifted: the output at position t must be compared with the label at t + 1",
        float(F.cross_entropy(logits[:, 1:][labels[:, :-1] != -100],
                              labels[:, :-1][labels[:, :-1] != -100])):
            "the shift goes the wrong way: drop the last logits and the first labels",
        float(F.cross_entropy(logits[:, :-2][labels[:, 2:] != -100],
                              labels[:, 2:][labels[:, 2:] != -100])):
            "the labels are shifted twice: each position is compared with the token after the next",
        float(F.cross_entropy(logits.flatten(0, 1)[:-1], labels.flatten()[1:])):
            "the rows are joined before the shift, so the end of one row predicts the start of the "
            "next; shift within each row",
        float(every): "that is the sum; divide by the number of labels that are not -100",
        float(every) / 5: "the labels were counted before the shift; the first one of a row is "
                          "predicted from nothing and does not count",
        float(every) / targets.numel():
            "that divides by all positions; divide by the number of labels that are not -100",
        (float(each[:3].mean()) + float(each[3])) / 2:
            "that is the mean over rows; each trained token counts once, whatever its row",
        float(-shifted.log_softmax(-1).gather(2, targets.clamp(min=0)[..., None]).mean()):
            "masked positions are counted as if their label were 0; leave them out",
        -expected: "the sign is wrong: the loss is minus the log-probability",
        expected / math.log(2): "that is in bits; the loss is in nats (natural logarithm)",
    }
    if math.isnan(made):
        return "it gave nan: a label of -100 must be left out, not looked up"
    return check_number("two rows with 3 and 1 trained tokens", made, expected, mistakes, 1e-4)
