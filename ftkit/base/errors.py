"""The exception for mistakes of the user."""


class UserError(ValueError):
    """A mistake in the user's input. The message says what was given, what is accepted, what to do.

    The command line prints only the message and exits with status 2. Any other exception is a
    failure of ftkit; the exit status is then 1.
    """
