"""What autograd keeps for the backward pass, and what computing it again costs.

    kept(model, ids)                       bytes by part: attention, MLP, norms, loss
    work(model, ids, checkpointing=True)   gradient, operations, how often a layer ran
    steps("tiny", config, [128] * 8)       a real step without and with checkpointing
    largest_batch(config, budget)          by simulation
"""

from __future__ import annotations

import copy
import time
from typing import NamedTuple

import torch

from ftkit.model.checkpointing import checkpoint

KINDS = {"self_attn": "attention", "mlp": "MLP", "input_layernorm": "norms",
         "post_attention_layernorm": "norms", "norm": "norms"}


def kept(model, ids: torch.Tensor) -> dict:
    """Bytes that autograd keeps for the backward pass of the model's loss on `ids`, by part.

    Whoever keeps a tensor first is charged for it; the weights, which are there anyway, are not
    counted. Outside of all layers it is the loss.
    """
    inside, totals, hooks = ["loss"], {}, []
    for name, module in model.named_modules():
        kind = KINDS.get(name.rpartition(".")[2])
        if kind:
            hooks.append(module.register_forward_pre_hook(lambda *_, k=kind: inside.append(k)))
            hooks.append(module.register_forward_hook(lambda *_: inside.pop() and None))
    seen = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            totals[inside[-1]] = totals.get(inside[-1], 0) + storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    del loss  # it held the graph, so that no storage was given out twice
    for hook in hooks:
        hook.remove()
    return totals


class Work(NamedTuple):
    """One forward and backward pass: all gradients in one row, multiplications and additions, how
    often the first layer was computed, the share of the forward pass that lies in layers."""

    gradient: torch.Tensor
    operations: int
    passes: int
    share: float


def work(model, ids: torch.Tensor, checkpointing: bool = False, early_stop: bool = True) -> Work:
    """Count one step of a copy of `model`. early_stop: as torch does it, computing a layer again
    only as far as something is needed; False: all of it, as it is taught."""
    from torch.utils.checkpoint import set_checkpoint_early_stop
    from torch.utils.flop_counter import FlopCounterMode

    model, passes = copy.deepcopy(model).train(), []
    head = model.get_output_embeddings().weight
    if checkpointing:
        checkpoint(model)
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
    with set_checkpoint_early_stop(early_stop):
        with FlopCounterMode(display=False) as forward:
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    whole = forward.get_total_flops()
    return Work(torch.cat([p.grad.flatten() for p in model.parameters()]),
                whole + backward.get_total_flops(), len(passes),
                1 - 2 * ids.numel() * head.numel() / whole)


def steps(model, config, lengths: list[int]) -> dict:
    """A real training step measured (`measure.step`), without and with checkpointing."""
    from ftkit.memory_use import measure

    return {name: measure.step(model, config.but(gradient_checkpointing=on), lengths)
            for name, on in (("without", False), ("with checkpointing", True))}


def slowdown(model, config, lengths: list[int], repeats: int = 6) -> list[float]:
    """CPU time of a step with checkpointing over one without, for each pair of steps.

    They take turns, so that whatever else the machine does hits both; the first pair is thrown
    away. Sorted: the middle ones are what to read.
    """
    from ftkit.engine import loop, packed_loss
    from ftkit.memory_use import measure, simulate

    updates = [loop.Update(measure.prepare(model, c), c)
               for c in (config, config.but(gradient_checkpointing=True))]
    batch = packed_loss.flatten(
        [simulate.example(n) for n in lengths], updates[0].device, share=False
    )

    def seconds(update):
        start = time.process_time()
        update([batch], 1e-4)
        return time.process_time() - start

    pairs = [[seconds(update) for update in updates] for _ in range(repeats + 1)]
    return sorted(after / before for before, after in pairs[1:])


def largest_batch(config, budget: float, model="tiny", **asked) -> int:
    """The most texts in a batch whose step fits into `budget` bytes, by `ft.memory`; 0 if none
    does. Doubles until it fails, then halves the gap. asked: as in `ft.memory`."""
    from ftkit.memory_use.footprint import memory

    def fits(batch):
        return memory(config, model, batch_size=batch, **asked).peak <= budget

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
