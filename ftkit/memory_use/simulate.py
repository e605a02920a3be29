"""One training step on fake tensors: what it would hold, without holding it.

    step(shape, config, [128, 128])       the parts, the peak, and when it is reached

It is our own step that runs, `loop.Update` on a flat batch, through transformers' model, peft's
layers and bitsandbytes' functions; only the tensors have no memory (torch's FakeTensorMode). So
nothing is fitted, whatever changes in the step changes in the prediction, and a model of 70
billion parameters is traced on a laptop. What is put in place of the real thing:

- 4-bit weights have bitsandbytes' layout but were never quantized from anything;
- the 8-bit optimizers of bitsandbytes, whose kernels need memory to look at: same layout;
- a decision that needs a number: gradients are taken to be clipped, fp16 not to overflow, rows
  of a padded batch to hold one sequence.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ftkit.base.errors import UserError
from ftkit.engine import loop, optimizers, packed_attention, packed_batch, packed_loss
from ftkit.memory_use.meter import Meter
from ftkit.model import loading

NF4_BLOCK, SCALE_BLOCK = 64, 256  # weights that share a scale, scales that share a scale


@dataclasses.dataclass
class Step:
    """Bytes of one training step.

    peak: the most that lived at once; at_peak: its parts, which add up to it; moment: in which
    phase. parts: each part at its own largest (they do not all coincide, so their sum is more).
    before: what lives between two steps. timeline: (phase, parts) at each local maximum.
    facts: what else the model's shape says, see `facts`.
    """

    peak: int
    at_peak: dict
    moment: str
    parts: dict
    before: int
    trainable: int
    parameters: int
    timeline: list = dataclasses.field(repr=False, default_factory=list)
    facts: dict = dataclasses.field(repr=False, default_factory=dict)


def step(shape, config, lengths: list[int], labelled: float = 1.0, device: str = "cpu",
         attn: str | None = None, logits: int | None = None) -> Step:
    """Trace one optimizer step of `config` on a model of `shape` (a transformers config).

    lengths: tokens of each sequence in one forward pass. labelled: share of them with loss.
    device: whose rules hold, cpu or cuda (blocks of 512 bytes, other attention kernels).
    attn: sdpa or eager for transformers' own attention on padded batches instead of ours.
    logits: most logits held at once (default: `fast.LOGITS`).
    """
    examples = [example(n, labelled) for n in lengths]
    batches = [packed_loss.flatten(examples, share=False)
               for _ in range(config.gradient_accumulation_steps)]
    return trace(shape, config, batches, device, attn, logits)


def example(tokens: int, labelled: float = 1.0, vocabulary: int = 2**31) -> dict:
    """A record of so many tokens, of which the last share carries loss."""
    silent = tokens - round(tokens * labelled)
    return {"input_ids": [i % vocabulary for i in range(tokens)],
            "labels": [-100] * silent + [1] * (tokens - silent)}


def trace(shape, config, batches: list[packed_loss.FlatBatch], device: str = "cpu",
          attn: str | None = None, logits: int | None = None, whole: bool = False) -> Step:
    """As `step`, for batches that were made from real examples. whole: the objective reads the
    loss of each token (`fast.token_losses`), so that no logits are let go in between."""
    refused = f"{attn} attention was asked for" if attn else None
    return _tried(_trace, refused, shape, config, batches, device, attn, logits, whole)


def _trace(refused, shape, config, batches, device, attn, logits, whole):
    config = config.but(learning_rate=1e-3)
    model = build(shape, config, attn)
    with _as_if(model, config, device, refused, logits, whole), FakeTensorMode() as mode:
        _materialize(model)
        _compute_type(model)
        model.train()
        update = loop.Update(model, config)
        fill_state(update)
        batches = [_fake(batch, mode) for batch in batches]
        meter = watch(update, batches, 512 if device == "cuda" else 1)
        before = meter.total
        with meter:
            update(batches, 1e-3)
    return Step(meter.peak, meter.at_peak, meter.moment, meter.largest, before,
                *loading.count(model), meter.timeline, facts(model))


def evaluation(shape, config, examples: list[dict], device: str = "cpu") -> int:
    """Peak bytes of reading examples in one batch, without gradients."""
    return _tried(_evaluation, None, shape, config, examples, device)


def _evaluation(refused, shape, config, examples, device):
    model = build(shape, config)
    with _as_if(model, config, device, refused, None), FakeTensorMode() as mode:
        _materialize(model)
        _compute_type(model)
        batch = _fake(packed_loss.flatten(examples, share=False), mode)
        meter = Meter(model.eval(), round_to=512 if device == "cuda" else 1)
        with meter, torch.no_grad(), loop.autocast(torch.device("cpu"), config.precision):
            packed_loss.loss_sum(model, batch)
    return meter.peak


def build(shape, config, attn: str | None = None):
    """The model that `config` would train, on the meta device: shapes without numbers."""
    import transformers
    from transformers import initialization

    shape = copy.deepcopy(shape)
    options = {"attn_implementation": attn} if attn else {}
    with torch.device("meta"), initialization.no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(
            shape, dtype=torch.float32, **options)
        model.tie_weights()
        if config.method == "qlora":
            quantize(model)
        with _exchanged(*_dora(config)):
            return loading.trainable(model, config)


def quantize(model):
    """Give the linear layers of a model on meta, except its head, the layout of NF4 with double
    quantization: 4 bits a weight, 8 bits a scale for 64 of them, 32 bits for 256 scales. Which
    layers: those of transformers' `replace_with_bnb_linear`."""
    from transformers.pytorch_utils import Conv1D

    try:
        import bitsandbytes
    except ImportError:
        raise UserError("qlora needs bitsandbytes, which is not installed here; "
                        "`pip install bitsandbytes`, or choose lora") from None
    head = model.get_output_embeddings()
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            if type(child) in (torch.nn.Linear, Conv1D) and child is not head:
                sides = child.weight.shape if type(child) is Conv1D else child.weight.shape[::-1]
                linear = bitsandbytes.nn.Linear4bit(
                    *sides, child.bias is not None,
                    compute_dtype=torch.bfloat16, quant_type="nf4", device="meta")
                linear.weight = torch.nn.Parameter(torch.empty(
                    -(-child.weight.numel() // 2), 1, dtype=torch.uint8), requires_grad=False)
                linear.weight.compress_statistics, linear.weight.quant_type = True, "nf4"
                _scales(linear)
                setattr(block, name, linear)
    model.requires_grad_(False)
    model.is_loaded_in_4bit = True
    loading.keep_training_layout(model)
    return model


def facts(model) -> dict:
    """quantized: parameters in 4 bits, and `bits` of each with its scales; factored: numbers that
    Adafactor keeps; layer, root: bytes of the largest decoder layer, and outside of all layers."""
    packed = [p for p in model.parameters() if getattr(p, "quant_state", None) is not None]
    quantized = sum(p.quant_state.shape.numel() for p in packed)
    held = sum(p.nbytes + p.quant_state.absmax.nbytes + p.quant_state.state2.absmax.nbytes
               for p in packed)
    trained = [p for p in model.parameters() if p.requires_grad]
    layers = [sum(p.nbytes for p in layer.parameters())
              for layer in getattr(packed_attention.base_of(model).get_decoder(), "layers", ())]
    return {"quantized": quantized, "bits": 8 * held / quantized if quantized else None,
            "factored": sum(sum(p.shape[-2:]) * p.shape[:-2].numel() if p.ndim > 1 else p.numel()
                            for p in trained),
            "layer": max(layers, default=0),
            "root": sum(p.nbytes for p in model.parameters()) - sum(layers)}


def fill_state(update):
    """Make the state that the optimizer makes in its first step; the second is to be looked at."""
    for p in update.params:
        p.grad = torch.zeros_like(p)
    update.optimizer.step()
    update.optimizer.zero_grad(set_to_none=True)


def watch(update, batches, round_to: int = 1) -> Meter:
    """A meter that knows what a step finds when it begins."""
    meter = Meter(update.model, update.optimizer, round_to, timeline=True)
    inputs = [t for batch in batches
              for t in (batch.input_ids, batch.position_ids, batch.rows, batch.targets)]
    for tensor in (*(update.origin or ()), *inputs):
        meter.hold(tensor, "other")
    meter.reset()
    return meter


# ------------------------------------------------------------------ inside


def _materialize(model):
    """Tensors in place of shapes; inside FakeTensorMode they are fake. Tied weights stay tied."""
    made = {}

    def make(tensor):
        if id(tensor) not in made:
            new = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            if isinstance(tensor, torch.nn.Parameter):
                new = torch.nn.Parameter(new, requires_grad=tensor.requires_grad)
            made[id(tensor)] = new, tensor
        return made[id(tensor)][0]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = make(tensor)
        if hasattr(module, "support_avx512bf16_for_cpu"):
            _scales(module)
    virtual = getattr(model, "prompt_tokens", {})  # peft's, neither parameter nor buffer
    for name, places in virtual.items():
        virtual[name] = torch.empty(places.shape, dtype=places.dtype, device="cpu")


def _scales(linear):
    """The QuantState that bitsandbytes would have made for this layer."""
    from bitsandbytes.functional import QuantState

    weights = linear.in_features * linear.out_features
    scales = -(-weights // NF4_BLOCK)
    fp32 = {"dtype": torch.float32}
    outer = QuantState(absmax=torch.empty(-(-scales // SCALE_BLOCK), **fp32),
                       code=torch.empty(256, **fp32), blocksize=SCALE_BLOCK, dtype=torch.float32)
    linear.weight.quant_state = linear.quant_state = QuantState(
        absmax=torch.empty(scales, dtype=torch.uint8), code=torch.empty(16, **fp32),
        shape=torch.Size((linear.out_features, linear.in_features)), blocksize=NF4_BLOCK,
        quant_type="nf4", dtype=torch.float32, offset=torch.empty((), **fp32), state2=outer)


def _compute_type(model):
    """bitsandbytes computes in the type of the first input it sees: that of `supports`' trial."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            embedding = packed_attention.base_of(model).get_input_embeddings().weight
            module.compute_dtype, module.compute_type_is_set = embedding.dtype, True


def _fake(batch, mode):
    """A batch whose tensors are fake; `layout.paths` stays, since attention reads its numbers."""
    change = {f.name: mode.from_tensor(getattr(batch, f.name))
              for f in dataclasses.fields(batch)
              if isinstance(getattr(batch, f.name), torch.Tensor)}
    return dataclasses.replace(batch, **change, layout=dataclasses.replace(
        batch.layout, cache={}, windows=set()))


def _clipped(params, max_norm, optimizer=None):
    """`fast.clip_` as it runs where the norm is above the limit."""
    params = [p for p in params if p.grad is not None]
    norm = packed_loss.grad_norm(params)
    if max_norm:
        torch.nn.utils.clip_grads_with_norm_(params, max_norm, norm)
    return norm


def _each_token(model, batch):
    return packed_loss.token_losses(model, batch).sum()


class _Grouped(torch.autograd.Function):
    """The product of tokens (T, k) with the matrices (E, k, n) of their experts, which torch
    traces in bf16 alone."""

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
    """The state of bitsandbytes' 8-bit Adam: two numbers of 8 bits for each weight, an fp32 scale
    for 256 of them; tensors below 4,096 elements keep fp32."""

    def __init__(self, groups, rate):
        super().__init__(groups, {"lr": rate})

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


def _dora(config) -> list:
    """DoRA asks for the whole weight, and peft knows one in 4 bits by its class, which a fake one
    does not have."""
    if config.method != "qlora" or not config.use_dora:
        return []
    from bitsandbytes.functional import dequantize_4bit
    from peft.tuners.lora import dora

    return [(dora, "dequantize_module_weight",
             lambda layer: dequantize_4bit(layer.weight.data, layer.quant_state))]


def _tried(work, refused, *args):
    """`work(refused, *args)`; where only the way through a layer shows that the fast path cannot
    take the model, once more without it."""
    try:
        return work(refused, *args)
    except packed_attention.Unsupported as reason:
        return work(str(reason), *args)


def _as_if(model, config, device: str, refused: str | None, logits: int | None,
           whole: bool = False):
    """What our step decides by looking at numbers, or at the device, decided beforehand.

    refused: why the fast path is not taken, if that is known. whole: as of `trace`.
    """
    base = packed_attention.base_of(model)
    packed_attention._reasons[base] = {None: refused or packed_attention._refuse(base)}
    from transformers import masking_utils
    from transformers.integrations import moe

    return _exchanged(
        (torch.amp.GradScaler, "_maybe_opt_step", lambda self, optimizer, state: optimizer.step()),
        (masking_utils, "find_packed_sequence_indices", lambda position_ids: None),
        (moe, "_grouped_mm", lambda x, weight, offs: _Grouped.apply(x.to(weight.dtype), weight)),
        (packed_loss, "clip_", _clipped), (packed_loss, "LOGITS", logits or packed_loss.LOGITS),
        (packed_batch, "LONG", 0 if device == "cuda" else packed_batch.LONG),
        (packed_loss, "loss_sum", _each_token if whole else packed_loss.loss_sum),
        (optimizers, "_MAKERS", optimizers._MAKERS | dict.fromkeys(
            ("adamw_bnb_8bit", "paged_adamw_8bit"), _EightBit)), *_dora(config))


@contextlib.contextmanager
def _exchanged(*changes):
    """(module, name, value): with other values in place for a while."""
    before = [(where, name, getattr(where, name)) for where, name, _ in changes]
    for where, name, value in changes:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)


