"""What ftkit says about its own work, apart from results: each such sentence goes through `say`."""

from __future__ import annotations

import sys


def say(text: str):
    """One line on stderr: below the cell in a notebook, and not in a pipe of results."""
    print(f"ftkit: {text}", file=sys.stderr)
