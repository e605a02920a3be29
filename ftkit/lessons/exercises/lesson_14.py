"""Lesson 14, perplexity."""

from __future__ import annotations

import math

from ftkit.lessons.claims import exercise
from ftkit.lessons.exercises._common import check_choices, check_number


@exercise("corpus_perplexity")
def _(corpus_perplexity):
    once = corpus_perplexity([[4.0] * 10, [2.0] * 990], [[1] * 10, [1] * 990])
    padded = corpus_perplexity([[1.0, 2.0, 99.0], [3.0, 77.0, 77.0]], [[1, 1, 0], [1, 0, 0]])
    return check_number("10 tokens at 4 and 990 at 2", once, math.exp(2.02), {
        (math.exp(4) + math.exp(2)) / 2: "that is the mean of the two perplexities",
        math.exp(3): "a text of 10 tokens weighs as much as one of 990",
        2.02: "that is the loss; perplexity is its exp",
    }) or check_number("with padding it", padded, math.exp(2.0), {
        math.exp(6 / 6): "positions with mask 0 add nothing but are counted: divide by the "
                         "masked-in tokens only"})


@exercise("bits_per_byte")
def _(bits_per_byte):
    return check_number("2.0 nats at 4.2 bytes", bits_per_byte(2.0, 4.2), 2.0 / 4.2 / math.log(2), {
        2.0 / 4.2: "that is nats per byte; a bit is log(2) nats",
        2.0 * 4.2 / math.log(2): "a token covers 4.2 bytes, so divide by them",
        2.0 / math.log(2): "bits per token; how many bytes has a token?",
    }) or check_number("a guess among 256 equally likely bytes",
                       bits_per_byte(math.log(256), 1.0), 8.0)


@exercise("comparable")
def _(verdicts):
    if message := check_choices(verdicts, ("yes", "tokenizer", "context", "average", "text")):
        return message
    said = list(verdicts.values())
    if said[0] == "yes":
        return "blocks of 1,024 and stride 512: a token has at least 512 before it in one, and " \
               "perhaps none in the other"
    if said[1] == "yes":
        return "128k and 32k tokens: fewer, longer tokens carry more loss each, on the same text"
    if said[2] != "yes":
        return "before and after, everything else equal: that is the comparison perplexity is for"
    if said[3] == "yes":
        return "the mean of the texts' perplexities and the exp of one mean over all tokens: " \
               "not the same average"
    if said != ["context", "tokenizer", "yes", "average"]:
        return f"you said {', '.join(said)}; look at what the two numbers of a line do not share"
