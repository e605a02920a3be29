"""Solutions of lesson 14, right variants, and named wrong answers."""

import math

from shown_solutions import edited, shown

corpus_perplexity = shown("corpus_perplexity")
windows = shown("windows")
compare_reports = shown("compare_reports")


def by_products(nll, mask):
    total = sum(x * m for xs, ms in zip(nll, mask, strict=True)
                for x, m in zip(xs, ms, strict=True))
    return math.exp(total / sum(map(sum, mask)))


def geometric_mean(nll, mask):
    kept = [x for xs, ms in zip(nll, mask, strict=True) for x, m in zip(xs, ms, strict=True) if m]
    return math.prod(math.exp(x) ** (1 / len(kept)) for x in kept)


def mean_of_perplexities(nll, mask):
    pairs = zip(nll, mask, strict=True)
    return sum(corpus_perplexity([x], [m]) for x, m in pairs) / len(nll)


def mean_of_losses(nll, mask):
    pairs = zip(nll, mask, strict=True)
    return math.exp(sum(math.log(corpus_perplexity([x], [m])) for x, m in pairs) / len(nll))


def by_ends(length, window, stride):
    ends = [*range(min(window, length), length, stride), length]
    made, done = [], 1
    for end in ends:
        made.append([max(0, end - window), end, done])
        done = end
    return made


def generator(length, window, stride):
    def each():
        end = min(window, length)
        yield 0, end, 1
        while end < length:
            last, end = end, min(end + stride, length)
            yield end - window, end, last
    return list(each())


def tail_left_out(length, window, stride):
    kept = [(a, b, c) for a, b, c in windows(length, window, stride) if (b - a) and b - c >= stride]
    return kept or windows(length, window, stride)


def from_index_zero(length, window, stride):
    (a, b, _), *rest = windows(length, window, stride)
    return [(a, b, 0), *rest]


def short_last_window(length, window, stride):
    made, done, start = [], 1, 0
    while done < length:
        end = min(start + window, length)
        made.append((start, end, done))
        done, start = end, start + stride
    return made


def in_bits(a, b):
    for key in ("text", "scored", "context"):
        if a[key] != b[key]:
            return "not comparable"
    if a["seen"] or b["seen"]:
        return "not comparable"
    first, second = (r["loss"] / math.log(2) / r["bytes_per_token"] for r in (a, b))
    if max(first, second) / min(first, second) < 1.01:
        return "no difference"
    return min((first, "a"), (second, "b"))[1]


def with_early_order(a, b):
    if a["seen"] or b["seen"] or [a["text"], a["scored"], a["context"]] != [
            b["text"], b["scored"], b["context"]]:
        return "not comparable"
    ratio = a["loss"] * b["bytes_per_token"] / (b["loss"] * a["bytes_per_token"])
    return "no difference" if 1 / 1.01 < ratio < 1.01 else "a" if ratio < 1 else "b"


def same_tokenizer_only(a, b):
    if a["bytes_per_token"] != b["bytes_per_token"]:
        return "not comparable"
    return compare_reports(a, b)


SOLUTIONS = {
    "corpus_perplexity": {
        "variants": [by_products, geometric_mean],
        "wrong": {
            "the wrong sign": (lambda nll, mask: 1 / corpus_perplexity(nll, mask),
                               "the sign is wrong"),
            "the mean of perplexities": (mean_of_perplexities, "mean of the two perplexities"),
            "the mean of the texts' losses": (mean_of_losses, "counts as much as one"),
            "exp of each token": (edited(
                geometric_mean, "math.prod(math.exp(x) ** (1 / len(kept)) for x in kept)",
                "sum(map(math.exp, kept)) / len(kept)"), "mean of the tokens' perplexities"),
            "padding counted": (edited(by_products, "sum, mask", "len, nll"), "are counted"),
            "the mask is not used": (
                lambda nll, mask: corpus_perplexity(nll, [[1] * len(losses) for losses in nll]),
                "mask is not used"),
            "the loss itself": (lambda nll, mask: math.log(corpus_perplexity(nll, mask)),
                                "perplexity is its exp"),
            "2 to the power": (lambda nll, mask: 2 ** math.log(corpus_perplexity(nll, mask)),
                               "2 to the power"),
        },
    },
    "windows": {
        "variants": [by_ends, generator],
        "wrong": {
            "blocks": (
                lambda length, window, stride: (
                    [(a, min(a + window, length), max(a, 1)) for a in range(0, length, window)]),
                "the windows do not overlap"),
            "scored twice": (
                lambda length, window, stride: (
                    [(a, b, a + 1) for a, b, _ in windows(length, window, stride)]),
                "scored more than once"),
            "the tail is left out": (tail_left_out, "is never scored"),
            "from index 0": (from_index_zero, "scores from index 1"),
            "short last window": (short_last_window, "is short"),
            "past the end": (edited("windows", "min(last_end + stride, length)",
                                    "last_end + stride"), "no window ends after"),
            "stride of 1": (lambda length, window, stride: windows(length, window, 1),
                            "more windows than"),
        },
    },
    "bits_per_byte": {
        "variants": [lambda loss, n: math.log2(math.exp(loss)) / n,
                     lambda loss, n: loss * math.log2(math.e) / n],
        "wrong": {
            "nats": (lambda loss, n: loss / n, "a bit is ln(2) nats"),
            "times ln 2": (lambda loss, n: loss * math.log(2) / n, "0.69 nats"),
            "per token": (lambda loss, n: loss / math.log(2), "how many bytes has a token?"),
            "multiplied": (lambda loss, n: loss * n / math.log(2), "divide by them"),
            "from the perplexity": (lambda loss, n: math.exp(loss) / n, "start from the loss"),
        },
    },
    "compare_reports": {
        "variants": [in_bits, with_early_order],
        "wrong": {
            "loss per token": (edited("compare_reports", ' / report["bytes_per_token"]', ""),
                               "0.48 against 0.53"),
            "perplexity": (edited("compare_reports", 'report["loss"] / report["bytes_per_token"]',
                                  'math.exp(report["loss"])'), "compare the loss per byte: 0.48"),
            "one tokenizer only": (same_tokenizer_only, "with two tokenizers compare"),
            "the higher one": (edited("compare_reports", '"a" if x < y else "b"',
                                      '"b" if x < y else "a"'), "a lower loss is a better fit"),
            "any difference counts": (edited("compare_reports", "0.01 *", "0 *"),
                                      "differ by less than 1 %"),
            "an absolute margin": (edited("compare_reports", "0.01 * min(x, y)", "0.01"),
                                   "not an absolute one"),
            "any text": (edited("compare_reports", '"text", ', ""), "not equally hard"),
            "any context": (edited("compare_reports", '"scored", "context"', '"scored", "scored"'),
                            "more context makes"),
            "any scored tokens": (edited("compare_reports", '"scored", "context"', '"context",'),
                                  "tokens that are scored"),
            "seen by a alone": (edited("compare_reports", ' or b["seen"]', ""), "of b was trained"),
            "seen must be equal": (edited("compare_reports", 'or a["seen"] or b["seen"]',
                                          'or a["seen"] != b["seen"]'), "neither may have seen"),
        },
    },
}
