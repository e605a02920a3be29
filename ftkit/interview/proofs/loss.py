"""Proofs about the loss, the mask, templates, packing, schedules and what backward keeps."""

from __future__ import annotations

import copy
import functools

from ftkit.interview.proofs.core import Found, proof
from ftkit.interview.proofs.lora import adapted, base, gradients, norm


def cosine(a: dict, b: dict) -> float:
    """Of two sets of gradients as one long vector each."""
    dot = sum(float((a[name] * b[name]).sum()) for name in a)
    return dot / norm(a.values()) / norm(b.values())


@functools.cache
def examples(n=64):
    from ftkit.data import encoding, schema

    return encoding.encode_all(schema.records("tasks")[:n], base()[1]).examples


def trainable():
    return copy.deepcopy(base()[0]).requires_grad_(True).train()


def grads_of(model, loss) -> dict:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@proof("same_loss")
def _():
    import torch

    model, _, batch, logits = base()
    flat = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1),
                                             batch["labels"][:, 1:].flatten(), ignore_index=-100)
    with torch.no_grad():
        return flat / model(**batch).loss


@proof("mask_focus")
def _():
    from ftkit.data import encoding, schema

    raw = encoding.encode_all(schema.records("general", "validation")[:8], base()[1]).examples

    def share(coded):
        labels = [label for e in coded for label in e["labels"]]
        return 100 * sum(label != -100 for label in labels) / len(labels)

    return share(examples()), share(raw)


@proof("labelled_end")
def _():
    eos = base()[1].eos_token_id
    last = [[x for x in e["labels"] if x != -100][-1] for e in examples()]
    return 100 * sum(x == eos for x in last) / len(last)


@proof("answer_share")
def _():
    from ftkit.data import encoding

    tokenizer = base()[1]
    word = tokenizer(" a", add_special_tokens=False)["input_ids"][0]
    made = {"input_ids": [word] * 305, "labels": [-100] * 300 + [word] * 5}
    view = encoding.show_batch([made], tokenizer)
    return 100 * view.supervised / view.tokens


@proof("double_shift")
def _():
    import torch

    model, _, batch, _ = base()
    twice = torch.full_like(batch["labels"], -100)
    twice[:, :-1] = batch["labels"][:, 1:]
    with torch.no_grad():
        return float(model(**batch | {"labels": twice}).loss), float(model(**batch).loss)


@proof("token_weight")
def _():
    import torch

    logits = torch.zeros(100, 5, requires_grad=True)
    torch.nn.functional.cross_entropy(logits, torch.zeros(100, dtype=torch.long)).backward()
    return 100 * float(logits.grad[10:].abs().sum() / logits.grad.abs().sum())


@proof("uniform_loss")
def _():
    import torch
    import transformers

    config = copy.deepcopy(base()[0].config)
    config.tie_word_embeddings = False  # tied, a fresh model leans to repeat what it reads
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = transformers.LlamaForCausalLM(config)
    ids = torch.randint(len(base()[1]), (8, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return float(fresh(input_ids=ids, labels=ids).loss)


# ------------------------------------------------------------------- accumulation, batches


@proof("accumulation_right")
def _():
    import torch

    return torch.cat([torch.full((10,), 4.0), torch.full((90,), 2.0)]).mean()


@proof("accumulation_wrong")
def _():
    import torch

    return torch.stack([torch.full((10,), 4.0).mean(), torch.full((90,), 2.0).mean()]).mean()


@proof("accumulation_gradient")
def _():
    from ftkit.data import encoding

    model, pad, lines = trainable(), base()[1].pad_token_id, examples(16)
    labelled = sum(x != -100 for e in lines for x in e["labels"])
    model.zero_grad()
    for start in range(0, 16, 4):
        batch = encoding.collate(lines[start:start + 4], pad)
        (model(**batch).loss * (batch["labels"] != -100).sum() / labelled).backward()
    summed = {name: p.grad.clone() for name, p in model.named_parameters()}
    return cosine(summed, grads_of(model, model(**encoding.collate(lines, pad)).loss))


@proof("tokens_vary")
def _():
    lines = examples(256)
    counts = [sum(x != -100 for e in lines[i:i + 16] for x in e["labels"])
              for i in range(0, 256, 16)]
    return max(counts), min(counts)


@proof("effective_batch")
def _():
    seen = 0
    for _rank in range(64):
        for _accumulated in range(2):
            seen += 1  # one sequence in a micro-batch
    return seen


@proof("alpaca_steps")
def _():
    from torch.utils.data import DataLoader

    return 3 * len(DataLoader(range(52_002), batch_size=8 * 4 * 4))


@proof("warmup_percent")
def _():
    from ftkit.base.config import Config
    from ftkit.engine import loop

    config = Config(warmup_steps=500, lr_scheduler_type="constant")
    return 100 * sum(loop.schedule(s, 1221, config) < 1 for s in range(1, 1222)) / 1221


@proof("half_the_steps")
def _():
    from ftkit.base.config import Config
    from ftkit.engine import loop

    return loop.steps_in(Config(batch_size=32), 4000)


@functools.cache
def schedule_mean(steps=1000) -> float:
    from ftkit.base.config import Config
    from ftkit.engine import loop

    config = Config(warmup_steps=0)
    return sum(loop.schedule(s, steps, config) for s in range(1, steps + 1)) / steps


proof("cosine_mean")(lambda: 100 * schedule_mean())
proof("drift_bound")(lambda: 2e-5 * 1219 * schedule_mean(1219))


@proof("linear_mean")
def _():
    import torch
    import transformers

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, 0, 1000)
    rates = []
    for _ in range(1000):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return 100 * sum(rates) / len(rates)


# ------------------------------------------------------------- special tokens and templates


@functools.cache
def end_labels(by_id: bool) -> float:
    """Per cent of end tokens that carry loss when the end token is used for padding too."""
    from ftkit.data import encoding

    eos = base()[1].eos_token_id
    batch = encoding.collate(examples(16), eos)
    ids, labels = batch["input_ids"], batch["input_ids"].clone()
    labels[(ids == eos) if by_id else (batch["attention_mask"] == 0)] = -100
    ends = (ids == eos) & (batch["attention_mask"] == 1)
    return 100 * float((labels[ends] != -100).float().mean())


proof("end_masked")(lambda: 100 - end_labels(True))
proof("end_trained")(lambda: (end_labels(False), end_labels(True)))


@proof("double_bos")
def _():
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0, "hello": 1}, "<s>"))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer.encode("<s> hello").ids.count(0)


