"""Trace one training step on fake tensors, to predict its memory without using it.

    step(shape, config, [128, 128])       the parts, the peak, and when it is reached

The real step runs: `loop.Update` on a packed batch, with transformers' model, peft's layers and
bitsandbytes' functions. Only the tensors have no memory (torch's FakeTensorMode). No constants are
fitted, every change of the step changes the prediction, and a model with 70 billion parameters can
be traced on a laptop. These parts are replaced:

- 4-bit weights: they have bitsandbytes' layout, but no values;
- bitsandbytes' 8-bit optimizers, whose kernels need real memory: the same layout;
- decisions that need values: gradients are assumed to be clipped, fp16 not to overflow, and a row
  of a padded batch to contain one sequence.

Each replacement is an argument of `loop.Update`, is set on the traced model only, or is a torch
mode, which applies to one thread. Therefore a run may train in another thread.
"""

# ruff: noqa: SLF001  (fake tensors replace the private dicts of modules; torch's autograd node)

import collections
import copy
import dataclasses
import functools
import itertools
import math

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

from ftkit.base import quiet
from ftkit.base.config import MAX_LOGITS
from ftkit.base.errors import UserError
from ftkit.base.optimizers import OPTIMIZERS
from ftkit.engine import (
    attention_kernels,
    clipping,
    loop,
    optimizers,
    packed_attention,
    packed_batch,
    packed_loss,
)
from ftkit.memory_use.meter import Meter, is_eight_bit
from ftkit.memory_use.traced_step import Step
from ftkit.memory_use.trainers import TRAINERS
from ftkit.model import loading

NF4_BLOCK, SCALE_BLOCK = 64, 256  # weights that share a scale, scales that share a scale
ACCUMULATED = 8  # traced batches of a step; further ones add only their own size


def step(shape, config, lengths: list[int], supervised: float = 1.0, *options,
         **named) -> Step:
    """Trace one optimizer step of `config` on a model of `shape` (a transformers config).

    lengths: tokens of each sequence in one forward pass.
    supervised: the fraction of the tokens that contribute to the loss.
    options, named: passed to `trace`.
    """
    return trace(shape, config, batches(config, lengths, supervised), *options, **named)


def batches(config, lengths: list[int], supervised: float = 1.0) -> list[packed_batch.PackedBatch]:
    """Create the batches of a step, with sequences of these lengths."""
    examples = [example(n, supervised) for n in lengths]
    return [packed_batch.pack(examples, share=False)
            for _ in range(min(config.gradient_accumulation_steps, ACCUMULATED))]


def example(tokens: int, supervised: float = 1.0, vocabulary: int = 2**31) -> dict:
    """Create an example of `tokens` tokens; the last fraction `supervised` of them has labels."""
    unlabeled = tokens - round(tokens * supervised)
    return {"input_ids": [i % vocabulary for i in range(tokens)],
            "labels": [-100] * unlabeled + [1] * (tokens - unlabeled)}


def trace(shape, config, batches: list[packed_batch.PackedBatch], device: str = "cpu",
          attn: str | None = None, logits: int | None = None, trainer: str = "ftkit",
          whole: bool = False) -> Step:
    """Trace one optimizer step on batches of examples.

    device: cpu, or cuda (blocks of 512 bytes, other attention kernels).
    attn: sdpa or eager: transformers' attention on padded batches instead of packed ones.
    logits: how many logits are held at once (default: MAX_LOGITS).
    trainer: a name in `trainers.TRAINERS`.
    whole: the objective needs each token's loss (`Forward.token_losses`), so all logits are kept.
    """
    theirs = TRAINERS[trainer]
    attn = attn or ("sdpa" if theirs.loss else None)
    refused = f"{attn} attention is simulated" if attn else None
    return _with_padding_if_needed(_trace, refused, shape, config, batches, device, attn, logits,
                                   theirs, whole)


