"""What several test files import: the root of the clone, and the command line as a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def start(*words, **options) -> subprocess.CompletedProcess:
    """`ftkit ...` in a process of its own, as a user starts it."""
    options = {"timeout": 300, "cwd": ROOT, "capture_output": True, "text": True} | options
    return subprocess.run([sys.executable, "-m", "ftkit.cli", *map(str, words)], **options)
