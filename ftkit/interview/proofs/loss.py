"""Proofs about the loss, the mask, templates, packing, schedules and what backward keeps."""

import functools
import math
import warnings

import torch
import transformers
from torch.nn.functional import cross_entropy

from ftkit.base.config import Config
from ftkit.data import encoding, schema
from ftkit.engine import loop, packed_batch, packed_loss
from ftkit.interview.proofs.lora import adapted, agreement, base, encode, gradients, trainable
from ftkit.interview.proofs.registry import Evidence, proof, register


@functools.cache
def examples(n: int = 64) -> list[dict]:
    """Encode the first n records of the tasks as token ids and labels."""
    return encode(schema.records("tasks")[:n])


def supervised(examples) -> int:
    """Number of tokens that contribute to the loss."""
    return sum(label != -100 for e in examples for label in e["labels"])


def next_tokens():
    """The logits on the batch of `base`, and the label of the next token for each."""
    return base()[3][:, :-1].flatten(0, 1), base()[2]["labels"][:, 1:].flatten()


def logits_with_loss(loss: float, n: int, vocabulary: int = 1000):
    """(n, vocabulary) logits for which token 0 has this cross-entropy at each position."""
    logits = torch.zeros(n, vocabulary)
    logits[:, 0] = math.log((vocabulary - 1) / math.expm1(loss))
    return logits


@proof("count")
def mask_focus():
    texts = encode(schema.records("general", "validation")[:8])
    return tuple(100 * supervised(some) / sum(len(e["labels"]) for e in some)
                 for some in (examples(), texts))


@proof("count")
def labeled_end():
    last = [[label for label in e["labels"] if label != -100][-1] for e in examples()]
    return 100 * last.count(base()[1].eos_token_id) / len(last)


@proof("count")
def answer_share():
    tokenizer = base()[1]
    word = tokenizer(" a", add_special_tokens=False)["input_ids"][0]
    example = {"input_ids": [word] * 305, "labels": [-100] * 300 + [word] * 5}
    view = encoding.show_batch([example], tokenizer)
    return 100 * view.supervised / view.tokens


def loss_of(**changed):
    """The loss of the model on the batch of `base`, with some of it changed."""
    model, _, batch, _ = base()
    with torch.no_grad():
        return model(**batch | changed).loss


def shifted(labels: torch.Tensor) -> torch.Tensor:
    """Labels moved one position to the left, although the model shifts them itself."""
    twice = torch.full_like(labels, -100)
    twice[:, :-1] = labels[:, 1:]
    return twice


@proof("count")
def token_weight():
    logits = torch.zeros(100, 5, requires_grad=True)
    of_logits, = torch.autograd.grad(
        cross_entropy(logits, torch.zeros(100, dtype=torch.long)), logits)
    return 100 * of_logits[10:].abs().sum() / of_logits.abs().sum()


