"""Solutions of lesson 06, right variants, and the mistakes that people make."""

import itertools
import math
from statistics import mean, median, pstdev, stdev, variance

from shown_solutions import shown

text_windows = shown("text_windows")
split_gain = shown("split_gain")


def cut(stream, length):
    return [stream[i : i + length] for i in range(0, len(stream), length)]


def by_generator(documents, eos_id, length):
    ids = itertools.chain.from_iterable([*document, eos_id] for document in documents)
    while window := list(itertools.islice(ids, length)):
        yield window


def token_by_token(documents, eos_id, length):
    windows = [[]]
    for document in documents:
        for token in (*document, eos_id):
            if len(windows[-1]) == length:
                windows.append([])
            windows[-1].append(token)
    return windows


def overlapping(documents, eos_id, length):
    stream = [i for document in documents for i in [*document, eos_id]]
    return [stream[i : i + length] for i in range(0, len(stream), length // 2)]


def in_place(documents, eos_id, length):
    for document in documents:
        document.append(eos_id)
    return cut([i for document in documents for i in document], length)


def differences(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def by_means(none, control, domain):
    return [mean(control) - mean(none), mean(domain) - mean(control),
            stdev(differences(domain, control))]


def by_numpy(none, control, domain):
    import numpy as np
    none, control, domain = map(np.array, (none, control, domain))
    return (control - none).mean(), (domain - control).mean(), (domain - control).std(ddof=1)


def with_sd(sd):
    return lambda n, c, d: (*split_gain(n, c, d)[:2], sd(n, c, d))


SOLUTIONS = {
    "text_windows": {
        "variants": [by_generator, token_by_token],
        "wrong": {
            "no EOS": (
                lambda documents, eos_id, length: (
                    cut([i for document in documents for i in document], length)),
                "runs into the next"),
            "EOS between": (
                lambda documents, eos_id, length: (
                    cut([i for document in documents for i in [*document, eos_id]][:-1], length)),
                "the last document needs one too"),
            "EOS in front": (
                lambda documents, eos_id, length: (
                    cut([i for document in documents for i in [eos_id, *document]], length)),
                "belongs after each"),
            "the end is dropped": (
                lambda documents, eos_id, length: (
                    [w for w in text_windows(documents, eos_id, length) if len(w) == length]),
                "was dropped"),
            "a window for each document": (
                lambda documents, eos_id, length: (
                    [[*document, eos_id][:length] for document in documents]),
                "join all documents"),
            "one EOS": (lambda documents, eos_id, length: cut(
                [i for document in documents for i in document] + [eos_id], length), "one EOS, at"),
            "filled up": (
                lambda documents, eos_id, length: [
                    w + [eos_id] * (length - len(w))
                    for w in text_windows(documents, eos_id, length)],
                "was filled up"),
            "EOS in each window": (
                lambda documents, eos_id, length: [
                    [*w, eos_id] for w in cut([i for d in documents for i in d], length - 1)],
                "ends each window"),
            "not cut": (
                lambda documents, eos_id, length: (
                    [[i for document in documents for i in [*document, eos_id]]]),
                "at most 4"),
            "overlapping": (overlapping, "overlap"),
            "documents changed": (in_place, "were changed"),
        },
    },
    "split_gain": {
        "variants": [by_means, by_numpy],
        "wrong": {
            "no control": (lambda n, c, d: (mean(differences(c, n)), mean(differences(d, n)),
                                            stdev(differences(d, n))),
                           "subtract the control"),
            "signs": (lambda n, c, d: split_gain(d, c, n), "are exchanged"),
            "sign of training": (lambda n, c, d: (-split_gain(n, c, d)[0],
                                                  *split_gain(n, c, d)[1:]),
                                 "control minus none"),
            "swapped": (lambda n, c, d: (split_gain(n, c, d)[1], split_gain(n, c, d)[0],
                                         split_gain(n, c, d)[2]),
                        "wrong way round"),
            "sums": (lambda n, c, d: (sum(differences(c, n)), sum(differences(d, c)), 0.05),
                     "a sum over the seeds"),
            "population sd": (with_sd(lambda n, c, d: pstdev(differences(d, c))), "n - 1"),
            "sd of scores": (with_sd(lambda n, c, d: stdev(d)), "sd of the scores"),
            "not paired": (with_sd(lambda n, c, d: math.hypot(stdev(d), stdev(c))),
                           "ignores the pairing"),
            "variance": (with_sd(lambda n, c, d: variance(differences(d, c))), "the variance"),
            "medians": (lambda n, c, d: (median(differences(c, n)), median(differences(d, c)), 0.1),
                        "the median"),
            "two numbers": (lambda n, c, d: split_gain(n, c, d)[:2], "three numbers"),
            "sd of the other step": (with_sd(lambda n, c, d: stdev(differences(c, n))),
                                     "the sd of control - none"),
            "sd of both": (with_sd(lambda n, c, d: stdev(differences(d, n))),
                           "sd of domain - none"),
            "sorted": (lambda *lists: split_gain(*map(sorted, lists)), "the lists were sorted"),
        },
    },
}
