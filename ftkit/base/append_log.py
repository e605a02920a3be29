"""Lines appended to a file by several processes, none of them lost."""

from __future__ import annotations

import os
from pathlib import Path


def append(path: Path, line: str):
    """Append a line that ends in a newline and wait until it is on the disk. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        lock(file)  # two kernels may append at the same time; closing lets go of it
        # A line cut off by a crash must not swallow this one.
        end = os.lseek(file, 0, os.SEEK_END)
        cut = end > 0 and os.lseek(file, -1, os.SEEK_END) >= 0 and os.read(file, 1) != b"\n"
        whole = (b"\n" if cut else b"") + line.encode()
        while whole:
            whole = whole[os.write(file, whole):]
        os.fsync(file)
    finally:
        os.close(file)


def lock(file: int):
    """Wait until nobody else has this open file; closing it lets go."""
    try:
        import fcntl
    except ImportError:  # Windows: the worst that comes of it is an empty line
        return
    fcntl.flock(file, fcntl.LOCK_EX)