def _trace(refused, shape, config, batches, device, attn, logits, trainer, whole):
    config = config.but(learning_rate=1e-3)
    model = build(shape, config, attn, trainer.alone)
    base = build(shape, config, attn) if config.kl_coef and config.method == "full" else None
    with FakeTensorMode() as mode, Decisions():
        materialize(model)
        model.train()
        if base is not None:
            materialize(base)
        makers = MAKERS | trainer.optimizers(device == "cuda")
        update = loop.Update(
            model, config, clip=_always_clip,
            forward=_forward(model, refused, logits, whole, trainer.loss),
            make_optimizer=functools.partial(optimizers.make, makers=makers),
            scaler_class=_NoOverflow, copy_model=lambda _: base)
        fill_state(update)
        batches = [fake(batch, mode, device) for batch in batches]
        meter = watch(update, batches, 512 if device == "cuda" else 1)
        for tensor in (held := trainer.prepare(model, config)):
            meter.hold(tensor, "other")
        before = meter.total
        _mark_layers(model, meter)
        with meter:
            update(batches, 1e-3)
        meter.mark(("end", 0, 0))
        del held
        _check_packed(refused, model, batches[0])
    found = facts(model) | {"padded": int(refused is not None),
                            "batch": sum(meter.rounded(t.nbytes) for t in _inputs(batches[0]))}
    # All maxima between two marks in the same phase share a key, in order.
    named = [((*mark, point[0]), point) for (mark, start), (_, end) in
             itertools.pairwise(meter.marks) for point in meter.timeline[start:end]]
    return Step([point for _, point in named], meter.largest, before, *loading.count(model),
                found, [key for key, _ in named])


def decoder_layers(model) -> list:
    """Return the decoder layers of a model, in order."""
    base = packed_attention.base_of(model)
    count = base.config.get_text_config().num_hidden_layers
    return next((list(module) for module in base.modules()
                 if isinstance(module, torch.nn.ModuleList) and len(module) == count), [])


def _mark_layers(model, meter: Meter):
    """Make the meter mark the start of each layer's forward and backward pass as (pass, batch
    number, layer), and the end of its forward pass as ("head", ...)."""
    passes = collections.Counter()
    meter.mark(("start", 0, 0))

    def begin(i, *_):
        if torch._C._current_autograd_node() is None:  # else a checkpointed layer is recomputed
            passes[i] += 1
            meter.mark(("forward", passes[i], i))

    def end(i, module, inputs, output):
        if torch._C._current_autograd_node() is not None:
            return
        key = passes[i], i
        meter.mark(("head", *key))
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.requires_grad:
            hidden.register_hook(lambda _: meter.mark(("backward", *key)))

    for i, layer in enumerate(decoder_layers(model)):
        layer.register_forward_pre_hook(functools.partial(begin, i))
        layer.register_forward_hook(functools.partial(end, i))


def evaluation(shape, config, examples: list[dict], device: str = "cpu") -> int:
    """Peak bytes of a forward pass on one batch of examples, without gradients."""
    return _with_padding_if_needed(_evaluation, None, shape, config, examples, device)


def _evaluation(refused, shape, config, examples, device):
    model = build(shape, config)
    with FakeTensorMode() as mode, Decisions():
        materialize(model)
        forward = _forward(model, refused)
        batch = fake(packed_batch.pack(examples, share=False), mode, device)
        meter = Meter(model.eval(), round_to=512 if device == "cuda" else 1)
        for module in model.modules():  # fake tensors lack the outliers that evaluation checks
            module.training = is_eight_bit(module)
        with meter, torch.no_grad(), loop.autocast(torch.device("cpu"), config.precision):
            forward.loss_sum(batch)
        _check_packed(refused, model, batch)
    return meter.peak


def build(shape, config, attn: str | None = None, alone: bool = False):
    """Build the model that `config` would train on the meta device (shapes only). alone: as in
    `trainers.Trainer`."""
    import transformers

    shape = copy.deepcopy(shape)
    if alone:
        shape.tie_word_embeddings = False
    options = {"attn_implementation": attn} if attn else {}
    with quiet.LIBRARIES, torch.device("meta"):  # on meta transformers initializes no weights
        # A dtype would become torch's default in all threads while the model is built.
        model = transformers.AutoModelForCausalLM.from_config(shape, dtype=None, **options).float()
        model.config.dtype = torch.float32
        model.tie_weights()
        if config.method == "qlora":
            quantize(model, loading.base_dtype(config), config.load_in_8bit, alone)
        model = loading.trainable(model, config)
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module._gradient_checkpointing_func = _checkpoint
    return model


