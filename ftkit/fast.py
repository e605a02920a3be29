"""The speed of ftkit: no padding, no wasted logits, and transformers' own model code untouched.

A batch is one flat row of tokens, sequence after sequence, so linear layers never see padding.
Only attention needs to know where a sequence ends: we register an attention function through
transformers' public `AttentionInterface` and hand it the `Layout` as a keyword argument, which
transformers passes down to every layer. Called without a layout it is transformers' own SDPA
function, so a model that is switched to it still answers `model(...)` and `generate` as before.
The head and the loss see only positions that predict a label, in chunks.

    flatten(examples, device=None) -> FlatBatch       .tokens and .labelled are counts
    loss_sum(model, batch) -> Tensor                  sum of the loss over labelled tokens
    nll(model, examples, batch_tokens=4096, dtype=None) -> (sum, count)
    fast_path(model)                                  context manager: switch on, restore after
    supports(model) -> str | None                     why a model cannot have it, or None
    clip_(params, max_norm) -> Tensor                 norm before clipping; grad_norm(params)
    tune_malloc() -> bool                             keep big blocks between steps (glibc)

An example is {"input_ids": list[int], "labels": list[int]}, labels aligned with input_ids and
-100 where there is no loss. Models that cannot take a layout get the ordinary padded pass: same
numbers, less speed, and the reason printed once.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import inspect
import sys
import weakref
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

NAME = "ftkit"  # how the attention function is registered with transformers
ROUND = 32  # a new shape costs oneDNN a kernel build: flat lengths come in multiples of this
SCORES = 1024  # attention scores that padding one sequence may waste before it gets its own group
LONG = 512  # longer sequences go to SDPA, which keeps no scores for the backward pass
LOGITS = 2**24  # logits held at once by the loss


# ---------------------------------------------------------------------------------------------
# Batches


@dataclass
class Layout:
    """How a flat row divides into sequences: `lengths`, longest first, in order of the row.

    `groups` are runs of neighbours (start, count, length) that attention pads to one length.
    """

    lengths: list[int]
    groups: list[tuple[int, int, int]]
    cache: dict = field(default_factory=dict, repr=False)  # masks and indices, per device

    def remember(self, key, make):
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]


@dataclass
class FlatBatch:
    """Examples as one row of T tokens, R of which predict a label.

    input_ids, position_ids: (T,). rows: (R,) positions whose next token carries loss; targets:
    (R,) that token. The last sequence may be filler that rounds T up and carries no loss.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    rows: torch.Tensor
    targets: torch.Tensor
    layout: Layout
    tokens: int  # of the examples, without filler
    labelled: int  # = R


def flatten(examples: list[dict], device=None) -> FlatBatch:
    """Lay examples end to end; a packed row is simply several examples. The order inside a batch
    is by length, which changes no sum. A label on a first token counts as none: nothing before
    it could predict it."""
    examples = sorted(examples, key=lambda e: -len(e["input_ids"]))
    ids, positions, rows, targets, lengths = [], [], [], [], []
    for example in examples:
        start, n = len(ids), len(example["input_ids"])
        ids += example["input_ids"]
        positions += range(n)
        lengths.append(n)
        for i, label in enumerate(example["labels"][1:n]):
            if label != -100:
                rows.append(start + i)
                targets.append(label)
    tokens = len(ids)
    filler = -tokens % ROUND
    if filler:
        ids += ids[:1] * filler
        positions += range(filler)
        lengths.append(filler)
    put = functools.partial(torch.tensor, dtype=torch.long, device=device)
    return FlatBatch(put(ids), put(positions), put(rows), put(targets),
                     Layout(lengths, _groups(lengths)), tokens, len(rows))


def _groups(lengths: list[int]) -> list[tuple[int, int, int]]:
    """Neighbours that share a padded length: (first sequence, how many, longest)."""
    groups = []
    for i, n in enumerate(lengths):
        if groups and 0 <= groups[-1][2] ** 2 - n**2 <= SCORES:
            first, count, longest = groups[-1]
            groups[-1] = (first, count + 1, longest)
        else:
            groups.append((i, 1, n))
    return groups


# ---------------------------------------------------------------------------------------------
# Attention


