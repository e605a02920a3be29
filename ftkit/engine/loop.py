"""The training loop: forward, backward, clip, step, record.

The loop is the same for all methods: `model.loading.adapt` selects the trainable parameters,
precision is an autocast context, checkpointing is set on the model, packing is in `packed_batch`.
"""

from __future__ import annotations

import contextlib
import copy
import math
import random
import time
from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from ftkit.engine import clipping, kl_to_base, neftune, optimizers, packed_batch, packed_loss


class Start(NamedTuple):
    """Progress of a resumed run; all 0 for a new one.

    save_steps: yield all buffered rows every N steps, so that a checkpoint matches its rows (on a
    GPU rows are buffered).
    """

    step: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0
    save_steps: int = 0


NEW = Start()


def train(
    model, units: list[list[dict]], config, total: int,
    evaluate: Callable[[], dict] | None = None, order: Iterator[list[int]] | None = None,
    begin: Callable[[Update], Start] | None = None,
    peak: Callable[[int], float] | None = None,
) -> Iterator[dict]:
    """Train `model` in place for `total` optimizer steps; yields one row (dict) per step.

    units: what batches are drawn from, each a list of examples (one example, or a packed row).
    evaluate: called every `eval_steps` and after the last step; its numbers are added to the row.
    order: indices of `units` for each forward pass; by default reshuffled in every epoch.
    begin: called with the Update before the first step, to restore the state of an interrupted run
    (`ftkit.experiment.checkpoints`).
    peak: see `run_steps`.
    In a row, loss (and with `kl_coef` kl) is the mean over all supervised tokens of the step, so
    accumulation equals one large batch; grad_norm is the norm before clipping. Closing the
    generator ends the run.
    """
    device = next(model.parameters()).device
    update = Update(model, config)
    order = order or shuffled(len(units), config.batch_size, config.seed)
    start = NEW if begin is None else begin(update)
    for _ in range(start.step * config.gradient_accumulation_steps):
        next(order)

    def take_step(learning_rate):
        batches = [packed_batch.pack([e for i in next(order) for e in units[i]], device)
                   for _ in range(config.gradient_accumulation_steps)]
        loss, norm = update(batches, learning_rate)
        kl = {} if update.to_base is None else {"kl": update.kl}
        return {"loss": loss, "learning_rate": learning_rate, "grad_norm": norm, **kl,
                "tokens": sum(batch.tokens for batch in batches),
                "supervised_tokens": sum(batch.supervised_tokens for batch in batches)}

    waiting = []
    for row in run_steps(take_step, model, config, total, len(units), evaluate, start,
                         peak):
        waiting.append(row)
        # Reading a number waits for the GPU, so rows are yielded in small groups there.
        if (device.type == "cpu" or len(waiting) == 8 or "val_loss" in row or row["step"] == total
                or (start.save_steps and row["step"] % start.save_steps == 0)):
            for ready in waiting:
                yield ready | {name: float(ready[name]) for name in ("loss", "grad_norm", "kl")
                               if name in ready}
            waiting = []


