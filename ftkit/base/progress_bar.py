"""A progress bar on stderr (by tqdm) with the time left and a short text.

    bar = Bar("training"); bar(0.4, "loss 1.23"); bar.close()
"""

import contextlib
import shutil
import sys

from tqdm.std import tqdm

PARTS = 1000  # tqdm's total


class Bar:
    """Progress bar; call it with the fraction done (0 to 1) and a short text.

    A terminal shows one line, redrawn at most ten times a second. A file or pipe gets a line for
    every 10 %. With `quiet` nothing is shown.
    """

    def __init__(self, title: str, quiet: bool = False, stream=None):
        self.title, self.quiet, self.stream = title, quiet, stream or sys.stderr
        self.terminal = hasattr(self.stream, "isatty") and self.stream.isatty()
        self._tqdm: tqdm | None = None

    def say(self, text: str = "..."):
        """Show a text without a bar; on a terminal it is cut to one line."""
        if not self.quiet:
            line = f"{self.title}: {text}"
            if self.terminal:
                line = line[:shutil.get_terminal_size().columns - 1]
            with contextlib.suppress(OSError):
                self._started(0.0).display(line)

    def __call__(self, fraction: float, text: str = ""):
        if self.quiet:
            return
        fraction = min(max(fraction, 0.0), 1.0)
        bar = self._started(fraction)
        bar.set_postfix_str(text, refresh=False)
        with contextlib.suppress(OSError):  # a full disk under a log must not end the run
            shown = bar.update(round(fraction * PARTS) - bar.n)
            if not shown and bar.n == PARTS > bar.last_print_n:
                bar.refresh()
                bar.last_print_n = PARTS

    def close(self):
        """Finish the bar's line; a bar still at 0 is erased."""
        if self._tqdm and self.terminal:
            self._tqdm.leave = self._tqdm.n > 0
            self._tqdm.close()
        elif self._tqdm:
            self._tqdm.disable = True
        self.quiet = True

    def _started(self, fraction: float) -> tqdm:
        if self._tqdm is None:
            meter = "|{bar:20}| " if self.terminal else " "
            columns = shutil.get_terminal_size().columns - 1 if self.terminal else None
            self._tqdm = (_Redrawn if self.terminal else _Lines)(
                total=PARTS, initial=round(fraction * PARTS), desc=self.title, file=self.stream,
                ncols=columns, nrows=20, ascii=" #", delay=1e-9,
                miniters=0 if self.terminal else PARTS // 10,
                mininterval=0.1 if self.terminal else 0.0,
                bar_format="{desc} {percentage:3.0f}%" + meter + "{elapsed}<{remaining}{postfix}")
        return self._tqdm


class _Redrawn(tqdm):
    monitor_interval = 0  # do not start tqdm's monitor thread


class _Lines(_Redrawn):
    @staticmethod
    def status_printer(file):
        """Print a new line for every update, for logs that cannot redraw one."""
        def print_status(text):
            file.write(text + "\n")
            getattr(file, "flush", lambda: None)()
        return print_status