def quantize(model, dtype=torch.float32, load_in_8bit: bool = False, alone: bool = False):
    """Replace the linear layers of a model on meta by quantized ones, like transformers'
    `replace_with_bnb_linear`. The layout is NF4 with double quantization (4 bits a weight, 8 bits a
    scale of 64 weights, 32 bits per 256 scales) or LLM.int8() (8 bits a weight, 32 bits a row).
    dtype: the dtype of the stored weights. alone: as in `trainers.Trainer`."""
    from transformers.pytorch_utils import Conv1D

    try:
        import bitsandbytes
    except ImportError:
        raise UserError("method is qlora, but bitsandbytes is not installed. Run `pip install "
                        "bitsandbytes`, or set method to lora.") from None
    nn, head = bitsandbytes.nn, model.get_output_embeddings()
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            is_linear = isinstance(child, torch.nn.Linear) if alone else (
                type(child) in (torch.nn.Linear, Conv1D) and child is not head)
            if not is_linear:
                continue
            sides = child.weight.shape if type(child) is Conv1D else child.weight.shape[::-1]
            options = {"bias": child.bias is not None, "device": "meta"}
            if load_in_8bit:
                linear = nn.Linear8bitLt(*sides, **options, has_fp16_weights=False)
                linear.weight = nn.Int8Params(linear.weight.data.to(torch.int8),
                                              requires_grad=False)
            else:
                linear = nn.Linear4bit(*sides, **options, compute_dtype=torch.bfloat16,
                                       quant_type="nf4")
                linear.weight = Params4bit(torch.empty(-(-math.prod(sides) // 2), 1,
                                                       dtype=torch.uint8), requires_grad=False)
                linear.weight.compress_statistics, linear.weight.quant_type = not alone, "nf4"
            _scales(linear, dtype, not alone)
            setattr(block, name, linear)
    model.requires_grad_(False)
    setattr(model, f"is_loaded_in_{8 if load_in_8bit else 4}bit", True)
    loading.keep_training_layout(model)
    return model


def facts(model) -> dict:
    """Sizes of a model beyond its parameter counts.

    quantized: parameters in 4 or 8 bits; quantized_bytes: their bytes, including scales. factored:
    numbers that Adafactor keeps. hidden: trainable weights in matrices of hidden layers. layer:
    bytes of the largest decoder layer; root: bytes outside of all decoder layers.
    """
    packed = [p for p in model.parameters() if getattr(p, "quant_state", None) is not None]
    eight = [module for module in model.modules() if is_eight_bit(module)]
    quantized = sum(p.quant_state.shape.numel() for p in packed) + sum(
        module.weight.numel() for module in eight)
    scales = [state.absmax for p in packed
              for state in (p.quant_state, p.quant_state.state2) if state is not None]
    held = sum(t.nbytes for t in (*packed, *scales)) + sum(
        module.weight.nbytes + module.state.SCB.nbytes for module in eight)
    trained = [p for p in model.parameters() if p.requires_grad]
    hidden = optimizers.hidden_matrices(model)
    layers = [sum(p.nbytes for p in layer.parameters()) for layer in decoder_layers(model)]
    return {"quantized": quantized, "quantized_bytes": held,
            "hidden": sum(p.numel() for name, p in model.named_parameters() if name in hidden),
            "factored": sum(sum(p.shape[-2:]) * p.shape[:-2].numel() if p.ndim > 1 else p.numel()
                            for p in trained),
            "layer": max(layers, default=0),
            "root": sum(p.nbytes for p in model.parameters()) - sum(layers)}


def fill_state(update):
    """Make the optimizer create its state, so that the next step is like all later ones."""
    for p in update.params:
        p.grad = torch.zeros_like(p)
    update.optimizer.step()
    update.optimizer.zero_grad(set_to_none=True)


def watch(update, batches, round_to: int = 1) -> Meter:
    """Create a meter that already counts everything in memory at the start of a step."""
    meter = Meter(update.model, update.optimizer, round_to)
    inputs = itertools.chain(*map(_inputs, batches))
    copied = update.to_base.copy.parameters() if update.to_base and update.to_base.copy else ()
    for tensor in (*(update.origin or ()), *copied, *inputs):
        meter.hold(tensor, "other")
    meter.reset()
    return meter


def _inputs(batch) -> list:
    return [batch.input_ids, batch.position_ids, batch.rows, batch.targets]


# ------------------------------------------------------------------ inside


def materialize(model):
    """Allocate a meta model's tensors (fake ones in FakeTensorMode). Tied weights stay tied."""
    replaced = {}

    def make(tensor):
        if id(tensor) not in replaced:
            new = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            if isinstance(tensor, torch.nn.Parameter):
                new = torch.nn.Parameter(new, requires_grad=tensor.requires_grad)
                if type(tensor).__name__ in _FAKE_PARAMS:
                    new.__class__ = _FAKE_PARAMS[type(tensor).__name__]
            replaced[id(tensor)] = new, tensor
        return replaced[id(tensor)][0]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = make(tensor)
        if is_eight_bit(module):
            _scales(module)
        elif hasattr(module, "compute_type_is_set"):  # in 4 bits; set by the first input
            _scales(module, module.quant_state.dtype, module.quant_state.nested)
            embedding = packed_attention.base_of(model).get_input_embeddings().weight
            module.compute_dtype, module.compute_type_is_set = embedding.dtype, True
    virtual = getattr(model, "prompt_tokens", {})  # peft's, neither parameter nor buffer
    for name, places in virtual.items():
        virtual[name] = torch.empty(places.shape, dtype=places.dtype, device="cpu")


def _scales(linear, dtype=torch.float32, nested: bool = True):
    """Set the scales of an 8-bit layer's rows where bitsandbytes expects them, or create the
    QuantState that it would create for a 4-bit layer with weights of `dtype`. nested: whether the
    scales are quantized too."""
    from bitsandbytes.functional import QuantState

    if is_eight_bit(linear):
        linear.state.CB, linear.state.SCB = linear.weight.data, torch.empty(linear.out_features)
        return
    weights = linear.in_features * linear.out_features
    scales = -(-weights // NF4_BLOCK)
    fp32 = {"dtype": torch.float32}
    outer = {}
    if nested:
        outer = {"offset": torch.empty((), **fp32), "state2": QuantState(
            absmax=torch.empty(-(-scales // SCALE_BLOCK), **fp32),
            code=torch.empty(256, **fp32), blocksize=SCALE_BLOCK, dtype=torch.float32)}
    linear.weight.quant_state = linear.quant_state = QuantState(
        absmax=torch.empty(scales, dtype=torch.uint8 if nested else torch.float32),
        code=torch.empty(16, **fp32), shape=torch.Size((linear.out_features, linear.in_features)),
        blocksize=NF4_BLOCK, quant_type="nf4", dtype=dtype, **outer)


def fake(batch, mode, device: str):
    """Convert a batch's tensors to fake ones, except `layout.row_index`, whose values attention
    reads. On `cuda` all attention is SDPA, in half precision without masks, as varlen attention."""
    change = {f.name: mode.from_tensor(getattr(batch, f.name))
              for f in dataclasses.fields(batch)
              if isinstance(getattr(batch, f.name), torch.Tensor)}
    layout = batch.layout
    if device == "cuda":
        layout = _OnGpu(layout.lengths, layout.row_index, layout.keep, 0)
    else:
        layout = dataclasses.replace(layout, cache={}, windows=set())
    return dataclasses.replace(batch, **change, layout=layout)


class _OnGpu(attention_kernels.Layout):
    """A layout whose windows take no masks in half precision, for which varlen attention is used.
    """

    def attend(self, q, k, v, scale, window, dropout, layer=None):
        self.windows.add(window)
        half = q.dtype in (torch.bfloat16, torch.float16) and not dropout
        return super().attend(q, k, v, scale, None if half else window, dropout, layer)


def _forward(model, refused: str | None, logits: int | None = None, whole: bool = False,
             loss=None):
    """Create the Forward of a model without a trial; arguments as in `trace`. loss: as in
    `trainers.Trainer`."""
    kind = _EachToken if whole else packed_loss.Forward
    forward = kind(model, refused or packed_attention.known_obstacle(model), logits or MAX_LOGITS)
    if loss is not None and not whole:
        forward.loss_sum = functools.partial(loss, forward)
    return forward


def _check_packed(refused, model, batch):
    """Raise Unsupported if a packed forward pass did not reach the attention function."""
    if refused is None and packed_attention.known_obstacle(model) is None:
        reason = packed_attention.obstacle_met(model, batch.layout)
        if reason is not None:
            raise packed_attention.Unsupported(reason)


def _checkpoint(function, *args):
    """Checkpoint a traced layer. torch would save and restore the random state, which all threads
    share. Here a tensor of the same size is kept for the same time instead."""
    from torch.utils.checkpoint import checkpoint

    state = torch.empty(torch.get_rng_state().nbytes, dtype=torch.uint8)
    return checkpoint(functools.partial(_call, function, state), *args, use_reentrant=False,
                      preserve_rng_state=False)


def _call(function, state, *args):
    if torch._C._current_autograd_node() is None:
        return function(*args)
    current = torch.empty_like(state)  # the state that torch would put back afterwards
    with Decisions():  # autograd recomputes the layer without the caller's modes
        output = function(*args)
    del current
    return output


class _EachToken(packed_loss.Forward):
    """Forward pass of an objective that needs the loss of each token."""

    def loss_sum(self, batch):
        return self.token_losses(batch).sum()


class _NoOverflow(torch.amp.GradScaler):
    """A gradient scaler for fake gradients, which are assumed to be finite."""

    def _maybe_opt_step(self, optimizer, optimizer_state, *args, **kwargs):
        return optimizer.step(*args, **kwargs)


def _always_clip(params, max_norm, optimizer=None):
    """Clip gradients like `clipping.clip_`, assuming that their norm is above the limit."""
    params = [p for p in params if p.grad is not None]
    norm = clipping.grad_norm(params)
    if max_norm:
        torch.nn.utils.clip_grads_with_norm_(params, max_norm, norm)
    return norm


# torch 2.9 has the private name only; newer ones have both.
GROUPED_MATMULS = [function for function in (
    getattr(torch.nn.functional, "grouped_mm", None), getattr(torch, "_grouped_mm", None))
    if function is not None]


class Decisions(TorchFunctionMode):
    """Replaces, in the current thread, two operations that fail on fake tensors, which have no
    values.

    transformers looks for several sequences in each row of a padded batch
    (`masking_utils.find_packed_sequence_indices`): here it finds one. torch traces the grouped
    matmul of experts only in bf16: here an empty result of its shape is returned in any dtype.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.diff and "prepend" in kwargs and isinstance(args[0], FakeTensor):
            return _OneSequence()
        if func in GROUPED_MATMULS:
            return _Grouped.apply(*args[:2])
        return func(*args, **kwargs)


class _OneSequence:
    """Differences of positions that transformers' comparisons see as all 1."""

    def __ne__(self, other):  # pyright: ignore[reportIncompatibleMethodOverride]
        return self

    def __eq__(self, other):  # pyright: ignore[reportIncompatibleMethodOverride]
        return self

    def cumsum(self, dim):
        return self

    def __getitem__(self, index):
        return self

    def all(self):
        return True


class _Grouped(torch.autograd.Function):
    """Grouped matmul of tokens (T, k) with their experts' matrices (E, k, n), which torch traces
    only in bf16."""

    @staticmethod
    def forward(ctx, x, weight):
        for_x, for_weight = ctx.needs_input_grad
        ctx.save_for_backward(weight if for_x else None, x if for_weight else None)
        ctx.laid = [(t.shape, t.stride()) for t in (x, weight)]
        return x.new_empty(len(x), weight.shape[-1])

    @staticmethod
    def backward(ctx, grad):
        return tuple(grad.new_empty_strided(*laid) if needed else None
                     for laid, needed in zip(ctx.laid, ctx.needs_input_grad, strict=True))


class _EightBit(torch.optim.Optimizer):
    """The state of bitsandbytes' 8-bit Adam: two 8-bit values per weight and an fp32 scale per 256
    values. Tensors with fewer than 4,096 elements keep fp32."""

    def __init__(self, groups, learning_rate):
        super().__init__(groups, {"lr": learning_rate})

    @torch.no_grad()
    def step(self):
        for p in (p for group in self.param_groups for p in group["params"]):
            small = p.numel() < 4096
            if p.grad is not None and not self.state[p]:
                for i in "12":
                    self.state[p]["state" + i] = torch.zeros_like(
                        p, dtype=torch.float32 if small else torch.uint8)
                    if not small:
                        self.state[p]["absmax" + i] = torch.zeros(-(-p.numel() // 256))


# Makers of the optimizers that cannot step on fake tensors.
MAKERS = {name: _EightBit for name, entry in OPTIMIZERS.items() if entry.width is not None}


class Params4bit(torch.nn.Parameter):
    """A 4-bit weight of bitsandbytes without values. peft recognizes it by the class name, and
    requests the dequantized weight for DoRA."""

    def __deepcopy__(self, memo):
        copied = type(self)(self.data.clone(), self.requires_grad)
        copied.__dict__.update(self.__dict__)
        return copied


_FAKE_PARAMS = {"Params4bit": type("Params4bit", (FakeTensor,), {}),
                "Int8Params": type("Int8Params", (FakeTensor,), {"CB": None, "SCB": None})}


def _with_padding_if_needed(work, refused, *args):
    """Call `work(refused, *args)`, and repeat it on padded batches if a layer does not support
    packed ones."""
    try:
        return work(refused, *args)
    except packed_attention.Unsupported as reason:
        return work(str(reason), *args)
