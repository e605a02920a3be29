"""Attention that knows where each sequence ends, so that nothing else has to.

transformers lets anyone register an attention function (`AttentionInterface`) and passes keyword
arguments of `model(...)` down to it. Ours takes a `Layout`, which says how one flat row of tokens
divides into sequences; called without one it is transformers' own SDPA function, so a model
switched to it still answers `model(...)` and `generate` as before. No model code is replaced.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

NAME = "ftkit"  # how the attention function is registered with transformers
SCORES = 1024  # attention scores that padding one sequence may waste before it gets its own group
SLIDING = "sliding_attention"
LONG = 512  # longer sequences go to SDPA, which keeps no scores for the backward pass


class Unsupported(ValueError):
    """The flat row cannot be computed for this model; the message says why."""


@dataclass
class Layout:
    """How a flat row divides into sequences: `lengths`, in order of the row, longest first.

    `groups` are runs of neighbours (first, count, longest) that attention pads to one length.
    """

    lengths: list[int]
    cache: dict = field(default_factory=dict, repr=False)  # masks and indices, per device
    windows: set = field(default_factory=set, repr=False)  # what layers asked for: None or a width

    @functools.cached_property
    def groups(self) -> list[tuple[int, int, int]]:
        groups = []
        for i, n in enumerate(self.lengths):
            if groups and 0 <= groups[-1][2] ** 2 - n**2 <= SCORES:
                first, count, longest = groups[-1]
                groups[-1] = (first, count + 1, longest)
            else:
                groups.append((i, 1, n))
        return groups

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Tokens of each group."""
        return [sum(self.lengths[first : first + count]) for first, count, _ in self.groups]

    def remember(self, key, make):
        """`make()`, computed once for all layers."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def attend(self, q, k, v, scale, window, dropout, layer=None):
        """Causal attention inside each sequence.

        q: (H, T, D), k and v: (KV, T, D) with KV dividing H; returns (T, H, D). A `window` of w
        lets a token see itself and w - 1 tokens before it.
        """
        self.windows.add(window)
        if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and not dropout and _varlen():
            return _varlen_attention(self, q, k, v, scale, window)
        heads, tokens, _ = q.shape
        kv = k.shape[0]
        # (KV, T, share * D): the query heads of one key head side by side, so that one index or
        # view along T brings a whole group into the shape of a batched matrix product.
        q = q.transpose(0, 1).reshape(tokens, kv, -1).transpose(0, 1)
        parts = []
        for (first, count, longest), *qkv in zip(
            self.groups, *(x.split(self.sizes, 1) for x in (q, k, v)), strict=True
        ):
            inverse = None
            lengths = self.lengths[first : first + count]
            if sum(lengths) != count * longest:
                make = functools.partial(_padding, lengths, longest, q.device)
                index, inverse = self.remember((first, q.device), make)
                qkv = [x.index_select(1, index) for x in qkv]
            small = longest <= LONG and q.device.type == "cpu"
            out = (_bmm_attention if small else _sdpa_attention)(
                self, *qkv, count, longest, heads // kv, scale, window, dropout)
            parts.append(out if inverse is None else out.index_select(1, inverse))
        out = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        return out.transpose(0, 1).reshape(tokens, heads, -1)


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
    # Softmax in fp32, as transformers' eager attention; in bf16 it is also three times slower.
    weights = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=scale)
    weights = weights.softmax(-1, dtype=torch.float32).to(q.dtype)
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
def _varlen():
    """torch's varlen attention, where this torch has one that knows windows and shared heads."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"window_size", "enable_gqa", "scale"} <= set(known) else None


def _varlen_attention(layout, q, k, v, scale, window):
    def make():
        ends = torch.tensor([0, *layout.lengths]).cumsum(0)
        return ends.to(device=q.device, dtype=torch.int32), max(layout.lengths)

    ends, longest = layout.remember(("ends", q.device), make)
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    left = -1 if window is None else window - 1
    return _varlen()(q, k, v, ends, ends, longest, longest, scale=scale,
                     window_size=(left, 0), enable_gqa=q.shape[1] != k.shape[1])


# What transformers calls, and the switch


def attention(module, query, key, value, attention_mask, *args, ftkit_layout=None, **kwargs):
    """The registered function. query: (1, H, T, D), key and value: (1, KV, T, D); returns
    (1, T, H, D) and no weights."""
    if ftkit_layout is None:
        return _register()(module, query, key, value, attention_mask, *args, **kwargs)
    for name in ("softcap", "s_aux", "sinks", "position_bias", "head_mask"):
        if kwargs.get(name) is not None:
            raise Unsupported(f"its attention uses {name}")
    if kwargs.get("is_causal") is False or not getattr(module, "is_causal", True):
        raise Unsupported("its attention is not causal")
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = kwargs.get("scaling")
    out = ftkit_layout.attend(
        query[0], key[0], value[0], query.shape[-1] ** -0.5 if scale is None else scale,
        kwargs.get("sliding_window"), kwargs.get("dropout", 0.0),
        getattr(module, "layer_idx", None),
    )
    return out[None], None


