"""Prepack weights of linear layers for oneDNN, for faster decoding on CPU.

A decoding step multiplies each weight by only a few rows, so most of its time goes into reading the
weights, at which the ordinary matmul is slow (slowest for 9 to 15 rows). torch's compiler prepacks
weights in the same way when it freezes a model for inference.
"""

import contextlib
import functools

import torch

MOST_ROWS = 64  # for more rows the ordinary matmul is as fast
LEAST_BYTES = 2**26  # of weights; fewer fit in the processor's cache and gain nothing
MOST_BYTES = 2**30  # of weights, since their copies need the same memory again


@contextlib.contextmanager
def prepacked(model):
    """Inside the block, `model`'s fp32 linear layers on CPU use prepacked copies of their weights.

    They do so for inputs of up to MOST_ROWS rows. The weights must not change inside the block.
    Models too small, too large, or in another dtype are unchanged.
    """
    layers = _layers(model)
    try:
        for layer in layers:
            layer.forward = _forward(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _layers(model) -> list[torch.nn.Linear]:
    if torch.is_autocast_enabled("cpu") or not _works():
        return []
    layers = [
        module for module in model.modules()
        if type(module) is torch.nn.Linear and "forward" not in vars(module)
        and type(module.weight) is torch.nn.Parameter
        and module.weight.dtype == torch.float32 and module.weight.device.type == "cpu"]
    size = sum(layer.weight.nbytes for layer in layers)
    return layers if LEAST_BYTES <= size <= MOST_BYTES else []


def _forward(layer):
    plain, packed, bias = layer.forward, _pack(layer.weight.detach()), layer.bias

    def forward(x):
        if x.numel() > MOST_ROWS * x.shape[-1]:
            return plain(x)
        return _multiply(x, packed, bias)

    return forward


def _pack(weight):
    return torch.ops.mkldnn._reorder_linear_weight(weight, MOST_ROWS)  # noqa: SLF001


def _multiply(x, packed, bias):
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")  # noqa: SLF001


@functools.cache
def _works() -> bool:
    """Whether this torch has the two undocumented operators, and they compute the right result."""
    x = torch.linspace(-1, 1, 3 * 48).view(3, 48)
    weight = torch.linspace(-2, 3, 32 * 48).view(32, 48).sin()
    bias = torch.linspace(-1, 2, 32)
    try:
        got = _multiply(x, _pack(weight), bias)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(got, torch.nn.functional.linear(x, weight, bias), atol=1e-5)
