"""A progress bar on stderr: what is done, how long it still takes, and one word on how it goes.

    bar = Bar("training"); bar(0.4, "loss 1.23"); bar.close()
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time


class Bar:
    """Call it with the share done (0 to 1) and a short text; `close` ends the line.

    On a terminal one line is redrawn, at most ten times a second; into a file or pipe goes one
    line for each tenth. `quiet` shows nothing.
    """

    def __init__(self, title: str, quiet: bool = False, stream=None):
        self.title, self.stream = title, stream or sys.stderr
        self.quiet = quiet
        self.terminal = hasattr(self.stream, "isatty") and self.stream.isatty()
        self.began = self.drawn = self.tenth = None

    def say(self, text: str = ""):
        """What is being done, where nothing can be counted."""
        if not self.quiet:
            self._write(f"{self.title}{': ' + text if text else ' ...'}")

    def __call__(self, share: float, text: str = ""):
        now, share = time.perf_counter(), min(max(share, 0.0), 1.0)
        if self.quiet:
            return
        if self.began is None:
            self.began, self.first = now, share
        if self.terminal:
            if self.drawn is not None and now - self.drawn < 0.1 and share < 1:
                return
        elif int(share * 10) == self.tenth:
            return
        self.drawn, self.tenth = now, int(share * 10)
        gone = now - self.began
        done = share - self.first
        left = clock(gone) if share == 1 else (
            f"{clock(gone / done * (1 - share))} left" if done else "")
        filled = int(share * 20)
        meter = f"[{'#' * filled}{'.' * (20 - filled)}] " if self.terminal else ""
        facts = ", ".join(part for part in (text, left) if part)
        self._write(f"{self.title} {meter}{share:4.0%}  {facts}")

    def close(self):
        """End the line, so that what follows starts on its own."""
        if self.terminal and not self.quiet:
            print(file=self.stream, flush=True)
        self.quiet = True

    def _write(self, text: str):
        end = "" if self.terminal else "\n"
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            text = "\r" + text[:width].ljust(width)
        with contextlib.suppress(OSError):  # a full disk under a log must not cost the run
            print(text, end=end, file=self.stream, flush=True)


def clock(seconds: float) -> str:
    """Seconds as a person says them: 8 s, 2 min 05 s, 3 h 10 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
