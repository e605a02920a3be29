"""Find a free network port on this machine."""

import errno
import socket

from ftkit.base.errors import UserError


def free_port() -> int:
    """Return a port that is free now, chosen by the operating system."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_free(port: int, address: str = "") -> bool:
    """Whether a program could listen on `port` of `address` ("" means all addresses).

    Raises UserError if the port number is invalid or this user may not open the port.
    """
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise UserError(f"port {port} cannot be used: {error.strerror}") from None
        except OverflowError:
            raise UserError(f"port is {port}; expected 1 to 65535") from None
    return True