class Unsupported(ValueError):
    """The flat row cannot be computed for this model; the message says why."""


def attention(module, query, key, value, attention_mask, *args, ftkit_layout=None, **kwargs):
    """What transformers calls in each layer. query: (1, H, T, D), key and value: (1, KV, T, D);
    returns (1, T, H, D). Without a layout, transformers' own SDPA function."""
    if ftkit_layout is None:
        return _sdpa()(module, query, key, value, attention_mask, *args, **kwargs)
    for name in ("softcap", "s_aux", "sinks", "position_bias", "head_mask"):
        if kwargs.get(name) is not None:
            raise Unsupported(f"its attention uses {name}")
    if kwargs.get("is_causal") is False or not getattr(module, "is_causal", True):
        raise Unsupported("its attention is not causal")
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scaling = kwargs.get("scaling")
    return ftkit_layout_attend(
        ftkit_layout, query[0], key[0], value[0],
        query.shape[-1] ** -0.5 if scaling is None else scaling,
        kwargs.get("sliding_window"), kwargs.get("dropout", 0.0),
    )[None], None


def ftkit_layout_attend(layout, q, k, v, scale, window, dropout):
    """Causal attention inside each sequence. q: (H, T, D), k and v: (KV, T, D) -> (T, H, D)."""
    heads, _, _ = q.shape
    kv = k.shape[0]
    share = heads // kv
    if _varlen(q) is not None and not dropout:
        return _varlen_attention(layout, q, k, v, scale, window)
    # (KV, T, share * D): the query heads of one key head side by side, so that one index or
    # view along T brings a whole group into the shape of a batched matrix product.
    q = q.transpose(0, 1).reshape(q.shape[1], kv, -1).transpose(0, 1)
    parts, start = [], 0
    for first, count, longest in layout.groups:
        lengths = layout.lengths[first : first + count]
        total = sum(lengths)
        take = slice(start, start + total)
        index = inverse = None
        if total != count * longest:
            index, inverse = layout.remember(
                (first, q.device), lambda: _padding(lengths, longest, q.device))  # noqa: B023
        a, b, c = ((x[:, take] if index is None else x[:, take].index_select(1, index))
                   for x in (q, k, v))
        if longest <= LONG and q.device.type == "cpu":
            out = _bmm_attention(layout, a, b, c, count, longest, share, scale, window, dropout)
        else:
            out = _sdpa_attention(layout, a, b, c, count, longest, share, scale, window, dropout)
        parts.append(out if inverse is None else out.index_select(1, inverse))
        start += total
    out = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
    return out.transpose(0, 1).reshape(out.shape[1], heads, -1)


def _padding(lengths, longest, device):
    """Index that pads a group (filler repeats its first token, which the causal mask hides from
    every real one) and the index that undoes it."""
    index, inverse, start = [], [], 0
    for i, n in enumerate(lengths):
        index += [*range(start, start + n), *[0] * (longest - n)]
        inverse += range(i * longest, i * longest + n)
        start += n
    return torch.tensor(index, device=device), torch.tensor(inverse, device=device)


def _mask(length, window, device):
    """(L, L) bool: which keys a query may see; a sliding window of w sees itself and w - 1 more."""
    i = torch.arange(length, device=device)
    seen = i[:, None] >= i
    return seen if window is None else seen & (i[:, None] - i < window)


def _bmm_attention(layout, q, k, v, count, length, share, scale, window, dropout):
    """Plain matrix products: on CPU faster than SDPA, whose bf16 backward is four times slower."""
    kv, dim = k.shape[0], k.shape[-1]
    q = q.reshape(kv * count, length * share, dim)
    k, v = k.reshape(kv * count, length, dim), v.reshape(kv * count, length, -1)

    def make():
        hidden = torch.zeros(length, length, dtype=q.dtype)
        hidden.masked_fill_(~_mask(length, window, q.device), float("-inf"))
        return hidden.repeat_interleave(share, 0)

    bias = layout.remember(("bias", length, share, window, q.dtype), make)
    weights = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=scale).softmax(-1)
    weights = F.dropout(weights, dropout) if dropout else weights
    return torch.bmm(weights, v).view(kv, count * length, -1)


