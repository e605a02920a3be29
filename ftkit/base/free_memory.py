"""Memory that this process can still use.

    available()             bytes that a new allocation can take
    limit_kernel_cache()    before torch is imported, on a machine with little memory
"""

import os

import psutil

from ftkit.base.files import system_file

# oneDNN caches one JIT kernel for each shape of a bf16 matmul on CPU, and the shape depends on the
# number of tokens. On tiny a kernel took 2.3 MB of virtual memory.
CACHE_ENTRIES, BYTES_PER_KERNEL = 1024, 5 * 2**19


def available() -> int:
    """Free bytes on the GPU if there is one, else in main memory, within the limits set by the
    container and by `ulimit`."""
    import torch

    if torch.cuda.is_available():
        idle = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + idle
    return _of_cpu()


def _of_cpu() -> int:
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
    """Bytes that `ulimit -v` and `ulimit -d` still allow."""
    try:
        import resource
    except ImportError:  # Windows
        return []
    used = psutil.Process().memory_info()
    sizes = ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, getattr(used, "data", 0)))
    return [limit - size for kind, size in sizes
            if (limit := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY]


def limit_kernel_cache():
    """Limit oneDNN's cache of bf16 kernels to a tenth of the free memory. Without a limit it grew
    to 0.7 GB in 60 steps of `tiny` on records of many lengths. Call this before importing torch."""
    entries = max(32, _of_cpu() // 10 // BYTES_PER_KERNEL)
    if entries < CACHE_ENTRIES:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(entries))
