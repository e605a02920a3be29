"""The machine: where files are, which device and precision to use, and why.

`share` and `home` import nothing heavy, so that data can be checked before torch is loaded.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import html
import importlib.resources
import os
import platform
import sys
from pathlib import Path

from ftkit.base.errors import UserError

TIERS = ("smoke", "cpu", "gpu")


def package() -> Path:
    """The folder of the package `ftkit`."""
    return Path(str(importlib.resources.files("ftkit")))


def share(name: str) -> Path:
    """A folder that travels with the package: `data_samples` or `notebooks`."""
    inside = package() / "_share" / name
    return inside if inside.exists() else package().parent / name


def home() -> Path:
    """Where runs and fetched models are kept: FTKIT_HOME or ~/.ftkit; made by whoever writes."""
    return Path(os.environ.get("FTKIT_HOME") or Path.home() / ".ftkit")


def device() -> str:
    """cuda where there is one, else cpu (Apple's mps lacks the fused optimizer and bf16 autocast
    that the training core stands on)."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@functools.cache
def bf16_is_fast() -> bool:
    """True where bf16 matrix products run in hardware rather than being emulated."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def share_cores():
    """Let a thread that waits for another sleep at once; call it before torch is imported.

    By default it spins for milliseconds at each of a step's hundreds of barriers, and on a machine
    that does other work too the thread it waits for is not even running: with both cores shared,
    50 steps on `tiny` took 240 s and took 6 to 15 s like this.
    """
    if "torch" not in sys.modules and "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# oneDNN keeps the code of the last bf16 products that it has met, on CPU; another number of tokens
# is another product. On tiny each took 0.7 MB of memory and 2.3 MB of what `ulimit` counts.
KERNELS, KERNEL, KERNEL_MAPPED = 1024, 3 * 2**18, 5 * 2**19


def keep_few_kernels():
    """Where memory is scarce, let the code of bf16 products take a tenth of it; call it before
    torch is imported. 60 steps of `tiny` on records of many lengths took 0.7 GB otherwise."""
    if "torch" not in sys.modules and "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:
        room = _room()
        few = KERNELS if room is None else max(32, room // 10 // KERNEL_MAPPED)
        if few < KERNELS:
            os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(few))


def kernel_memory(products: int) -> int:
    """Bytes that the code of so many bf16 products takes, of those that are kept."""
    kept = (os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
            or os.environ.get("DNNL_PRIMITIVE_CACHE_CAPACITY") or "")
    kept = int(kept) if kept.isdigit() else KERNELS
    return min(products, kept) * (KERNEL_MAPPED if _limits() else KERNEL)


def in_notebook() -> bool:
    """True under a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    shell = shell.get_ipython() if shell else None
    return shell is not None and hasattr(shell, "kernel")


def tier() -> str:
    """smoke, cpu or gpu: FTKIT_TIER, else what the machine has."""
    wanted = os.environ.get("FTKIT_TIER", "")
    if wanted and wanted not in TIERS:
        raise UserError(f"FTKIT_TIER is {wanted!r}; expected one of {', '.join(TIERS)}")
    return wanted or ("gpu" if device() == "cuda" else "cpu")


def steps_in_tier(steps: int) -> int:
    """`steps`, or 4 where the tier is smoke: enough to run every line of a lesson, too few to show
    an effect. A run of at most 12 steps keeps them: lessons compare such runs step by step."""
    return 4 if steps > 12 and os.environ.get("FTKIT_TIER") == "smoke" else steps


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that a new allocation can have: of the GPU if there is one, else of the machine or of
    what a container or `ulimit` leaves of it."""
    import torch

    if torch.cuda.is_available():
        idle = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + idle
    room = _room()
    if room is not None:
        return room
    pages = os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else 0
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _room() -> int | None:
    """Bytes that the kernel says a process can still have; None where there is no /proc."""
    room = [_number("/proc/meminfo", "MemAvailable"), *_container(), *_limits()]
    return min((max(0, r) for r in room if r is not None), default=None)


def _number(file: str, name: str = "") -> int | None:
    """The number in a file of the kernel, or on its line that begins with `name`, in bytes."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError:
        return None
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if words and (not name or words[0] == name) and words[-1 if not name else 1].isdigit():
            return int(words[bool(name)]) * (1024 if words[-1] == "kB" else 1)
    return None


