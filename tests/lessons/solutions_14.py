"""Solutions of lesson 14 and named wrong answers."""

import math


def right_perplexity(nll, mask):
    kept = [x for xs, ms in zip(nll, mask, strict=True) for x, m in zip(xs, ms, strict=True) if m]
    return math.exp(sum(kept) / len(kept))


def mean_of_perplexities(nll, mask):
    return sum(right_perplexity([x], [m]) for x, m in zip(nll, mask, strict=True)) / len(nll)


def mean_of_losses(nll, mask):
    return math.exp(sum(math.log(right_perplexity([x], [m]))
                        for x, m in zip(nll, mask, strict=True)) / len(nll))


def counts_padding(nll, mask):
    total = sum(x * m for xs, ms in zip(nll, mask, strict=True)
                for x, m in zip(xs, ms, strict=True))
    return math.exp(total / sum(map(len, nll)))


QUESTIONS = ["8.1 in blocks of 1,024, and 7.6 with stride 512, same model family",
             "8.1 of Llama 3 (128k tokens), and 7.6 of Llama 2 (32k), same text and stride",
             "8.1 before DAPT and 5.2 after, same text, stride and script",
             "8.1 of evaluate's metric, and 7.6 as exp of Trainer's loss over all tokens"]


def said(*words):
    return dict(zip(QUESTIONS, words, strict=True))


SOLUTIONS = {
    "corpus_perplexity": {
        "right": right_perplexity,
        "wrong": {
            "the mean of perplexities": (mean_of_perplexities, "mean of the two perplexities"),
            "the mean of the texts' losses": (mean_of_losses, "weighs as much as one"),
            "padding counted": (counts_padding, "divide by the masked-in tokens only"),
            "the loss itself": (lambda nll, mask: math.log(right_perplexity(nll, mask)),
                                "perplexity is its exp"),
        },
    },
    "bits_per_byte": {
        "right": lambda loss, bytes_per_token: loss / bytes_per_token / math.log(2),
        "wrong": {
            "nats": (lambda loss, n: loss / n, "a bit is log(2) nats"),
            "per token": (lambda loss, n: loss / math.log(2), "how many bytes has a token?"),
            "multiplied": (lambda loss, n: loss * n / math.log(2), "divide by them"),
        },
    },
    "comparable": {
        "right": said("context", "tokenizer", "yes", "average"),
        "wrong": {
            "the stride does not matter": (said("yes", "tokenizer", "yes", "average"),
                                           "at least 512 before it"),
            "the tokenizer does not matter": (said("context", "yes", "yes", "average"),
                                              "fewer, longer tokens"),
            "never comparable": (said("context", "tokenizer", "text", "average"),
                                 "the comparison perplexity is for"),
        },
    },
}
