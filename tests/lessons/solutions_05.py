"""Solutions of lesson 05, and the mistakes that people make."""


def labels_of(ids, prompt, length):
    return [x if prompt <= i < length else -100 for i, x in enumerate(ids)]


def by_id(ids, prompt, length):
    return [-100 if i < prompt or x == ids[-1] else x for i, x in enumerate(ids)]


def padding_learned(ids, prompt, length):
    return [-100 if i < prompt else x for i, x in enumerate(ids)]


def question_learned(ids, prompt, length):
    return [x if i < length else -100 for i, x in enumerate(ids)]


def one_bos(ids, bos):
    start = 0
    while start < len(ids) and ids[start] == bos:
        start += 1
    return [bos, *ids[start:]]


def cut(prompt, answer, limit):
    room = limit - len(answer)
    if room < 1:
        return None
    kept = prompt if len(prompt) <= room else prompt[:1] + prompt[len(prompt) - room + 1 :]
    return kept + answer, [-100] * len(kept) + answer


def cut_at_the_end(prompt, answer, limit):
    ids, labels = prompt + answer, [-100] * len(prompt) + answer
    return ids[:limit], labels[:limit]


def cut_at_the_start(prompt, answer, limit):
    ids, labels = prompt + answer, [-100] * len(prompt) + answer
    return ids[-limit:], labels[-limit:]


def prompt_dropped(prompt, answer, limit):
    if len(prompt) + len(answer) <= limit:
        return prompt + answer, [-100] * len(prompt) + answer
    return prompt[:1] + answer, [-100] + answer


def packed_mask(lengths):
    owner = [k for k, n in enumerate(lengths) for _ in range(n)]
    see = [[int(j <= i and owner[i] == owner[j]) for j in range(len(owner))]
           for i in range(len(owner))]
    return see, [i for n in lengths for i in range(n)]


def causal_only(lengths):
    n = sum(lengths)
    return [[int(j <= i) for j in range(n)] for i in range(n)], packed_mask(lengths)[1]


def blocks_only(lengths):
    owner = [k for k, n in enumerate(lengths) for _ in range(n)]
    return [[int(a == b) for b in owner] for a in owner], packed_mask(lengths)[1]


def positions_go_on(lengths):
    return packed_mask(lengths)[0], list(range(sum(lengths)))


SOLUTIONS = {
    "labels_of": {
        "right": labels_of,
        "wrong": {
            "masked by id": (by_id, "masking by id"),
            "padding learned": (padding_learned, "padding is trained on"),
            "question learned": (question_learned, "the question is trained on"),
        },
    },
    "one_bos": {
        "right": one_bos,
        "wrong": {
            "always one more": (lambda ids, bos: [bos, *ids], "with one BOS"),
            "never one": (lambda ids, bos: list(ids), "with no BOS"),
            "only looked for inside": (
                lambda ids, bos: list(ids) if ids[:2] == [bos, bos] else
                list(ids) if ids[:1] == [bos] else [bos, *ids], "with two BOS"),
            "all removed": (lambda ids, bos: [bos] + [i for i in ids if i != bos],
                            "BOS inside"),
        },
    },
    "cut": {
        "right": cut,
        "wrong": {
            "cut at the end": (cut_at_the_end, "the answer is cut"),
            "cut at the start": (cut_at_the_start, "BOS is gone"),
            "the whole prompt dropped": (prompt_dropped, "as much as fits"),
        },
    },
    "packed_mask": {
        "right": packed_mask,
        "wrong": {
            "causal only": (causal_only, "sees the first"),
            "blocks that look ahead": (blocks_only, "looks ahead"),
            "positions go on": (positions_go_on, "start anew"),
        },
    },
}
