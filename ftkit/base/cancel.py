"""Cooperative cancellation of background work, per thread.

    with cancelable(stop.is_set): work()      # raises Canceled soon after stop is set
    point()                                   # inside the work, wherever it may be canceled
"""

import contextlib
import threading
from collections.abc import Callable

_asked = threading.local()


class Canceled(BaseException):
    """The work was canceled. A BaseException, so that `except Exception` does not swallow it."""


@contextlib.contextmanager
def cancelable(asked: Callable[[], bool]):
    """Inside this block, `point` raises Canceled once `asked()` is true."""
    before, _asked.by = getattr(_asked, "by", None), asked
    try:
        yield
    finally:
        _asked.by = before


def point():
    asked = getattr(_asked, "by", None)
    if asked is not None and asked():
        raise Canceled
