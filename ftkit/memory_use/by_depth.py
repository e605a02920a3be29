"""Extrapolate the traced step of a deep model from two shallow ones: exact, and much faster.

    step(shape, config, [512] * 4)        as `simulate.step`
    trace(shape, config, batches)         as `simulate.trace`

The layers of a model repeat. They are all alike, or form periods such as five layers with sliding
attention and one with full attention, perhaps after a prefix (such as the dense first layers of a
mixture of experts). Each further period adds the same bytes to every moment of a step. Therefore
the step is traced with one period and with two, and each moment is extrapolated linearly. Moments
near the first layers are matched by distance from the first layer, others by distance from the
last. The peak is the maximum. Models with few layers or without a period are traced completely.
"""

import copy
from collections.abc import Iterator

from ftkit.engine import packed_batch
from ftkit.memory_use import simulate
from ftkit.memory_use.traced_step import Step, aligned, on_a_line

LONGEST_PREFIX, LONGEST_PERIOD = 8, 12
# Attributes of a config that select layers: those below a number, those in a list, every n-th one.
FIRST, LISTED, EVERY = ("first_k_dense_replace",), ("mlp_only_layers", "moe_layers"), (
    ("decoder_sparse_step", None), ("attn_layer_period", "attn_layer_offset"),
    ("expert_layer_period", "expert_layer_offset"))


def step(shape, config, lengths: list[int], supervised: float = 1.0, *options,
         **named) -> Step:
    """Trace like `simulate.step`, extrapolated from shallow models if the layers repeat."""
    return trace(shape, config, simulate.batches(config, lengths, supervised), *options, **named)


def trace(shape, config, batches: list[packed_batch.PackedBatch], *options, **named) -> Step:
    """Trace like `simulate.trace`, extrapolated from shallow models if the layers repeat."""
    layers = kinds(shape.get_text_config())
    found = depths(layers)
    if found is not None:
        prefix, period, depth = found
        one, two = (simulate.trace(cut(shape, n), config, batches, *options, **named)
                    for n in (depth, depth + period))
        both = aligned(one, two, list(_pairs(one, two, prefix, period)))
        if both is not None:
            return on_a_line(both[0], both[1], (len(layers) - depth) / period)
    return simulate.trace(shape, config, batches, *options, **named)


def depths(layers: list) -> tuple[int, int, int] | None:
    """Choose (layers before the first period, layers per period, layers of the shallower model)
    with the fewest layers to trace; None if the whole model has no more layers."""
    count, best = len(layers), None
    for prefix in range(min(LONGEST_PREFIX, count) + 1):
        for period in range(1, LONGEST_PERIOD + 1):
            if any(layers[i] != layers[i + period] for i in range(prefix, count - period)):
                continue
            depth = max(2, prefix + period)
            depth += (count - depth) % period
            if best is None or 2 * depth + period < 2 * best[2] + best[1]:
                best = prefix, period, depth
    return best if best and 2 * best[2] + best[1] < count else None


def kinds(config) -> list:
    """Return for each layer a value that identifies its kind by the config; equal layers match."""
    count = config.num_hidden_layers
    if getattr(config, "num_kv_shared_layers", 0):
        return [object() for _ in range(count)]  # no period: the last layers use others' keys
    lists = [value for _, value in _lists(config)]
    for name in ("layers_block_type", "layer_types"):  # properties of some configs
        value = getattr(config, name, None)
        lists += [value] if isinstance(value, list | tuple) and len(value) == count else []
    return [(*(str(one[i]) for one in lists),
             *(i < (getattr(config, name, 0) or 0) for name in FIRST),
             *(i in (getattr(config, name, None) or ()) for name in LISTED),
             *(_is_every(config, i, *names) for names in EVERY)) for i in range(count)]


def cut(shape, layers: int):
    """Copy a transformers config, with only the first `layers` layers."""
    shape = copy.deepcopy(shape)
    config = shape.get_text_config()
    for name, value in _lists(config):
        setattr(config, name, value[:layers])
    config.num_hidden_layers = layers
    return shape


# ------------------------------------------------------------------ inside


def _pairs(one, two, prefix: int, period: int) -> Iterator[tuple]:
    """Yield pairs of matching moments (keys) of two Steps, the second one period deeper."""
    there, last = set(two.keys), max(key[2] for key in one.keys)
    for key in dict.fromkeys(one.keys):
        kind, number, layer, *rest = key
        if kind == "head" and layer == last:
            layer += period  # after the last layer
            key_there = (kind, number, layer, *rest)
            if key_there in there:
                yield key, key_there
            continue
        if key in there:
            yield key, key
        from_the_end = (kind, number, layer + period, *rest)
        if kind in ("forward", "head", "backward") and layer >= max(1, prefix) and (
                from_the_end in there):
            yield key, from_the_end


def _is_every(config, i: int, period: str, offset: str | None) -> bool:
    every = getattr(config, period, 0) or 0
    begin = getattr(config, offset, 0) if offset else every - 1
    return bool(every) and i % every == begin % every


def _lists(config) -> list[tuple[str, list]]:
    """Find the lists in a config that have one item per layer."""
    return [(name, list(value)) for name, value in vars(config).items()
            if isinstance(value, list | tuple) and len(value) == config.num_hidden_layers]
