"""Solutions of lesson 18, and the mistakes that people make."""

import re

from shown_solutions import shown

error_rates = shown("error_rates")


def words_of(text):
    return re.findall(r"\w+", text.lower())


def shingles(words):
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def alike(a, b):
    return len(a & b) / len(a | b)


def keep_first(texts, similar=0.8, cut=words_of, alike=alike):
    kept, pieces = [], [shingles(cut(text)) for text in texts]
    for i, piece in enumerate(pieces):
        if all(alike(piece, pieces[j]) < similar for j in kept):
            kept.append(i)
    return kept


def keep_first_by_texts(texts, similar=0.8):
    kept = {}
    for i, text in enumerate(texts):
        mine = shingles(words_of(text))
        if not any(alike(mine, other) >= similar for other in kept.values()):
            kept[i] = mine
    return tuple(kept)


def keep_first_in_a_loop(texts, similar=0.8):
    dropped = set()
    for i, a in enumerate(texts):
        for j in range(i):
            near = alike(shingles(words_of(a)), shingles(words_of(texts[j]))) >= similar
            if j not in dropped and near:
                dropped.add(i)
    return [i for i in range(len(texts)) if i not in dropped]


def keep_last(texts, similar=0.8):
    kept = keep_first(texts[::-1], similar)
    return sorted(len(texts) - 1 - i for i in kept)


def keep_by_the_smaller(texts, similar=0.8):
    return keep_first(texts, similar - 0.4, alike=lambda a, b: len(a & b) / min(len(a), len(b)))


def keep_by_the_sum(texts, similar=0.8):
    return keep_first(texts, similar, alike=lambda a, b: len(a & b) / (len(a) + len(b)))


def keep_by_words(texts, similar=0.8):
    kept, sets = [], [set(words_of(text)) for text in texts]
    for i, words in enumerate(sets):
        if all(alike(words, sets[j]) < similar for j in kept):
            kept.append(i)
    return kept


def compare_with_dropped(texts, similar=0.8):
    pieces = [shingles(words_of(text)) for text in texts]
    return [i for i, piece in enumerate(pieces)
            if all(alike(piece, other) < similar for other in pieces[:i])]


def rates_from_lists(instructions, is_wrong):
    groups = {}
    for instruction, wrong in zip(instructions, is_wrong, strict=True):
        groups.setdefault(instruction.lower().split(" ")[0], []).append(wrong)
    return {word: sum(group) / len(group) for word, group in groups.items()}


def rates_with_pandas(instructions, is_wrong):
    import pandas

    words = pandas.Series(instructions).str.split().str[0].str.lower()
    return pandas.Series(is_wrong, dtype=float).groupby(words).mean().to_dict()


def error_counts(instructions, is_wrong):
    return {word: rate * sum(i.lower().startswith(word) for i in instructions)
            for word, rate in error_rates(instructions, is_wrong).items()}


def of_all_errors(instructions, is_wrong):
    return {word: n / sum(is_wrong) for word, n in error_counts(instructions, is_wrong).items()}


def of_all_records(instructions, is_wrong):
    return {word: n / len(is_wrong) for word, n in error_counts(instructions, is_wrong).items()}


def only_with_errors(instructions, is_wrong):
    return {word: rate for word, rate in error_rates(instructions, is_wrong).items() if rate}


def with_case(instructions, is_wrong):
    words = [instruction.split()[0] for instruction in instructions]
    return {word: float(is_wrong[words.index(word)]) for word in words}


def compare_with_the_one_before(texts, similar=0.8):
    pieces = [shingles(words_of(text)) for text in texts]
    return [i for i, piece in enumerate(pieces) if not i or alike(piece, pieces[i - 1]) < similar]


SOLUTIONS = {
    "keep_first": {
        "variants": [keep_first_by_texts, keep_first_in_a_loop],
        "wrong": {
            "case and punctuation": (
                lambda texts, similar=0.8: keep_first(texts, similar, cut=str.split),
                "use words_of"),
            "the last is kept": (keep_last, "keep the first, not the last"),
            "divided by the smaller": (keep_by_the_smaller, "divide by the union"),
            "texts returned": (lambda texts, similar=0.8: [texts[i] for i in keep_first(texts)],
                               "return the indices"),
            "dropped ones count": (compare_with_dropped, "compare with texts that were KEPT"),
            "above, not at": (lambda texts, similar=0.8: keep_first(texts, similar + 1e-9),
                              "drop at similar or above"),
            "single words": (keep_by_words, "compare shingles"),
            "divided by the sum": (keep_by_the_sum, "not by the sum of both sizes"),
            "letters": (lambda texts, similar=0.8: keep_first(texts, similar, cut=str.lower),
                        "you gave it letters"),
            "the one before": (compare_with_the_one_before, "not with the one before it only"),
            "indices to drop": (lambda texts, similar=0.8: [
                i for i in range(len(texts)) if i not in keep_first(texts, similar)],
                "the texts to drop"),
            "a set": (lambda texts, similar=0.8: set(keep_first(texts, similar)),
                      "returned a set"),
        },
    },
    "error_rates": {
        "variants": [rates_from_lists, rates_with_pandas],
        "wrong": {
            "counts": (error_counts, "these are counts"),
            "of all errors": (of_all_errors, "part of all errors"),
            "of all records": (of_all_records, "not of all records"),
            "no zeros": (only_with_errors, "a rate of 0"),
            "case": (with_case, "use lower()"),
            "right ones": (lambda asked, wrong: error_rates(asked, [not w for w in wrong]),
                           "count the wrong ones"),
            "rounded": (lambda asked, wrong: {word: round(rate, 1) for word, rate
                                              in error_rates(asked, wrong).items()},
                        "not rounded"),
        },
    },
}