@proof("cut_answers")
def _():
    from ftkit.data import encoding

    long = [{"instruction": "word " * 80, "output": "yes"}] * 4
    coded = encoding.encode_all(long, base()[1], max_length=64, on_long="skip")
    return 100 * coded.skipped / len(long)


@proof("pack_use")
def _():
    from ftkit.data import encoding

    padded = encoding.collate([{"input_ids": [1] * 180, "labels": [1] * 180},
                             {"input_ids": [1] * 2048, "labels": [1] * 2048}], 0)
    return 100 * float(padded["attention_mask"][0].float().mean())


@proof("pack_exact")
def _():
    from ftkit.engine import packed_loss

    model, lines = trainable(), examples(8)
    packed = grads_of(model, packed_loss.loss_sum(model, packed_loss.pack(lines)))
    single = grads_of(
        model, sum(packed_loss.loss_sum(model, packed_loss.pack([e])) for e in lines)
    )
    return cosine(packed, single)


@proof("pack_leak")
def _():
    from ftkit.engine import packed_loss
    from ftkit.evaluate.scoring import loss_on

    first, second = examples()[:2]
    joined = {"input_ids": first["input_ids"] + second["input_ids"],
              "labels": [-100] * len(first["input_ids"]) + second["labels"]}
    model, hidden = base()[0], first | {"labels": [-100] * len(first["labels"])}
    alone = loss_on(model, [second])
    labelled = sum(x != -100 for x in second["labels"])
    apart = (
        float(packed_loss.loss_sum(model, packed_loss.pack([hidden, second])).detach())
        / labelled
    )
    return abs(loss_on(model, [joined]) - alone), abs(apart - alone)


@proof("pad_side")
def _():
    import torch

    from ftkit.data import encoding

    model, pad = base()[0], base()[1].pad_token_id
    losses = []
    with torch.no_grad():
        for side in ("left", "right"):
            batch = encoding.collate(examples(8), pad, padding_side=side)
            places = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            losses.append(float(model(**batch, position_ids=places).loss))
    return losses[0] / losses[1]


# ------------------------------------------------------------------- what backward keeps


def with_checkpointing(model, reentrant=False):
    from ftkit.model.checkpointing import checkpoint

    checkpoint(model, use_reentrant=reentrant)
    return model


@proof("checkpoint_equal")
def _():
    plain = trainable()
    return cosine(gradients(plain), gradients(with_checkpointing(trainable())))


@proof("checkpoint_lora")
def _():
    return cosine(gradients(adapted().train()), gradients(with_checkpointing(adapted().train())))


@proof("checkpoint_reentrant")
def _():
    """A frozen layer with a trainable factor inside a checkpointed segment."""
    import torch
    from torch.utils.checkpoint import checkpoint

    def gradient(reentrant):
        factor = torch.ones(4, requires_grad=True)
        frozen = torch.ones(4)  # as a frozen embedding gives it
        out = checkpoint(lambda x: (x * factor).sum(), frozen, use_reentrant=reentrant)
        if out.requires_grad:
            out.backward()
        return 0.0 if factor.grad is None else float(factor.grad.norm())

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of exactly this
        return gradient(True), gradient(False)


@proof("checkpoint_memory")
def _():
    import torch

    def kept(model):
        seen = {}

        def note(tensor):
            seen[tensor.data_ptr()] = tensor.nbytes
            return tensor

        weights = {p.data_ptr() for p in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            model(**base()[2])
        return sum(size for place, size in seen.items() if place not in weights) / 1e6

    plain, saved = kept(trainable()), kept(with_checkpointing(trainable()))
    return Found(saved, plain, bars={"without": plain, "with checkpointing": saved})


@proof("chunked_loss")
def _():
    import torch

    logits, labels = base()[3][:, :-1].flatten(0, 1), base()[2]["labels"][:, 1:].flatten()
    loss = functools.partial(torch.nn.functional.cross_entropy, reduction="sum")
    parts = sum(loss(a, b) for a, b in zip(logits.split(50), labels.split(50), strict=True))
    return parts / loss(logits, labels)


@proof("head_skip")
def _():
    import torch

    def gradient(only_labelled):
        model, batch = trainable(), base()[2]
        hidden = model.model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        hidden, labels = hidden[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
        if only_labelled:
            hidden, labels = hidden[labels != -100], labels[labels != -100]
        return grads_of(model, torch.nn.functional.cross_entropy(model.lm_head(hidden), labels))

    return cosine(gradient(True), gradient(False))


@proof("head_share")
def _():
    labels = base()[2]["labels"]
    return int((labels != -100).sum()), labels.numel()


@proof("flash_exact")
def _():
    import torch

    q, k, v = torch.randn(3, 1, 2, 64, 16, generator=torch.Generator().manual_seed(0))
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    by_hand = torch.softmax(q @ k.transpose(-1, -2) / 4, -1) @ v
    return cosine({"": fused}, {"": by_hand})
