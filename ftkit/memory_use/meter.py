"""Count the bytes of live tensors in a training step, by part.

    with Meter(model, optimizer) as meter:
        step()
    meter.peak, meter.timeline

Every storage that an operation returns is counted from its creation until it is freed, so the
result does not depend on Python or on the allocator (resident size, caching). Real tensors on the
CPU and fake ones, which use no memory (see `simulate`), are counted in the same way. On CUDA the
allocator records a peak, `torch.cuda.max_memory_allocated`. torch also has a private tracker
(`torch.distributed._tools.mem_tracker`). This meter in addition separates logits and the bf16
copies of autocast, and agrees with the allocator to 0.2 % (docs/measurements/MEMORY.md).

It consists of a torch mode and hooks on the model and optimizer, so it applies to one thread.
"""

# ruff: noqa: SLF001  (torch gives storages and the running node of autograd by private names only)

import weakref

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from ftkit.base import cancel

PARTS = ("weights", "gradients", "optimizer", "copies", "activations", "logits", "other")
FORWARD, BACKWARD, CLIP, STEP = "forward pass", "backward pass", "clipping", "optimizer step"


class _Ref(weakref.ref):
    """A weak reference with the part and bytes of a storage; cheaper than weakref.finalize."""

    __slots__ = ("bytes", "part")


