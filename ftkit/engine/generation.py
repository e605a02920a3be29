"""Batched generation, greedy (in fp32 token for token like transformers' `generate`) or sampled.

The model's own forward pass runs on packed tokens: first on all prompts of a batch in one row
without padding, then on one token per live sequence. Our attention function keeps keys and values
in slots of fixed size. When a sequence ends, a new prompt takes its slot (continuous batching), or
the last slots are moved there.
"""

import contextlib
import itertools
import math
import weakref

import torch

from ftkit.base import messages
from ftkit.base.errors import UserError
from ftkit.data import encoding
from ftkit.engine.packed_attention import base_of, fast_path, hidden_states, why_padded
from ftkit.engine.packed_batch import PackedSequences, pack_sequences
from ftkit.engine.prepacked_weights import prepacked
from ftkit.model import peft_methods
from ftkit.model.eval_mode import evaluating

SLOTS = 128  # sequences decoded at once, if their keys and values fit in CACHE_BYTES
CACHE_BYTES = 2**29
# Prompt tokens in one forward pass: few on CPU, so that they fit in its cache.
PREFILL_TOKENS = {"cpu": 1536, "cuda": 4096}


class Slots:
    """Key-value cache: tensors (slots, KV, room, D) per layer; live sequences use the first slots.

    Passed to the attention function in place of a `Layout`, it lets one new token per sequence
    attend to all earlier ones.
    """

    def __init__(self, slots: int, room: int):
        self.slots, self.room = slots, room
        self.used = 0  # initialized tokens of each slot; zero where no value is stored yet
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def use(self, longest: int):
        """Initialize slots for sequences of up to `longest` tokens.

        Other memory is not touched, since on CPU its page faults would take as long as a few steps.
        """
        if longest > self.used:
            before, self.used = self.used, min(longest + 7, self.room)
            for x in itertools.chain(*self.layers.values()):
                x[:, :, before : self.used] = 0

    def store(self, k, v, slot, position, layer):
        """Store k, v (tokens, KV, D) at (slot, position); returns all keys and values of the layer.

        If `position` is a slice, k and v are (sequences, KV, tokens, D).
        """
        if layer not in self.layers:
            self.layers[layer] = tuple(
                x.new_empty(self.slots, x.shape[1], self.room, x.shape[-1]) for x in (k, v))
            for x in self.layers[layer]:
                x[:, :, : self.used] = 0
        keys, values = self.layers[layer]
        keys[slot, :, position], values[slot, :, position] = k, v
        return keys, values

    def prefill(self, prompts: list[list[int]], slots: list[int],
                device) -> tuple[PackedSequences, torch.Tensor]:
        """Pack prompts (longest first) into a row whose keys and values are stored in `slots`.

        Returns the row, and the index in it of each prompt's last token.
        """
        row = pack_sequences(prompts, device)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        self.use(len(prompts[0]))
        at = torch.tensor(slots, device=device)

        def places():
            slot = torch.tensor(slots).repeat_interleave(lengths)
            return slot.to(device), torch.cat([torch.arange(n) for n in lengths]).to(device)

        def keep(k, v, layer, start=None):
            if start is None:
                slot, position = row.layout.remember("places", places)
                self.store(k[: len(slot)], v[: len(slot)], slot, position, layer)
            elif start < len(at):  # skip a group of only filler, which may exceed a slot
                slot = at[start : start + k.shape[1]]
                k, v = (x.transpose(0, 1)[: len(slot)] for x in (k, v))
                self.store(k, v, slot, slice(k.shape[2]), layer)

        row.layout.keep = keep
        return row, torch.tensor(row.row_index)[lengths.cumsum(0) - 1].to(device)

    def step(self, lengths: torch.Tensor):
        """Prepare one decoding step for the first slots, which contain `lengths` tokens."""
        self.lengths, self.longest = lengths, int(lengths.max()) + 1
        self.use(self.longest)
        self.bias: dict[int | None, torch.Tensor] = {}  # by sliding window
        self.live = torch.arange(len(lengths), device=lengths.device)

    def attend(self, q, k, v, scale, window, dropout, layer=None):
        """Compute attention like `Layout.attend`, for one new token per sequence."""
        keys, values = self.store(
            k.transpose(0, 1), v.transpose(0, 1), self.live, self.lengths, layer)
        heads, live, dim = q.shape
        kv = k.shape[0]
        if window not in self.bias:
            self.bias[window] = _hide(self.lengths, self.longest, window, q.dtype, kv)
        keys, values = (x[:live].flatten(0, 1)[:, : self.longest] for x in (keys, values))
        q = q.transpose(0, 1).reshape(live * kv, heads // kv, dim)
        weights = torch.baddbmm(self.bias[window], q, keys.transpose(1, 2), alpha=scale)
        weights = weights.softmax(-1, dtype=torch.float32).to(q.dtype)
        return torch.bmm(weights, values).view(live, heads, -1)

    def move(self, sources: torch.Tensor, targets: torch.Tensor):
        """Copy the slots `sources` to the slots `targets`."""
        for x in itertools.chain(*self.layers.values()):
            used = x[:, :, : self.used]
            used.index_copy_(0, targets, used.index_select(0, sources))


def _hide(position, longest, window, dtype, kv):
    """Create a bias (live * KV, 1, longest), -inf for future keys and keys outside the window."""
    i = torch.arange(longest, device=position.device)
    visible = i <= position[:, None]
    if window is not None:
        visible &= i > position[:, None] - window
    bias = torch.zeros(visible.shape, dtype=dtype, device=position.device)
    return bias.masked_fill_(~visible, float("-inf")).repeat_interleave(kv, 0)[:, None]


@torch.no_grad()
def generate(
    model, prompts: list[list[int]], max_new_tokens: int | list[int],
    eos_token_ids=(), slots: int | None = None, temperature: float = 0.0,
) -> list[list[int]]:
    """Continue each prompt (a list of token ids), greedily or by sampling.

    Returns the new tokens of each prompt, up to and including the first one in `eos_token_ids`, at
    most `max_new_tokens` (one number, or one per prompt). Computes in the precision of the weights,
    or under the caller's autocast; on near-ties bf16 may give other text than fp32.
    slots: sequences decoded at once; by default as many as fit in 512 MB, at most 128.
    temperature: above 0, tokens are sampled from softmax(logits / temperature). The random numbers
    are drawn in advance, so batches and slots do not change the answers (except by rounding).
    """
    if not isinstance(max_new_tokens, int):
        limits = list(max_new_tokens)
    else:
        limits = [max_new_tokens] * len(prompts)
    if len(limits) != len(prompts):
        raise UserError(f"max_new_tokens has {len(limits)} values for {len(prompts)} prompts; "
                        "expected one number, or one for each prompt")
    empty = [i for i, prompt in enumerate(prompts) if not prompt]
    if empty:
        raise UserError(f"prompt {empty[0]} is empty; expected at least one token")
    eos = {eos_token_ids} if isinstance(eos_token_ids, int) else set(eos_token_ids)
    with evaluating(model), fast_path(model):
        if peft_methods.is_virtual(model):
            return _behind_virtual_tokens(model, prompts, limits, eos,
                                          Sampler(limits, temperature))
        longest = max((len(p) + n for p, n in zip(prompts, limits, strict=True)), default=0)
        if longest > (most := _rotates_alike(base_of(model))):
            messages.say_once(
                f"beyond {most:,} tokens this model rotates its keys by the length of the longest "
                "sequence in a batch, so prompts are answered one at a time")
            return _fallback(model, prompts, limits, eos, temperature, batch_size=1)
        if why_padded(model) or _cannot_decode(base_of(model)):
            return _fallback(model, prompts, limits, eos, temperature)
        with prepacked(model):
            return _decode(base_of(model), prompts, limits, eos, slots,
                           Sampler(limits, temperature))


class Sampler:
    """Chooses next tokens, greedily or at a temperature."""

    def __init__(self, limits: list[int], temperature: float):
        self.temperature = temperature
        self.draws: torch.Tensor | None = None
        if temperature:  # a random number in [0, 1) for each token of each prompt
            self.draws = torch.rand(len(limits), max(limits, default=0), dtype=torch.float64)

    def __call__(self, logits, prompts: list[int], outputs: list[list[int]]) -> torch.Tensor:
        """Choose each prompt's next token from logits (len(prompts), vocabulary)."""
        if self.draws is None:
            return logits.argmax(-1)
        draw = self.draws[prompts, [len(outputs[i]) for i in prompts]].to(logits.device)
        cumulative = (logits.float() / self.temperature).softmax(-1).double().cumsum(-1)
        below = draw[:, None] * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, below, right=True)[:, 0]
        return token.clamp_(max=logits.shape[-1] - 1)  # a draw close to 1 may be rounded up to 1


