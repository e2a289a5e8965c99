"""A child of the pool: it runs one task after another until its pool closes the connection or kills it."""

from __future__ import annotations

import logging
import os
import pickle
import random
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from threadpoolctl import ThreadpoolController

from mlops import errors
from mlops.workers import memory
from mlops.workers.messages import Message, Progress, Raised, Returned, Task, encode, receive

logger = logging.getLogger(__name__)

# Asks a child to stop: raises Stopped in it. Not SIGTERM, which a service manager sends to every process of a
# worker that it wants to end, while the worker still has a say in when its children go.
STOP_SIGNAL = signal.SIGUSR1
# A child says how far it is this often, at most. What it says in between gives way to what comes after.
PROGRESS_SECONDS = 0.05
MAX_ERROR_CHARACTERS = 4000
# What a fit may reserve beyond its limit: thread stacks, allocator arenas and BLAS buffers are reserved in
# large pieces and mostly never touched. The sampler holds the exact limit; this one only has to be near it.
RESERVE_BYTES = 256 * 1024**2
RESERVE_BYTES_A_THREAD = 64 * 1024**2


class Stopped(BaseException):
    """The pool asked this child to stop. Not an Exception, so that nothing takes it for a failed fit."""


class Reporter:
    """Sends a function's progress to the pool, in moderation: `report(0.3, "tree 30 of 100", loss=0.2)`.

    Any thread of the function may call it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._sent_at = -PROGRESS_SECONDS
        self._held: Progress | None = None
        self._closed = False

    def __call__(self, fraction: float | None, message: str = "", **values: float) -> None:
        """Says how far the function is: 0 to 1 or None, a text, and numbers of the moment."""
        progress = Progress(
            fraction=None if fraction is None else float(fraction),
            message=str(message),
            values={name: float(value) for name, value in values.items()},
        )
        with self._lock:
            if not self._closed:
                self._held = progress
                if time.monotonic() - self._sent_at >= PROGRESS_SECONDS:
                    self._flush()

    def close(self) -> None:
        """Sends what was held back. Threads that a function leaves behind are not heard any more."""
        with self._lock:
            self._flush()
            self._closed = True

    def _flush(self) -> None:
        if self._held is not None:
            self._connection.sendall(encode(self._held))
            self._held, self._sent_at = None, time.monotonic()


def serve(connection: socket.socket, libraries: ThreadpoolController) -> None:
    """Runs tasks until the pool closes the connection, or asks to stop.

    libraries: the thread pools of BLAS and OpenMP in this process.
    """
    signal.signal(STOP_SIGNAL, _stop)
    _fresh_randomness()
    try:
        while isinstance(task := receive(connection), Task):
            connection.sendall(_run(task, Reporter(connection), libraries))
    except (Stopped, BrokenPipeError, ConnectionResetError):
        return


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _run(task: Task, report: Reporter, libraries: ThreadpoolController) -> bytes:
    """The answer to a task, encoded. What the function made is released when this returns."""
    os.environ["LOKY_MAX_CPU_COUNT"] = str(task.threads)  # what joblib takes n_jobs=-1 to mean
    with libraries.limit(limits=task.threads), _data_limit(task):
        answer = _answer(task, report)
    report.close()
    try:
        return encode(answer)
    except ValueError as exc:
        return encode(Raised(error=errors.Internal(f"The result does not fit: {exc}")))


def _answer(task: Task, report: Reporter) -> Message:
    name = "the task"
    try:
        function, call = pickle.loads(task.work)  # noqa: S301 - from our own pool
        name = f"{function.__module__}.{function.__qualname__}"
        started = time.perf_counter()
        value = function(call, report)
        seconds = time.perf_counter() - started
    except Stopped:
        raise
    except errors.MlopsError as exc:
        logger.info("%s ended with %s", name, type(exc).__name__, exc_info=True)
        return Raised(error=_sendable(exc))
    except MemoryError as exc:
        logger.warning("%s ran out of memory", name, exc_info=True)
        return Raised(
            error=errors.MemoryLimitExceeded(
                f"The step asked for more memory than its limit of {memory.shown(task.memory_bytes)}"
                f" leaves: {_text(exc) or 'an allocation failed'}"
            )
        )
    except BaseException as exc:
        logger.exception("%s failed", name)
        return Raised(error=errors.FitFailed(_text(exc) or type(exc).__name__, error_class=type(exc).__name__))
    return _returned(name, value, seconds)


def _returned(name: str, value: Any, seconds: float) -> Message:
    try:
        return Returned(value=pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL), seconds=seconds)
    except Exception as exc:
        logger.exception("%s returned a value that cannot be sent", name)
        return Raised(
            error=errors.Internal(
                f"{name} returned a {type(value).__name__} that cannot be pickled: {type(exc).__name__}: {_text(exc)}"
            )
        )


def _sendable(error: errors.MlopsError) -> errors.MlopsError:
    """The error itself, or its text where its details do not survive the way."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what was pickled on the same line
    except Exception:
        logger.exception("%s cannot be pickled", type(error).__name__)
        return type(error)(error.message[:MAX_ERROR_CHARACTERS])
    return error


def _text(error: BaseException) -> str:
    text = str(error)
    return text if len(text) <= MAX_ERROR_CHARACTERS else text[:MAX_ERROR_CHARACTERS] + "…"


@contextmanager
def _data_limit(task: Task) -> Iterator[None]:
    """Makes an allocation far beyond the limit fail at once, as a MemoryError, before it is ever touched."""
    reserved = memory.data_bytes()
    if reserved is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = reserved + task.memory_bytes + RESERVE_BYTES + RESERVE_BYTES_A_THREAD * task.threads
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _fresh_randomness() -> None:
    """Forks of one process would all draw the same numbers."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