def _sdpa_attention(layout, q, k, v, count, length, share, scale, window, dropout):
    kv, dim = k.shape[0], k.shape[-1]
    q = q.reshape(kv, count, length, share, dim).permute(1, 0, 3, 2, 4).flatten(1, 2)
    k, v = (x.reshape(kv, count, length, x.shape[-1]).transpose(0, 1) for x in (k, v))
    window = None if window is None or window >= length else window
    mask = None if window is None else layout.remember(
        ("mask", length, window, q.device), lambda: _mask(length, window, q.device))
    out = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None,
                                         scale=scale, enable_gqa=share > 1)
    out = out.unflatten(1, (kv, share)).permute(1, 0, 3, 2, 4)  # (KV, count, L, share, D)
    return out.reshape(kv, count * length, -1)


@functools.cache
def _varlen_function():
    """torch's varlen attention, where this torch has one that knows windows and shared heads."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"window_size", "enable_gqa", "scale"} <= set(known) else None


def _varlen(q):
    return _varlen_function() if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) else None


def _varlen_attention(layout, q, k, v, scale, window):
    def make():
        ends = torch.tensor([0, *layout.lengths]).cumsum(0)
        return ends.to(device=q.device, dtype=torch.int32), max(layout.lengths)

    ends, longest = layout.remember(("ends", q.device), make)
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    left = -1 if window is None else window - 1
    return _varlen_function()(q, k, v, ends, ends, longest, longest, scale=scale,
                              window_size=(left, 0), enable_gqa=q.shape[1] != k.shape[1])


# ---------------------------------------------------------------------------------------------
# The switch


@functools.cache
def _sdpa():
    """Registers our function with transformers, once; returns transformers' SDPA function."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, AttentionMaskInterface()["sdpa"])
    return AttentionInterface()["sdpa"]


_reasons: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # model -> {kernel: why not}


def base_of(model):
    """The transformers model under a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def supports(model) -> str | None:
    """None when the fast path computes what the model computes, else the reason in words.

    Found out by trial, once per model: a few tokens through both ways, and the logits compared.
    On a GPU once more under autocast, where attention takes another kernel.
    """
    base = base_of(model)
    reasons = _reasons.setdefault(base, {})
    device = next(base.parameters()).device.type
    kernel = None if device == "cpu" or not torch.is_autocast_enabled(device) else "autocast"
    if kernel not in reasons:
        reason = _refuse(model, base)
        if reason is None:
            try:
                with torch.autocast(device, enabled=kernel is not None):
                    reason = _trial(base)
            except Exception as error:  # whatever a model of unknown make may raise
                reason = str(error) or type(error).__name__
        reasons[kernel] = reason
    return reasons[kernel]


def _refuse(model, base) -> str | None:
    import transformers

    if not isinstance(base, transformers.PreTrainedModel):
        return f"{type(base).__name__} is not a transformers model"
    if getattr(model, "active_peft_config", None) is not None:
        if model.active_peft_config.is_prompt_learning:
            return "prompt tuning puts virtual tokens before the input"
    if not getattr(base, "_supports_attention_backend", False):
        return f"{type(base).__name__} does not support AttentionInterface"
    if base.config.is_encoder_decoder or base.get_output_embeddings() is None:
        return f"{type(base).__name__} is not a decoder with a language model head"
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(base.config.get_text_config(), name, None) not in (None, 1, 1.0):
            return f"its head applies {name}"
    return None


@torch.no_grad()
def _trial(base) -> str | None:
    embedding = base.get_input_embeddings().weight
    vocabulary, device = embedding.shape[0], embedding.device
    ids = [[(7 * i + 3) % vocabulary for i in range(9)], [(5 * i) % vocabulary for i in range(4)]]
    batch = flatten([{"input_ids": x, "labels": x} for x in ids], device)
    padded = torch.tensor([ids[0], ids[1] + [0] * 5], device=device)
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5], device=device)
    with _evaluating(base):
        want = base(input_ids=padded, attention_mask=mask, use_cache=False).logits[mask.bool()]
        with fast_path(base):
            got = base.get_output_embeddings()(_hidden(base, batch)[: batch.tokens])
    exact = want.dtype == torch.float32 and base.dtype == torch.float32
    error = (got.float() - want.float()).norm(dim=-1) / want.float().norm(dim=-1)
    if exact and error.max() > 1e-3 or error.mean() > 0.1:  # NaN, a broken model, is not our doing
        return f"a trial gave other logits than its own forward pass ({error.mean():.0%} off)"
    return None


@contextlib.contextmanager
def _evaluating(model):
    """Dropout off; every module goes back to the mode it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def fast_path(model):
    """Switch the model's attention to ours, and back at the end. May be nested."""
    base = base_of(model)
    before = base.config._attn_implementation
    _switch_on(base)
    try:
        yield
    finally:
        base.set_attn_implementation(before)


