"""How much memory this process can still have, and how much of it oneDNN's cache of kernels takes.

    available()                 bytes that a new allocation can have
    kernel_cache_bytes(shapes)  bytes of the kernels for this number of shapes
"""

from __future__ import annotations

import os

from ftkit.base import heap
from ftkit.base.files import system_file

# oneDNN caches one JIT kernel per shape of a bf16 matmul on CPU, and each number of tokens is
# another shape. On tiny a kernel took 0.7 MB of resident and 2.3 MB of virtual memory.
CACHE_ENTRIES, RSS_PER_KERNEL, VIRTUAL_PER_KERNEL = 1024, 3 * 2**18, 5 * 2**19


def available() -> int:
    """Bytes that a new allocation can have: of the GPU if there is one, else of the machine or of
    what a container or `ulimit` allows."""
    import torch

    if torch.cuda.is_available():
        idle = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + idle
    return _of_cpu()


def _of_cpu() -> int:
    """Bytes of CPU memory that this process can still have."""
    import psutil

    return max(0, min(psutil.virtual_memory().available, *_left_by_container(),
                      *_left_by_ulimit(), 2**63))


def _left_by_container() -> list[int]:
    """Bytes that each control group (version 2) around this process still allows."""
    group = next((line[3:] for line in system_file("proc/self/cgroup").splitlines()
                  if line.startswith("0::")), "")
    group = f"sys/fs/cgroup/{group.strip('/')}".rstrip("/")
    left = []
    while group != "sys/fs":
        limit, used = (system_file(f"{group}/memory.{name}").strip() for name in ("max", "current"))
        if limit.isdigit() and used.isdigit():
            stat = dict(line.split() for line in system_file(f"{group}/memory.stat").splitlines())
            left.append(int(limit) - int(used) + int(stat.get("inactive_file", 0)))
        group = group.rpartition("/")[0]
    return left


def _left_by_ulimit() -> list[int]:
    """Bytes that `ulimit -v` and `ulimit -d` still allow, with what this process has freed."""
    try:
        import resource
    except ImportError:  # Windows
        return []
    import psutil

    used = psutil.Process().memory_info()
    sizes = ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, getattr(used, "data", 0)))
    limits = [(resource.getrlimit(kind)[0], size) for kind, size in sizes]
    return [limit - size + heap.pooled() for limit, size in limits
            if limit != resource.RLIM_INFINITY]


def limit_kernel_cache():
    """Where memory is scarce, oneDNN's cache of bf16 kernels takes at most a tenth of it: 60 steps
    of `tiny` on records of many lengths took 0.7 GB otherwise. Call it before torch is imported."""
    entries = max(32, _of_cpu() // 10 // VIRTUAL_PER_KERNEL)
    if entries < CACHE_ENTRIES:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(entries))


def kernel_cache_bytes(shapes: int) -> int:
    """Bytes that oneDNN's kernels take for this number of different bf16 matmul shapes."""
    capacity = os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "")
    entries = min(shapes, int(capacity) if capacity.isdigit() else CACHE_ENTRIES)
    return entries * (VIRTUAL_PER_KERNEL if _left_by_ulimit() else RSS_PER_KERNEL)
