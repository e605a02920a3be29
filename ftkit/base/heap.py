"""glibc's heap, set for tensors: freed blocks stay, and new memory comes in pages of 2 MiB.

tune() when a model is loaded, ask_for_large_pages() when it is large; `with growing():` around a
run, with grow() in each step, which costs a microsecond.

Each large tensor of a step would otherwise be mapped anew and fault on first touch. Most Linux
systems give large pages only to memory that asks (`madvise`), and without them the processor spends
much of a pass over a large tensor on page tables: AdamW over 64 million numbers takes half the time
with them on a virtual machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from pathlib import Path

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt, as <malloc.h> numbers them
LARGEST = 2**30  # blocks up to here are part of the heap
HUGEPAGE = 14  # of madvise, as <asm-generic/mman-common.h> numbers it
RESERVE = LARGEST - 2**20  # bytes of a block of addresses that is taken in advance
BLOCKS = 4  # at the start of a run
NEVER, SELDOM = -1, 2**31 - 1  # when memory that is free at the end goes back to the system
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


class _Sizes(ctypes.Structure):
    """struct mallinfo2. fordblks: bytes in free blocks; keepcost: those at the end of the heap."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost"))


class _Heap:
    """end: where the heap ended when it was last asked for large pages."""

    def __init__(self, libc):
        self.libc, self.end = libc, None
        libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
        libc.sbrk.argtypes = [ctypes.c_ssize_t]
        libc.malloc.argtypes = [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def reserve(self, blocks: int):
        """Take addresses beyond the end of the heap, so that this many blocks are free there, and
        ask for large pages. No memory is taken: a page is, when it is first written."""
        before = self.libc.sbrk(0)
        missing = blocks - self.libc.mallinfo2().keepcost // RESERVE
        for block in [self.libc.malloc(RESERVE) for _ in range(missing)]:
            self.libc.free(block)
        self.end = self.libc.sbrk(0)
        first = -(-before // 4096) * 4096
        if self.end > first:
            self.libc.madvise(first, self.end - first, HUGEPAGE)


@functools.cache
def _libc():
    """The C library if it is glibc, else None."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version")):
        return None
    if hasattr(libc, "mallinfo2"):  # since glibc 2.33
        libc.mallinfo2.restype = _Sizes
    return libc


@functools.cache
def _heap() -> _Heap | None:
    """None where large pages cannot be asked for, or addresses are scarce (`ulimit -v`, `-d`)."""
    if _libc() is None or not hasattr(_libc(), "mallinfo2"):
        return None
    import resource

    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    if set(limits) != {resource.RLIM_INFINITY}:
        return None
    try:
        return _Heap(_libc()) if "[madvise]" in SETTING.read_text() else None
    except OSError:
        return None


@functools.cache
def tune() -> bool:
    """Whether glibc was found and set; once in a process, so that no run is disturbed."""
    return _set_thresholds(SELDOM)


def ask_for_large_pages():
    """For what is allocated from now on. A large page is cleared whole when it is first written, so
    this pays for memory that is used often: large weights, the steps of a run."""
    if heap := _heap():
        heap.reserve(1)


@contextlib.contextmanager
def growing():
    """For a run: inside, the heap only grows. Afterwards what is free at its end goes back to the
    system, where that is more than 2 GiB."""
    _set_thresholds(NEVER)
    if heap := _heap():
        heap.reserve(BLOCKS)
    try:
        yield
    finally:
        _set_thresholds(SELDOM)


def _set_thresholds(trim: int) -> bool:
    libc = _libc()
    return libc is not None and bool(libc.mallopt(MMAP_THRESHOLD, LARGEST)) and bool(
        libc.mallopt(TRIM_THRESHOLD, trim))


def pooled() -> int:
    """Bytes that malloc keeps for the next allocation; those of whole pages go back to the system
    here (glibc only, else 0)."""
    libc = _libc()
    if libc is None:
        return 0
    libc.malloc_trim(0)
    return libc.mallinfo2().fordblks if hasattr(libc, "mallinfo2") else 0


def grow():
    """Where the heap has outgrown what was reserved, reserve more."""
    if (heap := _heap()) and heap.end is not None and heap.libc.sbrk(0) != heap.end:
        heap.reserve(1)
