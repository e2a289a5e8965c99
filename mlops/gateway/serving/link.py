"""The gateway's connection to one serving host: kept open, asked for its health, opened again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import structlog
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from mlops.errors import MlopsError, ServingUnavailable, Unavailable
from mlops.v1 import serving_pb2 as pb
from mlops.wire.link import Link
from mlops.wire.status import from_status

CONNECT_SECONDS = 2.0
RETRY_SECONDS = 0.2
# A host that does not say how it is for this long is taken for lost: its machine may be gone without a word.
ASK_SECONDS = 1.0
SILENT_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class HostLink:
    """One host. `changed` is called when it comes and when it goes. Close it in the end."""

    def __init__(self, address: tuple[str, int], changed: Callable[[], None]) -> None:
        self.address = address
        self._changed = changed
        self._link: Link | None = None
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[pb.Reply]] = {}
        self._gone = asyncio.Event()
        self._keeping = asyncio.create_task(self._keep(), name=f"serving-host {address[0]}:{address[1]}")

    @property
    def is_open(self) -> bool:
        """Whether the host can be asked."""
        return self._link is not None and self._link.is_open

    async def close(self) -> None:
        """Ends the connection."""
        self._keeping.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeping

    async def ask(self, order: pb.Order, seconds: float) -> pb.Reply:
        """Sends an order, whose `id` and `seconds` are set here, and waits for the reply.

        Raises ServingUnavailable, TimeoutError after `seconds`, and what the host answered.
        """
        if self._link is None or not self._link.is_open:
            raise ServingUnavailable("the serving host is away")
        number = order.id = next(self._numbers)
        order.seconds = seconds
        loop = asyncio.get_running_loop()
        future: asyncio.Future[pb.Reply] = loop.create_future()
        self._waiting[number] = future
        timer = loop.call_later(seconds, _expire, future)
        try:
            try:
                self._link.send(order)
            except Unavailable as error:
                raise ServingUnavailable(f"the serving host cannot be asked: {error}") from error
            reply = await future
        except (asyncio.CancelledError, TimeoutError):
            # Nobody waits for it any more: the host need not compute it.
            with suppress(Unavailable):
                self._link.send(pb.Order(id=number, cancel=pb.CancelOrder()))
            raise
        finally:
            timer.cancel()
            self._waiting.pop(number, None)
        if reply.error:
            raise from_status(Status.FromString(reply.error))
        return reply

    # --- keeping it open -----------------------------------------------------------------------

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        link: Link | None = None
        try:
            while True:
                self._gone.clear()
                link = Link(self._received, self._lost)
                current = link
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await loop.create_connection(lambda: current, *self.address)  # noqa: B023  # called at once
                except (OSError, TimeoutError):
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                self._link = link
                _log.info("serving_host_connected", address=self.address)
                self._changed()
                await self._until_lost()
                link.abort()
                self._give_up()
                _log.warning("serving_host_lost", address=self.address)
                self._changed()
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            if link is not None:
                link.abort()
            self._give_up()

    async def _until_lost(self) -> None:
        while not self._gone.is_set():
            try:
                await self.ask(pb.Order(status=pb.StatusOrder()), SILENT_SECONDS)
            except (TimeoutError, MlopsError):
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_SECONDS):
                    await self._gone.wait()

    def _received(self, data: bytes) -> None:
        try:
            reply = pb.Reply.FromString(data)
        except DecodeError:
            _log.warning("serving_host_unreadable", address=self.address)
            self._lost()
            return
        future = self._waiting.get(reply.id)
        if future is not None and not future.done():
            future.set_result(reply)

    def _lost(self) -> None:
        self._gone.set()
        self._give_up()

    def _give_up(self) -> None:
        self._link = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ServingUnavailable("the serving host went away before it answered"))


def _expire(future: asyncio.Future[pb.Reply]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
