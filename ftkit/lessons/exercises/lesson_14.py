"""Lesson 14, perplexity."""

from __future__ import annotations

import math

from ftkit.lessons.claims import exercise, near


@exercise("corpus_perplexity")
def _(corpus_perplexity):
    made = corpus_perplexity([[4.0] * 10, [2.0] * 990], [[1] * 10, [1] * 990])
    if near(made, (math.exp(4) + math.exp(2)) / 2):
        return "10 tokens at 4 and 990 at 2 gave 31.0: that is the mean of the two perplexities"
    if near(made, math.exp(3)):
        return "10 tokens at 4 and 990 at 2 gave 20.1: a text of 10 tokens weighs as much as one " \
               "of 990"
    if near(made, 2.02):
        return "10 tokens at 4 and 990 at 2 gave 2.02: that is the loss; perplexity is its exp"
    if not near(made, math.exp(2.02)):
        return f"10 tokens at 4 and 990 at 2 gave {made:.4g}; expected 7.538"
    made = corpus_perplexity([[1.0, 2.0, 99.0], [3.0, 77.0, 77.0]], [[1, 1, 0], [1, 0, 0]])
    if near(made, math.exp(6 / 6)):
        return "places with mask 0 add nothing but are counted: divide by the masked-in tokens only"
    if not near(made, math.exp(2.0)):
        return f"with padding: {made:.4g}; expected {math.exp(2.0):.4g}, places of mask 0 left out"


@exercise("bits_per_byte")
def _(bits_per_byte):
    made = bits_per_byte(2.0, 4.2)
    if near(made, 2.0 / 4.2):
        return "2.0 nats at 4.2 bytes gave 0.476: that is nats per byte; a bit is log(2) nats"
    if near(made, 2.0 * 4.2 / math.log(2)):
        return "2.0 nats at 4.2 bytes gave 12.1: a token covers 4.2 bytes, so divide by them"
    if near(made, 2.0 / math.log(2)):
        return "2.0 nats at 4.2 bytes gave 2.89: bits per token; how many bytes has a token?"
    if not near(made, 2.0 / 4.2 / math.log(2)):
        return f"2.0 nats at 4.2 bytes gave {made:.4g}; expected 0.687"
    if not near(bits_per_byte(math.log(256), 1.0), 8.0):
        return "a guess among 256 equally likely bytes must cost 8 bits"


@exercise("comparable")
def _(verdicts):
    if not isinstance(verdicts, dict) or "..." in verdicts.values():
        raise NotImplementedError
    words = ("yes", "tokenizer", "context", "average", "text")
    for question, said in verdicts.items():
        if said not in words:
            return f"{said!r}: expected one of {', '.join(words)} for {question!r:.30}"
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
