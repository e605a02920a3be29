"""Solutions of lesson 11, right variants, and the mistakes that people make."""

import torch
import torch.nn.functional as F
from shown_solutions import edited, shown

checkpoint_backward = shown("checkpoint_backward")
chunked_loss = shown("chunked_loss")
choose_setting = shown("choose_setting")


def by_a_product(block, x, gradient):
    with torch.enable_grad():
        start = x.detach().clone().requires_grad_(True)
        (block(start) * gradient).sum().backward()
    return start.grad


def by_autograd_backward(block, x, gradient):
    torch.set_grad_enabled(True)
    start = x.detach().requires_grad_()
    torch.autograd.backward(block(start), gradient)
    return start.grad.detach()


def changes_x(block, x, gradient):
    x.requires_grad_()
    with torch.enable_grad():
        block(x).backward(gradient)
    return x.grad


def twice(block, x, gradient):
    checkpoint_backward(block, x, gradient)
    return checkpoint_backward(block, x, gradient)


def over_all_rows(hidden, weight, targets, rows):
    return chunked_loss(hidden, weight, targets, rows) * (targets != -100).sum() / len(targets)


def mean_of_means(hidden, weight, targets, rows):
    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.stack([F.cross_entropy(h @ weight.T, t) for h, t in parts]).nanmean()


def empty_chunks(hidden, weight, targets, rows):
    rows = min(rows, 2)
    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.stack([F.cross_entropy(h @ weight.T, t) for h, t in parts]).mean()


def in_a_loop(hidden, weight, targets, rows):
    total, count = 0.0, 0
    for start in range(0, len(hidden), rows):
        t = targets[start:start + rows]
        log_p = (hidden[start:start + rows] @ weight.T).log_softmax(-1)
        for i, label in enumerate(t.tolist()):
            if label != -100:
                total, count = total - log_p[i, label], count + 1
    return total / count


def in_a_list(hidden, weight, targets, rows):
    chunks = [hidden[i:i + rows] @ weight.T for i in range(0, len(hidden), rows)]
    parts = [F.cross_entropy(chunk, targets[i * rows:(i + 1) * rows], reduction="sum",
                             ignore_index=-100) for i, chunk in enumerate(chunks)]
    return sum(parts) / (targets != -100).sum()


def whole_chunks_only(hidden, weight, targets, rows):
    end = len(hidden) // rows * rows
    return chunked_loss(hidden[:end], weight, targets[:end], rows)


def labeled_rows_only(hidden, weight, targets, rows):
    keep = targets != -100
    return chunked_loss(hidden[keep], weight, targets[keep], rows)


def _by(key):
    return edited("choose_setting", 'row["tokens"] / row["seconds"])', f"{key})")


def by_time(rows, free_gb, parameters, peak_flops):
    best = None
    for row in rows:
        if row["peak_gb"] <= free_gb and (best is None or row["seconds"] / row["tokens"]
                                          < best["seconds"] / best["tokens"]):
            best = row
    if best is not None:
        rate = best["tokens"] / best["seconds"]
        return [best["name"], 6 * rate * parameters / peak_flops]


def sorted_rows(rows, free_gb, parameters, peak_flops):
    fast = sorted((r["tokens"] / r["seconds"], r["name"]) for r in rows if r["peak_gb"] <= free_gb)
    return (fast[-1][1], 6 * parameters * fast[-1][0] / peak_flops) if fast else None


SOLUTIONS = {
    "checkpoint_backward": {
        "variants": [by_a_product, by_autograd_backward],
        "wrong": {
            "the gradient is ignored": (
                lambda block, x, gradient: checkpoint_backward(block, x, torch.ones_like(gradient)),
                "is ignored"),
            "autograd is off": (edited("checkpoint_backward", "torch.enable_grad()",
                                       "torch.no_grad()"), "autograd is off"),
            "the output": (lambda block, x, gradient: block(x), "the block's output"),
            "the gradient unchanged": (lambda block, x, gradient: gradient, "unchanged"),
            "no gradients of parameters": (edited(
                "checkpoint_backward", "block(start).backward(gradient)\n    return start.grad",
                "return torch.autograd.grad(block(start), start, gradient)[0]"),
                                           "have none in `.grad`"),
            "x is changed": (changes_x, "`x` itself was changed"),
            "twice": (twice, "once"),
            "the wrong shape": (lambda block, x, gradient: checkpoint_backward(
                block, x, gradient).sum(),
                                "expected the gradient of x"),
        },
    },
    "chunked_loss": {
        "variants": [in_a_loop, labeled_rows_only],
        "wrong": {
            "all at once": (
                lambda hidden, weight, targets, rows: F.cross_entropy(hidden @ weight.T, targets),
                "lived at once"),
            "over all rows": (over_all_rows, "do not count"),
            "mean of means": (mean_of_means, "count for less"),
            "mean of an empty chunk": (empty_chunks, "without any label"),
            "the sum": (lambda h, w, t, rows: chunked_loss(h, w, t, rows) * (t != -100).sum(),
                        "that is the sum"),
            "a list of chunks": (in_a_list, "keep no list"),
            "the last rows are left out": (whole_chunks_only, "in chunks of 4"),
            "n chunks instead of chunks of n": (edited(
                "chunked_loss", "hidden.split(rows), targets.split(rows)",
                "hidden.chunk(rows), targets.chunk(rows)"), "makes `rows` chunks"),
        },
    },
    "choose_setting": {
        "variants": [by_time, sorted_rows],
        "wrong": {
            "whatever does not fit": (edited("choose_setting", ' if row["peak_gb"] <= free_gb', ""),
                                      "it needs 26 GB"),
            "the shortest step": (_by('-row["seconds"]'), "shortest step"),
            "the largest batch": (_by('row["texts"]'), "7,384 are padding"),
            "the least memory": (_by('-row["peak_gb"]'), "saves most memory"),
            "padding counts": (_by('row["texts"] * row["length"] / row["seconds"]'),
                               "real ones count"),
            "padding in the MFU": (edited("choose_setting", 'best["tokens"]',
                                          'best["texts"] * best["length"]'), "padding was counted"),
            "HFU": (edited("choose_setting", "6 *", "8 *"), "which is the HFU"),
            "forward alone": (edited("choose_setting", "6 *", "2 *"), "forward pass alone"),
            "percent": (edited("choose_setting", "6 *", "600 *"), "not percent"),
            "less than": (edited("choose_setting", "<= free_gb", "< free_gb"), "exactly `free_gb`"),
            "empty": (edited("choose_setting", "return None", 'return ("none", 0.0)'),
                      "nothing fits"),
        },
    },
}
