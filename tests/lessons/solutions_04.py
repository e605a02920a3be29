"""Solutions of lesson 04, right variants, and the mistakes that people make."""

import torch
import torch.nn.functional as F
from shown_solutions import edited, shown

chat_labels = shown("chat_labels")
sft_loss = shown("sft_loss")


def in_two_passes(turns, eos_id):
    ids = [i for role, turn in turns for i in turn + [eos_id] * (role == "assistant")]
    trained = [role == "assistant" for role, turn in turns
               for _ in turn + [eos_id] * (role == "assistant")]
    return [ids, [i if keep else -100 for i, keep in zip(ids, trained, strict=True)]]


def masked_afterwards(turns, eos_id):
    input_ids, labels = [], []
    for role, ids in turns:
        start = len(input_ids)
        input_ids.extend(ids)
        if role == "assistant":
            input_ids.append(eos_id)
        labels.extend(input_ids[start:])
        if role != "assistant":
            labels[start:] = [-100] * len(ids)
    return input_ids, labels


def without_eos(turns, eos_id):
    return ([i for _, ids in turns for i in ids],
            [i if role == "assistant" else -100 for role, ids in turns for i in ids])


def eos_masked(turns, eos_id):
    ids, labels = chat_labels(turns, eos_id)
    return ids, [label if label != eos_id else -100 for label in labels]


def loss_on_all(turns, eos_id):
    ids, _ = chat_labels(turns, eos_id)
    return ids, list(ids)


def shifted(turns, eos_id):
    ids, labels = chat_labels(turns, eos_id)
    return ids, labels[1:] + [-100]


def last_answer_only(turns, eos_id):
    ids, labels = chat_labels(turns, eos_id)
    last = len(turns[-1][1]) + 1
    return ids, [-100] * (len(ids) - last) + labels[-last:]


def eos_after_every_turn(turns, eos_id):
    return chat_labels([(role, ids if role == "assistant" else ids + [eos_id])
                        for role, ids in turns], eos_id)


def system_trained(turns, eos_id):
    ids, labels = chat_labels(turns, eos_id)
    start = len(turns[0][1])
    return ids, ids[:start] + labels[start:]


def zeros_for_the_mask(turns, eos_id):
    ids, labels = chat_labels(turns, eos_id)
    return ids, [0 if label == -100 else label for label in labels]


def changes_the_turns(turns, eos_id):
    for role, ids in turns:
        if role == "assistant":
            ids.append(eos_id)
    return without_eos(turns, eos_id)


def by_cross_entropy(logits, labels):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def by_a_loop(logits, labels):
    losses = []
    for row, line in zip(logits, labels, strict=True):
        for t in range(1, len(line)):
            if line[t] != -100:
                losses.append(-row[t - 1].log_softmax(-1)[line[t]].item())
    return sum(losses) / len(losses)


def the_sum(logits, labels):
    return sft_loss(logits, labels) * (labels[:, 1:] != -100).sum()


def mean_of_rows(logits, labels):
    pairs = zip(logits, labels, strict=True)
    return torch.stack([sft_loss(row[None], line[None]) for row, line in pairs]).mean()


def mask_looked_up(logits, labels):
    log_p = logits[:, :-1].log_softmax(-1)
    return -log_p.gather(2, labels[:, 1:].clamp(min=0)[..., None]).mean()


SOLUTIONS = {
    "chat_labels": {
        "variants": [in_two_passes, masked_afterwards],
        "wrong": {
            "no EOS": (without_eos, "have no EOS"),
            "EOS masked": (eos_masked, "its label is -100"),
            "loss on all": (loss_on_all, "the labels equal the ids"),
            "shifted manually": (shifted, "shifted by one"),
            "last answer only": (last_answer_only, "only the last answer"),
            "EOS after every turn": (eos_after_every_turn, "EOS after other turns"),
            "0 for the mask": (zeros_for_the_mask, "0 is the id of a token"),
            "the turns are changed": (changes_the_turns, "lists of the turns were changed"),
            "system trained": (system_trained, "the system turn is trained on"),
        },
    },
    "sft_loss": {
        "variants": [by_cross_entropy, by_a_loop],
        "wrong": {
            "no shift": (
                lambda logits, labels: F.cross_entropy(logits.flatten(0, 1), labels.flatten()),
                "nothing is shifted"),
            "shifted the wrong way": (
                lambda logits, labels: (
                    F.cross_entropy(logits[:, 1:].flatten(0, 1), labels[:, :-1].flatten())),
                "the wrong way"),
            "shifted twice": (
                lambda logits, labels: by_cross_entropy(logits[:, :-1], labels[:, 1:]),
                "shifted twice"),
            "rows joined first": (
                lambda logits, labels: F.cross_entropy(
                    logits.flatten(0, 1)[:-1], labels.flatten()[1:]), "shift within each row"),
            "not flattened": (
                lambda logits, labels: F.cross_entropy(logits[:, :-1], labels[:, 1:]),
                "flatten both"),
            "the sum": (the_sum, "that is the sum"),
            "over all positions": (
                lambda logits, labels: the_sum(logits, labels) / labels[:, 1:].numel(),
                "divides by all positions"),
            "mean of rows": (mean_of_rows, "mean over rows"),
            "-100 looked up": (mask_looked_up, "as if their label were 0"),
            "one for each token": (
                edited(by_cross_entropy, "ignore_index=-100", 'reduction="none"'),
                "expected one number"),
            "counted before the shift": (
                lambda logits, labels: the_sum(logits, labels) / (labels != -100).sum(),
                "counted before the shift"),
        },
    },
}
