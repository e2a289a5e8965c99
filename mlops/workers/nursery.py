"""The worker's side of the template: it has children forked, and hears of their end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from mlops import errors
from mlops.workers.messages import LENGTH, Message, decode
from mlops.workers.template import ENVIRONMENT, RECORD, Op

logger = logging.getLogger(__name__)

# Importing scikit-learn and its kin from a cold disk on a busy machine.
READY_SECONDS = 120.0
SPAWN_SECONDS = 10.0


class Child:
    """A forked process and the connection to it."""

    def __init__(self, nursery: Nursery, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._nursery = nursery
        self._number = number
        self._reader = reader
        self._writer = writer
        loop = asyncio.get_running_loop()
        self.spawned: asyncio.Future[int] = loop.create_future()
        # The exit code; a signal's number is negative.
        self.exited: asyncio.Future[int] = loop.create_future()

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self.spawned.result()

    @property
    def adopter(self) -> int:
        """The process that inherits its orphans."""
        return self._nursery.pid

    async def send(self, frame: bytes) -> None:
        """Sends an encoded message. Raises ConnectionError where the child is gone."""
        self._writer.write(frame)
        await self._writer.drain()

    async def receive(self) -> Message:
        """The child's next message. Raises asyncio.IncompleteReadError or ConnectionError where it is gone."""
        return decode(await self.receive_frame())

    async def receive_frame(self) -> bytes:
        """The child's next message as it came, without its length. Raises as `receive`."""
        header = await self._reader.readexactly(LENGTH.size)
        return await self._reader.readexactly(LENGTH.unpack(header)[0])

    def stop(self) -> None:
        """Asks the child to stop; Python code sees an exception, C code sees nothing."""
        self._nursery.tell(Op.STOP, self._number)

    def kill(self) -> None:
        """Kills the child and everything in its group."""
        self._nursery.tell(Op.KILL, self._number)

    def hang_up(self) -> None:
        """Closes the connection; what is still unread is lost. A child without a task leaves by itself."""
        self._writer.close()

    async def gone(self, within_seconds: float) -> bool:
        """Waits for its end. Whether it came."""
        done, _ = await asyncio.wait([self.exited], timeout=within_seconds)
        return bool(done)


class Nursery:
    """Starts the template process, and starts it again should it die."""

    def __init__(self, preload: Sequence[str], *, program: str = "mlops.workers.child") -> None:
        """preload: modules that children find imported. program: the module whose `serve` a child runs."""
        self._preload = tuple(preload)
        self._program = program
        self._starting = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._received = bytearray()
        self._ready = asyncio.Event()
        self._children: dict[int, Child] = {}
        self._next = 1

    @property
    def pid(self) -> int:
        """The template's process id; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    async def spawn(self) -> Child:
        """Forks a child. Raises errors.Internal where the template does not start, OSError where it dies."""
        async with self._starting:
            if self._control is None:
                await self._start()
        ours, theirs = socket.socketpair()
        with theirs:
            number, self._next = self._next, self._next + 1
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            child = self._children[number] = Child(self, number, reader, writer)
            if self._control is None:
                self._bury(number, -signal.SIGKILL)
                child.hang_up()
                raise ConnectionResetError("the template of the process pool died")
            socket.send_fds(self._control, [RECORD.pack(Op.SPAWN, number, 0)], [theirs.fileno()])
        await asyncio.wait([child.spawned, child.exited], timeout=SPAWN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not child.spawned.done():
            child.kill()
            child.hang_up()
            raise ConnectionResetError("the template of the process pool did not fork a child")
        return child

    def tell(self, op: Op, number: int) -> None:
        """Sends the template an order; it knows which children are still alive."""
        if self._control is not None:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._control.send(RECORD.pack(op, number, 0))

    async def close(self) -> None:
        """Kills every child, and ends the template."""
        process, children = self._process, list(self._children.values())
        self._lose_template()
        for child in children:
            child.hang_up()
        if process is not None:
            await asyncio.to_thread(_end, process)

    async def _start(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(_end, self._process)
        control, theirs = socket.socketpair()
        with theirs:
            process = self._process = _launch(theirs, self._preload, self._program)
        control.setblocking(False)
        self._control = control
        self._received.clear()
        self._ready.clear()
        asyncio.get_running_loop().add_reader(control.fileno(), self._hear)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            logger.warning("the template of the process pool is not ready after %s s", READY_SECONDS)
        if self._control is None or not self._ready.is_set():
            self._lose_template()
            status = await asyncio.to_thread(_end, process)
            raise errors.Internal(
                f"The process pool cannot start: its template process ended with status {status}; its log says why"
            )

    def _hear(self) -> None:
        """Takes what the template says."""
        if self._control is None:
            return
        try:
            data = self._control.recv(64 * RECORD.size)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            logger.error("the template of the process pool died")
            self._lose_template()
            return
        self._received += data
        while len(self._received) >= RECORD.size:
            op, number, value = RECORD.unpack_from(self._received)
            del self._received[: RECORD.size]
            if op == Op.READY:
                self._ready.set()
            elif op == Op.SPAWNED:
                self._children[number].spawned.set_result(value)
            elif op == Op.EXITED:
                self._bury(number, value)

    def _bury(self, number: int, status: int) -> None:
        self._children.pop(number).exited.set_result(status)

    def _lose_template(self) -> None:
        """Gives up the template. Its children die with it; what they started is killed with their groups."""
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        self._ready.set()
        for number, child in list(self._children.items()):
            if child.spawned.done():
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
            self._bury(number, -signal.SIGKILL)


def _launch(control: socket.socket, preload: Sequence[str], program: str) -> subprocess.Popen[bytes]:
    """The template, in a session of its own, so that Ctrl-C is the worker's alone."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from mlops.workers.template import main; main({control.fileno()}, {tuple(preload)!r}, {program!r})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        env=os.environ | ENVIRONMENT,
        pass_fds=[control.fileno()],
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> int:
    """Waits for the template, which leaves when its socket closes."""
    try:
        return process.wait(timeout=10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
