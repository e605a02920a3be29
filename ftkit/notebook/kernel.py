"""Two workarounds for the Jupyter kernel: widgets that respond while a cell runs, and the square
interrupt button for work in the background.

    keep_frontend_routing(); on_interrupt(QUEUE.stop)
"""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable

_callbacks: list[Callable[[], None]] = []


def keep_frontend_routing() -> bool:
    """Make ipykernel handle each widget message in the thread that the page asks for; returns
    whether that needed a change.

    JupyterLab sends each widget message to its own thread (a "subshell"), so that it is handled
    while a cell runs. ipykernel 7.4 answers such a message in the thread that last spoke on the
    same channel, which for a widget made in a cell is the busy main one: while a cell awaits, only
    the first move of a slider arrives. Earlier versions of ipykernel need no change.
    """
    module = sys.modules.get("ipykernel.comm.comm")
    base = getattr(module, "BaseComm", None)
    if base is None or not hasattr(base, "_reply_subshell_for"):
        return False
    setattr(base, "_reply_subshell_for", lambda self, data, default: default)  # noqa: B010
    return True


def cell_id() -> str:
    """The id of the running cell, which JupyterLab and Notebook send; "" for other front ends."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    metadata = (getattr(shell, "parent_header", None) or {}).get("metadata") or {}
    return str(metadata.get("cellId") or "")


def on_interrupt(callback: Callable[[], None]):
    """Call `callback` when the kernel is interrupted while no cell runs.

    An idle ipykernel ignores the signal, so the square button would not stop background work.
    ipykernel restores its own handler after each message; ours is set while the kernel is idle.
    """
    if callback in _callbacks:
        return
    _callbacks.append(callback)
    if len(_callbacks) > 1 or threading.current_thread() is not threading.main_thread():
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # not in a kernel: an interrupt is an ordinary KeyboardInterrupt
        _callbacks.remove(callback)
        return
    loop.call_soon(_set_handler, loop)


def _set_handler(loop):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, _call_all)
    elif signal.getsignal(signal.SIGINT) is not _call_all:
        loop.call_later(0.2, _set_handler, loop)  # a cell is running: check again later


def _call_all(*_):
    for callback in _callbacks:
        callback()
