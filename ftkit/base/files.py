"""Paths as users write them, files that are either the old one or the whole new one, and those of
the kernel."""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM = Path("/")  # where /proc and /sys are


def at_home(path: str | Path) -> Path:
    """The path with its ~ replaced; that of a user who does not exist stays as it is."""
    return Path(os.path.expanduser(path))


def write_whole(path: Path, content: str | bytes):
    """Write next to `path`, flush to the disk, then take its place: no reader sees half a file."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def system_file(path: str) -> str:
    """The text of a file of the kernel; empty where none exists."""
    try:
        return (SYSTEM / path).read_text(encoding="utf-8")
    except OSError:
        return ""
