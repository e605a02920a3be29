"""`ftkit doctor`: what this machine is, what it can run, and what to do about what is amiss.

Looks at everything a lesson or a run needs and loads nothing but torch, so it answers in seconds.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from ftkit.base import machine
from ftkit.model import download, loading

GB = 1e9
# Bytes for each parameter while it trains (weights, gradients, AdamW's two moments), activations
# of a short batch taken as a fifth on top: full fp32; LoRA over fp32; QLoRA at 4.13 bits.
COST = {"full": 16 * 1.2, "lora": 4 * 1.2, "qlora": 0.55 * 1.2}


def examine() -> dict:
    """Everything found: {"ok", "checks": [{name, state, found, advice}], "machine", "can_run"}.

    state is ok, note (works, worth knowing) or bad (something will fail; advice says what to do).
    """
    checks = [_python(), *_packages(), *_jupyter(), _tiny(), _smollm2(), _lessons(), _disk()]
    try:
        about = machine.describe()
        checks.insert(1, _device(about))
        room = about["free_memory_bytes"]
        can_run = {method: int(room * 0.8 / cost) for method, cost in COST.items()}
    except ImportError:  # no torch: told among the packages
        about, can_run = {}, {}
    return {"ok": all(check["state"] != "bad" for check in checks), "checks": checks,
            "machine": about, "can_run": can_run}


def tell(found: dict) -> str:
    """The examination for a reader, one line a check."""
    marks = {"ok": "ok  ", "note": "note", "bad": "BAD "}
    width = max(len(check["name"]) for check in found["checks"])
    lines = []
    for check in found["checks"]:
        lines.append(f"{marks[check['state']]} {check['name'].ljust(width)}  {check['found']}")
        if check["advice"]:
            lines.append(f"     {' ' * width}  -> {check['advice']}")
    if found["can_run"]:
        sizes = ", ".join(f"{name} up to {number / 1e9:.1f} B parameters"
                          for name, number in found["can_run"].items())
        lines.append(f"\nWith the memory free now, roughly: {sizes}. Every lesson runs on tiny.")
    bad = sum(check["state"] == "bad" for check in found["checks"])
    lines.append(f"{bad} of {len(found['checks'])} checks failed; each says what to do." if bad
                 else "All is well: `ftkit lab` opens the lessons, `ftkit run` trains once.")
    return "\n".join(lines)


def _line(name: str, found: str, state: str = "ok", advice: str = "") -> dict:
    return {"name": name, "state": state, "found": found, "advice": advice}


def _python() -> dict:
    found = f"{platform.python_version()} ({sys.executable})"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return _line("python", found)
    return _line("python", found, "bad", "use Python 3.11, 3.12 or 3.13")


def _packages() -> list[dict]:
    """Each package that ftkit asks for, against the range it asks for."""
    from packaging.requirements import Requirement

    try:
        wanted = metadata.requires("ftkit") or []
    except metadata.PackageNotFoundError:
        return [_line("ftkit", "runs from a folder, not installed", "note",
                      "`pip install -e .` there gives the ftkit command")]
    lines = []
    for text in wanted:
        need = Requirement(text)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            lines.append(_line(need.name, "missing", "bad", f"pip install '{need}'"))
            continue
        if need.specifier.contains(have, prereleases=True):
            lines.append(_line(need.name, have))
        else:
            lines.append(_line(need.name, f"{have}; ftkit needs {need.specifier}", "bad",
                               f"pip install '{need}'"))
    return lines


def _jupyter() -> list[dict]:
    """The kernel that JupyterLab will start, and what is known against its version."""
    lines = []
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

        try:
            path = KernelSpecManager().get_kernel_spec("python3").argv[0]
            if re.fullmatch(r"python[0-9.]*", path):
                path = sys.executable  # jupyter_client starts a bare name as its own Python
            ours = Path(path).absolute().parent == Path(sys.executable).absolute().parent
            lines.append(_line("kernel", path) if ours else _line(
                "kernel", path, "bad", "notebooks would run in another Python than this one; "
                f"{sys.executable} -m ipykernel install --sys-prefix mends it"))
        except NoSuchKernel:
            lines.append(_line("kernel", "none", "bad",
                               f"{sys.executable} -m ipykernel install --sys-prefix"))
        have = tuple(int(part) for part in re.findall(r"\d+", metadata.version("ipykernel"))[:2])
    except (ImportError, metadata.PackageNotFoundError):
        return lines  # told among the packages
    if have < (7, 0):
        lines.append(_line("controls", "sliders and Stop wait until the cell ends", "note",
                           "pip install 'ipykernel>=7.4' lets them act while a cell runs"))
    elif have < (7, 4):
        lines.append(_line("controls", "this ipykernel can hang at a cell (its issue 1554)",
                           "note", "pip install 'ipykernel>=7.4'"))
    return lines


def _device(about: dict) -> dict:
    import torch

    fast = "bf16 in hardware" if about["bf16_is_fast"] else "bf16 only emulated, so fp32"
    found = (f"{about['device']}: {about['name']}, {about['cores']} cores, {about['threads']} "
             f"threads, {about['free_memory_bytes'] / 2**30:.1f} GiB free, {fast}")
    if about["device"] == "cpu" and shutil.which("nvidia-smi"):
        built = f"torch was built for CUDA {torch.version.cuda}" if torch.version.cuda else (
            "this torch was built without CUDA")
        return _line("device", found, "note", f"there is an NVIDIA driver, but {built}; install "
                     "the torch that fits the driver to use the GPU")
    return _line("device", found)


def _tiny() -> dict:
    folder = loading.tiny_path()
    weights, advice = folder / "model.safetensors", "install ftkit again"
    if not weights.is_file():
        return _line("tiny", f"no weights in {folder}", "bad", advice)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    signed = folder / "SHA256"  # as `sha256sum model.safetensors` writes it
    if not signed.is_file() or signed.read_text("utf-8").split()[0] != digest:
        return _line("tiny", "the embedded model is damaged or was changed", "bad", advice)
    return _line("tiny", f"embedded, {weights.stat().st_size / 1e6:.1f} MB, sha256 {digest[:12]}")


def _smollm2() -> dict:
    folder = download.find("smollm2")
    if folder:
        return _line("smollm2", download.about(folder))
    return _line("smollm2", "not fetched", "note", "`ftkit fetch smollm2` gets it (0.1 to 0.3 GB "
                                                   "to download, 0.3 GB on disk)")


def _lessons() -> dict:
    count = len(list(machine.share("notebooks").glob("*.ipynb")))
    samples = len(list(machine.share("data_samples").glob("*.jsonl")))
    found = f"{count} lessons, {samples} files of sample data"
    return _line("lessons", found) if count and samples else _line(
        "lessons", found, "bad", "install ftkit again; in a clone, `make notebooks`")


def _disk() -> dict:
    home = machine.home()
    there = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        return _line("disk", f"nothing can be written to {home}, so no run is kept", "bad",
                     "set FTKIT_HOME to a folder of yours")
    free = shutil.disk_usage(there).free
    found = f"{free / GB:.1f} GB free for runs and models in {home}"
    if free < 0.2 * GB:
        return _line("disk", found, "bad", "make room, or set FTKIT_HOME to a folder with more")
    return _line("disk", found)
