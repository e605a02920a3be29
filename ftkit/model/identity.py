"""What decides the result of a run besides its settings: the files of a model, and ftkit's code.

    identity.of("my-adapter")   # a digest that changes with any of its files or of its base's

Names, places and times do not count, so a copy of a folder is the same model.
"""

import functools
import hashlib
import json
import time
from pathlib import Path

from ftkit.base import machine
from ftkit.model import loading

# Files that neither a model nor a tokenizer is read from.
UNREAD = (".md", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".log")
ABOUT = ("LICENSE", "NOTICE", "SHA256", "SOURCE.json", "ftkit_run.json")
CONTENT = 2**31  # bytes; of a larger file its size, times and first MiB stand for its content
SETTLED = 2 * 10**9  # ns; a file that changed later may change again with the same time (FAT: 2 s)
_digests: dict[tuple, str] = {}  # a file's path, size, times and inode → its digest


def of(name: str) -> str:
    """Digest of a model by name: of its files, those of its adapters, and those of its base.

    A hub id counts by the snapshot in the hub's cache. Raises UserError if there is no such model.
    """
    location, adapters = loading.with_adapters(name)
    here = location if Path(location).is_dir() else _snapshot(location)
    parts = [_files(Path(folder)) for folder in (*adapters, *([here] if here else ()))]
    return _short([*parts, None if here else location])


def of_tokenizer(tokenizer) -> str:
    """Digest of a tokenizer in memory: vocabulary, special tokens and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = getattr(tokenizer, "get_vocab", dict)()
    else:  # each call sets padding and truncation
        rules = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    return _short([rules, *(str(getattr(tokenizer, name, None)) for name in (
        "special_tokens_map", "chat_template", "add_bos_token", "add_eos_token"))])


@functools.cache
def code(*rooms: str) -> str:
    """Digest of the source code in these subpackages of ftkit."""
    return _short([[room, path.name, path.read_bytes().hex()] for room in rooms
                   for path in sorted((machine.package() / room).glob("*.py"))])


def _files(folder: Path) -> list:
    found = [path for place in (folder, folder / "additional_chat_templates")
             for path in place.glob("*") if path.is_file()]
    return sorted([path.relative_to(folder).as_posix(), _digest(path)] for path in found
                  if not path.name.startswith(("README", ".", *ABOUT))
                  and not path.name.endswith(UNREAD))


def _digest(path: Path) -> str:
    try:
        about = path.stat()
        times = about.st_mtime_ns, about.st_ctime_ns
        key = (str(path), about.st_size, *times, about.st_ino)
        if key not in _digests:
            with open(path, "rb") as file:
                if about.st_size > CONTENT:
                    return _short([about.st_size, times, file.read(2**20).hex()])
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if time.time_ns() - max(times) < SETTLED:
                return digest
            _digests[key] = digest
        return _digests[key]
    except OSError as error:  # loading it will say so
        return str(error.strerror)


def _snapshot(hub_id: str) -> str | None:
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(hub_id, local_files_only=True)
    except (OSError, ValueError):  # it is not there
        return None


def _short(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