def _decode(base, prompts, limits, eos, slots, sampler):
    device = base.get_input_embeddings().weight.device
    head = base.get_output_embeddings()
    outputs: list[list[int]] = [[] for _ in prompts]
    # Longest prompts first, so that sequences of similar length are decoded together.
    waiting = sorted((i for i in range(len(prompts)) if limits[i] > 0),
                     key=lambda i: len(prompts[i]))
    if not waiting:
        return outputs
    most = PREFILL_TOKENS["cpu" if device.type == "cpu" else "cuda"]
    room = max(len(prompts[i]) + limits[i] for i in waiting)
    slots = min(slots or _fitting(base, room), len(waiting))
    cache = Slots(slots, room)
    live: dict[int, int] = {}  # slot -> prompt
    token, length = torch.zeros(2, slots, dtype=torch.long, device=device)

    def next_token(prompts, ids, positions, layout, rows=None):
        hidden = hidden_states(base, ids, positions, layout)
        return sampler(head(hidden if rows is None else hidden[rows]), prompts, outputs)

    while waiting or live:
        free = [slot for slot in range(slots) if slot not in live]
        if waiting and len(free) >= min(len(waiting), max(1, slots // 4)):
            new, tokens = [], 0
            while waiting and len(new) < len(free) and (
                not new or tokens + len(prompts[waiting[-1]]) <= most
            ):
                new.append(waiting.pop())
                tokens += len(prompts[new[-1]])
            at = free[: len(new)]
            row, last = cache.prefill([prompts[i] for i in new], at, device)
            first = next_token(new, row.input_ids, row.position_ids, row.layout, last)
            target = torch.tensor(at, device=device)
            token[target] = first
            length[target] = torch.tensor([len(prompts[i]) for i in new], device=device)
            live.update(zip(at, new, strict=True))
            fresh = zip(at, first.tolist(), strict=True)
        else:
            n = len(live)
            late = [slot for slot in live if slot >= n]
            if late:  # move them to the slots of finished sequences
                gaps = free[: len(late)]
                source, target = torch.tensor([late, gaps], device=device)
                cache.move(source, target)
                token[target], length[target] = token[source], length[source]
                live.update(zip(gaps, map(live.pop, late), strict=True))
            cache.step(length[:n])
            token[:n] = next_token([live[i] for i in range(n)], token[:n], length[:n], cache)
            length[:n] += 1
            fresh = enumerate(token[:n].tolist())
        for slot, t in fresh:
            i = live[slot]
            outputs[i].append(t)
            if t in eos or len(outputs[i]) == limits[i]:
                del live[slot]
    return outputs


def _fitting(base, room: int) -> int:
    """Number of sequences of `room` tokens whose keys and values fit in CACHE_BYTES."""
    config = base.config.get_text_config()
    heads = config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv = getattr(config, "num_key_value_heads", None) or heads
    size = 2 * config.num_hidden_layers * kv * dim * base.dtype.itemsize * room
    return max(8, min(SLOTS, CACHE_BYTES // size))


def _rotates_alike(base) -> float:
    """Number of tokens up to which the rotary angles do not depend on the length of a sequence.

    For rope types dynamic and longrope, one longer sequence changes them for its whole batch.
    """
    config = base.config.get_text_config()
    given = getattr(config, "rope_parameters", None) or {}
    most = []
    for rope in (given, *(part for part in given.values() if isinstance(part, dict))):
        if rope.get("rope_type") in ("dynamic", "longrope"):
            most += [rope.get("original_max_position_embeddings") or config.max_position_embeddings]
    return min(most, default=math.inf)


_trials: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _cannot_decode(base) -> bool:
    """Whether decoding from slots gives hidden states that differ from a full forward pass."""
    if base not in _trials:
        embedding = base.get_input_embeddings().weight
        ids = [(7 * i + 3) % embedding.shape[0] for i in range(9)]
        prompts, cache = [ids[:5], ids[5:]], Slots(2, 6)
        row = pack_sequences(prompts, embedding.device)
        whole = hidden_states(base, row.input_ids, row.position_ids, row.layout)[[4, 8]]
        row, _ = cache.prefill([prompt[:-1] for prompt in prompts], [0, 1], embedding.device)
        hidden_states(base, row.input_ids, row.position_ids, row.layout)
        lengths = torch.tensor([4, 3], device=embedding.device)
        cache.step(lengths)
        last = torch.tensor([ids[4], ids[8]], device=embedding.device)
        parts = hidden_states(base, last, lengths, cache)
        error = (parts.float() - whole.float()).norm() / whole.float().norm()
        _trials[base] = bool(error > (1e-3 if parts.dtype == torch.float32 else 0.1))
    return _trials[base]


def _behind_virtual_tokens(model, prompts, limits, eos, sampler, batch_size: int = 64):
    """Generate with a full forward pass per token, padded on the right.

    peft 0.21 with transformers 5 loses the virtual tokens in `generate` (prefix tuning) or shifts
    the positions after them (prompt tuning); its forward pass is correct.
    """
    device = next(model.parameters()).device
    outputs: list[list[int]] = [[] for _ in prompts]
    order = sorted((i for i in range(len(prompts)) if limits[i] > 0), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch_size):
        live = order[start : start + batch_size]
        while live:
            ids, mask = _padded([prompts[i] + outputs[i] for i in live], "right", device)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            logits = logits[:, -ids.shape[1]:][torch.arange(len(live)), mask.sum(1) - 1]
            for i, token in zip(live, sampler(logits, live, outputs).tolist(), strict=True):
                outputs[i].append(token)
            live = [i for i in live if outputs[i][-1] not in eos and len(outputs[i]) < limits[i]]
    return outputs


def _padded(rows: list[list[int]], side: str, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their attention mask, (rows, longest)."""
    examples = [{"input_ids": row, "labels": row} for row in rows]
    batch = encoding.collate(examples, 0, side)
    return batch["input_ids"].to(device), batch["attention_mask"].to(device)


def _fallback(model, prompts, limits, eos, temperature, batch_size: int = 32):
    """Generate with transformers' `generate`, padded on the left."""
    from transformers import GenerationConfig

    sampling = {"do_sample": temperature > 0}
    if temperature:
        sampling |= {"temperature": temperature, "top_k": 0}  # no limit; the default is 50
    device = next(model.parameters()).device
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    outputs: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), batch_size):
        chosen = [i for i in order[start : start + batch_size] if limits[i] > 0]
        if not chosen:
            continue
        ids, mask = _padded([prompts[i] for i in chosen], "left", device)
        config = GenerationConfig(
            **sampling, max_new_tokens=max(limits[i] for i in chosen),
            eos_token_id=sorted(eos) or None, pad_token_id=0)
        with _plain_generation_config(base_of(model)):
            out = model.generate(input_ids=ids, attention_mask=mask,
                                 generation_config=config)[:, ids.shape[1]:].tolist()
        for i, row in zip(chosen, out, strict=True):
            length = min(limits[i], len(row))
            end = next((j + 1 for j in range(length) if row[j] in eos), length)
            outputs[i] = row[:end]
    return outputs


@contextlib.contextmanager
def _plain_generation_config(base):
    """Hide the model's own generation_config, which would add options such as a repetition penalty
    to those given to `generate`."""
    from transformers import GenerationConfig

    own, base.generation_config = base.generation_config, GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = own
