"""What autograd keeps for the backward pass, and the cost of recomputing it.

    kept(model, ids)                       bytes by part: attention, MLP, norms, loss
    kept_by_autocast(model, batch, dtype)  bytes of activations and of copies of the weights
    work(model, ids, checkpointing=True)   gradient, operations, how often a layer ran
    steps("tiny", config, [128] * 8)       a real step without and with checkpointing
    largest_batch(config, budget)          by simulation
"""

import bisect
import copy
from collections.abc import Callable
from typing import NamedTuple

import torch

from ftkit.model.checkpointing import checkpoint

KINDS = {"self_attn": "attention", "mlp": "MLP", "input_layernorm": "norms",
         "post_attention_layernorm": "norms", "norm": "norms"}


def saved_bytes(model, forward: Callable[[], object],
                part_of: Callable[[torch.Tensor], str] = lambda tensor: "saved") -> dict[str, int]:
    """Bytes that autograd saves for the backward pass during `forward()`, by part.

    A storage counts once, under the tensor saved first. Parameters of `model` do not count. The
    result of `forward` must hold the graph, as a loss does.
    """
    counted = {p.untyped_storage().data_ptr() for p in model.parameters()}
    totals: dict[str, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in counted:
            counted.add(storage.data_ptr())
            part = part_of(tensor)
            totals[part] = totals.get(part, 0) + storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        graph = forward()
    del graph  # until here it kept every storage alive, so that no address was used twice
    return totals


def kept(model, ids: torch.Tensor) -> dict[str, int]:
    """Bytes saved for the backward pass of the loss on `ids` (texts, tokens), by kind of layer.

    A tensor counts for the layer that saves it first; outside all layers, for the loss.
    """
    open_parts, hooks = ["loss"], []
    for name, module in model.named_modules():
        kind = KINDS.get(name.rpartition(".")[2])
        if kind:
            hooks += [module.register_forward_pre_hook(lambda *_, k=kind: open_parts.append(k)),
                      module.register_forward_hook(lambda *_: open_parts.pop() and None)]
    try:
        return saved_bytes(model, lambda: model(input_ids=ids, labels=ids, use_cache=False).loss,
                           lambda tensor: open_parts[-1])
    finally:
        for hook in hooks:
            hook.remove()


def kept_by_autocast(model, batch: dict, dtype: torch.dtype | None = None) -> dict[str, int]:
    """Bytes saved for the backward pass under autocast to `dtype` (None: without autocast).

    Returns bytes by "weights" (the copies that autocast makes) and "activations" (the rest).
    """
    shapes = {tuple(p.shape) for p in model.parameters() if p.ndim == 2}

    def part_of(tensor: torch.Tensor) -> str:
        is_copy = tensor.dtype == dtype and tensor.ndim == 2 and not shapes.isdisjoint(
            (tuple(tensor.shape), tuple(tensor.T.shape)))
        return "weights" if is_copy else "activations"

    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        return {"activations": 0, "weights": 0} | saved_bytes(
            model, lambda: model(**batch).loss, part_of)


class Work(NamedTuple):
    """One forward and backward pass: gradient (flat), floating-point operations, passes through the
    first layer, and the fraction of the forward pass spent in layers."""

    gradient: torch.Tensor
    operations: int
    passes: int
    in_layers: float


def work(model, ids: torch.Tensor, checkpointing: bool = False, early_stop: bool = True) -> Work:
    """Measure one step of a copy of `model`.

    early_stop: stop recomputing a layer once all needed tensors are there, torch's default. False:
    recompute whole layers, as textbooks describe it.
    """
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
    forward_flops = forward.get_total_flops()
    return Work(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]),
                forward_flops + backward.get_total_flops(), len(passes),
                1 - 2 * ids.numel() * head.numel() / forward_flops)


def steps(model, config, lengths: list[int]) -> dict:
    """Measurements of a real training step without and with checkpointing."""
    from ftkit.memory_use import measure

    return {name: measure.step(model, config.but(gradient_checkpointing=on), lengths)
            for name, on in (("without", False), ("with checkpointing", True))}


def largest_batch(config, budget: float, model="tiny", **options) -> int:
    """Largest batch size (0 to 4,096) whose step fits into `budget` bytes, by `ft.memory`.

    options: passed to `ft.memory`.
    """
    from ftkit.memory_use.footprint import memory

    def peak(batch: int) -> int:
        return memory(config, model, batch_size=batch, **options).peak

    most = 1  # doubled, since small batches are the usual answer and each peak takes a trace
    while most < 4096 and peak(most) <= budget:
        most *= 2
    return bisect.bisect_right(range(1, most + 1), budget, lo=most // 2, key=peak)
