"""One Temporal worker a tenant, many in a process: tenants come and go without a restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import stamina
import structlog
from temporalio.api.enums.v1 import NamespaceState
from temporalio.api.workflowservice.v1 import ListNamespacesRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.worker import Worker

from mlops import names

log = structlog.get_logger(__name__)

PAGE = 500


@stamina.retry(on=(RuntimeError, RPCError), attempts=None, timeout=120.0, wait_max=2.0)
async def connect(address: str) -> Client:
    """A client of Temporal, waiting up to two minutes for a server that is still starting."""
    return await Client.connect(address, data_converter=pydantic_data_converter)


@dataclass(frozen=True, kw_only=True)
class ServedTenant:
    """A tenant as its namespace tells it."""

    slug: str
    weight: float


@dataclass(kw_only=True)
class TenantWorkers:
    """Keeps a worker running for each tenant's namespace.

    build: makes the worker for a tenant, on a client of its namespace.
    seen: told of every tenant at each look, and `gone` of each that has left.
    """

    client: Client
    build: Callable[[str, Client], Worker]
    poll: timedelta
    seen: Callable[[ServedTenant], None] = lambda _tenant: None
    gone: Callable[[str], None] = lambda _slug: None
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _stops: dict[str, asyncio.Event] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set; then stops every worker and waits for what it holds."""
        while not stop.is_set():
            try:
                await self._look()
            except RPCError as error:
                log.warning("Temporal does not answer; the tenants stay as they are", error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self.poll.total_seconds())
        for event in self._stops.values():
            event.set()
        for slug, task in self._running.items():
            _report(slug, (await asyncio.gather(task, return_exceptions=True))[0])

    async def _look(self) -> None:
        tenants = {tenant.slug: tenant for tenant in await served_tenants(self.client)}
        for slug, task in [(slug, task) for slug, task in self._running.items() if task.done()]:
            _report(slug, task.exception())
            del self._running[slug], self._stops[slug]
        for tenant in tenants.values():
            self.seen(tenant)
            if tenant.slug not in self._running:
                self._stops[tenant.slug] = asyncio.Event()
                self._running[tenant.slug] = asyncio.create_task(self._serve(tenant.slug, self._stops[tenant.slug]))
        for slug in self._running.keys() - tenants.keys():
            if not self._stops[slug].is_set():
                self._stops[slug].set()
                self.gone(slug)

    async def _serve(self, slug: str, stop: asyncio.Event) -> None:
        """Runs one tenant's worker; should it fail, the next look starts it anew and the others go on."""
        config = self.client.config()
        config["namespace"] = names.namespace(slug)
        worker = self.build(slug, Client(**config))
        run = asyncio.create_task(worker.run())
        stopped = asyncio.create_task(stop.wait())
        log.info("serving a tenant", tenant=slug)
        await asyncio.wait((run, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not run.done():
            await worker.shutdown()
        await run
        log.info("no longer serving a tenant", tenant=slug)


def _report(slug: str, failure: BaseException | None) -> None:
    """Where a tenant's worker ended by itself, or was never built: what happened."""
    if failure is not None:
        log.error("a tenant's worker failed; it is started anew", tenant=slug, exc_info=failure)


async def served_tenants(client: Client) -> list[ServedTenant]:
    """The tenants whose namespaces are registered and marked as ours."""
    found: list[ServedTenant] = []
    token = b""
    while True:
        answer = await client.workflow_service.list_namespaces(
            ListNamespacesRequest(page_size=PAGE, next_page_token=token)
        )
        for description in answer.namespaces:
            info = description.namespace_info
            if info.state == NamespaceState.NAMESPACE_STATE_REGISTERED and names.NAMESPACE_MARK in info.data:
                slug = names.tenant_of_namespace(info.name)
                found.append(ServedTenant(slug=slug, weight=float(info.data.get(names.NAMESPACE_WEIGHT, "1"))))
        token = answer.next_page_token
        if not token:
            return found
