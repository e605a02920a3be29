"""Causal attention within each sequence of a packed row, without a mask over the whole row.

    packed.layout.attend(q, k, v, scale, window, dropout)     called by each attention layer

On CPU, sequences of similar length are padded to one length and computed by two batched matmuls, or
by SDPA if they are long. On a GPU in half precision, torch's varlen attention takes the whole row.
"""

import functools
import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

MAX_WASTED_SCORES = 1024  # attention scores that padding may waste before a group is split
# Longer sequences use SDPA, which does not keep attention scores for the backward pass.
BMM_MAX_LENGTH = 512


@dataclass
class Layout:
    """The positions of the sequences in a packed row of T tokens.

    lengths: of the sequences, longest first. row_index: index in the row of each token, for all
    sequences one after the other; None if the row is the sequences in order. keep: a callback
    that stores keys and values. Each layer calls it once as keep(k, v, layer) with all sequences
    (sum of lengths, KV, D), or for each group as keep(k, v, layer, first) with (KV, count, longest,
    D) and the index of the group's first sequence. bmm_max_length: longest sequence that uses two
    matmuls on CPU; longer ones use SDPA.
    """

    lengths: list[int]
    row_index: torch.Tensor | None = None
    keep: Callable | None = None
    bmm_max_length: int = BMM_MAX_LENGTH
    cache: dict = field(default_factory=dict, repr=False)  # masks and indices, per device
    windows: set = field(default_factory=set, repr=False)  # the layers' windows (None: no limit)

    @functools.cached_property
    def groups(self) -> list[tuple[int, int]]:
        """Groups of neighboring sequences that are padded to one length: (count, longest)."""
        groups: list[tuple[int, int]] = []
        for n in self.lengths:
            if groups and 0 <= groups[-1][1] ** 2 - n**2 <= MAX_WASTED_SCORES:
                groups[-1] = (groups[-1][0] + 1, groups[-1][1])
            else:
                groups.append((1, n))
        return groups

    def remember(self, key, make):
        """Return the value of `key`; the first layer that asks computes it by `make()`."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def attend(self, q, k, v, scale, window, dropout, layer=None):
        """Compute causal attention within each sequence.

        q: (H, T, D), k and v: (KV, T, D) with KV dividing H; returns (T, H, D). With a `window` of
        w, a token attends to itself and the w - 1 tokens before it.
        """
        self.windows.add(window)
        heads, tokens, _ = q.shape
        kv, device = k.shape[0], q.device
        varlen = _varlen(q) if not dropout else None
        # (T, KV, group_size * D): the query heads of one key head are adjacent.
        q, k, v = (x.transpose(0, 1).reshape(tokens, kv, -1) for x in (q, k, v))
        index, home = self.remember(
            ("index", device, varlen is None, kv),
            lambda: [None if x is None else x.to(device)
                     for x in self._index(tokens, kv, varlen is None)])
        if varlen:
            if index is not None:
                q, k, v = (x.index_select(0, index) for x in (q, k, v))
            if self.keep:
                self.keep(k, v, layer)
            out = _varlen_attention(varlen, self, q, k, v, heads // kv, scale, window)
            return out if home is None else out.index_select(0, home)
        sizes = [count * longest for count, longest in self.groups]
        if index is None:
            split = (x.transpose(0, 1).split(sizes, 1) for x in (q, k, v))
        else:
            rows = (x.flatten(0, 1).index_select(0, index) for x in (q, k, v))
            split = ([part.view(kv, -1, x.shape[1]) for part in x.split([kv * n for n in sizes])]
                     for x in rows)
        parts, start = [], 0
        for (count, longest), q_part, k_part, v_part in zip(self.groups, *split, strict=True):
            if self.keep:
                shape = kv, count, longest, -1
                self.keep(k_part.reshape(shape), v_part.reshape(shape), layer, start)
                start += count
            small = longest <= self.bmm_max_length and device.type == "cpu"
            parts.append((_bmm_attention if small else _sdpa_attention)(
                self, q_part, k_part, v_part, count, longest, heads // kv, scale, window, dropout))
        if home is None:
            out = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
            return out.transpose(0, 1).reshape(tokens, heads, -1)
        parts = [part.flatten(0, 1) for part in parts]
        out = torch.cat(parts) if len(parts) > 1 else parts[0]
        return out.index_select(0, home).view(tokens, heads, -1)

    def _index(self, tokens: int, kv: int, pad: bool):
        """Return (indices that gather the sequences from the row, indices that invert this).

        Both are None if the order does not change. With `pad` they index (token, key head), and
        each group is in the order (key head, sequence, token), as a batched matmul needs it.
        Shorter sequences are padded with their first token at the end, where the causal mask hides
        it. The result of a token shared by several sequences is taken from one of them.
        """
        row_index = range(tokens) if self.row_index is None else self.row_index.tolist()
        index, home, start, lengths = [], [0] * tokens, 0, iter(self.lengths)
        for count, longest in self.groups:
            for n in itertools.islice(lengths, count):
                sequence = row_index[start : start + n]
                for i, row in enumerate(sequence, len(index)):
                    home[row] = i
                index += sequence
                index += [sequence[0]] * (longest - n if pad else 0)
                start += n
        if index == list(range(tokens)):
            return None, None
        index, home = torch.tensor(index), torch.tensor(home)
        if not pad:
            return index, home
        head, sizes = torch.arange(kv), [count * longest for count, longest in self.groups]
        index = torch.cat([(x * kv + head[:, None]).flatten() for x in index.split(sizes)])
        size = torch.tensor(sizes)
        ends = size.cumsum(0)
        group = torch.bucketize(home, ends, right=True)
        home = home + (ends - size)[group] * (kv - 1)
        return index, (home[:, None] + size[group, None] * head).flatten()


def _mask(length, window, device):
    """Create a mask (L, L), true where a query attends to a key. A window includes the query."""
    i = torch.arange(length, device=device)
    seen = i[:, None] >= i
    return seen if window is None else seen & (i[:, None] - i < window)


def _bmm_attention(layout, q, k, v, count, length, group_size, scale, window, dropout):
    """Compute attention by two batched matmuls. On CPU this is faster than SDPA, whose bf16
    backward pass is four times slower."""
    kv, dim = k.shape[0], k.shape[-1]
    q = q.reshape(kv * count, length * group_size, dim)
    k, v = k.reshape(kv * count, length, dim), v.reshape(kv * count, length, -1)

    def make():
        hidden = torch.zeros(length, length, dtype=q.dtype)
        hidden.masked_fill_(~_mask(length, window, q.device), float("-inf"))
        return hidden.repeat_interleave(group_size, 0)

    bias = layout.remember(("bias", length, group_size, window, q.dtype), make)
    # Softmax in fp32, as in transformers' eager attention; in bf16 it would be three times slower.
    weights = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=scale)
    weights = weights.softmax(-1, dtype=torch.float32).to(q.dtype)
    weights = F.dropout(weights, dropout) if dropout else weights
    return torch.bmm(weights, v).view(kv, count * length, -1)


def _sdpa_attention(layout, q, k, v, count, length, group_size, scale, window, dropout):
    kv, dim = k.shape[0], k.shape[-1]
    q = q.reshape(kv, count, length, group_size, dim).permute(1, 0, 3, 2, 4).flatten(1, 2)
    k, v = (x.reshape(kv, count, length, x.shape[-1]).transpose(0, 1) for x in (k, v))
    window = None if window is None or window >= length else window
    mask = None if window is None else layout.remember(
        ("mask", length, window, q.device), lambda: _mask(length, window, q.device))
    out = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None,
                                         scale=scale, enable_gqa=group_size > 1)
    out = out.unflatten(1, (kv, group_size)).permute(1, 0, 3, 2, 4)  # (KV, count, L, group_size, D)
    return out.reshape(kv, count * length, -1)


@functools.cache
def _varlen_function():
    """Import torch's varlen attention; None if it lacks windows or grouped heads."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"window_size", "enable_gqa", "scale"} <= set(known) else None


def _varlen(q):
    """Return the varlen function, or None unless the queries are in half precision on a GPU."""
    half = q.is_cuda and q.dtype in (torch.bfloat16, torch.float16)
    return _varlen_function() if half else None


def _varlen_attention(varlen, layout, q, k, v, group_size, scale, window):
    def make():
        ends = torch.tensor([0, *layout.lengths]).cumsum(0)
        return ends.to(device=q.device, dtype=torch.int32), max(layout.lengths)

    ends, longest = layout.remember(("ends", q.device), make)
    tokens, kv, dim = k.shape
    left = -1 if window is None else window - 1
    out = varlen(q.reshape(tokens, kv * group_size, dim), k, v, ends, ends, longest, longest,
                 scale=scale, window_size=(left, 0), enable_gqa=group_size > 1)
    return out