def run_steps(take_step: Callable[[float], dict], model, config, total: int, units: int,
              evaluate: Callable[[], dict] | None = None,
              done: Start = NEW, peak: Callable[[int], float] | None = None) -> Iterator[dict]:
    """Run the steps with schedule, evaluations and clock; yields one row per step.

    take_step: called with the learning rate; takes one optimizer step and returns its numbers,
    including the tokens of this step. The row has the total tokens of all steps so far. done:
    progress of a resumed run. peak: called with a step, returns its peak learning rate, which the
    schedule scales; by default that of `config`.
    """
    per_step = config.batch_size * config.gradient_accumulation_steps
    every = config.eval_steps or max(1, total // 10)
    sums = {"tokens": done.tokens, "supervised_tokens": done.supervised_tokens}
    paused, start = 0.0, time.perf_counter() - done.seconds
    model.train()
    for step in range(done.step + 1, total + 1):
        row = {"step": step, "epoch": step * per_step / units}
        highest = config.learning_rate if peak is None else peak(step)
        row |= take_step(highest * schedule(step, total, config))
        for name in sums:
            if name in row:
                row[name] = sums[name] = sums[name] + row[name]
        row["seconds"] = time.perf_counter() - start - paused
        if evaluate and (step % every == 0 or step == total):
            began = time.perf_counter()
            row |= evaluate()
            paused += time.perf_counter() - began
            model.train()
        yield row


class Update:
    """Takes optimizer steps, and keeps their state: the optimizer, fp16's loss scale, the initial
    weights for `l2_sp`, the base for `kl_coef`.

    `update(batches, learning_rate)` returns loss and gradient norm as tensors, without waiting for
    the device. Memory simulation, whose tensors have no values, passes its own keyword arguments.
    kl: KL of the last step. steps: number of steps taken. is_stepping: whether the optimizer is in
    the middle of a step.
    """

    def __init__(self, model, config, *, forward: packed_loss.Forward | None = None,
                 clip: Callable = clipping.clip_, make_optimizer: Callable = optimizers.make,
                 scaler_class: type[torch.amp.GradScaler] = torch.amp.GradScaler,
                 copy_model: Callable = copy.deepcopy):
        self.model, self.config, self.clip = model, config, clip
        self.device = next(model.parameters()).device
        if forward is None:
            with autocast(self.device, config.precision):
                forward = packed_loss.Forward.of(model)
        self.forward = forward
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(model, config)
        self.to_base = kl_to_base.KLToBase(forward, copy_model) if config.kl_coef else None
        self.kl: float | torch.Tensor = 0.0
        self.steps, self.is_stepping = 0, False
        self.origin = [p.detach().clone() for p in self.params] if config.l2_sp else None
        # torch's own start, 2**16, overflows here and loses the first steps of a short run.
        self.scaler = scaler_class(self.device.type, 2.0**10, enabled=config.precision == "fp16")
        fused = self.optimizer.defaults.get("fused") and self.device.type == "cpu"
        self.clipping_optimizer = (
            self.optimizer if fused and not self.scaler.is_enabled() else None)

    def __call__(self, batches: list[packed_batch.PackedBatch], learning_rate: float):
        supervised_tokens = sum(batch.supervised_tokens for batch in batches)
        loss = self.kl = 0.0
        to_base = self.to_base
        for batch in batches:
            with (autocast(self.device, self.config.precision),
                  neftune.noise(self.model, self.config.neftune_noise_alpha, batch) as read):
                if to_base is None:
                    objective = part = self.forward.loss_sum(read) / supervised_tokens
                else:  # `part`, for the row, excludes the penalty, so that runs can be compared
                    part, kl = (total / supervised_tokens for total in to_base(read))
                    objective = part + self.config.kl_coef * kl
                    self.kl = self.kl + kl.detach()
            self.scaler.scale(objective).backward()
            loss = loss + part.detach()
        return loss, self.apply(learning_rate)

    def apply(self, learning_rate: float) -> torch.Tensor:
        """Take an optimizer step and clear the gradients; returns their norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_factor", 1.0)
        self.scaler.unscale_(self.optimizer)
        if self.origin:
            pull_back(self.params, self.origin, self.config.l2_sp)
        norm = self.clip(self.params, self.config.max_grad_norm, self.clipping_optimizer)
        self.is_stepping = True
        try:
            self.scaler.step(self.optimizer)
        finally:
            if self.clipping_optimizer is not None:
                self.clipping_optimizer.grad_scale = None
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps, self.is_stepping = self.steps + 1, False
        return norm


def steps_in(config, units: int) -> int:
    per_step = config.batch_size * config.gradient_accumulation_steps
    return config.max_steps or max(1, math.ceil(config.epochs * units / per_step - 1e-9))


def shuffled(n: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yield endless full batches of indices below n, reshuffled in every epoch."""
    epoch, line, at = 0, array("L"), 0
    while True:
        if len(line) - at < batch_size:
            line, at = line[at:], 0
        while len(line) < batch_size:
            more = array("L", range(n))
            random.Random(f"{seed}/{epoch}").shuffle(more)
            line.extend(more)
            epoch += 1
        yield line[at : at + batch_size].tolist()
        at += batch_size


def schedule(step: int, total: int, config) -> float:
    """Fraction of the peak learning rate at `step` (from 1): linear warm-up, then the schedule.

    This equals transformers' `get_scheduler`, except that the learning rate is not 0 in the first
    step of the warm-up.
    """
    warmup = steps_of(config.warmup_steps, total)
    if step <= warmup:
        return step / warmup
    if config.lr_scheduler_type == "constant":
        return 1.0
    if config.lr_scheduler_type == "warmup_stable_decay":  # a half cosine, as in transformers
        warmup = max(warmup, total - steps_of(config.num_decay_steps, total))
        if step <= warmup:
            return 1.0
    progress = (step - 1 - warmup) / max(1, total - warmup)
    if config.lr_scheduler_type == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def steps_of(steps: float, total: int) -> int:
    """Convert a setting to steps; below 1 it is a fraction of `total`, rounded up."""
    return math.ceil(steps * total) if steps < 1 else int(steps)


def pull_back(params, origin, strength: float):
    """Add the gradient of L2-SP, strength / 2 · ||w - origin||², to the gradients in place.

    Li et al. 2018 (arXiv 1802.01483). Weight decay pulls weights to zero; L2-SP pulls them to their
    values at the start of the run. The loss in a row excludes the penalty, so runs can be compared.
    """
    used = [(p.grad, p.detach(), s) for p, s in zip(params, origin, strict=True)
            if p.grad is not None]
    grads, weights, home = (list(part) for part in zip(*used, strict=True))
    moved = torch._foreach_sub(weights, home)  # noqa: SLF001  as torch's own optimizers do
    torch._foreach_add_(grads, moved, alpha=strength)


def autocast(device, precision: str | None):
    """Return the autocast context of a forward pass; bf16 and fp16 compute with fp32 weights."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in kinds:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=kinds[precision])
