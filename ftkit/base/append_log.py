"""Append lines to a file that several processes share, without losing any line."""

import os
import sys
from pathlib import Path


def append(path: Path, line: str):
    """Append a line (ending in a newline) and flush it to the disk. Raises OSError on failure."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        lock(file)  # two kernels may append at the same time; closing the file unlocks it
        # If a crash cut the last line off, start a new one.
        end = os.lseek(file, 0, os.SEEK_END)
        cut = end > 0 and os.lseek(file, -1, os.SEEK_END) >= 0 and os.read(file, 1) != b"\n"
        whole = (b"\n" if cut else b"") + line.encode()
        while whole:
            whole = whole[os.write(file, whole):]
        os.fsync(file)
    finally:
        os.close(file)


def lock(file: int):
    """Wait for an exclusive lock on an open file; closing the file releases it."""
    try:
        import fcntl
    except ImportError:  # Windows: at worst an empty line appears
        return
    fcntl.flock(file, fcntl.LOCK_EX)


def try_lock(file: int) -> bool:
    """Lock an open file until it is closed or its process ends. Returns False if another process
    or another opening of the file has the lock."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True