@functools.cache
def _register():
    """Registers our function with transformers, once; returns transformers' SDPA function."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, AttentionMaskInterface()["sdpa"])
    return AttentionInterface()["sdpa"]


def base_of(model):
    """The transformers model under a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def switch_on(model):
    """Let `model` use our attention function from now on; `fast_path` also switches it back."""
    base = base_of(model)
    if base.config._attn_implementation != NAME:
        _register()
        base.set_attn_implementation(NAME)


@contextlib.contextmanager
def fast_path(model):
    """Inside, `model` uses our attention function where it can; afterwards what it used before."""
    base = base_of(model)
    before = getattr(getattr(base, "config", None), "_attn_implementation", None)
    try:
        if supports(model) is None:
            switch_on(base)
        yield
    finally:
        if before is not None and base.config._attn_implementation != before:
            base.set_attn_implementation(before)


@contextlib.contextmanager
def evaluating(model):
    """Dropout off; afterwards every module is back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def hidden_states(base, input_ids, position_ids, layout):
    """(T, d): the last hidden state of a flat row of T tokens; input_ids, position_ids: (T,)."""
    # A mask that is 4-D already: transformers makes none of its own.
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device)
    return base.get_decoder()(
        input_ids=input_ids[None], position_ids=position_ids[None], attention_mask=mask,
        use_cache=False, ftkit_layout=layout,
    )[0][0]


# Which models


_reasons: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # model -> {kernel: why not}


def supports(model) -> str | None:
    """None when the fast path computes what the model computes, else the reason in words.

    Found out by trial, once per model: a few tokens through both ways, and the logits compared.
    On a GPU once more under autocast, where attention takes another kernel.
    """
    peft = getattr(model, "active_peft_config", None)
    if peft is not None and peft.is_prompt_learning:
        return "prompt tuning puts virtual tokens before the input"
    base = base_of(model)
    reasons = _reasons.setdefault(base, {})
    device = next(base.parameters()).device.type
    kernel = "autocast" if device != "cpu" and torch.is_autocast_enabled(device) else None
    if kernel not in reasons:
        reason = _refuse(base)
        if reason is None:
            try:
                with torch.autocast(device, enabled=kernel is not None):
                    reason = _trial(base)
            except Exception as error:  # whatever a model of unknown make may raise
                reason = str(error) or type(error).__name__
        reasons[kernel] = reason
    return reasons[kernel]


def _refuse(base) -> str | None:
    """What a trial on a few tokens would not show."""
    import transformers

    name = type(base).__name__
    if not isinstance(base, transformers.PreTrainedModel):
        return f"{name} is not a transformers model"
    if not getattr(base, "_supports_attention_backend", False):
        return f"{name} does not support AttentionInterface"
    if base.config.is_encoder_decoder or base.get_output_embeddings() is None:
        return f"{name} is not a decoder with a language model head"
    config = base.config.get_text_config()
    for option in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config, option, None) not in (None, 1, 1.0):
            return f"{name} applies {option} to its logits"
    other = set(getattr(config, "layer_types", None) or ()) - {"full_attention", SLIDING}
    return f"{name} has layers of {', '.join(sorted(other))}" if other else None


def _slides(config) -> bool:
    """Whether some layer sees only a window of tokens."""
    if getattr(config, "layer_types", None):
        return SLIDING in config.layer_types
    return bool(getattr(config, "sliding_window", None)
                and getattr(config, "use_sliding_window", True))


@torch.no_grad()
def _trial(base) -> str | None:
    embedding = base.get_input_embeddings().weight
    vocabulary, device = embedding.shape[0], embedding.device
    ids = [[(7 * i + 3) % vocabulary for i in range(9)], [(5 * i) % vocabulary for i in range(4)]]
    padded = torch.tensor([ids[0], ids[1] + [0] * 5], device=device)
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5], device=device)
    flat = padded[mask.bool()]
    positions = torch.tensor([*range(9), *range(4)], device=device)
    layout = Layout([9, 4])
    before = base.config._attn_implementation
    with evaluating(base):
        want = base(input_ids=padded, attention_mask=mask, use_cache=False).logits[mask.bool()]
        try:
            switch_on(base)
            hidden = hidden_states(base, flat, positions, layout)
        finally:
            base.set_attn_implementation(before)
        got = base.get_output_embeddings()(hidden)
    if not layout.windows:
        return "its layers do not pass keyword arguments on to the attention function"
    if _slides(base.config.get_text_config()) and layout.windows == {None}:
        return "its sliding window does not reach the attention function"
    exact = want.dtype == torch.float32 and base.dtype == torch.float32
    error = (got.float() - want.float()).norm(dim=-1) / want.float().norm(dim=-1)
    if exact and error.max() > 1e-3 or error.mean() > 0.1:  # NaN, a broken model, is not our doing
        return f"a trial gave other logits than its own forward pass ({error.mean():.0%} off)"
    return None
