"""The heap of glibc: blocks that stay, pages of 2 MiB."""

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.base import heap

GLIBC = platform.libc_ver()[0] == "glibc"
HUGE = GLIBC and "[madvise]" in (heap.SETTING.read_text() if heap.SETTING.exists() else "")


def in_a_process(code: str, **limits) -> str:
    def limit():
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    return subprocess.run([sys.executable, "-c", "from ftkit.base import heap\n" + code], text=True,
                          check=True, capture_output=True, preexec_fn=limit).stdout.strip()


PAGES = """
import re, sys
def huge():
    return int(re.search("AnonHugePages: *([0-9]+)", open("/proc/self/smaps_rollup").read())[1])
"""


def test_the_heap_is_tuned_only_where_there_is_glibc():
    assert heap.tune() is GLIBC
    heap.grow()
    with heap.growing():
        heap.grow()


@pytest.mark.skipif(not HUGE, reason="this system gives large pages to all or to none")
def test_large_blocks_come_in_large_pages_and_are_no_memory_before_they_are_written():
    code = PAGES + """
heap.tune()
resident = lambda: int(re.search("Rss: *([0-9]+)", open("/proc/self/smaps_rollup").read())[1])
before = resident()
with heap.growing():
    print(resident() - before)
    block = bytearray(2**28)  # zeros from calloc, which writes them where the heap is reused
    block[::4096] = bytes([1]) * 2**16
    print(huge())
"""
    reserved, large = map(int, in_a_process(code).split())
    assert reserved < 2**10  # in KiB; 4 GiB of addresses
    assert large > 0.8 * 2**18


@pytest.mark.skipif(not HUGE, reason="this system gives large pages to all or to none")
def test_a_heap_that_outgrows_its_reserve_gets_another_one():
    code = PAGES + """
heap.BLOCKS = 0
heap.tune()
heap.ask_for_large_pages()
first = heap._heap().end
with heap.growing():
    held = [bytearray(2**29) for _ in range(3)]
    assert heap._heap().libc.sbrk(0) > first
    heap.grow()
    end = heap._heap().end
    assert end - first >= 2**30
    heap.grow()
    assert heap._heap().end == end
    print(end > 0)
"""
    assert in_a_process(code) == "True"


@pytest.mark.skipif(not GLIBC, reason="it is glibc's heap")
def test_nothing_is_reserved_under_a_limit_on_addresses():
    code = """
assert heap.tune() and heap._heap() is None
with heap.growing():
    heap.grow()
print(heap._libc().mallopt is not None)
"""
    assert in_a_process(code, RLIMIT_AS=2**32) == "True"


def test_a_system_without_the_setting_or_the_functions_is_left_alone(monkeypatch):
    monkeypatch.setattr(heap, "SETTING", Path("/nowhere"))
    heap._heap.cache_clear()
    assert heap._heap() is None
    heap.grow()
    monkeypatch.setattr(heap, "_libc", lambda: None)
    heap.tune.cache_clear()
    assert heap.tune() is False
    assert heap.pooled() == 0
    with heap.growing():
        heap.grow()
    monkeypatch.undo()
    heap._heap.cache_clear()
    heap.tune.cache_clear()
