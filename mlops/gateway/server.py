"""The gateway's process: its parts wired together, served until it is asked to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mlops.errors import Unavailable
from mlops.gateway.batches import Batches
from mlops.gateway.datasets import Datasets
from mlops.gateway.intake import Intake
from mlops.gateway.interceptors import MIB, Gate
from mlops.gateway.jobs import Jobs
from mlops.gateway.models import Models
from mlops.gateway.ports import SchedulerPort
from mlops.gateway.prefixes import PrefixProvider
from mlops.gateway.previews import Previews
from mlops.gateway.quotas import Quotas
from mlops.gateway.results import Results
from mlops.gateway.scheduler.connection import open_scheduler
from mlops.gateway.serving.online import Online
from mlops.gateway.serving.open_inference import OpenInference
from mlops.gateway.submissions import Submissions
from mlops.gateway.tenants import Tenants
from mlops.logs import configure_logs
from mlops.repository.repository import ModelRepository
from mlops.settings import GatewaySettings
from mlops.storage.objects import ObjectStore
from mlops.storage.sources import SourceRoots
from mlops.tenants.database import Database
from mlops.tenants.datasets import DatasetStore
from mlops.tenants.keys import KeyStore
from mlops.tenants.migrations import migrate
from mlops.tenants.provisioning import Provider, Provisioning
from mlops.tenants.store import TenantStore
from mlops.tenants.tenant import Role
from mlops.tracking.mlflow import MlflowTracking
from mlops.tracking.protocol import Tracking
from mlops.tracking.workspace import MlflowProvider
from mlops.v1 import datasets_pb2, jobs_pb2, models_pb2, open_inference_pb2, tenants_pb2

BOOTSTRAP_KEY_NAME = "bootstrap"

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", 17 * MIB),
    # A plan with thousands of columns has megabytes; the caller says what it takes.
    ("grpc.max_send_message_length", -1),
    # A watch may be silent for minutes: pings keep proxies from dropping it, and find peers that are gone.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A second gateway on the same port is a mistake, and is told so.
    ("grpc.so_reuseport", 0),
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Backends:
    """What the gateway stands in front of."""

    database: Database
    objects: ObjectStore
    sources: SourceRoots
    tracking: Tracking
    scheduler: SchedulerPort
    # Besides the scheduler's and the object store's own.
    providers: tuple[Provider, ...] = ()


class Gateway:
    """The gRPC server over its back ends. Make it inside a running event loop."""

    def __init__(
        self,
        backends: Backends,
        *,
        largest_host_cpus: int,
        largest_host_memory_bytes: int,
        serving_targets: Sequence[str] = (),
        predict_timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        objects, scheduler = backends.objects, backends.scheduler
        tenants, datasets = TenantStore(backends.database), DatasetStore(backends.database)
        self.keys = KeyStore(backends.database)
        # The scheduler comes last: workers serve a tenant as soon as it is there.
        providers = (PrefixProvider(objects), *backends.providers, scheduler.provider)
        provisioning = Provisioning(tenants, self.keys, providers)
        quotas = Quotas(
            scheduler=scheduler,
            tenants=tenants,
            largest_host_cpus=largest_host_cpus,
            largest_host_memory_bytes=largest_host_memory_bytes,
        )
        repository = ModelRepository(objects, backends.tracking)
        submissions = Submissions(scheduler=scheduler, quotas=quotas, datasets=datasets)
        batches = Batches(
            scheduler=scheduler, quotas=quotas, datasets=datasets, repository=repository, sources=backends.sources
        )
        intake = Intake(
            scheduler=scheduler, tenants=tenants, datasets=datasets, objects=objects, sources=backends.sources
        )
        online = self._online = Online(
            repository=repository, tenants=tenants, database=backends.database, targets=serving_targets
        )
        previews = Previews(datasets=datasets, objects=objects)
        services = {
            jobs_pb2.DESCRIPTOR.services_by_name["Jobs"]: Jobs(
                scheduler=scheduler,
                submissions=submissions,
                batches=batches,
                results=Results(scheduler=scheduler, objects=objects),
                objects=objects,
            ),
            datasets_pb2.DESCRIPTOR.services_by_name["Datasets"]: Datasets(
                datasets=datasets, intake=intake, previews=previews
            ),
            models_pb2.DESCRIPTOR.services_by_name["Models"]: Models(tracking=backends.tracking, online=online),
            open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]: OpenInference(
                predictions=online.predictions, router=online.router, hosts=online.hosts, tracking=backends.tracking
            ),
            tenants_pb2.DESCRIPTOR.services_by_name["Tenants"]: Tenants(
                tenants=tenants, keys=self.keys, provisioning=provisioning, scheduler=scheduler
            ),
        }
        self._names = tuple(service.full_name for service in services)
        self._gate = Gate(self.keys, predict_timeout=predict_timeout)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs do not know it
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers(
            tuple(self._gate.handler(service, servicer) for service, servicer in services.items())
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    async def start(self, listen: str) -> int:
        """Serves on host:port and returns the port, which the system chooses for 0.

        Raises Unavailable where the address cannot be had.
        """
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise Unavailable(f"cannot listen on {listen}: {error}") from error
        await self._online.start()
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace: timedelta) -> None:
        """Takes no new calls, ends the watches, and lets the other calls finish within the grace period."""
        await self._health.enter_graceful_shutdown()
        self._gate.close()
        await self._server.stop(grace.total_seconds())
        await self._online.stop()

    @classmethod
    def of(cls, backends: Backends, settings: GatewaySettings) -> Self:
        """The gateway with the settings' limits."""
        return cls(
            backends,
            largest_host_cpus=settings.largest_host_cpus,
            largest_host_memory_bytes=settings.largest_host_memory_bytes,
            serving_targets=settings.serving_targets,
            predict_timeout=settings.predict_timeout,
        )


