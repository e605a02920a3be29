"""The random numbers of one run: no other thread disturbs them, and they disturb no other thread.

    own = RandomState(seed)
    with own: ...          in this thread, torch draws from `own` instead of its global state
    context_fn             lets gradient checkpointing repeat the draws of a layer

torch has one random state for all threads, and its draws use it unless they are given a generator.
A `RandomState` gives them its own. It has the numbers of `torch.manual_seed(seed)`, bit for bit.
Two kinds of draws cannot be given one: dropout inside torch's own attention (and a few rare
operations), and draws on a GPU. For them `own` becomes the global state, for the operation or for
the block, and other runs wait meanwhile. A draw of yours in another thread at that very time is not
kept apart, nor is `torch.manual_seed` heard inside the block: draw from a `torch.Generator` there.
While transformers builds a model in 16 bits, that is torch's default dtype in all threads, so the
functions of `_MAKES` make fp32 in the block, and code that calls others names the dtype.
"""

import contextlib
import threading
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from ftkit.base import machine

TAKES_GENERATOR, TAKES_NONE, DROPOUT = "takes a generator", "takes none", "dropout"
_ATTENTION = F.scaled_dot_product_attention
_KINDS = {
    **dict.fromkeys([torch.bernoulli, torch.multinomial, torch.normal, torch.poisson, torch.rand,
                     torch.randint, torch.randn, torch.randperm, torch.nn.init.kaiming_uniform_,
                     torch.nn.init.normal_, torch.nn.init.uniform_,
                     *(getattr(torch.Tensor, name) for name in (
                         "bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_",
                         "log_normal_", "multinomial", "normal_", "random_", "uniform_"))],
                    TAKES_GENERATOR),
    **dict.fromkeys([torch.rand_like, torch.randint_like, torch.randn_like, F.alpha_dropout,
                     F.dropout1d, F.dropout2d, F.dropout3d, F.feature_alpha_dropout,
                     F.gumbel_softmax, F.rrelu, _ATTENTION], TAKES_NONE),
    **dict.fromkeys([F.dropout, torch.dropout, torch.dropout_], DROPOUT)}

# What peft and metrics make tensors with.
_MAKES = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn}

_global_state = threading.RLock()  # held while a run's random state is torch's global one
# .states: the RandomStates of this thread's blocks; .is_global: one is torch's global state now
_used = threading.local()


