"""Messages for the user, apart from results."""

import functools
import sys


def say(text: str):
    """Print one line on stderr, so that it does not mix with results on stdout."""
    print(f"ftkit: {text}", file=sys.stderr)


@functools.cache
def say_once(text: str):
    """`say` a text, unless this process has said it already."""
    say(text)
