"""The gateways' connections to a host: orders come in, replies go out in any order."""

from __future__ import annotations

import asyncio

import structlog
from google.protobuf.message import DecodeError

from mlops.errors import Cancelled, Internal, InvalidRequest, MlopsError
from mlops.v1 import serving_pb2 as pb
from mlops.wire.link import Link
from mlops.wire.status import to_status
from mlops.workers.serving.host import Host
from mlops.workers.serving.request import Request

# Well below the largest frame of a link.
MAX_ANSWER_BYTES = 32 * 1024**2

_log = structlog.get_logger(__name__)


class Connection:
    """One gateway's."""

    def __init__(self, host: Host) -> None:
        self.link = Link(self._received, self._lost)
        self._host = host
        self._requests: dict[int, Request] = {}

    def _received(self, data: bytes) -> None:
        try:
            order = pb.Order.FromString(data)
        except DecodeError:
            _log.warning("a connection sent no order; it is closed")
            self.link.abort()
            return
        try:
            self._obey(order)
        except MlopsError as error:
            self._send(pb.Reply(id=order.id, error=to_status(error).SerializeToString()))
        except Exception as error:  # noqa: BLE001  # one order must not end the others, and is logged
            _log.exception("an order failed")
            internal = Internal(f"the serving host failed: {type(error).__name__}")
            self._send(pb.Reply(id=order.id, error=to_status(internal).SerializeToString()))

    def _obey(self, order: pb.Order) -> None:
        what, number = order.WhichOneof("what"), order.id

        def answer(outcome: pb.Outcome | MlopsError) -> None:
            self._requests.pop(number, None)
            self._send(_reply(number, outcome, is_load=what == "load"))

        if what == "predict":
            self._requests[number] = self._host.predict(order.predict, order.seconds, answer)
        elif what == "load":
            request = self._host.load(order.load, order.seconds, answer)
            if request is None:
                self._send(pb.Reply(id=number, load=pb.LoadReply()))
            else:
                self._requests[number] = request
        elif what == "cancel":
            cancelled = self._requests.pop(number, None)
            if cancelled is not None:
                cancelled.settle(Cancelled("the caller went away"))
        else:
            self._send(pb.Reply(id=number, status=self._host.status()))

    def _send(self, reply: pb.Reply) -> None:
        try:
            self.link.send(reply)
        except MlopsError as error:
            # It is gone, or does not read: nobody waits for this any more.
            _log.debug("a reply was lost", error=str(error))
            self.link.abort()

    def _lost(self) -> None:
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.settle(Cancelled("the gateway went away"))


class Connections:
    """The socket that gateways connect to."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._open: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Takes connections. Returns the port, which the system chooses for 0. Raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(self._connected, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    def refuse(self) -> None:
        """Takes no more connections; those that are open stay."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Closes every connection, when what was sent is on its way."""
        for connection in self._open:
            connection.link.close()

    def _connected(self) -> Link:
        connection = Connection(self._host)
        self._open = {one for one in self._open if one.link.is_open} | {connection}
        return connection.link


def _reply(number: int, outcome: pb.Outcome | MlopsError, *, is_load: bool) -> pb.Reply:
    if isinstance(outcome, MlopsError):
        return pb.Reply(id=number, error=to_status(outcome).SerializeToString())
    if len(outcome.outputs) > MAX_ANSWER_BYTES:
        size = f"{len(outcome.outputs)} bytes, more than the {MAX_ANSWER_BYTES} that are sent"
        return _reply(number, InvalidRequest(f"the answer has {size}: send fewer rows"), is_load=is_load)
    if outcome.HasField("error"):
        return pb.Reply(id=number, error=outcome.error)
    return pb.Reply(id=number, load=pb.LoadReply()) if is_load else pb.Reply(id=number, outputs=outcome.outputs)
