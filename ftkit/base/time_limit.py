"""A limit on how long the code of somebody else, such as a chat template, may compute.

    with at_most(10): tokenizer.apply_chat_template(...)     # raises TimeIsUp
"""

from __future__ import annotations

import contextlib
import ctypes
import threading


class TimeIsUp(Exception):
    """The code took longer than it was given."""


@contextlib.contextmanager
def at_most(seconds: float):
    """Raises TimeIsUp in this thread after `seconds`, between two instructions of Python; one long
    call into C ends first. Works in every thread, where signals reach only the main one."""
    thread, lock, over = threading.get_ident(), threading.Lock(), []

    def end():
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(TimeIsUp))

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            over.append(True)
        timer.cancel()