def _switch_on(base):
    if base.config._attn_implementation != NAME:
        _sdpa()
        base.set_attn_implementation(NAME)


# ---------------------------------------------------------------------------------------------
# Loss


def loss_sum(model, batch: FlatBatch) -> torch.Tensor:
    """Sum of the token losses (nats) over the labelled tokens of a batch, differentiable.

    Respects autocast. Leaves the model switched to our attention function, since gradient
    checkpointing calls it again in the backward pass; wrap a run in `fast_path` to restore it.
    """
    base = base_of(model)
    reason = supports(model)
    if reason is not None:
        _say_once(base, reason)
        return _padded_loss_sum(model, batch)
    _switch_on(base)
    hidden = _hidden(base, batch).index_select(0, batch.rows)
    return _head_loss(base.get_output_embeddings(), hidden, batch.targets)


def _hidden(base, batch):
    """(T, d): the last hidden state of a flat batch."""
    mask = batch.input_ids.new_ones(1, 1, 1, 1)  # already 4-D: transformers makes no mask
    return base.get_decoder()(
        input_ids=batch.input_ids[None], position_ids=batch.position_ids[None],
        attention_mask=mask, use_cache=False, ftkit_layout=batch.layout,
    )[0][0]


def _head_loss(head, hidden, targets):
    plain = type(head) is torch.nn.Linear and head.bias is None and not head._forward_hooks
    if not plain:
        return F.cross_entropy(head(hidden).float(), targets, reduction="sum")
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        hidden = hidden.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        if torch.is_grad_enabled():
            return _LinearCrossEntropy.apply(hidden, head.weight, targets)
        weight = head.weight.to(hidden.dtype)
        chunk = max(64, LOGITS // weight.shape[0])
        return sum((_chunk_loss(h @ weight.t(), t)[0]
                    for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True)),
                   torch.zeros((), device=hidden.device))


def _chunk_loss(logits, targets):
    """Loss of a chunk, and its log-probabilities in fp32."""
    logp = torch.log_softmax(logits, -1, dtype=torch.float32)
    return -logp.gather(1, targets[:, None]).sum(), logp


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of cross entropy of `hidden @ weight.T`, a chunk of rows at a time.

    The gradient of a chunk is softmax minus one-hot, so it is made while the logits are there and
    they are never all in memory. torch 2.13 has `F.linear_cross_entropy`, equally fast in fp32
    but 3.5 times slower in bf16 on CPU.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets):
        total = torch.zeros((), device=hidden.device)
        low = weight.to(hidden.dtype)
        need_hidden, need_weight, _ = ctx.needs_input_grad
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = None
        chunk = max(64, LOGITS // weight.shape[0])
        for start in range(0, len(targets), chunk):
            h, t = hidden[start : start + chunk], targets[start : start + chunk]
            loss, grad = _chunk_loss(h @ low.t(), t)
            total += loss
            grad.exp_()
            grad[torch.arange(len(t), device=t.device), t] -= 1
            grad = grad.to(hidden.dtype)
            if need_hidden:
                torch.mm(grad, low, out=d_hidden[start : start + chunk])
            if need_weight:
                part = grad.t() @ h
                d_weight = part.to(weight.dtype) if d_weight is None else d_weight.add_(part)
        if need_weight and d_weight is None:
            d_weight = torch.zeros_like(weight)
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx, grad):
        d_hidden, d_weight = ctx.saved_tensors
        # In place: it is as large as the head. A second backward pass is refused by autograd.
        return (None if d_hidden is None else d_hidden * grad,
                None if d_weight is None else d_weight.mul_(grad), None)


