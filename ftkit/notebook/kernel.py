"""The Jupyter kernel, where it needs a hand: widgets that answer while something runs, and the
square button for work that goes on in the background.

    keep_frontend_routing(); on_interrupt(runner.stop)
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable

_interrupted: list[Callable[[], None]] = []


def keep_frontend_routing() -> bool:
    """Let messages of widgets go where the page sends them; True when something was changed.

    JupyterLab sends each widget message to a thread of its own (a "subshell"), so that it is
    handled while a cell runs. ipykernel 7.4 answers such a message in the thread that last spoke
    on the same channel, which for a widget made in a cell is the busy main one: while a cell
    awaits, only the first move of a slider arrives, and all later ones are lost. ipykernel before
    7.4 has no such method, and nothing is done.
    """
    module = sys.modules.get("ipykernel.comm.comm")
    base = getattr(module, "BaseComm", None)
    if base is None or not hasattr(base, "_reply_subshell_for"):
        return False
    base._reply_subshell_for = lambda self, data, default: default
    return True


def on_interrupt(stop: Callable[[], None]):
    """Call `stop` when the kernel is interrupted while no cell runs.

    An idle ipykernel ignores the signal, so the square button would do nothing to work in the
    background. It restores the handler after each message: ours must be set while it is idle.
    """
    if stop in _interrupted:
        return
    _interrupted.append(stop)
    if len(_interrupted) > 1 or threading.current_thread() is not threading.main_thread():
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # not under a kernel: an interrupt is an ordinary KeyboardInterrupt
        _interrupted.remove(stop)
        return
    loop.call_soon(_arm, loop)


def _arm(loop):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, _stop_all)
    elif signal.getsignal(signal.SIGINT) is not _stop_all:
        loop.call_later(0.2, _arm, loop)  # a cell is running: look again


def _stop_all(*_):
    for stop in _interrupted:
        stop()