class RandomState(TorchFunctionMode):
    """Random state of a run, initially that of `torch.manual_seed(seed)`; see the module.

    One thread at a time may be inside its block. draws: number of draws on the CPU so far.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.generator = torch.Generator()
        # State of the GPU's generator, of this run outside the block and of the others inside it.
        self.cuda: torch.Tensor | None = None
        self.others: torch.Tensor | None = None
        self.depth = self.draws = 0
        self.seed(seed)

    def seed(self, seed: int):
        """Restart the random numbers from `seed`. Call this outside the `with` block."""
        self.generator.manual_seed(seed)
        if machine.device() == "cuda":
            self.cuda = torch.Generator("cuda").manual_seed(seed).get_state()

    def state(self) -> dict[str, torch.Tensor]:
        """The state as tensors, for a checkpoint."""
        cuda = torch.cuda.get_rng_state() if self.cuda is not None and self.depth else self.cuda
        return {"random.cpu": self.generator.get_state()} | (
            {} if cuda is None else {"random.cuda": cuda})

    def restore(self, state: dict[str, torch.Tensor]):
        """Continue with what `state` returned."""
        self.generator.set_state(state["random.cpu"])
        if self.cuda is not None and "random.cuda" in state:
            self.cuda = state["random.cuda"]
            if self.depth:
                torch.cuda.set_rng_state(self.cuda)

    def drives(self, steps: Iterator) -> Iterator:
        """Yield what `steps` yields; its code runs inside the block, the caller's outside.

        If the first step draws nothing, the others are outside too, which is a little faster.
        """
        before, block = self.draws, self
        while True:
            with block:
                item = next(steps, None)
            if item is None:
                return
            if self.draws == before and self.cuda is None:
                block = contextlib.nullcontext()
            yield item

    def __enter__(self):
        self.depth += 1
        if self.depth > 1:
            return self
        if self.cuda is not None:
            _global_state.acquire()
            self.others = torch.cuda.get_rng_state()
            torch.cuda.set_rng_state(self.cuda)
        _used.states = [*getattr(_used, "states", ()), self]
        return super().__enter__()

    def __exit__(self, *error):
        self.depth -= 1
        if self.depth:
            return
        super().__exit__(*error)
        _used.states.pop()
        if self.others is not None:
            self.cuda = torch.cuda.get_rng_state()
            torch.cuda.set_rng_state(self.others)
            _global_state.release()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kind, kwargs = _KINDS.get(func), kwargs or {}
        if func in _MAKES and kwargs.get("dtype") is None and kwargs.get("out") is None:
            kwargs = kwargs | {"dtype": torch.float32}
        if kind is None or kwargs.get("generator") is not None or not _on_cpu(args, kwargs) or (
                getattr(_used, "is_global", False)):
            return func(*args, **kwargs)
        if kind is DROPOUT:
            return self._dropout(func, args, kwargs)
        if func is _ATTENTION and not (kwargs.get("dropout_p") or args[4:5] > (0,)):
            return func(*args, **kwargs)
        self.draws += 1
        if kind is TAKES_GENERATOR:
            return func(*args, **kwargs | {"generator": self.generator})
        with self._global():
            return func(*args, **kwargs)

    def _dropout(self, func, args, kwargs):
        """torch's dropout on the CPU, step by step, with a generator."""
        input, p, training, inplace = _of_dropout(*args, **kwargs)
        if not (training and 0 < p < 1):
            return func(*args, **kwargs)
        self.draws += 1
        scale = torch.empty_like(input, requires_grad=False)
        scale.bernoulli_(1 - p, generator=self.generator).div_(1 - p)
        return input.mul_(scale) if inplace or func is torch.dropout_ else input * scale

    @contextlib.contextmanager
    def repeated(self, then: dict[str, torch.Tensor]):
        """Draw once more what was drawn after the state `then`."""
        now = self.state()
        self.restore(then)
        super().__enter__()  # autograd repeats a layer without the modes of the caller
        try:
            yield
        finally:
            super().__exit__(None, None, None)
            self.restore(now)

    @contextlib.contextmanager
    def _global(self):
        """Inside, torch's global state on the CPU is this one."""
        with _global_state:
            outside = torch.get_rng_state()
            torch.set_rng_state(self.generator.get_state())
            _used.is_global = True
            try:
                yield
            finally:
                _used.is_global = False
                self.generator.set_state(torch.get_rng_state())
                torch.set_rng_state(outside)


def _of_dropout(input, p=0.5, training=True, inplace=False, train=True):
    return input, p, training and train, inplace


def _on_cpu(args, kwargs) -> bool:
    """Whether a function called with these arguments draws on the CPU."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return value.device.type == "cpu"
    return torch.device(kwargs.get("device") or "cpu").type == "cpu"


def context_fn():
    """The contexts of `torch.utils.checkpoint.checkpoint` for a layer and for its repetition, which
    draws the same numbers. torch's own way to do so sets the state of all threads."""
    used = getattr(_used, "states", ())
    again = used[-1].repeated(used[-1].state()) if used else _repeated(
        torch.get_rng_state(), machine.device() == "cuda" and torch.cuda.get_rng_state())
    return contextlib.nullcontext(), again


@contextlib.contextmanager
def _repeated(cpu, cuda):
    """`RandomState.repeated` with torch's global state."""
    with torch.random.fork_rng():
        torch.set_rng_state(cpu)
        if cuda is not False:
            torch.cuda.set_rng_state(cuda)
        yield