def _padded_loss_sum(model, batch):
    """The ordinary way, for models without the fast path: padded, with an attention mask."""
    lengths = batch.layout.lengths
    labels = torch.full_like(batch.input_ids, -100)
    labels[batch.rows] = batch.targets
    pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    ids = pad(batch.input_ids.split(lengths))
    labels = pad(labels.split(lengths), padding_value=-100)
    mask = pad([ids.new_ones(n) for n in lengths])
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    keep = labels != -100
    return F.cross_entropy(logits[:, -labels.shape[1]:][keep].float(), labels[keep],
                           reduction="sum")


_said: weakref.WeakSet = weakref.WeakSet()


def _say_once(base, reason):
    if base not in _said:
        _said.add(base)
        print(f"ftkit: padded batches, without the fast path: {reason}", file=sys.stderr)


@torch.no_grad()
def nll(model, examples: list[dict], batch_tokens: int = 4096, dtype=None) -> tuple[float, int]:
    """Sum of the loss (nats) over all labelled tokens of `examples`, and their count.

    The quotient is the mean over tokens; `Trainer.evaluate` reports a mean of batch means.
    dtype: torch.bfloat16 computes under autocast; None in whatever precision the caller set.
    """
    device = next(model.parameters()).device
    order = sorted(examples, key=lambda e: len(e["input_ids"]))
    losses, count, batch, size = [], 0, [], 0
    cast = (torch.autocast(device.type, dtype=dtype) if dtype is not None
            else contextlib.nullcontext())
    with _evaluating(model), cast, _switched_back(model):
        for i, example in enumerate(order):
            batch.append(example)
            size += len(example["input_ids"])
            if size >= batch_tokens or i == len(order) - 1:
                flat = flatten(batch, device)
                losses.append(loss_sum(model, flat))
                count += flat.labelled
                batch, size = [], 0
    return sum(float(loss) for loss in losses), count


@contextlib.contextmanager
def _switched_back(model):
    """Leaves the attention of the model as it was found."""
    base = base_of(model)
    config = getattr(base, "config", None)
    before = getattr(config, "_attn_implementation", None)
    try:
        yield
    finally:
        if before is not None and config._attn_implementation != before:
            base.set_attn_implementation(before)


# ---------------------------------------------------------------------------------------------
# Around a step


def grad_norm(params) -> torch.Tensor:
    """Euclidean norm of all gradients, a 0-d fp32 tensor; no sync with the device.

    Large CPU tensors are summed in rows of 4,096: `torch.nn.utils.get_total_norm`, which adds up
    a tensor in one go in fp32, is 1.4 % off on 134 million elements.
    """
    norms = []
    for grad in (p.grad for p in params):
        if grad is None:
            continue
        flat = grad.detach().reshape(-1)
        whole = flat.numel() // 4096 * 4096
        parts = [flat[:whole].view(-1, 4096), flat[whole:]]
        norms += [torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32).reshape(-1)
                  for x in parts if x.numel()]
    return torch.linalg.vector_norm(torch.cat(norms)) if norms else torch.zeros(())


def clip_(params, max_norm: float | None) -> torch.Tensor:
    """Scale gradients in place so that their norm is at most `max_norm` (0 or None: leave them).

    Returns the norm before. Like `torch.nn.utils.clip_grad_norm_`, but exact on large CPU tensors.
    """
    params = [p for p in params if p.grad is not None]
    norm = grad_norm(params)
    # Reading the number is free on CPU, and saves a pass over all gradients.
    if max_norm and (norm.device.type != "cpu" or not norm <= max_norm):
        torch.nn.utils.clip_grads_with_norm_(params, max_norm, norm)
    return norm


@functools.cache
def tune_malloc() -> bool:
    """Ask glibc to keep freed blocks instead of returning them to the system after every step.

    Otherwise each large tensor is mapped anew and page-faults on first touch: 4 to 8 % of a step.
    True where it took effect (Linux with glibc).
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    mmap_threshold, trim_threshold = -3, -1
    return bool(mallopt(mmap_threshold, 2**30)) and bool(mallopt(trim_threshold, 2**31 - 1))
