"""Solutions of lesson 17, and the mistakes that people make."""


def stop_at(values, patience, name):
    sign, kept = (1 if name.endswith("loss") else -1), 0
    for i, value in enumerate(values):
        if sign * value < sign * values[kept]:
            kept = i
        if i - kept >= patience:
            break
    return kept, i


def keeps_the_last(values, patience, name):
    return stop_at(values, patience, name)[1:] * 2


def never_starts_again(values, patience, name):
    kept, bad = 0, 0
    for i, value in enumerate(values):
        if i and value >= values[i - 1]:
            bad += 1
        elif not bad:
            kept = i
        if bad >= patience:
            break
    return kept, i


def one_too_early(values, patience, name):
    return stop_at(values, patience - 1, name)


def lower_is_better(values, patience, name):
    return stop_at(values, patience, "loss")


def looks_ahead(values, patience, name):
    best = min(values) if name.endswith("loss") else max(values)
    return values.index(best), values.index(best)


def split_by_source(records, share):
    sources = list(dict.fromkeys(r["source"] for r in records))
    held = set(sources[:round(share * len(sources))])
    return ([r for r in records if r["source"] not in held],
            [r for r in records if r["source"] in held])


def split_by_row(records, share):
    cut = round(share * len(records))
    return records[cut:], records[:cut]


def drops_the_overlap(records, share):
    train, val = split_by_row(records, share)
    held = {r["source"] for r in val}
    return [r for r in train if r["source"] not in held], val


def everything_in_train(records, share):
    return records, []


SOLUTIONS = {
    "stop_at": {
        "right": stop_at,
        "wrong": {
            "keeps the last": (keeps_the_last, "not those of the last one"),
            "counts on": (never_starts_again, "the count starts again"),
            "one too early": (one_too_early, "you stopped at 6"),
            "looks ahead": (looks_ahead, "stop at 7"),
            "always lower": (lower_is_better, "better when it rises"),
        },
    },
    "worse_and_better": {
        "right": ([0.45, 0.45, 0.45, 0.45], [0.6, 0.6, 0.6, 0.001]),
        "wrong": {
            "not more right": (([0.6, 0.6, 0.6, 0.3], [0.6, 0.6, 0.6, 0.001]), "as many are right"),
            "loss falls": (([0.4, 0.4, 0.4, 0.4], [0.9, 0.9, 0.9, 0.3]), "the loss fell"),
            "both worse": (([0.9, 0.9, 0.9, 0.9], [0.4, 0.4, 0.4, 0.4]), "fewer are right"),
            "probability of 0": (([0.4, 0.4, 0.4, 0.4], [0.9, 0.9, 0.9, 0.0]), "both excluded"),
        },
    },
    "split_by_source": {
        "right": split_by_source,
        "wrong": {
            "by row": (split_by_row, "is on both sides"),
            "overlap dropped": (drops_the_overlap, "are lost"),
            "nothing held out": (everything_in_train, "one side is empty"),
        },
    },
}
