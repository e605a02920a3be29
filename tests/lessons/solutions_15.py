"""Solutions of lesson 15 and named wrong answers."""

import re
import string


def normalize(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def keeps_articles(text):
    return " ".join("".join(c for c in text.lower() if c not in string.punctuation).split())


def cuts_words(text):
    return " ".join(keeps_articles(text).replace("the", "").replace("an ", "")
                    .replace("a ", "").split())


def keeps_capitals(text):
    text = "".join(c for c in text if c not in string.punctuation)
    return " ".join(re.sub(r"\b([Tt]he|[Aa]n?)\b", " ", text).split())


def pair(a, b):
    return (sum(x and not y for x, y in zip(a, b, strict=True)),
            sum(y and not x for x, y in zip(a, b, strict=True)))


JOBS = ["is this answer to a customer helpful", "fraud, 1 in 200",
        "continued pretraining on contracts", "ten translation systems on 2,000 sentences",
        "the invoice number in a letter"]


def said(*words):
    return dict(zip(JOBS, words, strict=True))


SOLUTIONS = {
    "squad_normalizer": {
        "right": normalize,
        "wrong": {
            "articles kept": (keeps_articles, "articles are left"),
            "articles cut out of words": (cuts_words, "only the whole word"),
            "capitals kept": (keeps_capitals, "capital letters are left"),
            "nothing done": (lambda text: text, "stayed as it was"),
        },
    },
    "paired_counts": {
        "right": pair,
        "wrong": {
            "totals": (lambda a, b: (sum(a), sum(b)), "totals of the models"),
            "agreements": (lambda a, b: (sum(x and y for x, y in zip(a, b, strict=True)),
                                         sum(not x and not y for x, y in
                                             zip(a, b, strict=True))), "on which they agree"),
            "one number": (lambda a, b: sum(a) - sum(b), "expected two counts"),
        },
    },
    "metric_for_job": {
        "right": said("people", "macro F1", "perplexity", "sacrebleu", "exact match"),
        "wrong": {
            "overlap for helpfulness": (said("sacrebleu", "macro F1", "perplexity", "sacrebleu",
                                             "exact match"), "blind to meaning"),
            "accuracy for fraud": (said("people", "exact match", "perplexity", "sacrebleu",
                                        "exact match"), "never says fraud"),
            "people for everything": (said("people", "macro F1", "people", "people", "people"),
                                      "measure the text itself"),
        },
    },
}
