"""Lesson 11, activations and checkpointing."""

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import check_number, check_parts, close, told


@exercise("checkpoint_backward")
def _(checkpoint_backward):
    import torch

    torch.manual_seed(0)
    block = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.SiLU(), torch.nn.Linear(8, 4))
    x, gradient = torch.randn(3, 4), torch.randn(3, 4)
    reference = x.clone().requires_grad_()
    block(reference).backward(gradient)
    wanted, parameters = reference.grad, [p.grad.clone() for p in block.parameters()]
    block.zero_grad()
    try:
        with torch.no_grad():  # as inside the backward of an autograd.Function
            made = checkpoint_backward(block, x, gradient.clone())
    except RuntimeError as error:
        if "does not require grad" in str(error) and not x.requires_grad:
            return ("autograd is off inside a backward pass: run the block inside "
                    "`with torch.enable_grad():`, on a copy of x that requires a gradient")
        raise
    if x.requires_grad or x.grad is not None:
        return "`x` itself was changed; use `x.detach().requires_grad_()`, which is a new tensor"
    if not isinstance(made, torch.Tensor) or made.shape != x.shape:
        return f"expected the gradient of x, a tensor of shape (3, 4); it returned {made!r:.60}"
    ones = x.clone().requires_grad_()
    (by_sum,) = torch.autograd.grad(block(ones).sum(), ones)
    worst = (made - wanted).abs().max().item()
    wrong = told(made, wanted, [
        (block(x).detach(), "that is the block's output; return the gradient of its input"),
        (by_sum, "`gradient` is ignored: the backward pass must start from it, not from a sum"),
        (gradient, "`gradient` was returned unchanged; send it back through the block"),
    ], f"the gradient of x is off by up to {worst:.2g}", close)
    if wrong:
        return wrong
    found = [p.grad for p in block.parameters()]
    if any(grad is None for grad in found):
        return ("x has its gradient but the block's parameters have none in `.grad`; call "
                "`.backward(gradient)` on the output, which reaches both")
    for grad, right in zip(found, parameters, strict=True):
        if not torch.allclose(grad, right, atol=1e-6):
            return ("the gradients of the parameters are wrong, by a factor of about "
                    f"{float(grad.norm() / right.norm()):.2g}: go back through the block once")


@exercise("chunked_loss")
def _(chunked_loss):
    import torch

    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(10, 4, generator=draw)
    weight = torch.randn(50, 4, generator=draw)
    targets = torch.randint(0, 50, (10,), generator=draw)
    targets[[0, 1, 2, 3, 8]] = -100
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.T, targets)
    for rows in (10, 4):
        with _Rows(50) as watched:
            made = chunked_loss(hidden, weight, targets, rows)
        if made is None or made is ...:
            return "it returned nothing"
        if float(made) != float(made):
            return "nan: a chunk without any label has no mean; add sums, and divide once"
        if near(float(made), float(wanted) / 2, 1e-4):
            return "divided by all rows; those without a label do not count"
        if near(float(made), float(wanted) * 5, 1e-4):
            return "that is the sum; divide it once by the 5 rows that have a label"
        if not near(float(made), float(wanted), 1e-4):
            return (f"10 rows in chunks of {rows}: {float(made):.4f}; expected {float(wanted):.4f} "
                    "(chunks with fewer labels count for less)")
        if watched.most > rows:
            return f"{watched.most} rows of logits lived at once; {rows} were allowed"
    many = torch.randn(200, 4, generator=draw)
    with _Rows(50) as watched:
        chunked_loss(many, weight, targets.repeat(20), 4)
    if watched.most > 4:
        return (f"200 rows in chunks of 4: {watched.most} rows of logits lived at once; a chunk "
                "has at most `rows` rows (`chunk(rows)` makes `rows` chunks)")
    if watched.most_alive > 100:
        return (f"{watched.most_alive} rows of logits and of their copies were in memory at once, "
                "with chunks of 4 rows: add up each chunk's loss, and keep no list of their logits")


@exercise("choose_setting")
def _(choose_setting):
    def row(name, texts, length, tokens, seconds, peak_gb):
        return {"name": name, "texts": texts, "length": length, "tokens": tokens,
                "seconds": seconds, "peak_gb": peak_gb}

    rows = [row("batch 1", 1, 2048, 2000, 0.5, 20.5), row("batch 2", 2, 2048, 4096, 0.85, 26),
            row("checkpointed, batch 1", 1, 2048, 2000, 0.62, 6),
            row("checkpointed, batch 8, padded", 8, 2048, 9000, 2.2, 21),
            row("checkpointed, batch 4, packed", 4, 2048, 8192, 1.9, 12)]
    whys = {
        "batch 2": "it needs 26 GB, and 24 are free",
        "batch 1": "it has the shortest step, but makes 4,000 tokens per second",
        "checkpointed, batch 1": "it saves most memory and makes 3,226 tokens per second",
        "checkpointed, batch 8, padded": "of its 16,384 tokens 7,384 are padding; real ones count: "
                                         "4,091 per second",
    }
    size, peak, best = 1e9, 1e14, 6 * 1e9 * 8192 / 1.9 / 1e14
    made = choose_setting([dict(r) for r in rows], 24, size, peak)
    check_parts(made, 2, "expected (name, mfu)")
    if made[0] != rows[4]["name"]:
        return (f"with 24 GB free you chose {made[0]!r}: "
                f"{whys.get(made[0], 'expected a name of the rows')}")
    if message := check_number("8,192 tokens in 1.9 s, 1e9 parameters, peak 1e14: MFU", made[1],
                               best, {
            best * 8 / 6: "8 counts the recomputed forward pass, which is the HFU; useful are 6",
            best / 3: "2 is the forward pass alone; the backward pass takes 4 more",
            best / 6: "a token costs 6 operations for each parameter, not 1",
            best * 100: "a fraction is asked, not percent",
            best * 1.9: "operations of a step are divided by its seconds first",
            best * 1e14: "that is operations per second; divide by the peak"}):
        return message
    if (made := choose_setting([dict(r) for r in rows], 30, size, peak))[0] != "batch 2":
        return (f"with 30 GB free you chose {made[0]!r}; batch 2 fits now and makes 4,819 tokens "
                "per second")
    if (made := choose_setting([dict(r) for r in rows], 21, size, peak))[0] != rows[4]["name"]:
        return f"with 21 GB free you chose {made[0]!r}; {whys.get(made[0])}"
    if (made := choose_setting([dict(r) for r in rows[:2]], 20.5, size, peak)) is None or (
            made[0] != "batch 1"):
        return "a peak of exactly `free_gb` fits"
    if message := check_number("2,000 real tokens of 2,048 in 0.5 s: MFU", made[1], 0.24, {
            0.24576: "padding was counted; use `tokens`"}):
        return message
    if (made := choose_setting([dict(r) for r in rows], 4, size, peak)) is not None:
        return f"with 4 GB free nothing fits: expected None, not {made!r:.60}"


def _Rows(vocabulary: int):
    """Records the most rows of logits that one operation returned, and that lived at one time."""
    import weakref

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        most = most_alive = 0

        def __init__(self):
            super().__init__()
            self.alive = weakref.WeakValueDictionary()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.ndim == 2 and out.shape[1] == vocabulary:
                self.most = max(self.most, out.shape[0])
                self.alive[id(out)] = out
                rows = {t.untyped_storage().data_ptr(): t.shape[0] for t in self.alive.values()}
                self.most_alive = max(self.most_alive, sum(rows.values()))
            return out

    return Watch()
