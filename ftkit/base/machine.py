"""ftkit's folders, the device, the default precision, and the reasons for these choices."""

import dataclasses
import functools
import importlib.resources
import os
import platform
import random
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ftkit.base import free_memory, notebook_style, quiet
from ftkit.base.errors import UserError
from ftkit.base.files import system_file
from ftkit.base.formatting import gb, to_html

TIERS = ("smoke", "cpu", "gpu")


def package() -> Path:
    """The folder where the package `ftkit` is installed."""
    return Path(str(importlib.resources.files("ftkit")))


def share(name: str) -> Path:
    """A folder shipped with the package: `data_samples` or `notebooks`."""
    inside = package() / "_share" / name
    return inside if inside.exists() else package().parent / name


def home() -> Path:
    """The folder for runs and fetched models: FTKIT_HOME or ~/.ftkit. It may not exist yet."""
    return Path(os.environ.get("FTKIT_HOME") or Path.home() / ".ftkit")


def device() -> str:
    """Return "cuda" if available, else "cpu". torch is imported only if there may be a GPU.

    Apple's mps is not used: it lacks the fused optimizer and bf16 autocast.
    """
    if not _may_have_cuda():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# Prefixes of device files in /dev that a GPU driver creates: NVIDIA (also Tegra, WSL) and AMD.
GPU_FILES = ("nvidia", "nvhost", "nvmap", "nvgpu", "dxg", "kfd")


@functools.cache
def _may_have_cuda() -> bool:
    """False if torch is built without CUDA (macOS, or version +cpu), or on Linux without a GPU
    driver."""
    if sys.platform == "linux" and not any(
            name.startswith(GPU_FILES) for name in os.listdir("/dev")):
        return False
    try:
        return sys.platform != "darwin" and "+cpu" not in version("torch")
    except PackageNotFoundError:  # importing torch will report what is missing
        return True


@functools.cache
def bf16_is_fast() -> bool:
    """True where bf16 matmuls run in hardware rather than being emulated."""
    if device() == "cuda":
        import torch

        return torch.cuda.get_device_capability() >= (8, 0)
    flags = system_file("proc/cpuinfo")
    return "avx512_bf16" in flags or "amx_bf16" in flags


SMALL = 2e7  # parameters; a smaller model counts as tiny


def fast_precision(parameters: float) -> str:
    """Default precision for a model of this size on this machine.

    With AMX, the bf16 matmuls of a small model take less time than the casts around them, so fp32
    is faster (see OTHER_MACHINES.md). This is a fixed rule rather than a timed trial, so that
    other load on the machine cannot change the result of a run.
    """
    if not bf16_is_fast():
        return "fp32"
    if parameters >= SMALL or device() == "cuda":
        return "bf16"
    return "fp32" if "amx_bf16" in system_file("proc/cpuinfo") else "bf16"


def prepare_for_torch():
    """Set environment variables that torch reads on import; the user's own settings take priority.

    OMP_WAIT_POLICY=PASSIVE makes waiting threads sleep. By default they spin for milliseconds at
    each of the hundreds of barriers in a step. With other work on both cores, 50 steps on
    `tiny` took 240 s with spinning threads and 6 to 15 s with sleeping ones.
    """
    if "torch" in sys.modules:
        return
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    free_memory.limit_kernel_cache()


def in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    shell = shell.get_ipython() if shell else None
    return shell is not None and hasattr(shell, "kernel")


def tier() -> str:
    """Return "smoke", "cpu" or "gpu": FTKIT_TIER if set, else the tier of the device."""
    name = os.environ.get("FTKIT_TIER", "")
    if name and name not in TIERS:
        raise UserError(f"FTKIT_TIER is {name!r}; expected one of {', '.join(TIERS)}")
    return name or ("gpu" if device() == "cuda" else "cpu")


def steps_in_tier(steps: int) -> int:
    """Reduce `steps` to 4 in the smoke tier, which runs each line of a lesson but shows no effects.

    12 or fewer steps are not reduced, since lessons compare such runs step by step.
    """
    return 4 if steps > 12 and os.environ.get("FTKIT_TIER") == "smoke" else steps


def cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    for line in system_file("proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@functools.cache
def versions() -> dict:
    """Versions of Python and of the packages that results depend on; None if not installed."""
    out: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("ftkit", "torch", "transformers", "peft", "bitsandbytes", "tokenizers"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = None
    if "torch" in sys.modules:  # its own version includes the build, such as +cu132
        out["torch"] = str(sys.modules["torch"].__version__)
    return out


def describe() -> dict:
    """Return the facts about this machine that are stored with a Run."""
    import torch

    name = torch.cuda.get_device_name() if device() == "cuda" else processor()
    return {"device": device(), "name": name, "cores": cores(), "threads": torch.get_num_threads(),
            "bf16_is_fast": bf16_is_fast(), "free_memory_bytes": free_memory.available(),
            "system": platform.platform()}


@dataclasses.dataclass(frozen=True)
class Machine:
    """This machine's settings, as lines of (setting, value, reason)."""

    lines: tuple[tuple[str, str, str], ...]

    def __repr__(self) -> str:
        settings = ", ".join(f"{setting} {value}" for setting, value, _ in self.lines)
        return f"Machine({settings})"

    def _repr_html_(self) -> str:
        rows = "".join("<tr>" + "".join(f"<td style='text-align:left'>{to_html(cell)}</td>"
                                        for cell in line) + "</tr>" for line in self.lines)
        return f"<table>{rows}</table>{notebook_style.STYLE}"


def setup(seed: int = 0) -> Machine:
    """Seed Python, numpy and torch; return the Machine. Raises UserError if `seed` is invalid."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UserError(f"seed is {seed!r}; expected a whole number")
    prepare_for_torch()
    quiet.mute_known_noise()  # of peft, which lessons import
    import torch

    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    torch.manual_seed(seed)
    where, level = device(), tier()
    if where == "cuda":
        hardware = f"{torch.cuda.get_device_name()}: torch found a CUDA device"
    else:
        hardware = f"{processor()}: torch found no CUDA device; every lesson runs on a CPU"
    small, large = fast_precision(0), fast_precision(SMALL)
    reason = "FTKIT_TIER says so" if os.environ.get("FTKIT_TIER") else f"follows from {where}"
    return Machine((
        ("device", where, hardware),
        ("precision", large if small == large else f"{large}, {small} for tiny",
         "this hardware would emulate bf16, which is slower" if large == "fp32"
         else "this hardware multiplies bf16 matrices natively"
         + ("" if small == large else "; in a tiny model the casts cost more than bf16 saves")),
        ("threads", str(torch.get_num_threads()), f"of {cores()} cores; OMP_NUM_THREADS sets it"),
        ("tier", level, reason),
        ("memory", gb(free_memory.available()), "free now"),
        ("seed", str(seed), "for Python and torch; every run is seeded by its own Config"),
    ))
