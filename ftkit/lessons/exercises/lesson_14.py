"""Lesson 14, perplexity."""

import math

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import check_number


@exercise("corpus_perplexity")
def _(corpus_perplexity):
    once = corpus_perplexity([[4.0] * 10, [2.0] * 990], [[1] * 10, [1] * 990])
    padded = corpus_perplexity([[1.0, 2.0, 99.0], [3.0, 77.0, 77.0]], [[1, 1, 0], [1, 0, 0]])
    return check_number("10 tokens at 4 and 990 at 2", once, math.exp(2.02), {
        (math.exp(4) + math.exp(2)) / 2: "that is the mean of the two perplexities",
        (10 * math.exp(4) + 990 * math.exp(2)) / 1000:
            "that is the mean of the tokens' perplexities; average the losses first, then take exp",
        math.exp(3): "a text of 10 tokens counts as much as one of 990",
        2.02: "that is the loss; perplexity is its exp",
        math.exp(-2.02): "a perplexity below 1: the sign is wrong; these losses are positive",
        2 ** 2.02: "that is 2 to the power of the loss; losses in nats need exp",
    }) or check_number("with padding it", padded, math.exp(2.0), {
        math.exp(1.0): "positions with mask 0 add nothing but are counted: divide by the number "
                       "of positions with mask 1",
        math.exp((1 + 2 + 99 + 3 + 77 + 77) / 6): "the mask is not used",
    })


@exercise("windows")
def _(windows):
    for length, window, stride in ((20, 8, 7), (20, 8, 4), (5, 8, 3), (16, 8, 8 - 1)):
        made = windows(length, window, stride)
        call = f"windows({length}, {window}, {stride})"
        try:
            made = [tuple(int(x) for x in triple) for triple in made]
        except (TypeError, ValueError):
            return f"{call} gave {made!r}; expected a list of (start, end, first)"
        if message := _wrong_windows(made, length, window, stride):
            return f"{call} gave {made}: {message}"


def _wrong_windows(made, length, window, stride) -> str | None:
    if not made or any(len(triple) != 3 for triple in made):
        return "expected a list of (start, end, first)"
    if max(end for _, end, _ in made) > length:
        return f"the text has {length} tokens, so no window ends after {length}"
    if made[0][2] == 0:
        return "index 0 has no token before it, so the first window scores from index 1"
    scored = [i for start, end, first in made for i in range(first, end)]
    twice = sorted({i for i in scored if scored.count(i) > 1})
    if twice:
        return f"index {twice[0]} is scored more than once; `first` is the end of the window before"
    if missing := sorted(set(range(1, length)) - set(scored)):
        return f"index {missing[0]} is never scored"
    blind = [first for start, _, first in made if first <= start]
    if blind:
        return f"index {blind[0]} is scored with nothing before it: the windows do not overlap"
    if any(end - start > window for start, end, _ in made):
        return f"a window is longer than {window} tokens"
    if any(later[1] - earlier[1] > stride
           for earlier, later in zip(made, made[1:], strict=False)):
        return f"a window ends more than {stride} after the one before it"
    short = [triple for triple in made if triple[1] - triple[0] < min(window, length)]
    if short:
        return (f"the window {short[0]} is short: start it at end - {window}, so that its tokens "
                "have all the context there is")
    if len(made) > 1 + math.ceil((length - min(window, length)) / stride):
        return f"there are more windows than a stride of {stride} needs"


@exercise("bits_per_byte")
def _(bits_per_byte):
    return check_number("2.0 nats at 4.2 bytes", bits_per_byte(2.0, 4.2), 2.0 / 4.2 / math.log(2), {
        2.0 / 4.2: "that is nats per byte; a bit is ln(2) nats",
        2.0 * math.log(2) / 4.2: "a bit is ln(2) = 0.69 nats, so divide by it",
        2.0 * 4.2 / math.log(2): "a token covers 4.2 bytes, so divide by them",
        2.0 / math.log(2): "bits per token; how many bytes has a token?",
        math.exp(2.0) / 4.2: "that starts from the perplexity; start from the loss",
    }) or check_number("a guess among 256 equally likely bytes",
                       bits_per_byte(math.log(256), 1.0), 8.0)


@exercise("compare_reports")
def _(compare_reports):
    base = {"text": "news", "scored": "all", "context": 900, "loss": 2.0, "bytes_per_token": 4.2,
            "seen": False}
    other = base | {"loss": 1.52, "bytes_per_token": 3.2}  # nearly the same bits per byte
    worse = base | {"loss": 1.7, "bytes_per_token": 3.2}
    finer = base | {"loss": 1.9}
    cases = [
        ("loss 1.9 against 2.0, all else equal", finer, base, "a", "a lower loss is a better fit"),
        ("2.00 nats at 4.2 bytes a token against 1.70 at 3.2", base, worse, "a",
         "with two tokenizers compare the loss per byte: 0.48 against 0.53 nats"),
        ("1.70 nats at 3.2 bytes a token against 2.00 at 4.2", worse, base, "b",
         "with two tokenizers compare the loss per byte: 0.53 against 0.48 nats"),
        ("2.00 nats at 4.2 bytes a token against 1.52 at 3.2", base, other, "no difference",
         "0.687 and 0.685 bits per byte differ by less than 1 %"),
        ("0.30 nats against 0.305 at 4.2 bytes a token", base | {"loss": 0.3},
         base | {"loss": 0.305}, "a",
         "the margin is 1 % of the value, not an absolute one"),
        ("one text is news, the other is code", base, finer | {"text": "code"}, "not comparable",
         "two texts are not equally hard"),
        ("one scored all tokens, the other the answers", finer | {"scored": "answers"}, base,
         "not comparable", "the tokens that are scored must be the same"),
        ("900 against 100 bytes of context", base, finer | {"context": 100}, "not comparable",
         "more context makes each token easier"),
        ("the model of b was trained on the text", base, finer | {"seen": True}, "not comparable",
         "a text that was trained on says nothing; look at both reports"),
        ("the model of a was trained on the text", finer | {"seen": True}, base, "not comparable",
         "a text that was trained on says nothing; look at both reports"),
        ("both models were trained on the text", finer | {"seen": True}, base | {"seen": True},
         "not comparable", "equal values of `seen` do not help: neither may have seen it"),
    ]
    for case, a, b, right, why in cases:
        made = compare_reports(dict(a), dict(b))
        if made != right:
            return f"{case}: {made!r}; expected {right!r}, since {why}"
