"""Files that are either the old one or the whole new one, whatever happens in between."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes):
    """Write next to `path`, flush to the disk, then take its place: no reader sees half a file."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
