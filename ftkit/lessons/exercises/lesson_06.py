"""Lesson 06, domain adaptation."""

import math
import statistics

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import check_number, check_parts


@exercise("text_windows")
def _(text_windows):
    documents = [[5, 6, 7], [8], [9, 10, 11, 12]]
    result = text_windows(documents, 2, 4)
    if documents != [[5, 6, 7], [8], [9, 10, 11, 12]]:
        return "the documents themselves were changed; build a new list of ids"
    windows = [list(window) for window in result]
    stream = [5, 6, 7, 2, 8, 2, 9, 10, 11, 12, 2]
    expected = [stream[:4], stream[4:8], stream[8:]]
    if windows == expected:
        exact = [list(window) for window in text_windows([[5, 6, 7], [8, 9, 10]], 2, 4)]
        if exact != [[5, 6, 7, 2], [8, 9, 10, 2]]:
            return f"a stream of 8 ids, length 4: {exact}; expected two full windows"
        return None
    flat = [i for window in windows for i in window]
    if [8, 2] in windows:
        return "each document has windows of its own; join all documents first, then cut"
    if flat == [i for i in stream if i != 2]:
        return "no EOS: without it one document runs into the next"
    if flat == stream[:-1]:
        return "there is an EOS only between the documents; the last document needs one too"
    if flat == [*(i for i in stream if i != 2), 2]:
        return "there is one EOS, at the end of the stream; one belongs after each document"
    if windows[:2] == expected[:2] and len(windows) == 3 and len(windows[2]) == 4:
        return "the last window was filled up; it may be shorter"
    if len(windows) == 3 and all(window[-1] == 2 for window in windows):
        return "an EOS ends each window; it belongs after each document, wherever the cut is"
    if windows == expected[:2]:
        return "the last window is shorter and was dropped; keep it"
    if flat == [2, *stream[:-1]]:
        return "EOS is in front of each document; it belongs after each"
    if any(len(window) > 4 for window in windows):
        return f"a window has {max(map(len, windows))} ids; at most 4 are allowed"
    if len(windows) > 3:
        return (f"{len(windows)} windows for 11 ids; the windows overlap, so start each one "
                "`length` after the one before")
    return f"the windows are {windows}; expected {expected}"


@exercise("split_gain")
def _(split_gain):
    none, control, domain = [0.50, 0.70, 0.60], [0.55, 0.80, 0.63], [0.87, 0.78, 0.75]
    gains = [0.32, -0.02, 0.12]  # domain - control
    training, effect, sd = 0.06, 0.14, statistics.stdev(gains)
    result = split_gain(list(none), list(control), list(domain))
    check_parts(result, 3, "expected three numbers: (training, domain, sd)")
    if near(result[0], effect) and near(result[1], training):
        return "the order is the wrong way round; return (training, domain, sd)"
    message = check_number("training, the first number,", result[0], training, {
        -training: "the sign: it is control minus none",
        3 * training: "this is a sum over the seeds; return the mean",
        0.05: "this is the median of the seeds; return the mean",
        -effect: "none and domain are exchanged; it is control minus none",
        0.2: "this is domain minus none, which mixes two effects"})
    message = message or check_number("domain, the second number,", result[1], effect, {
        -effect: "the sign: it is domain minus control",
        3 * effect: "this is a sum over the seeds; return the mean",
        0.12: "this is the median of the seeds; return the mean",
        0.2: "domain minus none contains the effect of more training; subtract the control"})
    return message or check_number("sd, the third number,", result[2], sd, {
        statistics.pstdev(gains): "divide by n - 1: the seeds are a sample",
        statistics.stdev(domain): "this is the sd of the scores; take that of the differences "
                                  "domain - control, seed by seed",
        statistics.stdev([0.05, 0.10, 0.03]): "this is the sd of control - none; take that of "
                                             "domain - control",
        statistics.stdev([0.20, 0.15, 0.07]): "the lists were sorted, so that the seeds no longer "
                                              "belong together; keep their order",
        statistics.stdev([0.37, 0.08, 0.15]): "this is the sd of domain - none, with more "
                                              "training; take that of domain - control",
        math.hypot(statistics.stdev(domain), statistics.stdev(control)):
            "this ignores the pairing; take the difference within each seed first",
        sd / math.sqrt(3): "this is the standard error; return the sd",
        sd * sd: "this is the variance; take its square root"})
