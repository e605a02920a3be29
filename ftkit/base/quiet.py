"""Silence library output (progress bars, log lines, warnings) that users cannot act on.

    quiet.mute_known_noise()         # once in a process that loads models
    quiet.mute_for_commands()        # once in a process of the command line
    with quiet.no_advice(): ...      # transformers: no progress bars, log only errors
    with quiet.no_warnings(): ...    # ignore Python warnings, all or those that match a pattern
    with quiet.LIBRARIES: ...        # load or build a model; other threads that do so wait
"""

import contextlib
import logging
import os
import threading
import warnings

# While transformers and peft load or build a model they replace functions of torch.nn.init and
# torch's default dtype, and the blocks below change settings, for all threads. Two of them at once
# put back the wrong ones, or find a model incomplete.
LIBRARIES = threading.RLock()


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

    with LIBRARIES:
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

    with no_progress_bars():
        level = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()
        try:
            yield
        finally:
            transformers_logging.set_verbosity(level)


@contextlib.contextmanager
def no_warnings(message: str = ""):
    """Ignore Python warnings whose text begins with a match of the pattern `message` (default: all
    warnings)."""
    with LIBRARIES, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield
