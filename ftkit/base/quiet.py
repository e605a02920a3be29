"""Silence library output (progress bars, log lines, warnings) that users cannot act on.

    quiet.mute_known_noise()         # once in a process that loads models
    quiet.mute_for_commands()        # once in a process of the command line
    with quiet.no_advice(): ...      # transformers: no progress bars, log only errors
    with quiet.no_warnings(): ...    # ignore Python warnings, all or those that match a pattern
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings


def mute_known_noise():
    """Mute, for the whole process, the messages of peft and bitsandbytes about a missing GPU, and
    the hub's line for each retry."""
    for name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops",
                 "huggingface_hub.utils._http"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("is_gradient_checkpointing", "past_key_values"):
        warnings.filterwarnings("ignore", message=f"`{name}` is deprecated")


def mute_for_commands():
    """Mute, for the whole process of a command, messages that libraries print for developers.

    Call it before transformers is imported. TRANSFORMERS_VERBOSITY, if set, is respected.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore", FutureWarning)


@contextlib.contextmanager
def no_progress_bars():
    """Hide transformers' progress bars."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def no_advice():
    """Hide transformers' progress bars and log only its errors."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with no_progress_bars():
            yield
    finally:
        transformers_logging.set_verbosity(level)


@contextlib.contextmanager
def no_warnings(message: str = ""):
    """Ignore Python warnings whose text begins with a match of the pattern `message` (default: all
    warnings)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield
