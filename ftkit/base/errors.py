"""Whose mistake an error is."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in what the user gave: the message names it, what is accepted, and what to do.

    The command line prints the message alone and exits with status 2. Any other exception is a
    failure of ftkit and exits with status 1. It is a ValueError, so callers may catch that.
    """
