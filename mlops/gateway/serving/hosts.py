"""The serving hosts: which one is asked for a model, and who answers when that one does not."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import structlog
from cachetools import LRUCache

from mlops.errors import (
    ChildCrashed,
    Code,
    DeadlineExceeded,
    MlopsError,
    QuotaExceeded,
    ServingUnavailable,
    Unavailable,
)
from mlops.gateway.serving.link import HostLink
from mlops.v1 import serving_pb2 as pb

RESOLVE_SECONDS = 5.0
# How long a prediction waits where no host can be reached: one that died is back in a few seconds.
AWAY_SECONDS = 5.0
# Tries of one prediction. What kills one process after another must not go through all of them.
TRIES = 3
CRASH_TRIES = 2
# Before a host that answered "not now" is asked again.
PAUSE_SECONDS = 0.02
_ORDERS = 10_000

_log = structlog.get_logger(__name__)


class Hosts:
    """`async with Hosts(targets) as hosts:` keeps a connection to every address of every target (host:port)."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = tuple(_split(target) for target in targets)
        self._links: dict[tuple[str, int], HostLink] = {}
        self._ranked: LRUCache[tuple[str, str], tuple[HostLink, ...]] = LRUCache(_ORDERS)
        self._came = asyncio.Event()
        self._resolving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._resolve()
        self._resolving = asyncio.create_task(self._keep_resolving())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._resolving is not None:
            self._resolving.cancel()
            with suppress(asyncio.CancelledError):
                await self._resolving
        await asyncio.gather(*(link.close() for link in self._links.values()))

    @property
    def are_ready(self) -> bool:
        """Whether any host answers."""
        return any(link.is_open for link in self._links.values())

    async def predict(self, order: pb.PredictOrder, deadline: float) -> pb.Outputs:
        """What the model says. A prediction changes nothing, so that it may be asked for again, elsewhere.

        deadline: by the loop's time. Raises DeadlineExceeded, Unavailable where no host answers, and what the last
        host that was asked answered.
        """
        reply = await self._ask(pb.Order(predict=order), order.model, deadline)
        return pb.Outputs.FromString(reply.outputs)

    async def warm(self, model: pb.StagedModel, seconds: float) -> None:
        """Has the model loaded where it will be asked for. Raises as `predict`."""
        deadline = asyncio.get_running_loop().time() + seconds
        await self._ask(pb.Order(load=pb.LoadOrder(model=model)), model, deadline)

    async def _ask(self, order: pb.Order, model: pb.StagedModel, deadline: float) -> pb.Reply:
        loop = asyncio.get_running_loop()
        refused: list[HostLink] = []
        crashes = 0
        while True:
            left = deadline - loop.time()
            if left <= 0:
                raise DeadlineExceeded("the deadline passed before a serving host answered")
            link = await self._next(model, refused, left)
            try:
                return await link.ask(order, max(deadline - loop.time(), 0.0))
            except TimeoutError:
                raise DeadlineExceeded("the deadline passed before the model answered") from None
            except MlopsError as error:
                refused.append(link)
                crashes += isinstance(error, ChildCrashed)
                if not _may_retry(error) or len(refused) >= TRIES or crashes >= CRASH_TRIES:
                    raise
                if isinstance(error, QuotaExceeded) and not self._others(refused):
                    raise
                if not isinstance(error, ServingUnavailable):
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _next(self, model: pb.StagedModel, refused: Sequence[HostLink], left: float) -> HostLink:
        """The first host, in the model's own order, that can be asked and was not; else one that was."""
        wait = min(left, AWAY_SECONDS)
        while True:
            ranked = self._rank(model)
            open_links = [link for link in ranked if link.is_open]
            fresh = [link for link in open_links if link not in refused]
            if fresh or open_links:
                return (fresh or open_links)[0]
            self._came.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._came.wait()
            except TimeoutError:
                if left <= AWAY_SECONDS:
                    raise DeadlineExceeded("the deadline passed while no serving host could be reached") from None
                raise Unavailable("no serving host can be reached; try again") from None

    def _others(self, refused: Sequence[HostLink]) -> bool:
        return any(link.is_open and link not in refused for link in self._links.values())

    def _rank(self, model: pb.StagedModel) -> tuple[HostLink, ...]:
        """All hosts in an order that is the model's own, and stays when others come or go (rendezvous hashing)."""
        key = (model.tenant, model.model_id)
        ranked = self._ranked.get(key)
        if ranked is None:
            links = self._links.values()
            ranked = self._ranked[key] = tuple(sorted(links, key=lambda link: _weight(key, link.address)))
        return ranked

    # --- who is there --------------------------------------------------------------------------

    async def _keep_resolving(self) -> None:
        while True:
            await asyncio.sleep(RESOLVE_SECONDS)
            await self._resolve()

    async def _resolve(self) -> None:
        found = await asyncio.gather(*(_addresses(host, port) for host, port in self._targets))
        if any(addresses is None for addresses in found):
            # A name server that is away takes no host from us.
            wanted = {*self._links, *(address for addresses in found for address in addresses or ())}
        else:
            wanted = {address for addresses in found for address in addresses or ()}
        gone = [self._links.pop(address) for address in [*self._links] if address not in wanted]
        for address in wanted - self._links.keys():
            self._links[address] = HostLink(address, self._changed)
        if gone or wanted:
            self._ranked.clear()
        await asyncio.gather(*(link.close() for link in gone))

    def _changed(self) -> None:
        self._came.set()


async def _addresses(host: str, port: int) -> Iterable[tuple[str, int]] | None:
    """All addresses of a name; None where it cannot be looked up now."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        _log.warning("serving_target_unknown", host=host, error=str(error))
        return None
    return {(str(address[0]), int(address[1])) for *_, address in found}


def _split(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)


def _weight(key: tuple[str, str], address: tuple[str, int]) -> bytes:
    return hashlib.blake2b(f"{key[0]}/{key[1]}@{address[0]}:{address[1]}".encode(), digest_size=8).digest()


def _may_retry(error: MlopsError) -> bool:
    return error.retryable and error.code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)
