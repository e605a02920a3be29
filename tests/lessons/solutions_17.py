"""Solutions of lesson 17, right variants, and the mistakes that people make."""

from shown_solutions import shown

stop_at = shown("stop_at")
split_by_source = shown("split_by_source")


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


def against_the_previous(values, patience, name):
    sign = 1 if name.endswith("loss") else -1
    kept = bad = i = 0
    for i, value in enumerate(values[1:], 1):
        bad = 0 if sign * value < sign * values[i - 1] else bad + 1
        kept = i if sign * value < sign * values[kept] else kept
        if bad == patience:
            break
    return kept, i


def looks_ahead(values, patience, name):
    best = min(values) if name.endswith("loss") else max(values)
    return values.index(best), values.index(best)


def one_too_late(values, patience, name):
    kept, last = stop_at(values, patience, name)
    return kept, min(last + 1, len(values) - 1)


def counts_bad_ones(values, patience, name):
    better = min if name.endswith("loss") else max
    kept, bad = 0, 0
    for i in range(1, len(values)):
        if better(values[i], values[kept]) == values[i] != values[kept]:
            kept, bad = i, 0
        else:
            bad += 1
            if bad == patience:
                return [kept, i]
    return [kept, len(values) - 1]


def on_negated(values, patience, name):
    if not name.endswith("loss"):
        return on_negated([-value for value in values], patience, "loss")
    for i in range(len(values)):
        kept = values.index(min(values[:i + 1]))
        if i - kept == patience:
            return kept, i
    return kept, i


def grouped(records, fraction):
    from itertools import groupby
    train, val = [], []
    ordered = sorted(records, key=lambda r: r["source"])
    for _, group in groupby(ordered, key=lambda r: r["source"]):
        (val if len(val) < fraction * len(records) else train).extend(group)
    return [train, val]


def smallest_first(records, fraction):
    from collections import Counter
    left, chosen = round(fraction * len(records)), []
    for source, count in reversed(Counter(r["source"] for r in records).most_common()):
        if count <= left:
            chosen.append(source)
            left -= count
    return ([r for r in records if r["source"] not in chosen],
            [r for r in records if r["source"] in chosen])


def split_by_row(records, fraction):
    cut = round(fraction * len(records))
    return records[cut:], records[:cut]


def drops_the_overlap(records, fraction):
    train, val = split_by_row(records, fraction)
    held = {r["source"] for r in val}
    return [r for r in train if r["source"] not in held], val


def counts_sources(records, fraction):
    sources = list(dict.fromkeys(r["source"] for r in records))[::-1]
    held = set(sources[:round(fraction * len(sources))])
    return ([r for r in records if r["source"] not in held],
            [r for r in records if r["source"] in held])


def first_counts(values, patience, name):
    sign, kept, bad = 1 if name.endswith("loss") else -1, 0, 0
    for i, value in enumerate(values):
        if sign * value < sign * values[kept]:
            kept, bad = i, 0
        else:
            bad += 1
        if bad == patience:
            break
    return kept, i


def sorted_and_cut(records, fraction):
    return split_by_row(sorted(records, key=lambda r: r["source"]), fraction)


SOLUTIONS = {
    "stop_at": {
        "variants": [counts_bad_ones, on_negated],
        "wrong": {
            "keeps the last": (
                lambda values, patience, name: stop_at(values, patience, name)[1:] * 2,
                "not those of the last one"),
            "counts on": (never_starts_again, "the count starts again"),
            "one too early": (lambda values, patience, name: stop_at(values, patience - 1, name),
                              "you stopped at 6"),
            "one too late": (one_too_late, "one more evaluation"),
            "looks ahead": (looks_ahead, "stop at 7"),
            "always lower": (lambda values, patience, name: stop_at(values, patience, "loss"),
                             "better when it rises"),
            "one index": (lambda *a: stop_at(*a)[0], "expected two indices"),
            "against the previous one": (against_the_previous, "the best so far"),
            "one name only": (
                lambda values, patience, name: stop_at(
                    values, patience, "loss" if name == "val_loss" else "exact match"),
                "every name that ends in loss"),
            "counted from 1": (lambda *a: tuple(i + 1 for i in stop_at(*a)), "begin at 0"),
            "values": (lambda values, *a: tuple(values[i] for i in stop_at(values, *a)),
                       "not their values"),
            "always higher": (lambda values, patience, name: stop_at(values, patience, "score"),
                              "you kept the highest value"),
            "length as the last index": (
                lambda values, *a: (stop_at(values, *a)[0],
                                    stop_at(values, *a)[1] + (stop_at(values, *a)[1] == len(
                                        values) - 1)), "len(values) - 1"),
            "the first one counts": (first_counts, "evaluation 0 is the best so far"),
            "loss anywhere in the name": (
                lambda values, patience, name: stop_at(values, patience,
                                                       "loss" if "loss" in name else name),
                "use name.endswith"),
        },
    },
    "worse_and_better": {
        "variants": [((0.4, 0.4, 0.4, 0.6), (0.9, 0.9, 1e-6, 0.9)),
                     ([0.49] * 4, [0.51, 0.51, 0.0001, 0.0001])],
        "wrong": {
            "not more right": (([0.6, 0.6, 0.6, 0.3], [0.6, 0.6, 0.6, 0.001]), "same number is"),
            "loss falls": (([0.4, 0.4, 0.4, 0.4], [0.9, 0.9, 0.9, 0.3]), "the loss fell"),
            "both worse": (([0.9, 0.9, 0.9, 0.9], [0.4, 0.4, 0.4, 0.4]), "fewer are right"),
            "probability of 0": (([0.4, 0.4, 0.4, 0.4], [0.9, 0.9, 0.9, 0.0]), "both excluded"),
            "three questions": (([0.4, 0.4, 0.4], [0.6, 0.6, 0.001]), "four probabilities"),
        },
    },
    "split_by_source": {
        "variants": [grouped, smallest_first],
        "wrong": {
            "by row": (split_by_row, "is on both sides"),
            "overlap dropped": (drops_the_overlap, "are lost"),
            "nothing held out": (lambda records, fraction: (records, []), "one side is empty"),
            "swapped": (lambda *a: split_by_source(*a)[::-1], "swapped"),
            "counts sources": (counts_sources, "Add whole sources"),
            "train alone": (lambda *a: [r["source"] for r in split_by_source(*a)[0]],
                            "return two lists"),
            "sorted and cut": (sorted_and_cut, "inside a source"),
        },
    },
}
