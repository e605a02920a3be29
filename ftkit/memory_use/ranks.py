"""One training step of one of several ranks, on fake tensors: what `ftkit run --torchrun` runs.

    step(shape, config, [512] * 4, ranks=8, stage=3)      as `simulate.step`, for one rank

The forward pass, its loss and autograd are traced as in `simulate`. What DDP (stages 0 and 1) and
FSDP2 (2 and 3) allocate besides is allocated here at the same moments, after torch 2.13's
`torch/distributed/fsdp/_fully_shard`: the buffer of an all-gather and the weights that are copied
out of it, the weights of the next layer on their way, the input of a reduce-scatter, which stays
until the next one, and on a CPU the copies that gloo makes of both.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ftkit.engine import loop, packed_attention, packed_batch
from ftkit.memory_use import formula, simulate
from ftkit.memory_use.meter import CLIP, STEP, Meter
from ftkit.model import loading

FP32 = torch.float32
DOUBLE = 8  # bytes: the script adds the squares of a gradient up in float64, on a CPU in a copy


def step(shape, config, lengths: list[int], ranks: int, stage: int, supervised: float = 1.0,
         device: str = "cpu") -> simulate.Step:
    """Trace one optimizer step of `config` on one of `ranks`; lengths are those of its own rows.

    Weights, gradients and optimizer state in the result are this rank's shard.
    """
    sharded = stage >= 2
    narrow = sharded and config.precision == "bf16"  # what FSDP2 gathers
    model = simulate.build(shape, config.but(precision="pure-bf16") if narrow else config, "sdpa")
    block = 512 if device == "cuda" else 1
    with FakeTensorMode() as mode, simulate.Decisions():
        simulate.materialize(model)
        model.train()
        meter = Meter(model, round_to=block, timeline=True)
        whole = dict(meter.now)
        batches = [simulate.fake(packed_batch.pack(
            [simulate.example(n, supervised) for n in lengths], share=False), mode, device)
            for _ in range(min(config.gradient_accumulation_steps, simulate.ACCUMULATED))]
        with meter:
            engine = (_FSDP2(model, meter, ranks, stage, narrow, device == "cpu") if sharded
                      else _DDP(model, meter))
            meter.reset()
            for batch in batches[:simulate.READ if device == "cuda" else None]:
                _loss_sum(model, batch, config.precision).backward()
                engine.after_backward()
    trainable, parameters = loading.count(model)
    held = states(parameters, trainable, config, ranks, stage, _sizes(model))
    timeline = [(phase, _shared(now, whole, held)) for phase, now in meter.timeline]
    timeline += [_updated(phase, whole, held, model, ranks, stage, device)
                 for phase in (CLIP, STEP)]
    moment, at_peak = max(timeline, key=lambda point: sum(point[1].values()))
    largest = {part: max(now[part] for _, now in timeline) for part in at_peak}
    return simulate.Step(round(sum(at_peak.values())), at_peak, moment, largest,
                         round(sum(held.values()) - held["gradients"]), trainable, parameters,
                         timeline, simulate.facts(model))


def states(parameters: int, trainable: int, config, ranks: int, stage: int,
           sizes: list[int] | None = None) -> dict:
    """Bytes of weights, gradients and optimizer state that a rank holds between forward and
    backward passes. FSDP2 divides the weights at stage 2 too, and gathers them once a step.

    sizes: elements of each trained parameter. At stage 1 each optimizer state is whole on one
    rank, and the largest shard of a rank is given.
    """
    divided = 3 if stage >= 2 else stage
    held = formula.states(parameters, trainable, config, ranks, divided, papers=False)
    if stage == 1 and sizes:
        shares = [0] * ranks
        for size in sorted(sizes, reverse=True):
            shares[shares.index(min(shares))] += size
        held["optimizer"] *= max(shares) * ranks / trainable
    return held


# ------------------------------------------------------------------ inside


def _sizes(model) -> list[int]:
    return [p.numel() for p in model.parameters() if p.requires_grad]


def _shared(now: dict, whole: dict, held: dict) -> dict:
    """Parts at one moment, where the trace counted the whole weights and no optimizer."""
    return now | {"weights": now["weights"] - whole["weights"] + held["weights"],
                  "optimizer": held["optimizer"], "master": 0}


def _updated(phase, whole, held, model, ranks, stage, device) -> tuple[str, dict]:
    """(phase, parts) when gradients are clipped or weights are updated: all states, and what is
    held for a moment for the largest tensor."""
    largest = 4 * max(_sizes(model)) / (ranks if stage >= 2 else 1)
    if phase == CLIP:
        moment = largest * DOUBLE / 4 if device == "cpu" else 0
    else:
        moment = 2 * largest if device == "cpu" else 0  # not fused there: a root and a quotient
    parts = dict.fromkeys(whole, 0) | {k: held[k] for k in ("weights", "gradients", "optimizer")}
    return phase, parts | {"other": moment, "master": 0}


def _loss_sum(model, batch, precision: str):
    """The loss as `ftkit/distributed/train_script.py` computes it: padded rows, all logits."""
    pad = torch.nn.utils.rnn.pad_sequence
    ids, labels = (pad([torch.tensor(e[name]) for e in batch.examples], batch_first=True)
                   for name in ("input_ids", "labels"))
    ragged = len({len(e["input_ids"]) for e in batch.examples}) > 1
    mask = torch.ones_like(ids) if ragged else None  # transformers drops one without padding
    with loop.autocast(torch.device("cpu"), precision):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100,
        reduction="sum")


class _DDP:
    """DistributedDataParallel: gradients are in buckets that live as long as the model; each one
    exists a second time from its computation to the moment when it is copied there."""

    def __init__(self, model, meter):
        trained = [p for p in model.parameters() if p.requires_grad]
        self.buckets = [torch.empty_like(p) for p in trained]
        for bucket, p in zip(self.buckets, trained, strict=True):
            meter.hold(bucket, "gradients")
            p.register_post_accumulate_grad_hook(_forget_gradient)

    def after_backward(self):
        """Nothing is left to do: the gradients are in their buckets."""


def _forget_gradient(p):
    p.grad = None


@dataclasses.dataclass(eq=False)
class _Group:
    """Parameters that are gathered together: those of a layer, or all others (the root).

    gathered, summed: elements, with what fills the last shard up. whole: the gathered weights;
    buffer: those of an all-gather that is not copied out yet; shard: of the summed gradients.
    """

    params: list
    gathered: int
    summed: int
    whole: torch.Tensor | None = None
    buffer: torch.Tensor | None = None
    shard: torch.Tensor | None = None
    is_done: bool = True


class _FSDP2:
    """`fully_shard` on each layer and on the whole model; see `FSDPParamGroup` of torch."""

    def __init__(self, model, meter, ranks, stage, narrow, is_gloo):
        self.meter, self.ranks, self.narrow, self.is_gloo = meter, ranks, narrow, is_gloo
        self.reshards = stage == 3
        self.dtype = torch.bfloat16 if narrow else FP32
        self.last_buffer, self.reduced = None, []  # both stay until the next group has come so far
        base = packed_attention.base_of(model)
        kinds = set(getattr(base, "_no_split_modules", None) or ())
        layers = [m for m in base.modules() if type(m).__name__ in kinds]
        taken, self.groups = set(), []
        for module in (*layers, model):
            group = self._group([p for p in module.parameters() if id(p) not in taken])
            taken |= {id(p) for p in group.params}
            self.groups.append(group)
            module.register_forward_pre_hook(functools.partial(self._before, group),
                                             with_kwargs=True, prepend=True)
            module.register_forward_hook(functools.partial(self._after, group))

    def after_backward(self):
        """The end of a backward pass: the root, whose input has no gradient, comes last."""
        for group in (self.groups[-1], *self.groups[:-1]):
            if not group.is_done:
                self._reduce(group)
        self.reduced = []

    def _group(self, params) -> _Group:
        def elements(chosen):
            return sum(-(-p.shape[0] // self.ranks) * self.ranks * p[:1].numel() for p in chosen)

        return _Group(params, elements(params), elements(p for p in params if p.requires_grad))

    def _new(self, elements: int, dtype: torch.dtype, part: str = "other"):
        tensor = torch.empty(elements, dtype=dtype)
        self.meter.hold(tensor, part)
        return tensor

    def _before(self, group, module, args, kwargs):
        if _is_backward():  # a checkpointed layer is computed again
            return args, kwargs
        self._gather(group, forward=True)
        group.is_done = False

        def watched(x):
            return _Reached.apply(functools.partial(self._reduce, group), x) if isinstance(
                x, torch.Tensor) and x.requires_grad else x

        return tuple(map(watched, args)), {k: watched(v) for k, v in kwargs.items()}

    def _after(self, group, module, args, output):
        if _is_backward():
            return
        if self.reshards:
            group.whole = None
        if group is self.groups[-1]:
            self.last_buffer = None
        tensors = output.values() if isinstance(output, dict) else (
            output if isinstance(output, tuple) else (output,))
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
                tensor.register_hook(functools.partial(self._before_backward, group))

    def _before_backward(self, group, _):
        self._gather(group)
        place = self.groups.index(group)
        if place and self.reshards and not self.groups[place - 1].is_done:
            self._start_gather(self.groups[place - 1])

    def _start_gather(self, group):
        if group.buffer is not None or group.whole is not None:
            return
        own = self._new(group.gathered // self.ranks, self.dtype) if self.narrow else None
        group.buffer = self._new(group.gathered, self.dtype)
        by_gloo = self._new(group.gathered, self.dtype) if self.is_gloo else None
        del own, by_gloo

    def _gather(self, group, forward: bool = False):
        if group.whole is not None:
            return
        self._start_gather(group)
        if forward:
            self.last_buffer = None
        group.whole = self._new(group.gathered, self.dtype)
        if forward:
            self.last_buffer = group.buffer
        group.buffer = None

    def _reduce(self, group):
        if group.is_done:
            return
        group.is_done, group.whole = True, None
        self.reduced = []
        if not group.summed:
            return
        together = self._new(group.summed, FP32)
        for p in group.params:
            p.grad = None
        summed = self._new(group.summed // self.ranks, FP32, "gradients")
        by_gloo = self._new(group.summed, FP32) if self.is_gloo else None
        self.reduced = [together]
        if group.shard is None:  # else it is added to the shard of the batch before
            group.shard = summed
        del by_gloo


class _Reached(torch.autograd.Function):
    """Passes a tensor on; in the backward pass, calls a function when its gradient is known."""

    @staticmethod
    def forward(ctx, reached, x):
        ctx.reached = reached
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        ctx.reached()
        return None, grad


def _is_backward() -> bool:
    return torch._C._current_autograd_node() is not None  # noqa: SLF001
