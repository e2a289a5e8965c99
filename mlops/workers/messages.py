"""What a child and the pool say to each other: pickled messages behind an eight-byte length.

An envelope holds nothing but plain values and errors of ours, so that either side can always open it; what
a function takes and gives is pickled once more inside it, and may fail to open without losing the thread.
"""

from __future__ import annotations

import pickle
import socket
import struct
from dataclasses import dataclass

from mlops import errors

LENGTH = struct.Struct("!Q")
# Tables and models travel as files. A message beyond this is a mistake.
MAX_MESSAGE_BYTES = 64 * 1024**2


@dataclass(frozen=True, kw_only=True)
class Task:
    """Pool to child: run `work`, a pickled (function, call)."""

    work: bytes
    threads: int
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Child to pool: how far the function is."""

    fraction: float | None
    message: str
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Returned:
    """Child to pool: the function returned `value` (pickled) after `seconds`."""

    value: bytes
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Raised:
    """Child to pool: the function failed."""

    error: errors.MlopsError


Message = Task | Progress | Returned | Raised


def encode(message: Message) -> bytes:
    """A message as it travels. Raises ValueError where it is too large."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{len(body)} bytes are too much for the pipe, which takes {MAX_MESSAGE_BYTES}: pass a file")
    return LENGTH.pack(len(body)) + body


def decode(body: bytes) -> Message:
    """The inverse of `encode`, without the length."""
    message = pickle.loads(body)  # noqa: S301 - both ends are ours, on a socket pair that nobody else can open
    if not isinstance(message, Task | Progress | Returned | Raised):
        raise TypeError(f"{type(message).__name__} is no message")
    return message


def receive(connection: socket.socket) -> Message | None:
    """The next message, or None once the other side has closed. Blocks."""
    body = receive_frame(connection)
    return decode(body) if body else None


def receive_frame(connection: socket.socket) -> bytes | None:
    """The next message as it came, without its length, or None once the other side has closed. Blocks."""
    header = _exactly(connection, LENGTH.size)
    return header and _exactly(connection, LENGTH.unpack(header)[0])


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        piece = connection.recv(min(size - len(received), 1024**2))
        if not piece:
            return None
        received += piece
    return bytes(received)