@proof("run")
def uniform_loss():
    config = transformers.LlamaConfig.from_dict(base()[0].config.to_dict())
    config.tie_word_embeddings = False  # tied, a fresh model leans to repeat what it reads
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = transformers.LlamaForCausalLM(config)
    ids = torch.randint(len(base()[1]), (8, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return fresh(input_ids=ids, labels=ids).loss


# ------------------------------------------------------------------- accumulation, batches

# Two micro-batches: (loss of each token, number of tokens).
MICRO_BATCHES = ((4.0, 10), (2.0, 90))


def micro_batch_losses(total: int | None = None) -> list:
    """The loss of each micro-batch as transformers computes it: the sum of its tokens' losses
    divided by `total`, or, as until late 2024, their mean."""
    from transformers.loss.loss_utils import fixed_cross_entropy

    return [fixed_cross_entropy(logits_with_loss(loss, n), torch.zeros(n, dtype=torch.long),
                                num_items_in_batch=total) for loss, n in MICRO_BATCHES]


@proof("run")
def accumulation_gradient():
    """Compare the gradients of ftkit's update from four micro-batches of unequal token counts
    with those of transformers' loss on all four at once."""
    batch, seen = sorted(examples(16), key=lambda e: supervised([e])), {}

    def look(parameters, *_):
        seen.update(enumerate(p.grad.clone() for p in parameters))
        return torch.zeros(())

    update = loop.Update(trainable(), Config(precision="fp32", learning_rate=1e-3), clip=look)
    update([packed_batch.pack(batch[i:i + 4]) for i in range(0, 16, 4)], 0.0)
    model = trainable()
    whole = gradients(model, model(**encoding.collate(batch, base()[1].pad_token_id)).loss)
    return agreement(seen, dict(enumerate(whole.values())))


@proof("count")
def tokens_vary():
    counts = [supervised(examples(256)[i:i + 16]) for i in range(0, 256, 16)]
    return max(counts), min(counts)


@proof("arithmetic")
def warmup_percent():
    config = Config(warmup_steps=500, lr_scheduler_type="constant")
    return 100 * sum(loop.schedule(s, 1221, config) < 1 for s in range(1, 1222)) / 1221


@proof("arithmetic")
def linear_mean():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, 0, 1000)
    total = 0.0
    for _ in range(1000):
        total += scheduler.get_last_lr()[0]
        optimizer.step()
        scheduler.step()
    return 100 * total / 1000


def schedule_mean(steps: int) -> float:
    """Mean of the cosine schedule, as a fraction of the peak."""
    config = Config(warmup_steps=0)
    return sum(loop.schedule(s, steps, config) for s in range(1, steps + 1)) / steps


# ------------------------------------------------------------- special tokens and templates


@functools.cache
def end_labels(by_id: bool) -> float:
    """Percentage of end tokens in the loss when the end token is also the padding token.

    by_id: mask labels by the padding token's id instead of the attention mask.
    """
    eos = base()[1].eos_token_id
    batch = encoding.collate(examples(16), eos)
    ids, labels = batch["input_ids"], batch["input_ids"].clone()
    labels[(ids == eos) if by_id else (batch["attention_mask"] == 0)] = -100
    ends = (ids == eos) & (batch["attention_mask"] == 1)
    return 100 * float((labels[ends] != -100).float().mean())


register(
    "count",
    head_share=lambda: ((base()[2]["labels"] != -100).sum(), base()[2]["labels"].numel()),
    alpaca_steps=lambda: 3 * len(torch.utils.data.DataLoader(range(52_002), batch_size=8 * 4 * 4)),
    # Records of an epoch by its optimizer steps, when 64 ranks share the records.
    effective_batch=lambda: 12_800 / loop.steps_in(
        Config(batch_size=1, gradient_accumulation_steps=2, epochs=1), 12_800 // 64),
    half_the_steps=lambda: loop.steps_in(Config(batch_size=32), 4000),
    end_masked=lambda: 100 - end_labels(True),
    end_trained=lambda: (end_labels(False), end_labels(True)),
)

register(
    "arithmetic",
    accumulation_right=lambda: sum(micro_batch_losses(total=100)),
    accumulation_wrong=lambda: sum(micro_batch_losses()) / len(MICRO_BATCHES),
    cosine_mean=lambda: 100 * schedule_mean(1000),
    drift_bound=lambda: 2e-5 * 1219 * schedule_mean(1219),
)


@proof("count")
def double_bos():
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0, "hello": 1}, "<s>"))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer.encode("<s> hello").ids.count(0)


def cut_to(example: dict, length: int) -> dict:
    """Truncate an example to `length` tokens, as max_length does silently."""
    return {name: values[:length] for name, values in example.items()}


@proof("count")
def cut_answers():
    long = [{"instruction": "word " * 80, "output": "yes"}] * 4
    cut = [cut_to(e, 64) for e in encoding.encode_all(long, base()[1]).examples]
    return 100 * sum(supervised([e]) == 0 for e in cut) / len(cut)


