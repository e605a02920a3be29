"""Messages for the user, apart from results."""

from __future__ import annotations

import sys


def say(text: str):
    """Print one line on stderr, so that it does not mix with results on stdout."""
    print(f"ftkit: {text}", file=sys.stderr)
