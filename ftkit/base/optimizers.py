"""The optimizers of `Config.optim`, each with its memory and its name in transformers.

torch is imported only when an optimizer is created, so that the command line stays fast.
`engine/optimizers.py` divides a model's parameters into the groups passed to `Optimizer.make`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ftkit.base.errors import UserError


class Optimizer(NamedTuple):
    """Description of an optimizer.

    make: function of (parameter groups, learning rate) that returns a torch optimizer.
    numbers: state values per weight, used to predict memory. width: bytes per value including
    scales (None: same dtype as the weight). factored: True if there is instead one value for each
    row and column of a matrix (Adafactor).
    elsewhere: its name in transformers' `optim`; "" if transformers does not have it.
    rest: the optimizer of all parameters other than hidden-layer matrices; "" if `make` takes every
    parameter. rest_factor: the learning rate of `rest`, as a multiple of the main one.
    tiny_rate: the best learning rate on the embedded model, as a multiple of AdamW's.
    """

    make: Callable[[list[dict], float], Any]
    numbers: int = 0
    width: float | None = None
    factored: bool = False
    elsewhere: str = ""
    rest: str = ""
    rest_factor: float = 1.0
    tiny_rate: float = 1.0

    def state_bytes(self, weight: int) -> float:
        return self.numbers * (self.width or weight)


def _adamw(groups, learning_rate):
    import torch

    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)


def _sgd(groups, learning_rate):
    import torch

    return torch.optim.SGD(groups, lr=learning_rate, fused=True)


def _muon(groups, learning_rate):
    """Muon (Keller Jordan 2024). Its updates are scaled to the size of AdamW's (arXiv 2502.16982),
    so that it can share a learning rate with the AdamW of the other parameters."""
    import torch

    return torch.optim.Muon(groups, lr=learning_rate, momentum=0.95,
                            adjust_lr_fn="match_rms_adamw")


def _adafactor(groups, learning_rate):
    from transformers.optimization import Adafactor

    return Adafactor(groups, lr=learning_rate, scale_parameter=False, relative_step=False)


def _eight_bit(name):
    def make(groups, learning_rate):
        try:
            from bitsandbytes import optim
        except ImportError:
            raise UserError("8-bit optimizers need bitsandbytes, which is not installed. Run `pip "
                            "install bitsandbytes`, or set optim to adamw_torch.") from None
        return getattr(optim, name)(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)

    return make


EIGHT_BIT = 1 + 4 / 256  # bitsandbytes: 8 bits per value, and an fp32 scale per 256 values
OPTIMIZERS = {
    "adamw_torch": Optimizer(_adamw, numbers=2, elsewhere="adamw_torch"),
    "adamw_bnb_8bit": Optimizer(_eight_bit("AdamW8bit"), numbers=2, width=EIGHT_BIT,
                                elsewhere="adamw_bnb_8bit"),
    "paged_adamw_8bit": Optimizer(_eight_bit("PagedAdamW8bit"), numbers=2, width=EIGHT_BIT,
                                  elsewhere="paged_adamw_8bit"),
    "adafactor": Optimizer(_adafactor, factored=True, elsewhere="adafactor"),
    "sgd": Optimizer(_sgd, elsewhere="sgd"),
    # Best in 30 steps: 0.004 of 0.0005 to 0.008 (full), 0.02 of 0.0025 to 0.02 (lora).
    "muon": Optimizer(_muon, numbers=1, rest="adamw_torch", tiny_rate=4.0),
}