@proof("count")
def pack_use():
    padded = encoding.collate([{"input_ids": [1] * n, "labels": [1] * n} for n in (180, 2048)], 0)
    return 100 * padded["attention_mask"][0].float().mean()


@proof("run")
def pack_exact():
    model, batch = trainable(), examples(8)
    packed = gradients(model, packed_loss.loss_sum(model, packed_batch.pack(batch)))
    return agreement(packed, gradients(model, sum(
        packed_loss.loss_sum(model, packed_batch.pack([e])) for e in batch)))


@proof("run")
def pack_leak():
    from ftkit.evaluate.scoring import loss_on

    first, second = examples()[:2]
    hidden = first | {"labels": [-100] * len(first["labels"])}
    joined = {key: hidden[key] + second[key] for key in ("input_ids", "labels")}
    model = base()[0]
    alone = loss_on(model, [second])
    packed = packed_loss.loss_sum(model, packed_batch.pack([hidden, second])).detach()
    return (abs(loss_on(model, [joined]) - alone),
            abs(float(packed) / supervised([second]) - alone))


@proof("run")
def pad_side():
    model, tokenizer = base()[:2]
    losses = []
    for side in ("left", "right"):
        batch = encoding.collate(examples(8), tokenizer.pad_token_id, padding_side=side)
        positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        with torch.no_grad():
            losses.append(model(**batch, position_ids=positions).loss)
    return losses[0] / losses[1]


# ------------------------------------------------------------------- what backward keeps


def checkpointed(model):
    from ftkit.model.checkpointing import checkpoint

    checkpoint(model, use_reentrant=False)
    return model


@proof("count")
def checkpoint_reentrant():
    """A frozen layer with a trainable factor inside a checkpointed segment."""
    from torch.utils.checkpoint import checkpoint

    def gradient(reentrant):
        factor = torch.ones(4, requires_grad=True)
        frozen = torch.ones(4)  # as a frozen embedding gives it
        out = checkpoint(lambda x: (x * factor).sum(), frozen, use_reentrant=reentrant)
        if out.requires_grad:
            out.backward()
        return 0.0 if factor.grad is None else float(factor.grad.norm())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of exactly this
        return gradient(True), gradient(False)


@proof("run")
def checkpoint_memory():
    from ftkit.lessons import activations

    plain, saved = (sum(activations.kept(model, base()[2]["input_ids"]).values()) / 1e6
                    for model in (trainable(), checkpointed(trainable())))
    return Evidence(saved, plain, bars={"without": plain, "with checkpointing": saved})


@proof("run")
def chunked_loss():
    logits, labels = next_tokens()
    loss = functools.partial(cross_entropy, reduction="sum")
    parts = sum(loss(a, b) for a, b in zip(logits.split(50), labels.split(50), strict=True))
    return parts / loss(logits, labels)


def head_gradients(only_supervised: bool) -> dict:
    model, batch = trainable(), base()[2]
    hidden = model.model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    hidden, labels = hidden[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
    if only_supervised:
        hidden, labels = hidden[labels != -100], labels[labels != -100]
    return gradients(model, cross_entropy(model.lm_head(hidden), labels))


@proof("simulation")
def flash_exact():
    q, k, v = torch.randn(3, 1, 2, 64, 16, generator=torch.Generator().manual_seed(0))
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    explicit = torch.softmax(q @ k.transpose(-1, -2) / 4, -1) @ v
    return agreement({"": fused}, {"": explicit})


register(
    "run",
    same_loss=lambda: cross_entropy(*next_tokens()) / loss_of(),
    double_shift=lambda: (loss_of(labels=shifted(base()[2]["labels"])), loss_of()),
    checkpoint_equal=lambda: agreement(gradients(checkpointed(trainable())),
                                       gradients(trainable())),
    checkpoint_lora=lambda: agreement(gradients(checkpointed(adapted().train())),
                                      gradients(adapted().train())),
    head_skip=lambda: agreement(head_gradients(True), head_gradients(False)),
)