async def serve(settings: GatewaySettings) -> None:
    """Serves until SIGTERM or SIGINT, then stops within the grace period."""
    configure_logs(settings.log_format, settings.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _log.info("starting", listen=settings.listen, temporal=settings.temporal_address)
    async with AsyncExitStack() as stack:
        backends = await _unless(stop, _open(settings, stack))
        if backends is None:
            return
        gateway = Gateway.of(backends, settings)
        if settings.bootstrap_admin_key is not None:
            await gateway.keys.import_key(
                settings.bootstrap_admin_key.get_secret_value(), role=Role.ADMINISTRATOR, name=BOOTSTRAP_KEY_NAME
            )
        port = await gateway.start(settings.listen)
        # What is loaded by now stays: a collection that walks over all of it would hold up every call.
        gc.collect()
        gc.freeze()
        _log.info("ready", listen=settings.listen, port=port)
        await stop.wait()
        _log.info("stopping", grace_seconds=settings.shutdown_grace.total_seconds())
        await gateway.stop(settings.shutdown_grace)
    _log.info("stopped")


async def _unless(stop: asyncio.Event, opening: Coroutine[Any, Any, Backends]) -> Backends | None:
    """What is being opened, or None where the process is asked to stop before (Temporal may be minutes away)."""
    opened, stopped = asyncio.ensure_future(opening), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({opened, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return opened.result() if opened.done() else None
    finally:
        opened.cancel()
        stopped.cancel()
        await asyncio.gather(opened, stopped, return_exceptions=True)


async def _open(settings: GatewaySettings, stack: AsyncExitStack) -> Backends:
    """Opens what the settings name; the stack closes it."""
    await migrate(settings.database_url)
    database = await stack.enter_async_context(Database.open(settings.database_url))
    objects = ObjectStore.open(settings.storage_url, settings.storage_options)
    stack.callback(objects.close)
    secret = settings.secret_key.get_secret_value()
    tracking = await stack.enter_async_context(MlflowTracking(settings.mlflow_url, secret))
    accounts = await stack.enter_async_context(
        MlflowProvider(
            settings.mlflow_url,
            admin_user=settings.mlflow_admin_user,
            admin_password=settings.mlflow_admin_password.get_secret_value(),
            secret_key=secret,
        )
    )
    return Backends(
        database=database,
        objects=objects,
        sources=SourceRoots(settings.source_roots, settings.source_options),
        tracking=tracking,
        scheduler=await open_scheduler(settings.temporal_address, objects, retention=settings.retention),
        providers=(accounts,),
    )
