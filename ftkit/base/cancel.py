"""Ending work in the background that has to make way: it looks now and then whether it should.

    with cancelable(lambda: stop.is_set()): work()      # raises Canceled soon after stop is set
    point()                                             # in the work, where it may end

What is asked holds for the thread that entered it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

_asked = threading.local()


class Canceled(BaseException):
    """The work was canceled; not an Exception, because it is not a failure to be handled."""


@contextlib.contextmanager
def cancelable(asked: Callable[[], bool]):
    """Meanwhile `point` raises Canceled as soon as `asked()` is true."""
    before, _asked.by = getattr(_asked, "by", None), asked
    try:
        yield
    finally:
        _asked.by = before


def point():
    """A point where the work may end."""
    asked = getattr(_asked, "by", None)
    if asked is not None and asked():
        raise Canceled
