"""`ftkit doctor`: this machine, what it can run, and how to fix what is wrong.

Checks everything that a lesson or a run needs, and loads nothing but torch, so it takes seconds.
"""

import hashlib
import os
import platform
import re
import shutil
import sys
import textwrap
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from ftkit.base import machine
from ftkit.base.formatting import gb
from ftkit.model import download, loading

# Bytes per parameter in training (weights, gradients, both moments of AdamW) plus 20 % for the
# activations of a short batch. full and LoRA in fp32; QLoRA at 4.13 bits.
BYTES_PER_PARAMETER = {"full": 16 * 1.2, "lora": 4 * 1.2, "qlora": 0.55 * 1.2}


Check = dict[str, str]


def _check(name: str, found: str, state: str = "ok", advice: str = "") -> Check:
    """state: ok, note (works, but read it) or bad (something will fail; see `advice`)."""
    return {"name": name, "state": state, "found": found, "advice": advice}


def examine() -> dict:
    """Return {"ok", "checks": [Check, ...], "machine", "can_run": method -> parameters}."""
    checks = [_python(), *_packages(), *_jupyter(), _tiny(), _smollm2(), _lessons(), _disk()]
    try:
        about = machine.describe()
        checks.insert(1, _device(about))
        free = about["free_memory_bytes"]
        can_run = {method: int(free * 0.8 / size) for method, size in BYTES_PER_PARAMETER.items()}
    except ImportError:  # no torch: already reported among the packages
        about, can_run = {}, {}
    return {"ok": all(check["state"] != "bad" for check in checks), "checks": checks,
            "machine": about, "can_run": can_run}


def report(result: dict) -> str:
    labels = {"ok": "ok  ", "note": "note", "bad": "BAD "}
    width = max(len(check["name"]) for check in result["checks"])
    lines = []
    for check in result["checks"]:
        lines.append(f"{labels[check['state']]} {check['name'].ljust(width)}  {check['found']}")
        if check["advice"]:
            lines.append(f"     {' ' * width}  -> {check['advice']}")
    if result["can_run"]:
        sizes = ", ".join(f"{method} up to {number / 1e9:.1f}B parameters"
                          for method, number in result["can_run"].items())
        text = f"The free memory is enough for about: {sizes}. Every lesson runs on tiny."
        lines += ["", *textwrap.wrap(text, shutil.get_terminal_size().columns)]
    bad = sum(check["state"] == "bad" for check in result["checks"])
    lines.append(f"{bad} of {len(result['checks'])} checks failed; follow the advice." if bad else
                 "All is well: `ftkit lab` opens the lessons, `ftkit run` fine-tunes once.")
    return "\n".join(lines)


def _python() -> Check:
    version = f"{platform.python_version()} ({sys.executable})"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return _check("python", version)
    return _check("python", version, "bad", "use Python 3.11, 3.12 or 3.13")


def _packages() -> list[Check]:
    try:
        requirements = [Requirement(text) for text in metadata.requires("ftkit") or []]
    except metadata.PackageNotFoundError:
        return [_check("ftkit", "used from a folder, not installed", "note",
                       "`pip install -e .` in that folder installs the ftkit command")]
    checks = []
    for need in requirements:
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            version = "missing"
        if version != "missing" and need.specifier.contains(version, prereleases=True):
            checks.append(_check(need.name, version))
        else:
            checks.append(_check(need.name, f"{version}; ftkit needs {need.specifier}", "bad",
                                 f"pip install '{need}'"))
    return checks


def _jupyter() -> list[Check]:
    """Check the kernel that JupyterLab will start, and known problems of its version."""
    checks = []
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

        install = f"{sys.executable} -m ipykernel install --sys-prefix"
        try:
            path = KernelSpecManager().get_kernel_spec("python3").argv[0]
            if re.fullmatch(r"python[0-9.]*", path):
                path = sys.executable  # jupyter_client starts a bare name as its own Python
            ours = Path(path).absolute().parent == Path(sys.executable).absolute().parent
            checks.append(_check("kernel", path) if ours else _check(
                "kernel", path, "bad", f"notebooks would run in another Python. Run {install}"))
        except NoSuchKernel:
            checks.append(_check("kernel", "none", "bad", f"run {install}"))
        version = tuple(int(part) for part in re.findall(r"\d+", metadata.version("ipykernel"))[:2])
    except (ImportError, metadata.PackageNotFoundError):
        return checks  # reported among the packages
    if version < (7, 0):
        checks.append(_check("controls", "sliders and Stop wait until the cell ends", "note",
                             "pip install 'ipykernel>=7.4': they respond while a cell runs"))
    elif version < (7, 4):
        checks.append(_check("controls", "this ipykernel can hang at a cell (its issue 1554)",
                             "note", "pip install 'ipykernel>=7.4'"))
    return checks


def _device(about: dict) -> Check:
    import torch

    bf16 = "bf16 in hardware" if about["bf16_is_fast"] else "no bf16 in hardware, so fp32"
    threads = "1 thread" if about["threads"] == 1 else f"{about['threads']} threads"
    text = (f"{about['device']}: {about['name']}, {about['cores']} cores, {threads}, "
            f"{gb(about['free_memory_bytes'])} free, {bf16}")
    if about["device"] == "cpu" and shutil.which("nvidia-smi"):
        build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        return _check("device", text, "note", "there is an NVIDIA driver, but torch was built "
                      f"{build}; to use the GPU, install the torch that fits the driver")
    return _check("device", text)


def _tiny() -> Check:
    folder = loading.tiny_path()
    weights, advice = folder / "model.safetensors", "install ftkit again"
    if not weights.is_file():
        return _check("tiny", f"no weights in {folder}", "bad", advice)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    expected = folder / "SHA256"  # as `sha256sum model.safetensors` writes it
    if not expected.is_file() or expected.read_text("utf-8").split()[0] != digest:
        return _check("tiny", "the embedded model is damaged or was changed", "bad", advice)
    return _check("tiny", f"embedded, {weights.stat().st_size / 1e6:.1f} MB, sha256 {digest[:12]}")


def _smollm2() -> Check:
    folder = download.find("smollm2")
    if folder:
        return _check("smollm2", download.about(folder))
    return _check("smollm2", "not downloaded", "note", "`ftkit fetch smollm2` downloads it (0.1 to "
                                                       "0.3 GB, 0.3 GB on disk)")


def _lessons() -> Check:
    lessons = len(list(machine.share("notebooks").glob("*.ipynb")))
    samples = len(list(machine.share("data_samples").glob("*.jsonl")))
    counts = f"{lessons} lessons, {samples} files of sample data"
    return _check("lessons", counts) if lessons and samples else _check(
        "lessons", counts, "bad", "install ftkit again; in a clone, `make notebooks`")


def _disk() -> Check:
    home = machine.home()
    folder = next(path for path in (home, *home.absolute().parents) if path.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return _check("disk", f"{home} cannot be written to, so no run is stored", "bad",
                      "set FTKIT_HOME to a folder of yours")
    free = shutil.disk_usage(folder).free
    space = f"{gb(free)} free for runs and models in {home}"
    if free < 0.2e9:
        return _check("disk", space, "bad", "free some space, or set FTKIT_HOME to another disk")
    return _check("disk", space)