class Meter(TorchDispatchMode):
    """Counts the bytes of live storages, by part, while it is entered.

    model, optimizer: their tensors count as weights, gradients and optimizer state. Other results
    of operations count as 16-bit copies of weights (autocast), logits (last dimension =
    vocabulary), activations (of a forward pass or its recomputation), or other (temporary tensors
    of backward pass and optimizer).
    round_to: the allocator's block size in bytes, for rounding up; CUDA's is 512.

    `now` has the live bytes of each part, `total` their sum, `largest` the maximum of each part,
    and `timeline` the parts at each local maximum of the sum, as (phase, {part: bytes}).
    """

    def __init__(self, model=None, optimizer=None, round_to: int = 1):
        super().__init__()
        self.round, self.live, self.total = round_to, {}, 0
        self.now: dict[str, int] = dict.fromkeys(PARTS, 0)
        self.largest = dict(self.now)
        self.timeline: list[tuple[str, dict]] = []
        self.marks: list[tuple[tuple, int]] = []
        self.vocabulary, self.phase, self._risen_in = None, FORWARD, "before the step"
        self._trained, self._hooks, self._depth = [], [], 0
        self._optimizer = optimizer
        self._stepping = self._rising = False
        if model is not None:
            self._watch(model)
        if optimizer is not None:
            for tensor in _state(optimizer):
                self.hold(tensor, "optimizer")
        self.reset()

    @property
    def peak(self) -> int:
        """The maximum of live bytes since the last `reset`."""
        return max([self.total, *(sum(parts.values()) for _, parts in self.timeline)])

    def reset(self):
        """Restart the measurement of the peak from the bytes that are live now."""
        self.largest, self._rising = dict(self.now), False
        self.timeline.clear()

    def mark(self, key: tuple):
        """Append (key, length of the timeline) to `.marks`."""
        self._snapshot()
        self.marks.append((key, len(self.timeline)))

    def hold(self, tensor, part: str):
        """Count an existing tensor under `part`; if it is counted already, move it to `part`."""
        for storage in _storages(tensor):
            ref = self.live.get(storage._cdata)
            if ref is None:
                self._add(storage, part)
            elif ref.part != part:
                self._snapshot()
                self._move(ref, part)
                self.largest[part] = max(self.largest[part], self.now[part])

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here; otherwise each operation pays for asking

    # ------------------------------------------------------------------ inside

    def _watch(self, model):
        config = getattr(model, "config", None)
        if config is not None and hasattr(config, "get_text_config"):
            self.vocabulary = getattr(config.get_text_config(), "vocab_size", None)
        for p in model.parameters():
            for tensor in (p, *_quantized(p)):
                self.hold(tensor, "weights")
            if p.grad is not None:
                self.hold(p.grad, "gradients")
            if p.requires_grad:
                self._trained.append(p)
        scales = (m.state.SCB for m in model.modules() if is_eight_bit(m))
        for tensor in (*(t for t in scales if t is not None), *model.buffers()):
            self.hold(tensor, "weights")

    def _add(self, storage, part: str):
        size = self.rounded(storage.nbytes())
        if size:
            key = storage._cdata
            self.live[key] = ref = _Ref(storage, lambda _, key=key: self._free(key))
            ref.bytes, ref.part = size, part
            self._count(part, size)

    def rounded(self, count: int) -> int:
        """Bytes that the allocator takes for `count` bytes."""
        return -(-count // self.round) * self.round

    def _count(self, part: str, size: int):
        self.now[part] += size
        self.total += size
        self._rising, self._risen_in = True, self.phase
        if self.now[part] > self.largest[part]:
            self.largest[part] = self.now[part]

    def _free(self, key):
        ref = self.live.pop(key, None)
        if ref is not None:
            self._uncount(ref.part, ref.bytes)

    def _uncount(self, part, size):
        self._snapshot()
        self.now[part] -= size
        self.total -= size

    def _snapshot(self):
        if self._rising:
            self._rising = False
            self.timeline.append((self._risen_in, dict(self.now)))

    def _move(self, ref: _Ref, part: str):
        self.now[ref.part] -= ref.bytes
        self.now[part] += ref.bytes
        ref.part = part

    def _part(self, func, args, tensor) -> str:
        if self._stepping:
            return "optimizer"
        if self.vocabulary and tensor.ndim > 1 and tensor.shape[-1] == self.vocabulary:
            return "logits"
        if func in _CASTS and args and isinstance(args[0], torch.Tensor):
            source = [self.live.get(s._cdata) for s in _storages(args[0])]
            if source and source[0] is not None and source[0].part == "weights":
                return "copies"
        return "activations" if self.phase == FORWARD else "other"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        cancel.point()
        if func is _DEVICE:  # fake tensors are asked for it twice in every operation
            fake = isinstance(args[0], FakeTensor) and not args[0].fake_mode.in_kernel_invocation
            return args[0].fake_device if fake else func(*args)
        if self._stepping:
            self.phase = STEP
        elif torch._C._current_autograd_node() is not None:
            # Recomputing a checkpointed layer makes activations, with gradients switched on.
            self.phase = FORWARD if torch.is_grad_enabled() else BACKWARD
        else:
            self.phase = CLIP if func in _NORMS else FORWARD
        inside = _INSIDE.get(str(func))
        if inside is not None:
            with self, torch.overrides.enable_reentrant_dispatch(), torch.no_grad():
                return inside(*args, **kwargs)
        hidden = _hidden(func, args, kwargs, on_gpu=self.round > 1)
        if self.phase == BACKWARD and (
                func is torch.ops.aten.index_put.default  # into zeros of its own
                or (func is torch.ops.aten.add.Tensor and _into_its_first(args))):
            self._free(args[0].untyped_storage()._cdata)
        out = func(*args, **kwargs)
        tensors = (out,) if isinstance(out, torch.Tensor) else tree_leaves(out)
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                for storage in _storages(tensor):
                    if storage._cdata not in self.live:
                        self._add(storage, self._part(func, args, tensor))
        if hidden:
            self._count("other", hidden)
            self._uncount("other", hidden)
        return out

    def __enter__(self):
        if not self._depth:  # inside an operation that is looked into it is entered again
            self._hooks = [p.register_post_accumulate_grad_hook(
                lambda p: None if p.grad is None else self.hold(p.grad, "gradients"))
                for p in self._trained]
            if self._optimizer is not None:
                self._hooks += [self._optimizer.register_step_pre_hook(self._before_step),
                                self._optimizer.register_step_post_hook(self._after_step)]
        self._depth += 1
        return super().__enter__()

    def __exit__(self, *error):
        self._depth -= 1
        if not self._depth:
            for hook in self._hooks:
                hook.remove()
        return super().__exit__(*error)

    def _before_step(self, *_):
        self._stepping = True

    def _after_step(self, optimizer, *_):
        self._stepping = False
        kept = {s._cdata for t in _state(optimizer) for s in _storages(t)}
        for key, ref in self.live.items():
            if ref.part == "optimizer" and key not in kept:
                self._move(ref, "other")


def _storages(tensor) -> list:
    """List a tensor's storages: one, several for a wrapper such as DTensor, none on meta (whose
    reported bytes are not allocated)."""
    if is_traceable_wrapper_subclass(tensor):
        inner = [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
        return [s for t in inner if isinstance(t, torch.Tensor) for s in _storages(t)]
    if tensor.is_meta and not isinstance(tensor, FakeTensor):
        return []
    try:
        return [tensor.untyped_storage()]
    except NotImplementedError:  # a tensor without storage
        return []


def _state(optimizer) -> list:
    return [t for state in optimizer.state.values() for t in tree_leaves(state)
            if isinstance(t, torch.Tensor)]


def is_eight_bit(module) -> bool:
    """Whether this is a linear layer of bitsandbytes in 8 bits (`Linear8bitLt`)."""
    return hasattr(module, "init_8bit_state")


def _quantized(p) -> list:
    """List the scales of a 4-bit weight of bitsandbytes, which may be quantized themselves."""
    state = getattr(p, "quant_state", None)
    return [] if state is None else [
        t for scales in (state, getattr(state, "state2", None)) if scales is not None
        for t in vars(scales).values() if isinstance(t, torch.Tensor)]


# -------------------------------------------------- what happens below the operations we see

_DEVICE = torch.ops.prim.device.default
_CASTS = {torch.ops.aten._to_copy.default}
_NORMS = {torch.ops.aten.linalg_vector_norm.default}
_ARITHMETIC, _IN_PLACE = ({getattr(torch.ops.aten, name + end).Tensor
                           for name in ("add", "sub", "mul", "div")} for end in ("", "_"))


def _hidden(func, args, kwargs, on_gpu: bool) -> int:
    """Bytes of an operation's internal temporary tensors.

    On CPU a norm in a wider dtype first converts a copy of its input, and arithmetic on two dtypes
    a copy of each tensor that does not have the wider one (a kernel of CUDA converts as it reads).
    """
    if func in _NORMS:
        x, wide = args[0], kwargs.get("dtype")
        if wide is not None and wide != x.dtype and x.device.type == "cpu":
            return x.numel() * wide.itemsize
    if not on_gpu and (func in _ARITHMETIC or func in _IN_PLACE):
        x, y = args[:2]
        if isinstance(y, torch.Tensor) and x.dtype != y.dtype and x.ndim and y.ndim:
            wide = torch.promote_types(x.dtype, y.dtype)
            written = [x] if func in _IN_PLACE else []
            return sum(t.numel() * wide.itemsize for t in (x, y, *written) if t.dtype != wide)
    return 0


def _into_its_first(args) -> bool:
    """Whether autograd, outside of a torch mode, would add two gradients of a tensor in place.

    It does so if nothing else references the first gradient. Under a mode Python holds a reference,
    so autograd creates a new tensor.
    """
    first, second = args[0], args[1]
    return (isinstance(second, torch.Tensor) and first.shape == second.shape
            and first.dtype == second.dtype and first.device.type != "meta"
            and not is_traceable_wrapper_subclass(first)
            and torch._C._storage_Use_Count(first.untyped_storage()._cdata) == 2)


def _gemm_4bit(*args, **named):
    """Multiply by a 4-bit weight like bitsandbytes without a kernel for it: the whole weight is
    dequantized temporarily."""
    from bitsandbytes.backends.default.ops import _gemm_4bit_default_impl as product

    return product(*args, **named)


_INSIDE = {"bitsandbytes.gemm_4bit.default": _gemm_4bit}
