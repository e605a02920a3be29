"""Paths with ~, new folders, atomic writes, and the kernel's files."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from ftkit.base.errors import UserError
from ftkit.base.formatting import show

SYSTEM = Path("/")  # where /proc and /sys are


def at_home(path: str | Path) -> Path:
    """Expand ~ in a path; ~NAME is left unchanged if no such user exists."""
    return Path(os.path.expanduser(path))


def new_folder(path: str | Path) -> Path:
    """Return a path to write a folder to. Raises UserError unless it is new or empty, and writable.
    """
    folder = Path(path)
    if os.path.exists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder. Choose another folder.")
    missing = [p for p in (folder, *folder.parents) if not os.path.exists(p)]
    try:  # better now than after the work
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # nameless: a kill here leaves nothing
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{show(str(folder))} cannot be written ({why}). Choose another "
                        "folder.") from None
    finally:
        for parent in missing:
            with contextlib.suppress(OSError, ValueError):
                parent.rmdir()
    return folder


def free_path(path: Path) -> Path:
    """`path`, or the first of NAME-2, NAME-3 ... next to it that does not exist."""
    names = (path, *(path.with_name(f"{path.name}-{number}") for number in range(2, 10**4)))
    return next(name for name in names if not name.exists())


def write_whole(path: Path, content: str | bytes):
    """Write a file atomically: readers see the old content or the new, never a part of it."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # the name that the user knows
        raise


def why_not_written(error: BaseException) -> str | None:
    """The system's reason why a file could not be written; None for any other error."""
    from safetensors import SafetensorError

    # What code in Rust raises instead of OSError; of tokenizers it is a bare Exception.
    if isinstance(error, SafetensorError) or (
            type(error) is Exception and "(os error" in str(error)):
        return str(error).rpartition("I/O error: ")[2].partition(" (os error")[0]
    if isinstance(error, shutil.Error):  # a list of (from, to, "[Errno 28] reason: path")
        return str(error.args[0][0][-1]).partition("] ")[2].partition(":")[0]
    return error.strerror or str(error) if isinstance(error, OSError) else None


def system_file(path: str) -> str:
    """The text of a file under /proc or /sys; empty if it does not exist."""
    try:
        return (SYSTEM / path).read_text(encoding="utf-8")
    except OSError:
        return ""
