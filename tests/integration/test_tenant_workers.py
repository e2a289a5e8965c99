"""Tenants come and go, and break, under workers that run: on a real Temporal server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import structlog.testing
from temporalio import workflow
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from mlops import names
from mlops.gateway.scheduler.namespaces import NamespaceProvider
from mlops.tenants.tenant import Tenant, TenantState
from mlops.workers import tenancy
from mlops.workers.tenancy import ServedTenant, TenantWorkers, connect
from tests.fixtures.temporal import temporal_server

POLL = timedelta(milliseconds=100)
DEADLINE_SECONDS = 30.0


@workflow.defn
class Echo:
    @workflow.run
    async def run(self, text: str) -> str:
        return text


class Broken(Worker):
    """A worker that ends with an error soon after it began; as a real one does, it shuts itself down."""

    async def run(self) -> None:
        running = asyncio.create_task(super().run())
        while not self.is_running:
            await asyncio.sleep(0)
        await self.shutdown()
        await running
        raise RuntimeError("the poller broke")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of this module's own: nobody else's tenants are on it."""
    with temporal_server() as address:
        yield address


@pytest.fixture
async def client(address: str) -> Client:
    return await connect(address)


@dataclass
class Host:
    """A process that serves tenants, and what it was told of them."""

    client: Client
    seen: dict[str, float] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    built: list[str] = field(default_factory=list)
    logs: list[MutableMapping[str, Any]] = field(default_factory=list)
    # By tenant: what to do instead of building a worker that works; each is used once.
    faults: dict[str, list[Callable[[Client], Worker]]] = field(default_factory=dict)

    def build(self, slug: str, client: Client) -> Worker:
        self.built.append(slug)
        if self.faults.get(slug):
            return self.faults[slug].pop(0)(client)
        return echo_worker(client)

    def note(self, tenant: ServedTenant) -> None:
        self.seen[tenant.slug] = tenant.weight

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        workers = TenantWorkers(client=self.client, build=self.build, poll=POLL, seen=self.note, gone=self.gone.append)
        stop = asyncio.Event()
        with structlog.testing.capture_logs() as self.logs:
            task = asyncio.create_task(workers.run(stop))
            try:
                yield
                assert not task.done(), "one tenant's trouble ended the service of all"
            finally:
                stop.set()
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await task

    async def answers(self, slug: str, text: str = "hello") -> None:
        """Whether the tenant is served: a workflow in its namespace runs to its end."""
        config = self.client.config()
        config["namespace"] = names.namespace(slug)
        handle = await Client(**config).start_workflow(Echo.run, text, id=uuid4().hex, task_queue=names.IO_QUEUE)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await handle.result() == text


def echo_worker(client: Client, kind: type[Worker] = Worker) -> Worker:
    return kind(
        client,
        task_queue=names.IO_QUEUE,
        workflows=[Echo],
        workflow_runner=UnsandboxedWorkflowRunner(),
        build_id="test",
        graceful_shutdown_timeout=timedelta(seconds=1),
    )


async def a_tenant(client: Client, *, weight: float = 1.0) -> str:
    slug = f"t-{uuid4().hex[:8]}"
    provider = NamespaceProvider(client, retention=timedelta(days=1))
    await provider.ensure(Tenant(slug=slug, state=TenantState.ACTIVE, weight=weight, created_at=datetime.now(UTC)))
    return slug


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in time"
        await asyncio.sleep(0.02)


async def test_tenants_are_served_as_they_come_and_left_as_they_go(client: Client) -> None:
    host = Host(client)
    early = await a_tenant(client, weight=3.0)
    async with host.running():
        await host.answers(early)
        late = await a_tenant(client)
        await until(lambda: late in host.built, "the new tenant's worker")
        await host.answers(late)
        assert (host.seen[early], host.seen[late]) == (3.0, 1.0)
        await NamespaceProvider(client, retention=timedelta(days=1)).remove(early)
        await until(lambda: host.gone, "the end of a tenant")
        await host.answers(late)
    assert host.gone == [early]
    assert host.built.count(late) == 1


async def test_a_namespace_that_is_not_ours_is_left_alone(client: Client) -> None:
    host = Host(client)
    slug = await a_tenant(client)
    async with host.running():
        await host.answers(slug)
    assert "default" not in host.built


@pytest.mark.parametrize("fault", ["it breaks while it runs", "it cannot be built"])
async def test_a_worker_that_fails_is_started_anew_and_the_others_go_on(client: Client, fault: str) -> None:
    def refuses(client: Client) -> Worker:
        raise RuntimeError("no worker today")

    def breaks(client: Client) -> Worker:
        return echo_worker(client, Broken)

    host = Host(client)
    unlucky, other = await a_tenant(client), await a_tenant(client)
    host.faults[unlucky] = [breaks if fault == "it breaks while it runs" else refuses] * 2
    async with host.running():
        await host.answers(other)
        await host.answers(unlucky)
    assert host.built.count(unlucky) == 3
    failures = [entry["tenant"] for entry in host.logs if entry["log_level"] == "error"]
    assert failures == [unlucky, unlucky]
    assert host.built.count(other) == 1


async def test_a_worker_that_never_works_does_not_keep_the_host_from_stopping(client: Client) -> None:
    def refuses(client: Client) -> Worker:
        raise RuntimeError("no worker ever")

    host = Host(client)
    hopeless = await a_tenant(client)
    host.faults[hopeless] = [refuses] * 1000
    async with host.running():
        await until(lambda: host.built.count(hopeless) > 2, "further tries")


async def test_a_look_that_fails_costs_no_tenant(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(client)
    slug = await a_tenant(client)
    failed: list[float] = []

    async def away(_client: Client) -> list[ServedTenant]:
        failed.append(time.monotonic())
        raise RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")

    async with host.running():
        await host.answers(slug)
        with monkeypatch.context() as patched:
            patched.setattr(tenancy, "served_tenants", away)
            await until(lambda: len(failed) > 2, "looks that fail")
            await host.answers(slug)
        late = await a_tenant(client)
        await host.answers(late)
    assert host.gone == []
    assert host.built.count(slug) == 1
