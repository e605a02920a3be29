"""Without what libraries print about themselves."""

from __future__ import annotations

import contextlib


@contextlib.contextmanager
def no_progress_bars():
    """Without transformers' progress bars: on a small model they only fill the notebook."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
