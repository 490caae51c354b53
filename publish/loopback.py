"""A listening socket of this machine alone: what `publish.serve` and `tests.hub` are reached by."""

from __future__ import annotations

import errno
import socket

from pipeline.errors import RecipeError

ADDRESS = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1 (`port` 0: any that is free); RecipeError when the port cannot be had."""
    try:
        return socket.create_server((ADDRESS, port))
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        hint = "name another with --port; 0 takes any that is free"
        raise RecipeError(f"port {port} cannot be used: {error}", where="--port", hint=hint) from error
