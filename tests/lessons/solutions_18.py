"""Solutions of lesson 18, and the mistakes that people make."""

import re


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


def keep_with_case(texts, similar=0.8):
    return keep_first(texts, similar, cut=str.split)


def keep_last(texts, similar=0.8):
    kept = keep_first(texts[::-1], similar)
    return sorted(len(texts) - 1 - i for i in kept)


def keep_by_the_smaller(texts, similar=0.8):
    return keep_first(texts, similar - 0.4, alike=lambda a, b: len(a & b) / min(len(a), len(b)))


def contaminated(text, tests, n=13):
    def runs(one):
        words = words_of(one)
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    return any(runs(text) & runs(test) for test in tests)


def contaminated_as_it_stands(text, tests, n=13):
    words = text.split()
    runs = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    return any(run in test for run in runs for test in tests)


def contaminated_by_a_bag_of_words(text, tests, n=13):
    return any(len(set(words_of(text)) & set(words_of(test))) >= n for test in tests)


def contaminated_always_13(text, tests, n=13):
    return contaminated(text, tests)


def cards(flan=1836, sharegpt="model", dolly="people"):
    return {"Alpaca": {"records": 52_002, "answers": "model"},
            "Dolly": {"records": 15_011, "answers": dolly},
            "ShareGPT (Vicuna)": {"records": 70_000, "answers": sharegpt},
            "Flan 2022": {"tasks": flan}}


SOLUTIONS = {
    "keep_first": {
        "right": keep_first,
        "wrong": {
            "case and punctuation": (keep_with_case, "lower()"),
            "the last is kept": (keep_last, "keep the first, not the last"),
            "divided by the smaller": (keep_by_the_smaller, "divide by the union"),
            "texts returned": (lambda texts, similar=0.8: [texts[i] for i in keep_first(texts)],
                               "return the indices"),
        },
    },
    "contaminated": {
        "right": contaminated,
        "wrong": {
            "not normalized": (contaminated_as_it_stands, "normalize both sides"),
            "bag of words": (contaminated_by_a_bag_of_words, "compare runs"),
            "n ignored": (contaminated_always_13, "use n"),
        },
    },
    "data_cards": {
        "right": cards(),
        "wrong": {
            "1.8 million tasks": (cards(flan=1_800_000), "not 1.8 million"),
            "FLAN of 2021": (cards(flan=62), "FLAN of 2021"),
            "ShareGPT is human": (cards(sharegpt="people"), "people wrote the prompts"),
            "Dolly is synthetic": (cards(dolly="model"), "Databricks"),
        },
    },
}
