"""Evaluation mode of a model, for a block of code."""

import contextlib


@contextlib.contextmanager
def evaluating(model):
    """Put all modules in eval mode (no dropout), and restore their previous modes afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
