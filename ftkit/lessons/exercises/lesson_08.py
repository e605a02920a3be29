"""Lesson 08, batch, accumulation, epochs, warm-up, decay, clipping."""

import math

from ftkit.lessons.checks import exercise, near


@exercise("optimizer_steps")
def _(optimizer_steps):
    asked = (52_002, 4, 4, 8, 3)
    steps, dropped = optimizer_steps(*asked), optimizer_steps(*asked, drop_last=True)
    wrong = {
        math.ceil(52_002 / 4) * 3: "GPUs and accumulation make one step see 4 · 4 · 8 records",
        39_001: "GPUs and accumulation make one step see 4 · 4 · 8 records",
        39_000: "GPUs and accumulation make one step see 4 · 4 · 8 records",
        39_001.5: "GPUs and accumulation make one step see 4 · 4 · 8 records",
        math.ceil(52_002 / 16) * 3: "the 8 GPUs work on the same step: multiply by them too",
        math.ceil(52_002 / 32) * 3: "accumulation: 4 micro-batches make one step",
        407: "that is one epoch; multiply by their number",
        52_002 * 3 / 128: "a step cannot be a fraction: round up in each epoch, then multiply",
        1219: "an epoch ends with a short batch here, so round up in each epoch, then multiply",
        1218: "without drop_last the short batch at the end of an epoch is a step, too",
    }
    if steps in wrong:
        return wrong[steps]
    if steps != 1221:
        return f"52,002 records, 4 · 4 · 8, 3 epochs: {steps}; expected 1221"
    if dropped == 1221:
        return "drop_last is ignored: with it the short batch of each epoch is no step, 1218 in all"
    if dropped != 1218:
        return f"with drop_last: {dropped}; expected 406 full batches an epoch, 1218"
    if optimizer_steps(100, 5, 2, 1, 2) != 20:
        return "100 records in batches of 10, 2 epochs: expected 20 (no batch is short)"
    if optimizer_steps(100, 4, 2, 1, 3, drop_last=True) != 36:
        return ("100 records in batches of 8, 3 epochs, drop_last: expected 36; the rest of an "
                "epoch is dropped, so round down before you multiply")


@exercise("accumulate")
def _(accumulate):
    import torch

    model, batches = _toy()
    big = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    truth = model(**big).loss
    truth.backward()
    wanted = model.weight.grad.clone()
    model.zero_grad()
    model.most_rows = model.most_open = model.open = 0
    loss = accumulate(model, batches)
    made, most_rows, most_open = model.weight.grad, model.most_rows, model.most_open
    if made is None:
        return "no gradient was left in .grad; call backward for each micro-batch"
    parts = []
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
        parts.append(model.weight.grad.clone())
    if torch.allclose(made, parts[-1], atol=1e-6):
        return "only the last micro-batch is in .grad; do not clear it in between"
    if torch.allclose(made, sum(parts), atol=1e-6):
        return ("the gradient is the sum of the means: each part counts by its fraction of the "
                "tokens")
    sizes = [len(batch["input_ids"]) for batch in batches]
    by_records = sum(part * n / sum(sizes) for part, n in zip(parts, sizes, strict=True))
    if torch.allclose(made, by_records, atol=1e-6) and len(set(sizes)) > 1:
        return "weighted by records; the loss is a mean over labeled tokens, so count those"
    if torch.allclose(made, sum(parts) / len(parts), atol=1e-6):
        return ("a mean of means: a micro-batch with few labeled tokens weighs as much as one "
                "with many")
    counts = [(batch["labels"] != -100).sum() for batch in batches]
    unshifted = sum(part * n / sum(counts) for part, n in zip(parts, counts, strict=True))
    if torch.allclose(made, unshifted, atol=1e-6):
        return ("nearly: the first token of a row is never predicted, so count labels[:, 1:] as "
                "the loss does")
    for times, mistake in ((2, "it was added twice: one backward pass for each micro-batch"),
                           (int(sum((batch["labels"][:, 1:] != -100).sum() for batch in batches)),
                            "divide once by the labeled tokens of all micro-batches")):
        if torch.allclose(made, times * wanted, atol=1e-5):
            return f"the gradient is {times} times too large; {mistake}"
    if not torch.allclose(made, wanted, atol=1e-5):
        return "the gradient is not that of the big batch"
    loss, truth = (float(torch.as_tensor(x).detach()) for x in (loss, truth))
    if not near(loss, truth, 1e-4):
        return f"the gradient is right; the loss is {loss:.4f}, expected {truth:.4f}"
    if most_rows > max(sizes):
        return ("the gradient is right, but the micro-batches were joined: the big batch was in "
                "memory at once, which accumulation is to avoid")
    if most_open > 1:
        return (f"the gradient is right, but {most_open} micro-batches were in memory at once: "
                "call backward() for each one before the next forward pass")
    model.zero_grad()
    without = {name: batches[0][name] for name in batches[0]} | {
        "labels": torch.full_like(batches[0]["labels"], -100)}
    loss = float(torch.as_tensor(accumulate(model, [without, *batches])).detach())
    if not torch.allclose(model.weight.grad, wanted, atol=1e-5) or not near(loss, truth, 1e-4):
        return ("a micro-batch without a single label (all of it cut off, say) changed the "
                "gradient: its mean loss is nan, so leave it out")


