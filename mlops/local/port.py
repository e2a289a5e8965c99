"""A port that is kept for a server which is started a little later."""

from __future__ import annotations

import socket

from mlops import errors


def reserve(port: int) -> socket.socket:
    """Holds a port on 127.0.0.1 until the socket is closed, which is to be just before the server starts.

    Without it, two stacks that start at the same time find the same port free. Raises FailedPrecondition where
    somebody has the port already.
    """
    held = socket.socket()
    try:
        # A server that was ended a moment ago is not in the way.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Bound, and never listening: no connection comes here.
        held.bind(("127.0.0.1", port))
        # Else whoever sets it too could bind beside us.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        held.close()
        raise errors.FailedPrecondition(
            f"Port {port} is taken by another program; end it, or give another --port", port=port
        ) from error
    return held