def _container() -> list[int]:
    """What the control groups (version 2 or 1) of this process still allow."""
    try:
        groups = [line.split(":") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    left = []
    for _, kinds, path in groups:
        if kinds and "memory" not in kinds.split(","):
            continue
        top = "/sys/fs/cgroup" if not kinds else "/sys/fs/cgroup/memory"
        names = ("memory.max", "memory.current", "inactive_file") if not kinds else (
            "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        for folder in {f"{top}{path}".rstrip("/"), top}:
            most, used = (_number(f"{folder}/{name}") for name in names[:2])
            if most is not None and used is not None:
                left.append(most - used + (_number(f"{folder}/memory.stat", names[2]) or 0))
    return left


def _limits() -> list[int]:
    """What `ulimit -v` and `ulimit -d` still allow, with what this process has freed and keeps."""
    try:
        import resource
    except ImportError:  # Windows
        return []
    left = []
    for kind, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, used = resource.getrlimit(kind)[0], _number("/proc/self/status", name)
        if most != resource.RLIM_INFINITY and used is not None:
            left.append(most - used + pooled_memory())
    return left


def pooled_memory() -> int:
    """Bytes that malloc keeps for the next allocation; those of whole pages go back to the system
    here (glibc only, else 0)."""
    try:
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallinfo2.restype = type("Mallinfo", (ctypes.Structure,), {"_fields_": [
            (name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd",
                                                 "usmblks", "fsmblks", "uordblks", "fordblks",
                                                 "keepcost")]})
        return libc.mallinfo2().fordblks
    except (OSError, AttributeError, TypeError):
        return 0


def processor() -> str:
    """The processor's own name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def versions() -> dict:
    """Versions of what a result depends on."""
    from importlib.metadata import PackageNotFoundError, version

    out = {"python": platform.python_version()}
    for name in ("ftkit", "torch", "transformers", "peft", "bitsandbytes", "tokenizers"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = None
    if "torch" in sys.modules:  # its own word names the build too, such as +cu132
        out["torch"] = str(sys.modules["torch"].__version__)
    return out


def describe() -> dict:
    """The machine as a Run stores it."""
    import torch

    name = torch.cuda.get_device_name() if device() == "cuda" else processor()
    return {"device": device(), "name": name, "cores": cores(), "threads": torch.get_num_threads(),
            "bf16_is_fast": bf16_is_fast(), "free_memory_bytes": free_memory(),
            "system": platform.platform()}


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was found, and why it was chosen: (what, value, reason) lines."""

    lines: tuple[tuple[str, str, str], ...]

    def __repr__(self) -> str:
        return "Machine(" + ", ".join(f"{what} {value}" for what, value, _ in self.lines) + ")"

    def _repr_html_(self) -> str:
        rows = "".join("<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>"
                                        for cell in line) + "</tr>" for line in self.lines)
        return f"<table>{rows}</table>"


def setup(seed: int = 0) -> Machine:
    """Seed Python, numpy and torch, choose threads, and say what this machine is."""
    import random

    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UserError(f"seed is {seed!r}; expected a whole number")
    share_cores()
    keep_few_kernels()
    import torch

    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    torch.manual_seed(seed)
    where, level = device(), tier()
    if where == "cuda":
        chosen = (torch.cuda.get_device_name(), "torch found a CUDA device")
    else:
        chosen = (processor(), "torch found no CUDA device; every lesson runs on a CPU")
    precision = ("bf16", "this hardware multiplies bf16 matrices natively") if bf16_is_fast() else (
        "fp32", "bf16 would be emulated here, and slower")
    asked = "FTKIT_TIER says so" if os.environ.get("FTKIT_TIER") else f"follows from {where}"
    return Machine((
        ("device", where, f"{chosen[0]}: {chosen[1]}"),
        ("precision", *precision),
        ("threads", str(torch.get_num_threads()), f"of {cores()} cores; OMP_NUM_THREADS sets it"),
        ("tier", level, asked),
        ("memory", f"{free_memory() / 2**30:.1f} GiB", "free now"),
        ("seed", str(seed), "for Python and torch; every run is seeded by its own Config"),
    ))