def _toy():
    """A model of one matrix with transformers' shift, and micro-batches with 2, 9 and 5 labels.

    It counts the most rows of one forward pass, and the most graphs that wait for their backward.
    """
    import types

    import torch
    from torch.nn import functional as F

    class Toy(torch.nn.Embedding):
        most_rows = most_open = open = 0

        def closed(self, gradient):
            self.open -= 1

        def forward(self, input_ids, labels):
            logits = super().forward(input_ids)
            logits.register_hook(self.closed)
            self.open += 1
            self.most_rows = max(self.most_rows, len(input_ids))
            self.most_open = max(self.most_open, self.open)
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(),
                                   ignore_index=-100)
            return types.SimpleNamespace(loss=loss, logits=logits)

    generator = torch.Generator().manual_seed(0)
    model, batches = Toy(7, 7), []
    model.weight.data = torch.randn(7, 7, generator=generator)
    for first, labels in ((4, 1), (0, 4), (2, 3)):  # a label in the first place counts for nothing
        ids = torch.randint(7, (2, 6), generator=generator)
        marked = ids.clone()
        marked[:, : 6 - labels] = -100
        if first == 0:
            marked[:, 0] = ids[:, 0]
        batches.append({"input_ids": ids, "labels": marked})
    return model, batches


@exercise("clip_by_global_norm")
def _(clip_by_global_norm):
    import torch

    draw = torch.Generator().manual_seed(0)
    gradients = [3 * torch.randn(2, 3, generator=draw), torch.randn(4, generator=draw)]
    before = [gradient.clone() for gradient in gradients]
    total = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    clipped = clip_by_global_norm(gradients, 1.0)
    if any(not torch.equal(a, b) for a, b in zip(gradients, before, strict=True)):
        return "the gradients that were given were changed; return new tensors"
    shapes = [tuple(getattr(tensor, "shape", ())) for tensor in clipped]
    if shapes != [(2, 3), (4,)]:
        return f"the result has shapes {shapes}; expected a list of tensors, [(2, 3), (4,)]"

    def gives(rule) -> bool:
        return all(torch.allclose(a, rule(b), atol=1e-5)
                   for a, b in zip(clipped, before, strict=True))

    mistakes = [
        (lambda g: g / g.norm(), "each tensor was clipped on its own, which changes the direction; "
                                 "use one norm over all of them"),
        (lambda g: g.clamp(-1, 1), "this clips each value; scale all gradients by one factor"),
        (lambda g: g / total**2, "this divides by the squared norm; take the square root"),
        (lambda g: g / sum(b.norm() for b in before),
         "the norms of the tensors were added; add their squares, then take the square root"),
        (lambda g: g / max(b.abs().max() for b in before),
         "this divides by the largest value; the norm is the root of the sum of all squares"),
        (lambda g: g, f"nothing was scaled; the global norm is {total:.2f}, the limit 1"),
    ]
    for rule, message in mistakes:
        if gives(rule):
            return message
    if not gives(lambda g: g / total):
        norm = torch.cat([tensor.flatten() for tensor in clipped]).norm()
        return f"global norm {total:.2f}, limit 1: the result has the norm {norm:.4g}; expected 1"
    loose = clip_by_global_norm(gradients, 2 * float(total))
    if not all(torch.allclose(a, b, atol=1e-5) for a, b in zip(loose, before, strict=True)):
        return "gradients below the limit were changed; clipping only ever makes them shorter"
    half = clip_by_global_norm(gradients, 0.5)
    if not all(torch.allclose(a, b / total / 2, atol=1e-5)
               for a, b in zip(half, before, strict=True)):
        return "limit 0.5: the global norm of the result should be 0.5; is max_norm in your factor?"
    zeros = torch.zeros(2, 3)
    zeros_message = "gradients of zero became something else; add 1e-6 to the norm you divide by"
    try:
        return None if torch.equal(clip_by_global_norm([zeros], 1.0)[0], zeros) else zeros_message
    except ZeroDivisionError:
        return zeros_message.replace("became something else", "were divided by their norm, 0")
