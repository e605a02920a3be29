"""Silencing libraries, all of it: bars, log lines and warnings that a user of ftkit can't act on.

    quiet.mute_known_noise()         # once in a process that loads models
    quiet.mute_for_commands()        # once in a process of the command line
    with quiet.no_advice(): ...      # transformers: no progress bars, and only errors are logged
    with quiet.no_warnings(): ...    # no Python warnings, or only those that match a pattern
    with quiet.heavy_imports(): ...  # around the first import of torch or transformers
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import warnings


def mute_known_noise():
    """For the whole process: what peft and bitsandbytes print on every machine without a GPU, and
    the hub's line for each retry, since ftkit reports the outcome itself."""
    for name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops",
                 "huggingface_hub.utils._http"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("is_gradient_checkpointing", "past_key_values"):
        warnings.filterwarnings("ignore", message=f"`{name}` is deprecated")


def mute_for_commands():
    """For the whole process of a command: what libraries print for their developers. Call it before
    transformers is imported; a TRANSFORMERS_VERBOSITY that the user set stays."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore", FutureWarning)


@contextlib.contextmanager
def no_progress_bars():
    """Without transformers' progress bars, which on a small model only fill the notebook."""
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
    """Without transformers' progress bars and without what it logs below the level of errors."""
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
    """Without Python warnings whose text begins with a match of the regular expression `message`;
    by default without any."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield


@contextlib.contextmanager
def heavy_imports():
    """Around the first import of torch or transformers: no garbage is looked for meanwhile, and in
    what is there afterwards never again. The modules leave little of it, and looking through them
    takes 0.5 of 3.4 s, and 0.1 s each time after that."""
    if "transformers.modeling_utils" in sys.modules:
        yield
        return
    gc.collect()  # what is garbage by now would never be found again
    was_on, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules + 100:  # else nothing was imported
            gc.freeze()
        if was_on:
            gc.enable()
