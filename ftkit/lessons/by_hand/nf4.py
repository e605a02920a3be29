"""NF4 from scratch, as QLoRA stores its frozen weights (Dettmers et al. 2023, arXiv:2305.14314).

    q = quantize(W)                      # NF4, a scale for each block of 64
    q = double(q)                        # the scales in 8 bits too
    dequantize(q)                        # bit for bit what bitsandbytes gives

The weights of a block are divided by their largest absolute value and then replaced by the nearest
of 16 levels between -1 and 1, the code book.
"""

import dataclasses
import functools
import statistics

import torch
import torch.nn.functional as F

from ftkit.base.errors import UserError

BLOCK, SCALES = 64, 256  # weights under one scale, scales under one scale of scales


@functools.cache
def nf4() -> torch.Tensor:
    """The 16 levels of NormalFloat: quantiles of a normal distribution, scaled to [-1, 1], with an
    exact zero; 7 below it and 8 above (appendix E of the paper; bitsandbytes' outermost quantile).
    """
    quantile = statistics.NormalDist().inv_cdf
    above = [quantile(p) for p in torch.linspace(0.9677083, 0.5, 9)[:-1].tolist()]
    below = [-quantile(p) for p in torch.linspace(0.9677083, 0.5, 8)[:-1].tolist()]
    levels = torch.tensor([*below, 0.0, *above]).sort().values
    return levels / levels.max()


def int4() -> torch.Tensor:
    """Fifteen evenly spaced levels, -7/7 to 7/7."""
    return torch.arange(-7, 8) / 7


def fp4() -> torch.Tensor:
    """The levels of bitsandbytes' 4-bit floats: a sign, two exponent bits and one fraction bit."""
    above = torch.tensor([0.0625, 2, 3, 4, 6, 8, 12]) / 12
    return torch.cat([-above.flip(0), torch.zeros(1), above])


@functools.cache
def dynamic8() -> torch.Tensor:
    """The 256 levels for scales: seven decades, with more levels in larger ones (Dettmers 2015,
    arXiv:1511.04561)."""
    levels = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        middle = 10.0 ** (decade - 6) * (edges[:-1] + edges[1:]) / 2
        levels += middle.tolist() + (-middle).tolist()
    return torch.tensor(levels).sort().values


@dataclasses.dataclass
class Quantized:
    """A tensor in 4 bits.

    packed: uint8, two codes each, the first in the high half. scales: fp32, one for each block of
    weights. After `double`, scales are uint8 codes with one fp32 in `scales2` for 256 of them and a
    common `offset`.
    """

    packed: torch.Tensor
    scales: torch.Tensor
    shape: torch.Size
    levels: torch.Tensor
    block: int = BLOCK
    scales2: torch.Tensor | None = None
    offset: torch.Tensor | None = None

    @property
    def bits(self) -> float:
        """Stored bits per weight, without the shared tables of levels."""
        stored = [t for t in (self.packed, self.scales, self.scales2, self.offset) if t is not None]
        return 8 * sum(t.nbytes for t in stored) / self.shape.numel()


def quantize(weight: torch.Tensor, levels: torch.Tensor | None = None,
             block: int = BLOCK) -> Quantized:
    """Store `weight` in 4 bits, with one scale for each `block` of neighbors."""
    book = nf4() if levels is None else levels
    if block % 2 or weight.numel() % block:
        raise UserError(f"{weight.numel():,} weights cannot be divided into blocks of {block}; "
                        "expected an even block size that divides them")
    fractions, scales = _by_block(weight.detach().float(), block)
    codes = _nearest(fractions, book)
    return Quantized(codes[::2] << 4 | codes[1::2], scales, weight.shape, book, block)


def _by_block(values: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values divided by the largest absolute value of their block, and these scales."""
    rows = values.reshape(-1, block)
    scales = rows.abs().amax(1)
    return (rows * (1 / scales.clamp(min=1e-38))[:, None]).clamp(-1, 1).flatten(), scales


def _nearest(fractions: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """The index of the level that is nearest to each fraction, as uint8."""
    return torch.bucketize(fractions, (levels[1:] + levels[:-1]) / 2).to(torch.uint8)


def double(q: Quantized) -> Quantized:
    """Store the scales in 8 bits: subtract their mean, then one fp32 scale for 256 of them."""
    offset = q.scales.mean()
    shifted = q.scales - offset
    padded = F.pad(shifted, (0, -len(shifted) % SCALES))
    fractions, scales2 = _by_block(padded, SCALES)
    # bitsandbytes' CPU code looks the level up in a table of 65,536 entries, so for the nearest
    # entry (its CUDA code searches; they differ where a fraction is halfway between two levels).
    entries = ((fractions[: len(shifted)] + 1) * 0.5 * 65535 + 0.5).floor() / 65535 * 2 - 1
    return dataclasses.replace(q, scales=_nearest(entries, dynamic8()), scales2=scales2,
                               offset=offset)


def dequantize(q: Quantized) -> torch.Tensor:
    """The fp32 weights that `q` represents."""
    scales = q.scales
    if q.scales2 is not None:
        scales = (dynamic8()[scales.long()]
                  * q.scales2.repeat_interleave(SCALES)[: len(scales)]) + q.offset
    codes = torch.stack([q.packed >> 4, q.packed & 15], 1).flatten()
    return (q.levels[codes.long()].view(-1, q.block) * scales[:, None]).view(q.shape)


def error(weight: torch.Tensor, levels: torch.Tensor | None = None, block: int = BLOCK) -> float:
    """Root mean square error of quantization, as a fraction of the weights' root mean square."""
    rounded = dequantize(quantize(weight, levels, block))
    return float((rounded - weight).norm() / weight.norm())


# ------------------------------------------------------------------------- models in 4 bits


def linears(model) -> dict:
    """bitsandbytes' Linear4bit layers by their name in the unquantized base."""
    return {name.removeprefix("base_model.model.").removesuffix(".base_layer"): module
            for name, module in model.named_modules()
            if getattr(getattr(module, "weight", None), "quant_state", None) is not None}


def dequantized(module) -> torch.Tensor:
    """The fp32 weight that a Linear4bit represents."""
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(module.weight.data, module.weight.quant_state).float()


MERGES = ("original", "dequantized", "requantized")


def merge(tuned, base, into: str):
    """A copy of the unquantized `base` with the LoRA updates of `tuned` (QLoRA) added.

    into: "original" adds them to the base's weights, "dequantized" to the weights that training
    saw, "requantized" also rounds that sum to NF4. Unquantized layers keep the base's weights.
    """
    import copy

    if into not in MERGES:
        raise UserError(f"into is {into!r}; expected one of {', '.join(MERGES)}")
    plain = copy.deepcopy(base)
    wanted = dict(plain.named_modules())
    layers = {name.removeprefix("base_model.model."): module
              for name, module in tuned.named_modules() if hasattr(module, "get_delta_weight")}
    for name, module in linears(tuned).items():
        weight = wanted[name].weight.detach() if into == "original" else dequantized(module)
        if name in layers:
            weight = weight + layers[name].get_delta_weight("default").detach()
        if into == "requantized":
            weight = dequantize(double(quantize(weight)))
        wanted[name].weight.data.copy_(weight)
    return plain


@torch.no_grad()
def kl(model, other, examples: list[dict]) -> float:
    """Mean KL divergence KL(model ‖ other), in nats per labeled token."""
    from ftkit.data import encoding
    from ftkit.model.eval_mode import evaluating

    total = count = 0
    with evaluating(model), evaluating(other):
        for start in range(0, len(examples), 16):
            batch = encoding.collate(examples[start : start + 16], 0)
            keep = batch.pop("labels")[:, 1:] != -100
            ours, theirs = (torch.log_softmax(m(**batch).logits[:, :-1][keep].double(), -1)
                            for m in (model, other))
            total += float(F.kl_div(theirs, ours, reduction="sum", log_target=True))
            count += int(keep.sum())
    return total / max(1, count)


def draw(weight: torch.Tensor, levels: torch.Tensor | None = None, block: int = BLOCK):
    """Histogram of the weights, divided by their block's scale, with the levels."""
    from ftkit.report import style

    book = nf4() if levels is None else levels
    fractions, _ = _by_block(weight.detach().float(), block)
    with style.style():
        picture = style.new_figure(6.4, 2.6)
        ax = picture.add_subplot()
        ax.hist(fractions.numpy(), bins=101, color=style.COLORS[5], density=True)
        ax.vlines(book.tolist(), 0, 0.35, color=style.COLORS[1], linewidth=2)
        ax.set_xlabel("weight, as a fraction of the largest in its block")
        ax.set_yticks([])
        picture.tight_layout()
    gaps = book.diff()
    text = (f"Histogram of {weight.numel():,} weights divided by the largest of their block of "
            f"{block}; lines mark the {len(book)} levels, {float(gaps.min()):.2f} apart where "
            f"weights are many and {float(gaps.max()):.2f} at the ends.")
    return style.Picture(picture, text)
