"""Run transformers models on a packed row of tokens, if a trial shows that it works.

transformers lets callers register an attention function (`AttentionInterface`), to which it passes
keyword arguments of `model(...)`. Ours takes a `Layout`, which divides a packed row into sequences.
Without one it calls transformers' SDPA function, so `model(...)` and `generate` work as before. No
model code is replaced.
"""

# ruff: noqa: SLF001  (transformers names the attention in use by a private field only)

import contextlib
import functools
import weakref

import torch

from ftkit.engine.packed_batch import pack_sequences
from ftkit.model.eval_mode import evaluating
from ftkit.model.peft_methods import is_virtual

NAME = "ftkit"  # the name under which transformers knows our attention function
SLIDING = "sliding_attention"


class Unsupported(ValueError):
    """This model cannot run on packed batches; the message gives the reason."""


def attention(module, query, key, value, attention_mask, *args, ftkit_layout=None, **kwargs):
    """Attention function registered with transformers. query: (1, H, T, D), key and value: (1, KV,
    T, D). Returns output (1, T, H, D) and None for the weights."""
    if ftkit_layout is None:
        return _register()(module, query, key, value, attention_mask, *args, **kwargs)
    for name in ("softcap", "s_aux", "sinks", "position_bias", "head_mask"):
        if kwargs.get(name) is not None:
            raise Unsupported(f"the model's attention uses {name}")
    if attention_mask is not None and attention_mask.numel() > 1:
        raise Unsupported("the model's layers create their own attention masks")
    if kwargs.get("is_causal") is False or not getattr(module, "is_causal", True):
        raise Unsupported("the model's attention is not causal")
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
    """Register our function with transformers, once; returns transformers' SDPA function."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, AttentionMaskInterface()["sdpa"])
    return AttentionInterface()["sdpa"]


def base_of(model):
    """Return the transformers model inside a peft model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def switch_on(model):
    """Make `model` use our attention function permanently; `fast_path` does so temporarily."""
    base = base_of(model)
    if base.config._attn_implementation != NAME:
        _register()
        base.set_attn_implementation(NAME)


@contextlib.contextmanager
def fast_path(model):
    """Inside the block, `model` uses our attention function if it can."""
    base = base_of(model)
    before = getattr(getattr(base, "config", None), "_attn_implementation", None)
    try:
        if why_padded(model) is None:
            switch_on(base)
        yield
    finally:
        if before is not None and base.config._attn_implementation != before:
            base.set_attn_implementation(before)


def hidden_states(base, input_ids, position_ids, layout):
    """Compute the last hidden state (T, d) of a packed row; input_ids, position_ids: (T,)."""
    # transformers uses a mask that is already 4-D as it is.
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device)
    return base.get_decoder()(
        input_ids=input_ids[None], position_ids=position_ids[None], attention_mask=mask,
        use_cache=False, ftkit_layout=layout,
    )[0][0]


_reasons: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # model → {kernel: reason}


def why_padded(model) -> str | None:
    """Explain why a model needs padded batches; None if a packed forward pass gives equal logits.

    This is decided once per model, by a trial that compares the logits of a few tokens. On a GPU
    there is another trial under autocast, which changes the attention kernel.
    """
    reason = known_obstacle(model)
    if reason is not None:
        return reason
    base = base_of(model)
    reasons = _reasons.setdefault(base, {})
    device = next(base.parameters()).device.type
    kernel = "autocast" if device != "cpu" and torch.is_autocast_enabled(device) else None
    if kernel not in reasons:
        try:
            with torch.autocast(device, enabled=kernel is not None):
                reason = _trial(base)
        except Exception as error:  # noqa: BLE001  an unknown architecture may raise anything
            reason = str(error) or type(error).__name__
        reasons[kernel] = reason
    return reasons[kernel]


def known_obstacle(model) -> str | None:
    """Explain why a model's class or config rules out packed batches; None if they do not.

    A trial on a few tokens would not detect these reasons.
    """
    import transformers

    if is_virtual(model):
        return "virtual tokens precede the input"
    base = base_of(model)
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


def obstacle_met(model, layout) -> str | None:
    """Explain why a packed pass was invalid (arguments did not reach our attention); else None."""
    if not layout.windows:
        return "the model's layers do not pass keyword arguments on to the attention function"
    if _slides(base_of(model).config.get_text_config()) and layout.windows == {None}:
        return "the model's sliding window does not reach the attention function"
    return None


def _slides(config) -> bool:
    if getattr(config, "layer_types", None):
        return SLIDING in config.layer_types
    return bool(getattr(config, "sliding_window", None)
                and getattr(config, "use_sliding_window", True))


def _is_rounded(base) -> bool:
    """Whether results depend noticeably on the order of summation. They do for weights in bf16, 4
    bits (bf16 matmuls) or 8 bits (activations are rounded in eval mode)."""
    return base.dtype != torch.float32 or any(
        p.dtype == torch.int8 or getattr(p, "quant_state", None) is not None
        for p in base.parameters())


@torch.no_grad()
def _trial(base) -> str | None:
    embedding = base.get_input_embeddings().weight
    vocabulary, device = embedding.shape[0], embedding.device
    first = [(7 * i + 3) % vocabulary for i in range(9)]
    second = first[:2] + [(5 * i + 1) % vocabulary for i in range(3)]
    row = pack_sequences([first, second], device)
    layout = row.layout
    padded = torch.tensor([first, second + [0] * 4], device=device)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4], device=device)
    before = base.config._attn_implementation
    with evaluating(base):
        want = base(input_ids=padded, attention_mask=mask, use_cache=False).logits[mask.bool()]
        try:
            switch_on(base)
            hidden = hidden_states(base, row.input_ids, row.position_ids, layout)
        finally:
            base.set_attn_implementation(before)
        got = base.get_output_embeddings()(hidden[row.row_index])
    if reason := obstacle_met(base, layout):
        return reason
    exact = want.dtype == torch.float32 and not _is_rounded(base)
    error = (got.float() - want.float()).norm(dim=-1) / want.float().norm(dim=-1)
    # Rounding may change a single token a lot. nan means a broken model, not a wrong packed pass.
    if (exact and error.max() > 1e-3) or error.median() > 0.1:
        return f"a trial gave other logits than its own forward pass (off by {error.mean():.0%})"
    return None
